/* Every operation at every size, with contents that are looked at: for programs in surroundings that break allocators.
 * Needs little stack, and nothing of the C library but its memory. */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static const size_t WORK_SIZES[] = {0, 1, 24, 100, 500, 1000, 3000, 8192, 20000, 65536, 70000, 300000, 2 << 20, 5 << 20};
enum { WORKS = sizeof WORK_SIZES / sizeof *WORK_SIZES };

/* Whether all bytes have the value. */
static bool all_are(const unsigned char *bytes, size_t size, int value) {
    return size == 0 || (bytes[0] == (unsigned char)value && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* What was taken, and what is in it. */
struct piece {
    unsigned char *block;
    size_t size;
    int value;
};

/* Takes a block by one of five operations, and fills it. False where it is not served, or not as it must be. */
static bool take(struct piece *piece, size_t size, unsigned how) {
    unsigned char *block = NULL;
    size_t align = 16;
    if (how % 5 == 0) block = malloc(size);
    if (how % 5 == 1) {
        block = calloc(1, size);
        if (block && !all_are(block, size, 0)) return false;
    }
    if (how % 5 == 2 && (block = malloc(size / 3 + 1))) {
        memset(block, 0x33, size / 3 + 1);
        block = realloc(block, size + 1);
        if (block && !all_are(block, size / 3, 0x33)) return false;
    }
    if (how % 5 == 3) block = aligned_alloc(align = 64, size);
    if (how % 5 == 4) block = aligned_alloc(align = how % 10 == 4 ? 4096 : MIB, size);
    if (!block || (uintptr_t)block % align || malloc_usable_size(block) < size) return false;
    memset(block, (int)(how % 250) + 1, size);
    *piece = (struct piece){block, size, (int)(how % 250) + 1};
    return true;
}

/* Frees it; false where others have written to it. */
static bool give(struct piece *piece) {
    struct piece old = *piece;
    piece->block = NULL;
    bool whole = all_are(old.block, old.size, old.value);
    free(old.block);
    return whole;
}

/* A round of work; false where anything does not hold. `errno` stays. */
__attribute__((unused)) static bool works(unsigned round) {
    int error = errno;
    struct piece pieces[WORKS];
    for (unsigned i = 0; i < WORKS; i++)
        if (!take(&pieces[i], WORK_SIZES[i], round + i)) return false;
    for (unsigned i = round % 2; i < WORKS; i += 2)
        if (!give(&pieces[i])) return false;
    for (unsigned i = (round + 1) % 2; i < WORKS; i += 2)
        if (!give(&pieces[i])) return false;
    return errno == error;
}
