/* What a preloaded allocator owes to C programs (C17 7.22.3, POSIX.1-2024, the glibc manual), but for figures: see
 * contract.rs. */
#include "contract.h"

/* ---- Ways to get a block -------------------------------------------------------------------------------------- */

/* A way to get a block: `get` gives it, or null and an error's number. */
struct way {
    const char *name, *symbol;
    void *(*get)(const struct way *way, size_t align, size_t size, int *error);
    /* The alignment that every block has that this gives. */
    size_t align;
    /* Whether an alignment is passed. */
    int takes_align;
};

/* What a function gives that tells errors by `errno`. */
#define BY_ERRNO(call)                        \
    do {                                      \
        errno = UNTOUCHED;                    \
        void *block = (call);                 \
        *error = errno == UNTOUCHED ? 0 : errno; \
        return block;                         \
    } while (0)
#define WAY(function, call)                                                                                      \
    static void *function(const struct way *way, size_t align, size_t size, int *error) {                       \
        (void)way, (void)align;                                                                                  \
        BY_ERRNO(call);                                                                                          \
    }

typedef void *one_size(size_t), *two_sizes(size_t, size_t), *resizing(void *, size_t);
typedef int posix_form(void **, size_t, size_t);

WAY(by_size, ((one_size *)named(way->symbol))(size))
WAY(by_count_and_size, ((two_sizes *)named(way->symbol))(1, size))
WAY(by_size_and_count, ((two_sizes *)named(way->symbol))(size, 1))
WAY(by_align_and_size, ((two_sizes *)named(way->symbol))(align, size))
WAY(by_resizing_null, ((resizing *)named(way->symbol))(NULL, size))

/* A small block, made longer; it is the caller's still where that fails. */
static void *by_resizing_a_block(const struct way *way, size_t align, size_t size, int *error) {
    (void)align;
    char *small = malloc(20);
    if (!small) return NULL;
    strcpy(small, "as it was");
    errno = UNTOUCHED;
    /* Not through 0 bytes, which frees. */
    char *block = ((resizing *)named(way->symbol))(small, size ? size : 1);
    *error = errno == UNTOUCHED ? 0 : errno;
    if (block) return block;
    if (strcmp(small, "as it was")) *error = -1;
    free(small);
    return NULL;
}

/* Tells errors by its answer; the output is then as it was. */
static void *by_posix(const struct way *way, size_t align, size_t size, int *error) {
    void *out = &errno;
    errno = UNTOUCHED;
    *error = ((posix_form *)named(way->symbol))(&out, align, size);
    if (*error ? out != &errno : errno != UNTOUCHED) *error = -1;
    return *error ? NULL : out;
}

#define PAGE_ALIGNED 4096
static const struct way WAYS[] = {
    {"malloc", "malloc", by_size, 16, 0},
    {"calloc(1, n)", "calloc", by_count_and_size, 16, 0},
    {"calloc(n, 1)", "calloc", by_size_and_count, 16, 0},
    {"realloc(null, n)", "realloc", by_resizing_null, 16, 0},
    {"realloc(block, n)", "realloc", by_resizing_a_block, 16, 0},
    {"posix_memalign", "posix_memalign", by_posix, 16, 1},
    {"aligned_alloc", "aligned_alloc", by_align_and_size, 16, 1},
    {"memalign", "memalign", by_align_and_size, 16, 1},
    {"valloc", "valloc", by_size, PAGE_ALIGNED, 0},
    {"pvalloc", "pvalloc", by_size, PAGE_ALIGNED, 0},
    {"__libc_malloc", "__libc_malloc", by_size, 16, 0},
    {"__libc_calloc(1, n)", "__libc_calloc", by_count_and_size, 16, 0},
    {"__libc_calloc(n, 1)", "__libc_calloc", by_size_and_count, 16, 0},
    {"__libc_realloc(null, n)", "__libc_realloc", by_resizing_null, 16, 0},
    {"__libc_realloc(block, n)", "__libc_realloc", by_resizing_a_block, 16, 0},
    {"__libc_memalign", "__libc_memalign", by_align_and_size, 16, 1},
    {"__libc_valloc", "__libc_valloc", by_size, PAGE_ALIGNED, 0},
    {"__libc_pvalloc", "__libc_pvalloc", by_size, PAGE_ALIGNED, 0},
    {"__posix_memalign", "__posix_memalign", by_posix, 16, 1},
};

