/* A program that uses jemalloc's own functions, linked with libjemalloc: see jemalloc.rs. It is right under jemalloc, too. */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *mallocx(size_t, int);
void *rallocx(void *, size_t, int);
size_t xallocx(void *, size_t, size_t, int);
size_t sallocx(const void *, int);
void dallocx(void *, int);
void sdallocx(void *, size_t, int);
size_t nallocx(size_t, int);
int mallctl(const char *, void *, size_t *, void *, size_t);
int mallctlnametomib(const char *, size_t *, size_t *);
int mallctlbymib(const size_t *, size_t, void *, size_t *, void *, size_t);
void malloc_stats_print(void (*)(void *, const char *), void *, const char *);

#define LG_ALIGN(la) (la)
#define ZERO 0x40
#define ARENA(a) (((a) + 1) << 20)
#define TCACHE_NONE ((-1 + 2) << 8)

static const size_t SIZES[] = {1, 24, 100, 1000, 5000, 60000, 300000, 3 << 20, 40 << 20};
enum { KINDS = sizeof SIZES / sizeof *SIZES };

static bool is_full_of(const unsigned char *block, size_t size, unsigned char byte) {
    for (size_t i = 0; i < size; i += size > 100000 ? 977 : 1)
        if (block[i] != byte) return false;
    return true;
}

/* Blocks of one kind of function, ended by another. */
static void mixed(void) {
    for (int i = 0; i < KINDS; i++) {
        size_t size = SIZES[i];
        unsigned char *block = mallocx(size, TCACHE_NONE);
        CHECK(block);
        memset(block, 1, size);
        CHECK(malloc_usable_size(block) >= size);
        free(block);
        block = malloc(size);
        CHECK(sallocx(block, 0) >= size);
        dallocx(block, 0);
        block = calloc(1, size);
        block = rallocx(block, size * 2, ZERO);
        CHECK(block && is_full_of(block, size * 2, 0));
        free(block);
        block = mallocx(size, 0);
        memset(block, 2, size);
        block = realloc(block, size + 1000);
        CHECK(block && is_full_of(block, size, 2));
        sdallocx(block, size + 1000, 0);
    }
}

static void sizes_and_alignments(void) {
    for (int i = 0; i < KINDS; i++)
        for (int lg = 0; lg <= 21; lg += 3) {
            size_t size = SIZES[i];
            size_t told = nallocx(size, LG_ALIGN(lg));
            unsigned char *block = mallocx(size, LG_ALIGN(lg) | ZERO);
            CHECK(block && told >= size && sallocx(block, LG_ALIGN(lg)) >= told);
            CHECK((uintptr_t)block % ((size_t)1 << lg) == 0 && is_full_of(block, told, 0));
            memset(block, 3, size);
            block = rallocx(block, size + size / 2 + 1, LG_ALIGN(lg));
            CHECK(block && (uintptr_t)block % ((size_t)1 << lg) == 0 && is_full_of(block, size, 3));
            sdallocx(block, size + size / 2 + 1, LG_ALIGN(lg));
        }
    CHECK(!mallocx((size_t)1 << 62, 0) && nallocx(SIZE_MAX, 0) == 0);
}

static void in_place(void) {
    for (int i = 0; i < KINDS; i++) {
        unsigned char *block = mallocx(SIZES[i], 0);
        memset(block, 4, SIZES[i]);
        size_t before = sallocx(block, 0);
        size_t now = xallocx(block, SIZES[i] * 2, SIZES[i], ZERO);
        CHECK(now >= before && now == sallocx(block, 0) && is_full_of(block, SIZES[i], 4));
        CHECK(is_full_of(block + before, now - before, 0));
        now = xallocx(block, SIZES[i], 0, 0);
        CHECK(now >= SIZES[i] && now == sallocx(block, 0) && is_full_of(block, SIZES[i], 4));
        dallocx(block, 0);
    }
}

/* Zeros to the last byte that may be used, whatever lay there before: where much more may be used than was asked for, where
 * little is left of much, and where the block moves for the sake of its alignment. */
