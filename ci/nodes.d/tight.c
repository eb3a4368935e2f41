/* A process that may not have much: the kernel promises no more memory than it has, or a control group limits it.
 *
 *   tight none        allocates until it gets no more, which is to be said by ENOMEM; frees all, and does so again
 *   tight churn MIB   allocates and frees so many MiB in all while it never holds more than 16, in blocks of all sizes and
 *                     by two threads: what it does not hold must not count against it for long
 *
 * Prints RESULT lines. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include "kernel.h"

enum { MOST_BLOCKS = 1 << 18, HELD = 8 << 20 };
static struct { char *block; size_t size; } blocks[MOST_BLOCKS];

/* Takes blocks until there are no more, writes to all, and frees them; gives their bytes. */
static size_t until_null(uint64_t *state, bool *enomem)
{
    size_t count = 0, bytes = 0;
    for (; count < MOST_BLOCKS; count++) {
        size_t size = next_random(state) % 200 ? any_size(state) : large_size(state);
        errno = 0;
        char *block = malloc(size);
        if (!block) {
            *enomem = errno == ENOMEM;
            break;
        }
        memset(block, (int)count, size);
        blocks[count].block = block;
        blocks[count].size = size;
        bytes += size;
    }
    for (size_t i = 0; i < count; i++)
        if (blocks[i].block[blocks[i].size - 1] != (char)i) fail("a block's last byte has changed");
    while (count > 0) free(blocks[--count].block);
    return bytes;
}

static size_t churned_bytes;

static void *churn(void *seed)
{
    enum { PLACES = 4096 };
    static __thread struct { char *block; size_t size; } held[PLACES];
    uint64_t state = (uintptr_t)seed;
    size_t holds = 0;
    for (size_t done = 0; done < churned_bytes;) {
        size_t place = next_random(&state) % PLACES;
        holds -= held[place].size;
        free(held[place].block);
        size_t size = next_random(&state) % 500 ? any_size(&state) : large_size(&state) % (4 << 20) + 1;
        if (holds + size > HELD) size = 16;
        char *block = next_random(&state) % 4 ? malloc(size) : calloc(1, size);
        if (!block) fail("no memory for a block");
        memset(block, 1, size);
        held[place].block = block;
        held[place].size = size;
        holds += size;
        done += size;
    }
    for (size_t place = 0; place < PLACES; place++) free(held[place].block);
    return NULL;
}

int main(int count, char **words)
{
    if (count == 2 && strcmp(words[1], "none") == 0) {
        uint64_t state = 88172645463325252u;
        bool enomem[2] = {false, false};
        size_t first = until_null(&state, &enomem[0]), second = until_null(&state, &enomem[1]);
        printf("RESULT enomem=%d mib=%zu again=%.2f\n", enomem[0] && enomem[1], first >> 20, (double)second / (double)first);
        return 0;
    }
    if (count == 3 && strcmp(words[1], "churn") == 0) {
        churned_bytes = (size_t)atol(words[2]) << 19;
        pthread_t threads[2];
        for (uintptr_t i = 0; i < 2; i++)
            if (pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) != 0) fail("pthread_create");
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
        printf("RESULT churned=%zu\n", churned_bytes >> 19);
        return 0;
    }
    return 2;
}