/* Sizes of every kind of block, and those around which one kind becomes another. */
static size_t SIZES[1000];
static size_t size_count;

static void add_size(size_t size) { SIZES[size_count++] = size; }

__attribute__((constructor(101))) static void make_sizes(void) {
    for (size_t size = 0; size <= 600; size++) add_size(size);
    for (size_t power = KIB; power <= 2 * MIB; power *= 2)
        for (size_t quarter = 0; quarter < 4; quarter++) {
            size_t size = power + quarter * power / 4;
            add_size(size - 1);
            add_size(size);
            add_size(size + 1);
        }
    add_size(33 * MIB);
}

static void serves_every_size(const void *with) {
    const struct way *way = with;
    static unsigned char *blocks[LENGTH(SIZES)];
    static size_t usable[LENGTH(SIZES)];
    for (size_t i = 0; i < size_count; i++) {
        int error;
        blocks[i] = way->get(way, 64, SIZES[i], &error);
        HOLDS(blocks[i] && error == 0);
        HOLDS(IS_ALIGNED(blocks[i], way->takes_align ? 64 : way->align));
        KEEPS_ERRNO(usable[i] = malloc_usable_size(blocks[i]));
        HOLDS(usable[i] >= SIZES[i]);
        memset(blocks[i], (int)(i % 255 + 1), usable[i]);
    }
    /* None has written over another's, and each is as long as it was. Every other goes first. */
    for (size_t first = 0; first < 2; first++)
        for (size_t i = first; i < size_count; i += 2) {
            HOLDS(malloc_usable_size(blocks[i]) == usable[i]);
            HOLDS(all(blocks[i], usable[i], (int)(i % 255 + 1)));
            KEEPS_ERRNO(free(blocks[i]));
        }
}

static void refuses_sizes_over_the_largest(const void *with) {
    const struct way *way = with;
    static const size_t BEFORE_THE_END[] = {0,    1,    7,    8,    15,    16,    17,     31,      32,
                                            63,   64,   65,   127,  128,   4094,  4095,   4096,    4097,
                                            8192, 65535, 65536, 131072, 2 << 20, 32 << 20, 64 << 20};
    int error;
    for (size_t i = 0; i < LENGTH(BEFORE_THE_END); i++) {
        HOLDS(way->get(way, 64, SIZE_MAX - BEFORE_THE_END[i], &error) == NULL && error == ENOMEM);
        HOLDS(way->get(way, 64, (size_t)PTRDIFF_MAX + 1 + BEFORE_THE_END[i], &error) == NULL && error == ENOMEM);
    }
}

static void refuses_more_than_there_is(const void *with) {
    const struct way *way = with;
    int error;
    for (size_t size = (size_t)1 << 48; size <= (size_t)1 << 62; size *= 2)
        HOLDS(way->get(way, 64, size, &error) == NULL && error == ENOMEM);
    for (size_t less = 0; less < 70000; less = less * 2 + 1)
        HOLDS(way->get(way, 64, (size_t)PTRDIFF_MAX - less, &error) == NULL && error == ENOMEM);
}

static void serves_every_alignment(const void *with) {
    const struct way *way = with;
    static const size_t EACH[] = {0, 1, 17, 63, 100, 1000, 4000, 4097, 9000, 65536, 70001, 300000, 2097152, 3000001};
    for (size_t align = 8; align <= 64 * MIB; align *= 2) {
        unsigned char *blocks[LENGTH(EACH)];
        size_t usable[LENGTH(EACH)];
        for (size_t i = 0; i < LENGTH(EACH); i++) {
            int error;
            blocks[i] = way->get(way, align, EACH[i], &error);
            HOLDS(blocks[i] && error == 0 && IS_ALIGNED(blocks[i], align) && IS_ALIGNED(blocks[i], 16));
            HOLDS((usable[i] = malloc_usable_size(blocks[i])) >= EACH[i]);
            memset(blocks[i], (int)i + 1, usable[i]);
        }
        for (size_t i = 0; i < LENGTH(EACH); i++) {
            HOLDS(all(blocks[i], usable[i], (int)i + 1) && malloc_usable_size(blocks[i]) == usable[i]);
            /* To something longer, contents and all; where it lies then need not be so aligned. */
            unsigned char *longer = realloc(blocks[i], EACH[i] + 5000);
            HOLDS(longer && all(longer, EACH[i], (int)i + 1));
            KEEPS_ERRNO(free(longer));
        }
    }
}

