/* mallinfo2 against a count of the program's own: what is held is what was handed out and not freed. See held.rs. */
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 24, EACH = 400 };

/* ---- The program's own count ------------------------------------------------------------------------------------ */

static _Atomic size_t held;
/* Bytes by which the figure may be off: in debug mode each block has a record more. */
static size_t slack_of_block;
static _Atomic size_t blocks_held;

static void *take(size_t size) {
    void *block = malloc(size);
    CHECK(block);
    if (!block) return NULL;
    held += malloc_usable_size(block);
    blocks_held++;
    *(char *)block = 1;
    return block;
}

static void give(void *block) {
    held -= malloc_usable_size(block);
    blocks_held--;
    free(block);
}

static size_t figure(void) {
    struct mallinfo2 info = mallinfo2();
    CHECK(info.arena == info.uordblks + info.fordblks);
    return info.uordblks + info.hblkhd;
}

static size_t at_first;

/* The figure has changed by what the count has. */
static void agrees(const char *when) {
    size_t tells = figure() - at_first, off = blocks_held * slack_of_block;
    if (tells < held || tells > held + off) {
        fprintf(stderr, "%s: %zd bytes are held, the figure tells %zd\n", when, (ssize_t)held, (ssize_t)tells);
        failures++;
    }
}

/* ---- Work ------------------------------------------------------------------------------------------------------- */

static unsigned next_random(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Of every kind: small, in slabs of several slots, runs, mappings. */
static size_t some_size(unsigned *state) {
    static const size_t MOST[] = {64, 64, 1000, 1000, 1000, 9000, 70000};
    unsigned kind = next_random(state) % 400;
    if (kind == 0) return (3 << 20) + next_random(state) % (1 << 20);
    if (kind < 8) return 70000 + next_random(state) % (1 << 20);
    return 1 + next_random(state) % MOST[kind % 7];
}

static void *blocks[THREADS][EACH];
static pthread_barrier_t step;

static void fill(unsigned of) {
    unsigned state = of + 1;
    for (int i = 0; i < EACH; i++) blocks[of][i] = take(some_size(&state));
}

static void drain(unsigned of, int from, int by) {
    for (int i = from; i < EACH; i += by) {
        give(blocks[of][i]);
        blocks[of][i] = NULL;
    }
}

/* Each step ends in sleep, while the main thread looks. */
static void *sleeper(void *argument) {
    unsigned own = (unsigned)(uintptr_t)argument, other = (own + 1) % THREADS;
    pthread_barrier_wait(&step);
    fill(own);
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    drain(own, 0, 2);
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    drain(other, 1, 2);
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    return NULL;
}

static void look(const char *when) {
    pthread_barrier_wait(&step);
    agrees(when);
    pthread_barrier_wait(&step);
}

int main(int count, char **words) {
    if (count > 1) slack_of_block = strtoul(words[1], NULL, 10);
    /* What the figure itself and the program's first uses need. */
    figure();
    at_first = figure();
    for (int round = 0; round < 20; round++) {
        fill(0);
        agrees("one thread's blocks");
        drain(0, 1, 2);
        agrees("every second freed");
        drain(0, 0, 2);
        agrees("all freed");
    }
    CHECK(figure() == at_first);

    pthread_t threads[THREADS];
    pthread_barrier_init(&step, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, sleeper, (void *)i));
    /* The C library's own blocks for the threads are none of the program's. */
    at_first = figure();
    pthread_barrier_wait(&step);
    look("blocks of threads that sleep");
    look("half of them freed by their threads");
    look("the others freed by others");
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    at_first = figure();
    fill(0);
    agrees("after the threads");
    drain(0, 0, 1);
    agrees("at the end");
    return failures != 0;
}
