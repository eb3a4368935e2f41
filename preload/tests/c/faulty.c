/* Small faulty programs, one a case: `faulty CASE SIZE` does what corpus.rs says must be noticed. On standard output
   stands what the report must name: the block, its size, who allocated it and who freed it, and the pointer where that is
   another. */
#define _GNU_SOURCE
#include "faulty.h"

#include <dlfcn.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define MIB ((size_t)1 << 20)

/* Not in every C library's headers, nor in every C library. */
#define OTHERWISE_NAMED(name, ...) ((void (*)(__VA_ARGS__))dlsym(RTLD_DEFAULT, #name))
static void cfree(void *block) { OTHERWISE_NAMED(cfree, void *)(block); }
static void free_sized(void *block, size_t size) { OTHERWISE_NAMED(free_sized, void *, size_t)(block, size); }
static void free_aligned_sized(void *block, size_t align, size_t size) {
    OTHERWISE_NAMED(free_aligned_sized, void *, size_t, size_t)(block, align, size);
}

static char *take(size_t size) { return filled(malloc(size), size); }

/* A block of the size or near it, which keeps the memory around another in use. */
static void *near[64];

static void take_near(size_t size) {
    if (size <= 65536)
        for (int i = 0; i < 64; i++) near[i] = malloc(size);
}

/* Frees so much that what was freed before leaves the quarantine. */
static void free_much(void) {
    for (int i = 0; i < 40; i++) free(malloc(MIB));
}

/* What another thread does with a block. */
static char *handed;
static size_t handed_size;
static void takes(void) { handed = take(handed_size); }
static void gives(void) { give(handed); }
static void writes_first(void) { handed[0] = 1; }
static void writes_behind(void) { handed[handed_size] = 1; }

/* Double frees. */

static void double_free(size_t size) {
    char *block = take(size);
    give(block);
    free(block);
}

static void double_free_after_others(size_t size) {
    char *block = take(size), *others[20];
    for (int i = 0; i < 20; i++) others[i] = malloc(size);
    give(block);
    for (int i = 0; i < 20; i++) free(others[i]);
    free(block);
}

/* Where nothing else is freed before blocks of the size are handed out again. */
static void double_free_around_another(size_t size) {
    char *block = take(size), *other = malloc(size);
    say_freed();
    free(block);
    free(other);
    free(block);
    for (int i = 0; i < 5000; i++) tell(malloc(size), size);
}

/* Where the block waits on its arena's list, all others of a slab of which much was used are free, and so is it once more. */
static void double_free_of_one_that_waits(size_t size) {
    enum { MOST = 64 };
    char *blocks[MOST], *again;
    size_t count = 192 * 1024 / size + 2;
    blocks[0] = take(size);
    for (size_t i = 1; i < count; i++) blocks[i] = malloc(size);
    give(blocks[0]);
    free(blocks[1]);
    again = malloc(size);
    free(again);
    for (size_t i = 2; i < count; i++) free(blocks[i]);
    free(blocks[0]);
    for (int i = 0; i < 5000; i++) tell(malloc(size), size);
}

/* Where the pages of the block have gone back in between: few blocks around it stay, some in each slab. */
static void double_free_around_a_trim(size_t size) {
    size_t slab = size > 8192 ? MIB / 2 : MIB / 16, each = slab / size / 2 + 1, count = 4 * MIB / size;
    size_t middle = count / 2 / each * each + each / 2;
    char **blocks = malloc(count * sizeof *blocks);
    for (size_t i = 0; i < count; i++) blocks[i] = i == middle ? take(size) : malloc(size);
    for (size_t i = 0; i < count; i++)
        if (i % each && i != middle) free(blocks[i]);
    give(blocks[middle]);
    malloc_trim(0);
    free(blocks[middle]);
    for (size_t i = 0; i < 2 * count; i++) tell(malloc(size), size);
}

static void double_free_by_another_thread(size_t size) {
    handed = take(size);
    give(handed);
    silent = 1;
    in_thread(gives);
}

static void double_free_of_anothers_block(size_t size) {
    handed_size = size;
    in_thread(takes);
    give(handed);
    free(handed);
}

static void double_free_in_two_threads(size_t size) {
    handed = take(size);
    in_thread(gives);
    silent = 1;
    in_thread(gives);
}