static void refuses_large_sizes_at_large_alignments(const void *with) {
    const struct way *way = with;
    int error;
    for (size_t align = 16; align; align *= 2) {
        size_t sizes[] = {SIZE_MAX - align,      SIZE_MAX - align + 1,      SIZE_MAX - align + 2, PTRDIFF_MAX - align,
                          PTRDIFF_MAX - align + 1, PTRDIFF_MAX - align + 2, PTRDIFF_MAX,          SIZE_MAX};
        for (size_t i = 0; i < LENGTH(sizes); i++) {
            /* From 2^62 on some of these wrap, to sizes that are small. */
            if (sizes[i] < (size_t)1 << 48) continue;
            HOLDS(way->get(way, align, sizes[i], &error) == NULL && error == ENOMEM);
        }
        if (align < (size_t)1 << 48) continue;
        /* No address is aligned so. */
        HOLDS(way->get(way, align, 1, &error) == NULL && error == ENOMEM);
        HOLDS(way->get(way, align, 0, &error) == NULL && error == ENOMEM);
    }
}

__attribute__((constructor)) static void add_ways(void) {
    for (size_t i = 0; i < LENGTH(WAYS); i++) {
        const struct way *way = &WAYS[i];
        add_check(way->name, "every size is aligned, writable to its usable size, apart from others; errno stays",
                  serves_every_size, way);
        add_check(way->name, "sizes over PTRDIFF_MAX are null and ENOMEM", refuses_sizes_over_the_largest, way);
        add_check(way->name, "more than there can be is null and ENOMEM", refuses_more_than_there_is, way);
        if (!way->takes_align) continue;
        add_check(way->name, "every alignment to 64 MiB is kept; errno stays", serves_every_alignment, way);
        add_check(way->name, "an alignment and a size that reach beyond the end are null and ENOMEM",
                  refuses_large_sizes_at_large_alignments, way);
    }
}

/* ---- Ways to give one back ------------------------------------------------------------------------------------ */

typedef void freeing(void *), sized_freeing(void *, size_t), aligned_freeing(void *, size_t, size_t);

/* A way to give a block back that was asked for with that alignment and size. */
struct way_back {
    const char *symbol;
    void (*give)(const struct way_back *back, void *block, size_t align, size_t size);
};

#define WAY_BACK(function, call)                                                                    \
    static void function(const struct way_back *back, void *block, size_t align, size_t size) {     \
        (void)align, (void)size;                                                                    \
        call;                                                                                       \
    }

WAY_BACK(back_plain, ((freeing *)named(back->symbol))(block))
WAY_BACK(back_sized, ((sized_freeing *)named(back->symbol))(block, size))
WAY_BACK(back_aligned, ((aligned_freeing *)named(back->symbol))(block, align, size))

static const struct way_back WAYS_BACK[] = {
    {"free", back_plain},
    {"cfree", back_plain},
    {"free_sized", back_sized},
    {"free_aligned_sized", back_aligned},
    {"__libc_free", back_plain},
    {"__libc_cfree", back_plain},
};

static void takes_null(const void *with) {
    const struct way_back *back = with;
    KEEPS_ERRNO(back->give(back, NULL, 16, 0));
    KEEPS_ERRNO(back->give(back, NULL, 64, 1000));
}

static void takes_blocks_and_keeps_errno(const void *with) {
    const struct way_back *back = with;
    int with_align = back->give == back_aligned;
    for (size_t i = 0; i < size_count; i++) {
        size_t align = with_align ? (size_t)16 << i % 23 : 16;
        void *block = with_align ? aligned_alloc(align, SIZES[i]) : malloc(SIZES[i]);
        HOLDS(block);
        memset(block, 1, SIZES[i]);
        KEEPS_ERRNO(back->give(back, block, align, SIZES[i]));
    }
    /* What the kernel is asked to take back, and what lies farthest apart. */
    for (size_t align = 16; align <= 128 * MIB; align *= 8) {
        void *block = aligned_alloc(align, 40 * MIB);
        HOLDS(block);
        KEEPS_ERRNO(back->give(back, block, align, 40 * MIB));
    }
}