static void zero_to_the_last_byte(void) {
    enum { SOME = 64 };
    for (int i = 0; i < KINDS; i++)
        for (int lg = 0; lg <= 21; lg += 3) {
            unsigned char *blocks[SOME];
            int some = SIZES[i] > 1 << 20 ? 3 : SOME;
            for (int k = 0; k < some; k++) {
                blocks[k] = mallocx(SIZES[i], LG_ALIGN(lg));
                memset(blocks[k], 0xaa, sallocx(blocks[k], 0));
            }
            for (int k = 0; k < some; k++) dallocx(blocks[k], LG_ALIGN(lg));
            unsigned char *block = mallocx(SIZES[i] - SIZES[i] / 400, LG_ALIGN(lg) | ZERO);
            CHECK(block && is_full_of(block, sallocx(block, 0), 0));
            block = rallocx(block, SIZES[i] + 3000, LG_ALIGN(lg) | ZERO);
            CHECK(block && is_full_of(block, sallocx(block, 0), 0));
            block = rallocx(block, 1, LG_ALIGN(21 - lg) | ZERO);
            CHECK(block && is_full_of(block, sallocx(block, 0), 0));
            dallocx(block, 0);
        }
}

static size_t written;
static void count(void *where, const char *text) { *(size_t *)where += strlen(text); }

static void by_name(void) {
    void *some = mallocx(10 << 20, ARENA(0));
    uint64_t epoch = 1;
    size_t length = sizeof epoch;
    CHECK(mallctl("epoch", &epoch, &length, &epoch, sizeof epoch) == 0);
    static const char *FIGURES[] = {"stats.allocated", "stats.active", "stats.resident", "stats.mapped"};
    for (int i = 0; i < 4; i++) {
        size_t bytes = 0;
        length = sizeof bytes;
        CHECK(mallctl(FIGURES[i], &bytes, &length, NULL, 0) == 0 && bytes >= 10 << 20);
    }
    const char *version = NULL;
    length = sizeof version;
    CHECK(mallctl("version", &version, &length, NULL, 0) == 0 && version && *version);
    unsigned arenas = 0;
    length = sizeof arenas;
    CHECK(mallctl("arenas.narenas", &arenas, &length, NULL, 0) == 0 && arenas >= 1);
    CHECK(mallctl("arena.0.purge", NULL, NULL, NULL, 0) == 0);
    CHECK(mallctl("no.such.name", NULL, NULL, NULL, 0) == ENOENT);
    char little = 0;
    length = sizeof little;
    CHECK(mallctl("stats.allocated", &little, &length, NULL, 0) == EINVAL);
    CHECK(mallctl("version", NULL, NULL, &version, sizeof version) == EPERM);
    size_t mib[8], parts = 8, bytes = 0;
    CHECK(mallctlnametomib("stats.allocated", mib, &parts) == 0 && parts == 2);
    length = sizeof bytes;
    CHECK(mallctlbymib(mib, parts, &bytes, &length, NULL, 0) == 0 && bytes >= 10 << 20);
    parts = 8;
    CHECK(mallctlnametomib("arena.0.purge", mib, &parts) == 0 && parts == 3);
    mib[1] = 0;
    CHECK(mallctlbymib(mib, parts, NULL, NULL, NULL, 0) == 0);
    CHECK(mallctlbymib(mib, 1, NULL, NULL, NULL, 0) == ENOENT);
    mib[1] = 99999;
    CHECK(mallctlbymib(mib, parts, NULL, NULL, NULL, 0) == ENOENT);
    CHECK(mallctl("arena.4096.purge", NULL, NULL, NULL, 0) == 0);
    CHECK(mallctl("arena.99999999999999999999999.purge", NULL, NULL, NULL, 0) == ENOENT);
    CHECK(mallctl("epoch", NULL, NULL, &epoch, 4) == EINVAL);
    struct { size_t bytes; char more[8]; } long_answer = {0};
    length = sizeof long_answer;
    CHECK(mallctl("stats.allocated", &long_answer, &length, NULL, 0) == EINVAL && length == sizeof(size_t) && long_answer.bytes >= 10 << 20);
    malloc_stats_print(count, &written, NULL);
    CHECK(written > 50);
    dallocx(some, ARENA(0));
}

int main(void) {
    mixed();
    sizes_and_alignments();
    in_place();
    zero_to_the_last_byte();
    by_name();
    return failures != 0;
}
