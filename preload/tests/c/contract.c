/* What a preloaded allocator owes to C programs (C17 7.22.3, POSIX.1-2024, the glibc manual): see contract.rs. */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IS_ALIGNED(block, to) ((uintptr_t)(block) % (to) == 0)
#define UNTOUCHED 77

static const size_t TOO_MUCH[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4096, SIZE_MAX - 1, SIZE_MAX};
#define EACH_TOO_MUCH(size) for (int t = 0; t < 4; t++) for (size_t size = TOO_MUCH[t], once = 1; once; once = 0)

static int all(const unsigned char *bytes, size_t size, unsigned char value) {
    for (size_t i = 0; i < size; i++) if (bytes[i] != value) return 0;
    return 1;
}

static void names(void) {
    static const char *const OURS[] = {
        "malloc", "calloc", "realloc", "free", "cfree", "free_sized", "free_aligned_sized", "posix_memalign",
        "aligned_alloc", "memalign", "valloc", "pvalloc", "malloc_usable_size", "malloc_trim", "mallinfo", "mallinfo2",
        "malloc_stats", "malloc_info", "mallopt", "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_free",
        "__libc_cfree", "__libc_memalign", "__libc_valloc", "__libc_pvalloc", "__posix_memalign"};
    for (size_t i = 0; i < sizeof OURS / sizeof *OURS; i++) {
        void *place = dlsym(RTLD_DEFAULT, OURS[i]);
        Dl_info info = {0};
        if (!place || !dladdr(place, &info) || !strstr(info.dli_fname, "libhoming_preload.so")) {
            fprintf(stderr, "%s is not ours\n", OURS[i]);
            failures++;
        }
    }
    static const char *const THEIRS[] = {"strdup", "strndup", "reallocarray"};
    for (size_t i = 0; i < 3; i++) {
        Dl_info info = {0};
        CHECK(dladdr(dlsym(RTLD_DEFAULT, THEIRS[i]), &info) && !strstr(info.dli_fname, "libhoming"));
    }
    /* The aliases and the C library's own callers work on the same blocks. */
    void *(*libc_malloc)(size_t) = dlsym(RTLD_DEFAULT, "__libc_malloc");
    void *(*libc_calloc)(size_t, size_t) = dlsym(RTLD_DEFAULT, "__libc_calloc");
    void *(*libc_realloc)(void *, size_t) = dlsym(RTLD_DEFAULT, "__libc_realloc");
    void *(*libc_memalign)(size_t, size_t) = dlsym(RTLD_DEFAULT, "__libc_memalign");
    void *(*libc_valloc)(size_t) = dlsym(RTLD_DEFAULT, "__libc_valloc");
    void *(*libc_pvalloc)(size_t) = dlsym(RTLD_DEFAULT, "__libc_pvalloc");
    int (*libc_posix)(void **, size_t, size_t) = dlsym(RTLD_DEFAULT, "__posix_memalign");
    void (*libc_free)(void *) = dlsym(RTLD_DEFAULT, "__libc_free");
    void (*libc_cfree)(void *) = dlsym(RTLD_DEFAULT, "__libc_cfree");
    void (*plain_cfree)(void *) = dlsym(RTLD_DEFAULT, "cfree");
    void (*sized)(void *, size_t) = dlsym(RTLD_DEFAULT, "free_sized");
    void (*aligned_sized)(void *, size_t, size_t) = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (failures) return;
    char *block = libc_malloc(100);
    strcpy(block, "kept");
    block = libc_realloc(block, 5000);
    CHECK(!strcmp(block, "kept"));
    libc_free(block);
    block = libc_calloc(10, 10);
    CHECK(all((unsigned char *)block, 100, 0));
    libc_cfree(block);
    block = libc_memalign(256, 10);
    CHECK(IS_ALIGNED(block, 256));
    aligned_sized(block, 256, 10);
    block = libc_valloc(10);
    CHECK(IS_ALIGNED(block, getpagesize()));
    sized(block, 10);
    block = libc_pvalloc(10);
    CHECK(IS_ALIGNED(block, getpagesize()));
    plain_cfree(block);
    void *out = NULL;
    CHECK(libc_posix(&out, 64, 10) == 0 && IS_ALIGNED(out, 64));
    free(out);
    char *copy = strdup("copy");
    CHECK(malloc_usable_size(copy) >= 5);
    free(copy);
    int *array = reallocarray(NULL, 10, sizeof *array);
    CHECK(array != NULL);
    errno = 0;
    CHECK(reallocarray(array, SIZE_MAX / 2, sizeof *array) == NULL && errno == ENOMEM);
    free(array);
    libc_free(NULL);
    libc_cfree(NULL);
    plain_cfree(NULL);
    sized(NULL, 0);
    aligned_sized(NULL, 64, 0);
}