static void keeps_errno_of_a_failure(const void *with) {
    const struct way_back *back = with;
    for (size_t size = 1; size < 100 * MIB; size *= 9) {
        void *block = back->give == back_aligned ? aligned_alloc(64, size) : malloc(size);
        HOLDS(block && malloc(too_much) == NULL && errno == ENOMEM);
        back->give(back, block, 64, size);
        HOLDS(errno == ENOMEM);
    }
}

static void memory_serves_again(const void *with) {
    const struct way_back *back = with;
    static const size_t EACH[] = {100, 3000, 50000, 1000000, 6000000};
    size_t before = resident();
    for (size_t kind = 0; kind < LENGTH(EACH); kind++)
        for (size_t sum = 0; sum < 120 * MIB; sum += EACH[kind]) {
            void *block = back->give == back_aligned ? aligned_alloc(64, EACH[kind]) : malloc(EACH[kind]);
            HOLDS(block);
            memset(block, 1, EACH[kind]);
            back->give(back, block, 64, EACH[kind]);
        }
    HOLDS(resident() < before + 64 * MIB);
}

__attribute__((constructor)) static void add_ways_back(void) {
    for (size_t i = 0; i < LENGTH(WAYS_BACK); i++) {
        const struct way_back *back = &WAYS_BACK[i];
        add_check(back->symbol, "null is fine", takes_null, back);
        add_check(back->symbol, "takes blocks of every size and leaves errno alone", takes_blocks_and_keeps_errno,
                  back);
        add_check(back->symbol, "leaves errno alone after a failure", keeps_errno_of_a_failure, back);
        add_check(back->symbol, "what was freed serves again", memory_serves_again, back);
    }
}

/* ---- Symbol by symbol ------------------------------------------------------------------------------------------ */

CHECKED("malloc", "0 bytes are blocks of their own that can be freed") {
    void *blocks[100];
    for (int i = 0; i < 100; i++) {
        KEEPS_ERRNO(blocks[i] = malloc(0));
        HOLDS(blocks[i]);
        for (int other = 0; other < i; other++) HOLDS(blocks[i] != blocks[other]);
    }
    for (int i = 0; i < 100; i++) KEEPS_ERRNO(free(blocks[i]));
}

CHECKED("calloc", "a product that overflows is null and ENOMEM") {
    static const size_t PAIRS[][2] = {
        {SIZE_MAX, 2}, {SIZE_MAX, SIZE_MAX}, {SIZE_MAX / 2 + 1, 2}, {SIZE_MAX / 2, 3},
        {(size_t)1 << 32, (size_t)1 << 32},
        {((size_t)1 << 32) + 1, (size_t)1 << 32}, {(size_t)1 << 33, (size_t)1 << 33}, {SIZE_MAX / 16 + 2, 16},
        {SIZE_MAX / 1000 + 1, 1000}};
    for (size_t i = 0; i < LENGTH(PAIRS); i++) {
        errno = UNTOUCHED;
        HOLDS(calloc(PAIRS[i][0], PAIRS[i][1]) == NULL && errno == ENOMEM);
        errno = UNTOUCHED;
        HOLDS(calloc(PAIRS[i][1], PAIRS[i][0]) == NULL && errno == ENOMEM);
    }
}

CHECKED("calloc", "nothing of something is a block of its own") {
    static const size_t PAIRS[][2] = {{0, 0}, {0, 10}, {10, 0}, {0, SIZE_MAX}, {SIZE_MAX, 0}};
    void *blocks[LENGTH(PAIRS)];
    for (size_t i = 0; i < LENGTH(PAIRS); i++) {
        KEEPS_ERRNO(blocks[i] = calloc(PAIRS[i][0], PAIRS[i][1]));
        HOLDS(blocks[i] && (i == 0 || blocks[i] != blocks[i - 1]));
    }
    for (size_t i = 0; i < LENGTH(PAIRS); i++) free(blocks[i]);
}

