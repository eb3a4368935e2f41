/* What the programs about forks, threads and loading share: blocks that know their contents, threads, children, and the
 * memory that the process has. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "check.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define UNUSED __attribute__((unused))

/* A block, full of its seed: whole, or at its ends and once in 64 KiB if it is large. What describes it is a block,
 * too. */
struct held {
    size_t size;
    unsigned char seed;
    unsigned char *bytes;
};

static size_t next_place(size_t at, size_t size) {
    size_t step = 65536;
    if (size <= step || at < 64 || at >= size - 64) return at + 1;
    return at + step < size - 64 ? at + step : size - 64;
}

static UNUSED void fill(struct held *held) {
    for (size_t at = 0; at < held->size; at = next_place(at, held->size)) held->bytes[at] = held->seed;
}

static UNUSED int is_whole(const struct held *held) {
    for (size_t at = 0; at < held->size; at = next_place(at, held->size))
        if (held->bytes[at] != held->seed) return 0;
    return 1;
}

static UNUSED struct held *take(size_t size, unsigned seed) {
    struct held *held = malloc(sizeof *held);
    unsigned char *bytes = malloc(size);
    if (!held || !bytes) {
        fprintf(stderr, "no memory for %zu bytes\n", size);
        _exit(3);
    }
    *held = (struct held){size, (unsigned char)seed, bytes};
    fill(held);
    return held;
}

static UNUSED void give(struct held *held) {
    if (!held) return;
    CHECK(is_whole(held));
    free(held->bytes);
    free(held);
}

/* A size from 8 B to 4 MiB, each doubling as likely as any other. */
static UNUSED size_t some_size(unsigned *seed) {
    size_t least = (size_t)8 << rand_r(seed) % 19;
    return least + (size_t)rand_r(seed) % least;
}

/* Takes and gives so many blocks of all sizes, some of them side by side. */
static UNUSED void work(unsigned seed, int steps) {
    enum { SIDE_BY_SIDE = 16 };
    struct held *mine[SIDE_BY_SIDE] = {0};
    for (int step = 0; step < steps; step++) {
        int i = (int)(rand_r(&seed) % SIDE_BY_SIDE);
        give(mine[i]);
        mine[i] = take(some_size(&seed), seed);
    }
    for (int i = 0; i < SIDE_BY_SIDE; i++) give(mine[i]);
}

static UNUSED pthread_t started(void *(*function)(void *), void *with) {
    pthread_attr_t attributes;
    pthread_t thread = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    CHECK(pthread_create(&thread, &attributes, function, with) == 0);
    pthread_attr_destroy(&attributes);
    return thread;
}

static UNUSED void run_in_thread(void *(*function)(void *), void *with) {
    pthread_join(started(function, with), NULL);
}

/* Checks that the child exits with that status; says how it ended if not. */
static UNUSED void expect_status(pid_t child, int wanted) {
    int status = -1;
    if (child <= 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != wanted) {
        const char *how = WIFSIGNALED(status) ? "the signal" : "the status";
        int number = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
        fprintf(stderr, "child %d ended with %s %d instead of the status %d\n", (int)child, how, number, wanted);
        failures++;
    }
}

/* Bytes of the process that are in memory, once all that can go back has gone. */
static UNUSED long resident_after_trim(void) {
    malloc_trim(0);
    char text[256] = {0};
    int file = open("/proc/self/statm", O_RDONLY);
    CHECK(read(file, text, sizeof text - 1) > 0);
    close(file);
    const char *second = strchr(text, ' ');
    return second ? atol(second) * sysconf(_SC_PAGESIZE) : 0;
}

#endif