static void double_free_after_realloc_moved(size_t size) {
    char *block = take(size);
    say_freed();
    free(realloc(block, size * 4 + 64));
    free(block);
}

static void double_free_after_realloc_to_nothing(size_t size) {
    char *block = take(size);
    say_freed();
    block = realloc(block, 0) ? NULL : block;
    free(block);
}

static void double_free_of_calloc(size_t size) {
    char *block = tell(calloc(1, size), size);
    give(block);
    free(block);
}

static void double_free_of_realloc(size_t size) {
    char *block = tell(realloc(malloc(10), size), size);
    give(block);
    cfree(block);
}

static void double_free_aligned(size_t size, size_t align) {
    char *block = filled(aligned_alloc(align, size), size);
    give(block);
    free(block);
}
static void double_free_aligned_64(size_t size) { double_free_aligned(size, 64); }
static void double_free_aligned_4096(size_t size) { double_free_aligned(size, 4096); }
static void double_free_aligned_65536(size_t size) { double_free_aligned(size, 65536); }
static void double_free_aligned_mib(size_t size) { double_free_aligned(size, MIB); }

static void double_free_of_strdup(size_t size) {
    char *text = malloc(size);
    memset(text, 'x', size);
    text[size - 1] = 0;
    char *block = tell(strdup(text), size);
    give(block);
    free(block);
    free(text);
}

static void double_free_in_a_child(size_t size) {
    char *block = take(size);
    give(block);
    if (fork() == 0) {
        free(block);
        _exit(0);
    }
    int status;
    wait(&status);
    /* What came of the child is what came of the case. */
    if (WIFSIGNALED(status)) raise(WTERMSIG(status));
}

static void frees_handed(int number) { free(handed); }

static void double_free_in_a_handler(size_t size) {
    handed = take(size);
    give(handed);
    signal(SIGUSR1, frees_handed);
    raise(SIGUSR1);
}

static void double_free_long_after(size_t size) {
    take_near(size);
    char *block = take(size);
    take_near(size);
    give(block);
    free_much();
    free(block);
}

static void realloc_after_free(size_t size) {
    char *block = take(size);
    give(block);
    block = realloc(block, size + 1);
}

static void usable_size_after_free(size_t size) {
    char *block = take(size);
    give(block);
    malloc_usable_size(block);
}

/* Pointers into blocks. */

static void interior(size_t size, size_t offset) {
    char *block = take(size);
    free(other_pointer(block + offset));
}
static void interior_1(size_t size) { interior(size, 1); }
static void interior_8(size_t size) { interior(size, 8); }
static void interior_16(size_t size) { interior(size, 16); }
static void interior_middle(size_t size) { interior(size, size / 2); }
static void interior_last(size_t size) { interior(size, size - 1); }
static void interior_of_second_granule(size_t size) { interior(size, 33 * MIB); }

/* Where masking leads from here, the header of the block's mapping stands. */
static void interior_over_the_header(size_t size) { interior(size, 263 * 65536); }
static void interior_over_the_header_moved(size_t size) {
    char *block = take(size);
    block = realloc(other_pointer(block + 265 * 65536), 100);
}

static void interior_aligned(size_t size) {
    char *block = filled(aligned_alloc(65536, size), size);
    free(other_pointer(block + 16));
}

static void interior_far(size_t size) {
    char *block = filled(aligned_alloc(MIB, size), size);
    free(other_pointer(block + size - 1));
}

static void frees_within(void) { free(other_pointer(handed + 16)); }

static void interior_by_another_thread(size_t size) {
    handed = take(size);
    in_thread(frees_within);
}

static void interior_realloc(size_t size) {
    char *block = take(size);
    block = realloc(other_pointer(block + 16), size * 2);
}

static void interior_1_realloc(size_t size) {
    char *block = take(size);
    block = realloc(other_pointer(block + 1), size * 2);
}

static void interior_1_usable_size(size_t size) {
    char *block = take(size);
    printf("%zu\n", malloc_usable_size(other_pointer(block + 1)));
}

static void interior_usable_size(size_t size) {
    char *block = take(size);
    malloc_usable_size(other_pointer(block + 8));
}

/* Pointers that are not the allocator's. */