struct range {
    const char *what;
    size_t from, to;
};
static const struct range RANGES[] = {
    {"zero after dirty use, to 8 KiB", 1, 8 * KIB},
    {"zero after dirty use, to 64 KiB", 8 * KIB + 1, 64 * KIB},
    {"zero after dirty use, to 2 MiB", 64 * KIB + 1, 2 * MIB},
    {"zero after dirty use, beyond 2 MiB", 2 * MIB + 1, 40 * MIB},
};

static void zero_after_dirty_use(const void *with) {
    const struct range *range = with;
    enum { MANY = 8 };
    for (size_t size = range->from; size <= range->to; size += size / 7 + 1) {
        unsigned char *blocks[MANY];
        int many = size > MIB ? 2 : MANY;
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < many; i++) {
                /* As one thing, as many, and in two factors. */
                size_t count = round == 0 ? 1 : round == 1 ? size : (size + 2) / 3;
                KEEPS_ERRNO(blocks[i] = calloc(count, round == 0 ? size : round == 1 ? 1 : 3));
                HOLDS(blocks[i] && all(blocks[i], size, 0));
                memset(blocks[i], 0xAA, malloc_usable_size(blocks[i]));
            }
            for (int i = 0; i < many; i++) free(blocks[i]);
            /* Through `malloc`, longer and shorter than it. */
            for (int i = 0; i < many; i++) {
                HOLDS(blocks[i] = malloc(size + size / 3 * (size_t)(i % 2)));
                memset(blocks[i], 0xBB, malloc_usable_size(blocks[i]));
            }
            for (int i = 0; i < many; i++) free(blocks[i]);
        }
    }
}

__attribute__((constructor)) static void add_ranges(void) {
    for (size_t i = 0; i < LENGTH(RANGES); i++) add_check("calloc", RANGES[i].what, zero_after_dirty_use, &RANGES[i]);
}

CHECKED("realloc", "null and a size is malloc, also of 0") {
    void *block, *none;
    KEEPS_ERRNO(block = realloc(NULL, 100));
    KEEPS_ERRNO(none = realloc(NULL, 0));
    HOLDS(block && none && block != none);
    KEEPS_ERRNO(free(block));
    KEEPS_ERRNO(free(none));
}

CHECKED("realloc", "a block and 0 frees it and is null") {
    for (size_t size = 0; size < 50 * MIB; size = size * 5 + 1) {
        size_t before = resident();
        for (size_t sum = 0; sum < 100 * MIB; sum += size + 4096) {
            void *block = malloc(size);
            HOLDS(block);
            memset(block, 1, size);
            KEEPS_ERRNO(block = realloc(block, 0));
            HOLDS(block == NULL);
        }
        HOLDS(resident() < before + 64 * MIB);
    }
}

static const size_t KINDS[] = {1, 16, 100, 2000, 9000, 40000, 70000, 150000, 1 << 20, 3 << 20, 9 << 20, 40 << 20};

CHECKED("realloc", "from each size to each, what both have in common stays") {
    for (size_t from = 0; from < LENGTH(KINDS); from++)
        for (size_t to = 0; to < LENGTH(KINDS); to++) {
            size_t old = KINDS[from], new = KINDS[to], kept = old < new ? old : new;
            unsigned char *block = malloc(old), *neighbour = malloc(old);
            HOLDS(block && neighbour);
            memset(block, (int)from + 1, old);
            memset(neighbour, 0x77, old);
            KEEPS_ERRNO(block = realloc(block, new));
            HOLDS(block && malloc_usable_size(block) >= new && IS_ALIGNED(block, 16));
            HOLDS(all(block, kept, (int)from + 1));
            memset(block, 0xEE, malloc_usable_size(block));
            HOLDS(all(neighbour, old, 0x77));
            free(block);
            free(neighbour);
        }
}

CHECKED("malloc", "more than the machine has is refused where the kernel refuses it") {
    /* Without MAP_NORESERVE a mapping of more than all memory and swap is refused, unless vm.overcommit_memory is 1. */
    size_t page = (size_t)sysconf(_SC_PAGESIZE), much = (size_t)sysconf(_SC_PHYS_PAGES) * page * 4;
    void *mapped = mmap(NULL, much, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped != MAP_FAILED) munmap(mapped, much);
    void *block = malloc(much), *zeroed = calloc(1, much), *grown = realloc(malloc(3 << 20), much);
    HOLDS(!block == (mapped == MAP_FAILED) && !zeroed == !block && !grown == !block);
    free(block);
    free(zeroed);
    free(grown);
}