static void plain(void) {
    void *a = malloc(0), *b = malloc(0);
    CHECK(a && b && a != b);
    free(a);
    free(b);
    free(NULL);
    EACH_TOO_MUCH(size) {
        errno = 0;
        CHECK(malloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(1, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(size, 1) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(valloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(pvalloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(memalign(64, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(aligned_alloc(64, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(realloc(NULL, size) == NULL && errno == ENOMEM);
    }
    /* More than there is, yet not too much to ask for. */
    errno = 0;
    CHECK(malloc((size_t)1 << 50) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(malloc((size_t)PTRDIFF_MAX) == NULL && errno == ENOMEM);
}

static void zeroed(void) {
    errno = 0;
    CHECK(calloc(SIZE_MAX / 2 + 1, 2) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc((size_t)1 << 33, (size_t)1 << 33) == NULL && errno == ENOMEM);
    void *none = calloc(0, 10), *zero = calloc(10, 0);
    CHECK(none && zero && none != zero);
    free(none);
    free(zero);
    /* After dirtying: twice, so that what is recycled is seen, too. */
    for (size_t size = 1; size < 6 << 20; size = size * 3 / 2 + 1) {
        unsigned char *blocks[8];
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < 8; i++) {
                blocks[i] = round ? calloc(1, size) : malloc(size);
                if (round) CHECK(all(blocks[i], size, 0));
                memset(blocks[i], 0xAA, malloc_usable_size(blocks[i]));
            }
            for (int i = 0; i < 8; i++) free(blocks[i]);
        }
        unsigned char *block = calloc(size, 1);
        CHECK(all(block, size, 0));
        free(block);
    }
}

static void resized(void) {
    char *block = realloc(NULL, 100);
    CHECK(block != NULL);
    memset(block, 'x', 100);
    EACH_TOO_MUCH(size) {
        errno = 0;
        CHECK(realloc(block, size) == NULL && errno == ENOMEM);
        CHECK(all((unsigned char *)block, 100, 'x'));
    }
    CHECK(realloc(block, 0) == NULL);
    /* From each size to each, across slabs, runs and mappings: what both have in common stays. */
    static const size_t SIZES[] = {1, 16, 100, 2000, 9000, 70000, 150000, 1 << 20, 3 << 20, 9 << 20, 40 << 20};
    for (int from = 0; from < 11; from++)
        for (int to = 0; to < 11; to++) {
            size_t old = SIZES[from], new = SIZES[to], kept = old < new ? old : new;
            unsigned char *block = malloc(old);
            memset(block, from + 1, old);
            block = realloc(block, new);
            CHECK(block && malloc_usable_size(block) >= new && IS_ALIGNED(block, 16));
            CHECK(all(block, kept, from + 1));
            memset(block, 0xEE, new);
            free(block);
        }
    /* A failure leaves the block of every kind. */
    for (int from = 0; from < 11; from++) {
        unsigned char *block = malloc(SIZES[from]);
        memset(block, 5, SIZES[from]);
        errno = 0;
        CHECK(realloc(block, (size_t)1 << 50) == NULL && errno == ENOMEM);
        CHECK(all(block, SIZES[from], 5));
        free(block);
    }
}

static void aligned(void) {
    void *out = &failures;
    static const size_t BAD[] = {0, 1, 2, 4, 7, 12, 24, 48, 100, SIZE_MAX};
    for (int i = 0; i < 10; i++) {
        errno = UNTOUCHED;
        CHECK(posix_memalign(&out, BAD[i], 100) == EINVAL);
        CHECK(out == &failures && errno == UNTOUCHED);
    }
    EACH_TOO_MUCH(size) {
        errno = UNTOUCHED;
        CHECK(posix_memalign(&out, 64, size) == ENOMEM);
        CHECK(out == &failures && errno == UNTOUCHED);
    }
    errno = UNTOUCHED;
    CHECK(posix_memalign(&out, (size_t)1 << 62, 1) == ENOMEM && out == &failures && errno == UNTOUCHED);
    CHECK(posix_memalign(&out, 64, 0) == 0);
    free(out);
    for (size_t align = sizeof(void *); align <= (size_t)64 << 20; align *= 2) {
        static const size_t SIZES[] = {0, 1, 17, 100, 4000, 70000, 300000, 3 << 20};
        for (int i = 0; i < 8; i++) {
            size_t size = SIZES[i];
            unsigned char *blocks[4];
            errno = UNTOUCHED;
            CHECK(posix_memalign((void **)&blocks[0], align, size) == 0);
            blocks[1] = aligned_alloc(align, size);
            blocks[2] = memalign(align, size);
            /* Rounded up, as in glibc. */
            blocks[3] = memalign(align - 1, size);
            CHECK(errno == UNTOUCHED);
            for (int b = 0; b < 4; b++) {
                CHECK(blocks[b] && IS_ALIGNED(blocks[b], align) && IS_ALIGNED(blocks[b], 16));
                CHECK(malloc_usable_size(blocks[b]) >= size);
                memset(blocks[b], b, size);
            }
            for (int b = 0; b < 4; b++) {
                CHECK(all(blocks[b], size, b));
                /* To something longer, and away. */
                unsigned char *longer = realloc(blocks[b], size + 5000);
                CHECK(longer && all(longer, size, b));
                free(longer);
            }
        }
    }
    static const size_t NO_POWER[] = {0, 3, 24, 100, SIZE_MAX};
    for (int i = 0; i < 5; i++) {
        errno = 0;
        CHECK(aligned_alloc(NO_POWER[i], 100) == NULL && errno == EINVAL);
    }
    errno = 0;
    CHECK(memalign(SIZE_MAX / 2 + 2, 1) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(memalign((size_t)1 << 63, 1) == NULL && errno == ENOMEM);
    void *zero = memalign(0, 10);
    CHECK(zero && IS_ALIGNED(zero, 16));
    free(zero);
    size_t page = getpagesize();
    for (size_t size = 0; size < 5 * page; size += 1000) {
        void *v = valloc(size), *p = pvalloc(size);
        CHECK(v && IS_ALIGNED(v, page) && malloc_usable_size(v) >= size);
        CHECK(p && IS_ALIGNED(p, page) && malloc_usable_size(p) >= (size ? (size + page - 1) / page * page : 0));
        free(v);
        free(p);
    }
}

static void every_size(void) {
    static unsigned char *blocks[4097];
    errno = UNTOUCHED;
    for (size_t size = 0; size <= 4096; size++) {
        blocks[size] = malloc(size);
        CHECK(blocks[size] && IS_ALIGNED(blocks[size], 16));
        size_t usable = malloc_usable_size(blocks[size]);
        CHECK(usable >= size);
        memset(blocks[size], (int)size, usable);
    }
    for (size_t size = 0; size <= 4096; size++) {
        size_t usable = malloc_usable_size(blocks[size]);
        CHECK(all(blocks[size], usable, (unsigned char)size));
        void *zeroed = calloc(1, size);
        CHECK(IS_ALIGNED(zeroed, 16));
        free(zeroed);
        blocks[size] = realloc(blocks[size], size + 1);
        CHECK(IS_ALIGNED(blocks[size], 16) && all(blocks[size], size, (unsigned char)size));
    }
    for (size_t size = 0; size <= 4096; size++) free(blocks[size]);
    for (size_t size = 1; size < 200 << 20; size = size * 2 + 1) {
        unsigned char *block = malloc(size);
        CHECK(block && IS_ALIGNED(block, 16));
        size_t usable = malloc_usable_size(block);
        CHECK(usable >= size && malloc_usable_size(block) == usable);
        block[0] = block[size - 1] = block[usable - 1] = 1;
        free(block);
    }
    CHECK(malloc_usable_size(NULL) == 0);
    CHECK(errno == UNTOUCHED);
}

static void free_keeps_errno(void) {
    static const size_t SIZES[] = {1, 100, 5000, 100000, 3 << 20, 40 << 20, 100 << 20};
    for (int i = 0; i < 7; i++) {
        void *block = malloc(SIZES[i]);
        memset(block, 1, SIZES[i]);
        errno = UNTOUCHED;
        free(block);
        CHECK(errno == UNTOUCHED);
    }
}

static void figures(void) {
    struct mallinfo2 before = mallinfo2();
    static void *blocks[40];
    for (int i = 0; i < 40; i++) memset(blocks[i] = malloc(1 << 20), 1, 1 << 20);
    struct mallinfo2 with = mallinfo2();
    struct mallinfo old = mallinfo();
    CHECK(with.uordblks >= before.uordblks + ((size_t)40 << 20));
    CHECK(with.arena >= with.uordblks && with.usmblks >= with.uordblks);
    CHECK((size_t)(unsigned)old.uordblks == with.uordblks);
    for (int i = 0; i < 40; i++) free(blocks[i]);
    struct mallinfo2 after = mallinfo2();
    /* A few may be kept at hand for the thread. */
    CHECK(after.uordblks + ((size_t)36 << 20) <= with.uordblks);

    /* Something to give back the first time, nothing the second. */
    void *block = malloc(1 << 20);
    memset(block, 1, 1 << 20);
    free(block);
    CHECK(malloc_trim(0) == 1);
    CHECK(malloc_trim(0) == 0);
    CHECK(mallinfo2().fordblks == 0);

    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 0);
    CHECK(mallopt(12345, 1) == 0);

    errno = 0;
    CHECK(malloc_info(1, stdout) != 0 && errno == EINVAL);
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(malloc_info(0, stream) == 0);
    fclose(stream);
    CHECK(length > 50 && !strncmp(text, "<malloc version=", 16) && strstr(text, "</malloc>\n") && strstr(text, "<system"));
    free(text);
    malloc_stats();
}

int main(int count, char **arguments) {
    static const struct { const char *name; void (*run)(void); } PARTS[] = {
        {"names", names}, {"plain", plain}, {"zeroed", zeroed}, {"resized", resized}, {"aligned", aligned},
        {"every-size", every_size}, {"free-keeps-errno", free_keeps_errno}, {"figures", figures}};
    for (int i = 0; i < 8; i++)
        if (count > 1 && !strcmp(arguments[1], PARTS[i].name)) {
            PARTS[i].run();
            return failures != 0;
        }
    return 9;
}