static void foreign_stack(size_t size) {
    char block[64] = {0};
    free(other_pointer(block + 16));
}

static void foreign_static(size_t size) {
    static char block[64];
    free(other_pointer(block + 16));
}

static __thread char of_thread[64];
static void foreign_thread_local(size_t size) { free(other_pointer(of_thread + 16)); }
static void foreign_code(size_t size) { free(other_pointer((char *)foreign_code)); }
static void foreign_literal(size_t size) { free(other_pointer("a literal")); }
static void foreign_made_up(size_t size) { free(other_pointer((char *)0x123456789000)); }
static void foreign_small_number(size_t size) { free(other_pointer((char *)42)); }
static void foreign_minus_one(size_t size) { free(other_pointer((char *)-1)); }
static void foreign_environment(size_t size) { free(other_pointer(getenv("PATH"))); }

static void foreign_mapped(size_t size) {
    char *block = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    free(other_pointer(block));
}

/* Where a block was, until it went back to the kernel. */
static void foreign_mapped_later(size_t size) {
    char *block = malloc(size);
    uintptr_t start = (uintptr_t)block & -4096;
    if (!block) abort();
    free(block);
    malloc_trim(0);
    void *mapped = mmap((void *)start, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (mapped != (void *)start) abort();
    free(other_pointer((char *)start + 64));
}

static void foreign_realloc(size_t size) {
    static char block[64];
    if (!realloc(other_pointer(block), 100)) abort();
}

/* So many bytes behind or before a block: where the allocator has addresses, or had, or will have. */
static char *far_from_a_block(size_t size, int way) { return (char *)malloc(100) + way * (long)size; }
static void foreign_far_behind(size_t size) { free(other_pointer(far_from_a_block(size, 1))); }
static void foreign_far_before(size_t size) { free(other_pointer(far_from_a_block(size, -1))); }
static void foreign_far_behind_realloc(size_t size) {
    tell(realloc(other_pointer(far_from_a_block(size, 1)), 200), 200);
}
static void foreign_far_before_usable_size(size_t size) {
    printf("%zu\n", malloc_usable_size(other_pointer(far_from_a_block(size, -1))));
}

static void foreign_past_the_end(size_t size) {
    char *block = take(size);
    free(other_pointer(block + size));
}

static void foreign_before_the_start(size_t size) {
    char *block = take(size);
    free(other_pointer(block - 16));
}

/* Sizes and alignments that are said wrongly. */

static void wrong_size_more(size_t size) { free_sized(take(size), size + 1); }
static void wrong_size_less(size_t size) { free_sized(take(size), size - 1); }
static void wrong_size_nothing(size_t size) { free_sized(take(size), 0); }
static void wrong_size_aligned(size_t size) {
    free_aligned_sized(filled(aligned_alloc(4096, size), size), 4096, size * 2);
}
static void wrong_size_of_before(size_t size) {
    char *block = malloc(size / 2);
    block = tell(realloc(block, size), size);
    free_sized(block, size / 2);
}
static void wrong_alignment_more(size_t size) { free_aligned_sized(take(size), 64, size); }
static void wrong_alignment_less(size_t size) {
    free_aligned_sized(filled(aligned_alloc(4096, size), size), 64, size);
}

#include "faulty_writes.h"

static void __attribute__((noinline)) far_down(void (*act)(size_t), size_t size) {
    act(size);
    wipe_below();
}

#define CASE(function) {#function, function, 0}
#define LEAK(function) {#function, function, 1}
static const struct {
    const char *name;
    void (*act)(size_t);
    int is_leak;
} CASES[] = {
    CASE(double_free), CASE(double_free_around_another), CASE(double_free_of_one_that_waits), CASE(double_free_around_a_trim), CASE(double_free_after_others), CASE(double_free_by_another_thread),
    CASE(double_free_of_anothers_block), CASE(double_free_in_two_threads), CASE(double_free_after_realloc_moved),
    CASE(double_free_after_realloc_to_nothing), CASE(double_free_of_calloc), CASE(double_free_of_realloc),
    CASE(double_free_aligned_64), CASE(double_free_aligned_4096), CASE(double_free_aligned_65536),
    CASE(double_free_aligned_mib), CASE(double_free_of_strdup), CASE(double_free_in_a_child),
    CASE(double_free_in_a_handler), CASE(double_free_long_after), CASE(realloc_after_free),
    CASE(usable_size_after_free),
    CASE(interior_1), CASE(interior_1_realloc), CASE(interior_1_usable_size), CASE(interior_8), CASE(interior_16), CASE(interior_middle), CASE(interior_last),
    CASE(interior_of_second_granule), CASE(interior_over_the_header), CASE(interior_over_the_header_moved),
    CASE(interior_aligned), CASE(interior_far), CASE(interior_by_another_thread),
    CASE(interior_realloc), CASE(interior_usable_size), CASE(foreign_stack), CASE(foreign_static),
    CASE(foreign_thread_local), CASE(foreign_code), CASE(foreign_literal), CASE(foreign_made_up),
    CASE(foreign_small_number), CASE(foreign_minus_one), CASE(foreign_environment), CASE(foreign_mapped),
    CASE(foreign_realloc), CASE(foreign_mapped_later), CASE(foreign_far_behind),
    CASE(foreign_far_before), CASE(foreign_far_behind_realloc), CASE(foreign_far_before_usable_size), CASE(foreign_past_the_end), CASE(foreign_before_the_start), CASE(wrong_size_more),
    CASE(wrong_size_less), CASE(wrong_size_nothing), CASE(wrong_size_aligned), CASE(wrong_size_of_before),
    CASE(wrong_alignment_more), CASE(wrong_alignment_less), CASE(overrun_by_one), CASE(overrun_by_16),
    CASE(overrun_by_only_the_16th), CASE(overrun_by_a_terminator), CASE(overrun_in_a_memset),
    CASE(overrun_over_the_neighbours), CASE(overrun_never_freed), CASE(overrun_found_by_realloc),
    CASE(overrun_of_calloc), CASE(overrun_of_aligned), CASE(overrun_by_another_thread), CASE(overrun_of_usable_size),
    CASE(overrun_of_nothing), CASE(overrun_of_a_shrunk_block), CASE(overrun_found_in_another_thread),
    CASE(underrun_by_one), CASE(underrun_by_16), CASE(underrun_of_the_header),
    CASE(underrun_of_the_header_with_zeros),
    CASE(underrun_far), CASE(underrun_further), CASE(underrun_furthest), CASE(underrun_of_each_byte),
    CASE(underrun_never_freed), CASE(underrun_of_the_header_never_freed),
    CASE(underrun_of_aligned), CASE(underrun_found_by_realloc), CASE(late_write_found_at_exit),
    CASE(late_write_of_the_first), CASE(late_write_of_the_last), CASE(late_write_found_on_leaving),
    CASE(late_write_found_on_reuse), CASE(late_write_long_after), CASE(late_write_after_realloc_moved),
    CASE(late_write_by_another_thread), CASE(late_write_of_anothers_free), CASE(late_write_of_aligned),
    CASE(late_write_in_a_child),
    CASE(corrupted_by_garbage), CASE(corrupted_by_text), CASE(corrupted_by_zero), CASE(corrupted_by_a_stack_pointer),
    CASE(corrupted_by_a_far_block), CASE(corrupted_garbage_elsewhere), CASE(corrupted_stack_elsewhere),
    LEAK(leak_lost), LEAK(leak_overwritten), LEAK(leak_cycle),
    LEAK(leak_list_without_its_head), LEAK(leak_of_a_thread_that_ended), LEAK(leak_reached_only_from_a_leak),
    LEAK(leak_by_realloc), LEAK(leak_aligned), LEAK(leak_of_calloc), LEAK(leak_past_its_end),
    LEAK(leak_kept_in_freed_memory), LEAK(leak_at_an_early_return),
};

int main(int count, char **arguments) {
    size_t size = count > 2 ? strtoul(arguments[2], NULL, 10) : 0;
    for (size_t i = 0; count > 1 && i < sizeof CASES / sizeof *CASES; i++)
        if (!strcmp(CASES[i].name, arguments[1])) {
            CASES[i].is_leak ? far_down(CASES[i].act, size) : CASES[i].act(size);
            return 0;
        }
    fprintf(stderr, "no such case\n");
    return 9;
}