CHECKED("realloc", "a failure is null and ENOMEM, and leaves the block as it was") {
    static const size_t TOO_MUCH[] = {(size_t)1 << 48, PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4096, SIZE_MAX};
    for (size_t kind = 0; kind < LENGTH(KINDS); kind++) {
        unsigned char *block = malloc(KINDS[kind]);
        size_t usable = malloc_usable_size(block);
        HOLDS(block);
        memset(block, 5, usable);
        for (size_t i = 0; i < LENGTH(TOO_MUCH); i++) {
            errno = UNTOUCHED;
            HOLDS(realloc(block, TOO_MUCH[i]) == NULL && errno == ENOMEM);
            HOLDS(malloc_usable_size(block) == usable && all(block, usable, 5));
        }
        /* It is a block still. */
        HOLDS(block = realloc(block, KINDS[kind] + 1));
        HOLDS(all(block, KINDS[kind], 5));
        free(block);
    }
}

CHECKED("realloc", "a block grows a little at a time and keeps its contents") {
    unsigned char *block = NULL;
    for (size_t size = 0, grown; size < 12 * MIB; size = grown) {
        grown = size + size / 13 + 1;
        KEEPS_ERRNO(block = realloc(block, grown));
        HOLDS(block && all(block, size, 3));
        memset(block, 3, grown);
    }
    free(block);
}

/* Alignments that `posix_memalign` does not take: no power of two, or no multiple of a pointer's size. */
static const size_t BAD_FOR_POSIX[] = {0, 1, 2, 3, 4, 7, 9, 12, 24, 40, 48, 100, 4095, SIZE_MAX, SIZE_MAX - 7,
                                       ((size_t)1 << 63) + 8};

CHECKED("posix_memalign", "a bad alignment is EINVAL; output and errno stay") {
    for (size_t i = 0; i < LENGTH(BAD_FOR_POSIX); i++)
        for (size_t size = 0; size < 3; size++) {
            void *out = &size;
            KEEPS_ERRNO(HOLDS(posix_memalign(&out, BAD_FOR_POSIX[i], size * 100) == EINVAL));
            HOLDS(out == &size);
        }
}

CHECKED("posix_memalign", "a bad alignment is EINVAL whatever the size") {
    void *out = NULL;
    for (size_t i = 0; i < LENGTH(BAD_FOR_POSIX); i++)
        HOLDS(posix_memalign(&out, BAD_FOR_POSIX[i], SIZE_MAX) == EINVAL && out == NULL);
}

CHECKED("posix_memalign", "without memory it is ENOMEM and the output stays") {
    void *out = &errno;
    HOLDS(posix_memalign(&out, 64, SIZE_MAX) == ENOMEM && out == &errno);
    HOLDS(posix_memalign(&out, (size_t)1 << 63, 1) == ENOMEM && out == &errno);
    HOLDS(posix_memalign(&out, 8, (size_t)1 << 50) == ENOMEM && out == &errno);
}

static void without_memory_errno_stays(const void *with) {
    const struct way *way = with;
    posix_form *form = named(way->symbol);
    void *out;
    KEEPS_ERRNO(HOLDS(form(&out, 64, SIZE_MAX) == ENOMEM));
    KEEPS_ERRNO(HOLDS(form(&out, 4096, (size_t)1 << 50) == ENOMEM));
}

__attribute__((constructor)) static void add_posix_forms(void) {
    for (size_t i = 0; i < LENGTH(WAYS); i++)
        if (WAYS[i].get == by_posix)
            add_check(WAYS[i].name, "without memory errno stays", without_memory_errno_stays, &WAYS[i]);
}

CHECKED("aligned_alloc", "a size that is no multiple of the alignment is served") {
    for (size_t align = 16; align <= MIB; align *= 2)
        for (size_t size = align / 2 + 1; size < align * 3; size += align / 2 + 1) {
            unsigned char *block;
            KEEPS_ERRNO(block = aligned_alloc(align, size));
            HOLDS(block && IS_ALIGNED(block, align));
            memset(block, 1, size);
            free(block);
        }
}

