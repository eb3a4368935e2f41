/* Small faulty programs, one a case: `faulty CASE SIZE` does what corpus.rs says must be noticed. On standard output stands
   what the report must name: the block, its size, who allocated it and who freed it, and the pointer where that is
   another. */
#define _GNU_SOURCE
#include "faulty.h"

#include <dlfcn.h>
#include <malloc.h>
#include <signal.h>
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

static void foreign_realloc(size_t size) {
    static char block[64];
    char *moved = realloc(other_pointer(block), 100);
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

/* Writing behind a block. */

static void overrun_by_one(size_t size) {
    char *block = take(size);
    block[size] = 0;
    free(block);
}

static void overrun_by_16(size_t size) {
    char *block = take(size);
    memset(block + size, 0, 16);
    free(block);
}

static void overrun_by_only_the_16th(size_t size) {
    char *block = take(size);
    block[size + 15] = 1;
    free(block);
}

static void overrun_by_a_terminator(size_t size) {
    char *text = malloc(size + 1), *block = take(size);
    memset(text, 'x', size);
    text[size] = 0;
    strcpy(block, text);
    free(block);
}

static void overrun_in_a_memset(size_t size) {
    char *block = take(size);
    memset(block, 0, size + 8);
    free(block);
}

static void overrun_over_the_neighbours(size_t size) {
    char *block = take(size);
    take_near(size);
    memset(block, 0, size + 900);
    free(block);
}

static void overrun_never_freed(size_t size) {
    handed = take(size);
    handed[size] = 1;
}

static void overrun_found_by_realloc(size_t size) {
    char *block = take(size);
    block[size] = 1;
    block = realloc(block, size * 2);
}

static void overrun_of_calloc(size_t size) {
    char *block = tell(calloc(size, 1), size);
    block[size] = 1;
    free(block);
}

static void overrun_of_aligned(size_t size) {
    char *block = filled(aligned_alloc(MIB, size), size);
    block[size] = 1;
    free(block);
}

static void overrun_by_another_thread(size_t size) {
    handed_size = size;
    handed = take(size);
    in_thread(writes_behind);
    free(handed);
}

static void overrun_of_usable_size(size_t size) {
    char *block = take(size);
    block[malloc_usable_size(block)] = 1;
    free(block);
}

static void overrun_of_nothing(size_t size) {
    char *block = tell(malloc(0), 0);
    block[0] = 1;
    free(block);
}

static void overrun_of_a_shrunk_block(size_t size) {
    char *block = tell(realloc(malloc(size), size - 5), size - 5);
    block[size - 1] = 1;
    free(block);
}

static void overrun_found_in_another_thread(size_t size) {
    handed = take(size);
    handed[size] = 1;
    silent = 1;
    in_thread(gives);
}

/* Writing before a block. */

static void exits_quietly(int number) { _exit(0); }

static void underrun_by_one(size_t size) {
    char *block = take(size);
    block[-1] = 0;
    free(block);
}

static void underrun_by_16(size_t size) {
    char *block = take(size);
    memset(block - 16, 1, 16);
    free(block);
}

static void underrun_by_each(size_t size, int fill, size_t reach) {
    char *block = take(size);
    memset(block - reach, fill, reach);
    free(block);
}
static void underrun_of_the_header(size_t size) { underrun_by_each(size, 1, 288); }
static void underrun_of_the_header_with_zeros(size_t size) { underrun_by_each(size, 0, 288); }

static void underrun_far(size_t size) {
    char *block = take(size);
    block[-50] ^= 1;
    free(block);
}

static void underrun_further(size_t size) {
    char *block = take(size);
    memset(block - 256, 1, 8);
    free(block);
}

static void underrun_furthest(size_t size) {
    char *block = take(size);
    block[-288] = 1;
    free(block);
}

/* Each byte before the block in turn, in a child of its own. */
static void underrun_of_each_byte(size_t size) {
    char *block = take(size);
    for (int back = 1; back <= 288; back++)
        if (fork() == 0) {
            block[-back] ^= 4;
            signal(SIGABRT, exits_quietly);
            close(2);
            free(block);
            _exit(1);
        }
    int missed = 0, status;
    while (wait(&status) > 0) missed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    dprintf(1, "missed=%d\n", missed);
}

static void underrun_never_freed(size_t size) {
    handed = take(size);
    handed[-1] = 1;
}

static void underrun_of_the_header_never_freed(size_t size) {
    handed = take(size);
    memset(handed - 288, 1, 288);
}

static void underrun_of_aligned(size_t size) {
    char *block = filled(aligned_alloc(4096, size), size);
    block[-1] = 1;
    free(block);
}

static void underrun_found_by_realloc(size_t size) {
    char *block = take(size);
    block[-8] = 1;
    block = realloc(block, size * 2);
}

/* Writing to a block that was freed. */

static void late_write_found_at_exit(size_t size) {
    char *block = take(size);
    give(block);
    block[size / 2] = 1;
}

static void late_write_of_the_first(size_t size) {
    char *block = take(size);
    give(block);
    block[0] = 0;
}

static void late_write_of_the_last(size_t size) {
    char *block = take(size);
    give(block);
    block[size - 1] ^= 1;
}

static void late_write_found_on_leaving(size_t size) {
    char *block = take(size);
    give(block);
    block[size / 2] = 1;
    free_much();
    _exit(0);
}

static void late_write_found_on_reuse(size_t size) {
    take_near(size);
    char *block = take(size);
    take_near(size);
    give(block);
    /* A slab is looked at again when enough of its blocks are free. */
    for (int i = 0; i < 64; i += 4) free(near[i]);
    free_much();
    block[size / 2] = 1;
    for (int i = 0; i < 100000; i++) handed = malloc(size);
    _exit(0);
}

static void late_write_long_after(size_t size) {
    take_near(size);
    char *block = take(size);
    take_near(size);
    give(block);
    free_much();
    block[size - 1] = 1;
}

static void late_write_after_realloc_moved(size_t size) {
    char *block = take(size);
    say_freed();
    handed = realloc(block, size * 2 + 64);
    block[size - 1] = 1;
}

static void late_write_by_another_thread(size_t size) {
    handed = take(size);
    give(handed);
    in_thread(writes_first);
}

static void late_write_of_anothers_free(size_t size) {
    handed = take(size);
    in_thread(gives);
    handed[size / 2] = 1;
}

static void late_write_of_aligned(size_t size) {
    char *block = filled(aligned_alloc(65536, size), size);
    give(block);
    block[size / 2] = 1;
}

static void late_write_in_a_child(size_t size) {
    char *block = take(size);
    give(block);
    if (fork() == 0) {
        block[size / 2] = 1;
        exit(0);
    }
    int status;
    wait(&status);
    if (WIFSIGNALED(status)) raise(WTERMSIG(status));
}

/* Writing to the link of a block that was freed, without the debug mode: which of many, and what. Then the block's like
   are allocated and freed, and not used, until the allocator comes across the link. */

enum { LINKED = 200 };
static char *linked[LINKED];
static int corrupted_one;
static void *corrupted_with;

static void free_linked(void) {
    for (int i = 0; i < LINKED; i++) free(linked[i]);
    memcpy(linked[corrupted_one], &corrupted_with, sizeof(void *));
}

static void corrupted(size_t size, int which, void *with, int elsewhere) {
    for (int i = 0; i < LINKED; i++) linked[i] = malloc(size);
    corrupted_one = which;
    corrupted_with = with;
    tell(linked[which], size);
    elsewhere ? in_thread(free_linked) : free_linked();
    for (int i = 0; i < 3000; i++) near[0] = malloc(size);
}

static void corrupted_by_garbage(size_t size) { corrupted(size, LINKED - 1, (void *)0x4141414141414141, 0); }
static void corrupted_by_text(size_t size) { corrupted(size, LINKED - 1, (void *)0x00646c726f77, 0); }
static void corrupted_by_zero(size_t size) { corrupted(size, LINKED - 1, NULL, 0); }
static void corrupted_by_a_stack_pointer(size_t size) { corrupted(size, LINKED - 1, &size, 0); }
static void corrupted_by_a_far_block(size_t size) { corrupted(size, LINKED - 1, malloc(5 * MIB), 0); }
static void corrupted_garbage_elsewhere(size_t size) { corrupted(size, LINKED - 2, (void *)0x4141414141414141, 1); }
static void corrupted_stack_elsewhere(size_t size) { corrupted(size, LINKED - 2, &size, 1); }

/* Blocks that nothing points to any more. Nothing is left of them on the stack. */

struct link {
    struct link *next;
    char rest[64];
};
static struct link *list;
static char *held;

static void leak_lost(size_t size) { take(size); }

static void leak_overwritten(size_t size) {
    held = take(size);
    held = malloc(size);
}

static void leak_cycle(size_t size) {
    struct link *one = tell(malloc(sizeof *one), sizeof *one), *other = malloc(sizeof *other);
    one->next = other;
    other->next = one;
}

static void leak_list_without_its_head(size_t size) {
    for (int i = 0; i < 10; i++) {
        struct link *link = malloc(sizeof *link);
        link->next = list;
        list = link;
    }
    tell(list, sizeof *list);
    list = NULL;
}

static void leak_of_a_thread_that_ended(size_t size) {
    handed_size = size;
    in_thread(takes);
    handed = NULL;
}

static void leak_reached_only_from_a_leak(size_t size) {
    char **outer = malloc(sizeof *outer);
    *outer = take(size);
}

static void leak_by_realloc(size_t size) {
    held = malloc(size / 2);
    held = realloc(held, size);
    tell(held, size);
    held = NULL;
}

static void leak_aligned(size_t size) { filled(aligned_alloc(65536, size), size); }
static void leak_of_calloc(size_t size) { tell(calloc(1, size), size); }

static void leak_past_its_end(size_t size) {
    held = take(size);
    /* Points behind the block, not into it. */
    held += size + 8;
}

static void leak_kept_in_freed_memory(size_t size) {
    char **holder = malloc(sizeof *holder);
    *holder = take(size);
    free(holder);
}

static void leak_at_an_early_return(size_t size) {
    char *block = take(size);
    if (size > 0) return;
    free(block);
}

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
    CASE(double_free), CASE(double_free_after_others), CASE(double_free_by_another_thread),
    CASE(double_free_of_anothers_block), CASE(double_free_in_two_threads), CASE(double_free_after_realloc_moved),
    CASE(double_free_after_realloc_to_nothing), CASE(double_free_of_calloc), CASE(double_free_of_realloc),
    CASE(double_free_aligned_64), CASE(double_free_aligned_4096), CASE(double_free_aligned_65536),
    CASE(double_free_aligned_mib), CASE(double_free_of_strdup), CASE(double_free_in_a_child),
    CASE(double_free_in_a_handler), CASE(double_free_long_after), CASE(realloc_after_free), CASE(usable_size_after_free),
    CASE(interior_1), CASE(interior_8), CASE(interior_16), CASE(interior_middle), CASE(interior_last),
    CASE(interior_of_second_granule), CASE(interior_aligned), CASE(interior_far), CASE(interior_by_another_thread),
    CASE(interior_realloc), CASE(interior_usable_size), CASE(foreign_stack), CASE(foreign_static),
    CASE(foreign_thread_local), CASE(foreign_code), CASE(foreign_literal), CASE(foreign_made_up),
    CASE(foreign_small_number), CASE(foreign_minus_one), CASE(foreign_environment), CASE(foreign_mapped),
    CASE(foreign_realloc), CASE(foreign_past_the_end), CASE(foreign_before_the_start), CASE(wrong_size_more),
    CASE(wrong_size_less), CASE(wrong_size_nothing), CASE(wrong_size_aligned), CASE(wrong_size_of_before),
    CASE(wrong_alignment_more), CASE(wrong_alignment_less), CASE(overrun_by_one), CASE(overrun_by_16),
    CASE(overrun_by_only_the_16th), CASE(overrun_by_a_terminator), CASE(overrun_in_a_memset),
    CASE(overrun_over_the_neighbours), CASE(overrun_never_freed), CASE(overrun_found_by_realloc),
    CASE(overrun_of_calloc), CASE(overrun_of_aligned), CASE(overrun_by_another_thread), CASE(overrun_of_usable_size),
    CASE(overrun_of_nothing), CASE(overrun_of_a_shrunk_block), CASE(overrun_found_in_another_thread),
    CASE(underrun_by_one), CASE(underrun_by_16), CASE(underrun_of_the_header), CASE(underrun_of_the_header_with_zeros),
    CASE(underrun_far), CASE(underrun_further), CASE(underrun_furthest), CASE(underrun_of_each_byte), CASE(underrun_never_freed), CASE(underrun_of_the_header_never_freed),
    CASE(underrun_of_aligned), CASE(underrun_found_by_realloc), CASE(late_write_found_at_exit),
    CASE(late_write_of_the_first), CASE(late_write_of_the_last), CASE(late_write_found_on_leaving),
    CASE(late_write_found_on_reuse), CASE(late_write_long_after), CASE(late_write_after_realloc_moved),
    CASE(late_write_by_another_thread), CASE(late_write_of_anothers_free), CASE(late_write_of_aligned),
    CASE(late_write_in_a_child),
    CASE(corrupted_by_garbage), CASE(corrupted_by_text), CASE(corrupted_by_zero), CASE(corrupted_by_a_stack_pointer),
    CASE(corrupted_by_a_far_block), CASE(corrupted_garbage_elsewhere), CASE(corrupted_stack_elsewhere), LEAK(leak_lost), LEAK(leak_overwritten), LEAK(leak_cycle),
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
