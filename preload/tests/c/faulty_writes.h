/* The cases of faulty.c that write where they must not, or lose what they have. */

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
    /* A slab of large blocks that are all free again goes as it is, and no link of it leads anywhere: one is kept. */
    if (size > 8192) linked[LINKED - 3] = NULL;
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