CHECKED("aligned_alloc", "small powers of two are served, aligned to 16") {
    for (size_t align = 1; align < 16; align *= 2) {
        void *block;
        KEEPS_ERRNO(block = aligned_alloc(align, 30));
        HOLDS(block && IS_ALIGNED(block, 16));
        free(block);
    }
}

CHECKED("aligned_alloc", "an alignment that is no power of two is null and EINVAL") {
    static const size_t BAD[] = {0, 3, 24, 100, 4095, SIZE_MAX, ((size_t)1 << 63) + 1};
    for (size_t i = 0; i < LENGTH(BAD); i++) {
        errno = UNTOUCHED;
        HOLDS(aligned_alloc(BAD[i], 100) == NULL && errno == EINVAL);
    }
}

CHECKED("memalign", "an alignment that is no power of two is rounded up") {
    for (size_t align = 1; align <= 2 * MIB; align = align * 3 / 2 + 1) {
        size_t rounded = 16;
        while (rounded < align) rounded *= 2;
        for (size_t size = 0; size < 200000; size = size * 7 + 5) {
            void *block;
            KEEPS_ERRNO(block = memalign(align, size));
            HOLDS(block && IS_ALIGNED(block, rounded));
            memset(block, 1, size);
            free(block);
        }
    }
}

CHECKED("memalign", "an alignment of 0 is as good as none") {
    void *block;
    KEEPS_ERRNO(block = memalign(0, 100));
    HOLDS(block && IS_ALIGNED(block, 16));
    free(block);
}

CHECKED("memalign", "an alignment that cannot be rounded up is null and EINVAL") {
    static const size_t BAD[] = {((size_t)1 << 63) + 1, SIZE_MAX - 1, SIZE_MAX};
    for (size_t i = 0; i < LENGTH(BAD); i++) {
        errno = UNTOUCHED;
        HOLDS(memalign(BAD[i], 1) == NULL && errno == EINVAL);
    }
}

CHECKED("valloc", "aligned to the page that the kernel has") {
    size_t page = (size_t)getpagesize();
    for (size_t size = 0; size < 9 * page; size += page / 4 + 1) {
        void *block;
        KEEPS_ERRNO(block = valloc(size));
        HOLDS(block && IS_ALIGNED(block, page) && malloc_usable_size(block) >= size);
        memset(block, 1, size);
        free(block);
    }
}

CHECKED("pvalloc", "aligned to a page, and whole pages long") {
    size_t page = (size_t)getpagesize();
    for (size_t size = 0; size < 9 * page; size += page / 4 + 1) {
        void *block;
        KEEPS_ERRNO(block = pvalloc(size));
        size_t whole = (size + page - 1) / page * page;
        HOLDS(block && IS_ALIGNED(block, page) && malloc_usable_size(block) >= whole);
        memset(block, 1, whole);
        free(block);
    }
}

CHECKED("pvalloc", "a size that cannot be rounded up is null and ENOMEM") {
    size_t page = (size_t)getpagesize();
    for (size_t less = 0; less < page + 3; less += less < 3 || less > page - 4 ? 1 : page - 7) {
        errno = UNTOUCHED;
        HOLDS(pvalloc(SIZE_MAX - less) == NULL && errno == ENOMEM);
    }
}

CHECKED("malloc_usable_size", "null is 0") { KEEPS_ERRNO(HOLDS(malloc_usable_size(NULL) == 0)); }

CHECKED("malloc_usable_size", "constant while others come and go") {
    static void *blocks[LENGTH(SIZES)], *others[LENGTH(SIZES)];
    static size_t usable[LENGTH(SIZES)];
    for (size_t i = 0; i < size_count; i++) {
        HOLDS(blocks[i] = malloc(SIZES[i]));
        usable[i] = malloc_usable_size(blocks[i]);
    }
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < size_count; i++) HOLDS(others[i] = malloc(SIZES[i] + (size_t)round * 1000));
        for (size_t i = 0; i < size_count; i++) free(others[i]);
        malloc_trim(0);
        for (size_t i = 0; i < size_count; i++) HOLDS(malloc_usable_size(blocks[i]) == usable[i]);
    }
    for (size_t i = 0; i < size_count; i++) free(blocks[i]);
}
