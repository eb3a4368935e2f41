/* Two threads on two nodes free large blocks, and handlers on top of them free blocks of the other one's node: each holds its
 * node's pool now and then when its handler comes, and none may wait for the other's. Ends with 0 if both get on to the end.
 * Handlers may free here, since the threads do nothing but what takes locks: no list of small blocks is interrupted. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PLACES = 200, SIGNALS = 5000 };
static _Atomic(void *) passed[2][PLACES];
static atomic_long rounds[2], freed[2];
static __thread int own;

static void free_one_of_the_other(int signal) {
    (void)signal;
    for (int i = 0; i < PLACES; i++) {
        void *block = atomic_exchange(&passed[!own][i], NULL);
        if (!block) continue;
        free(block);
        freed[own]++;
        return;
    }
}

static void *work(void *cpu) {
    own = (int)(long)cpu;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(own, &set);
    if (sched_setaffinity(0, sizeof set, &set)) abort();
    for (;;) {
        char *blocks[] = {malloc(20 << 20), malloc(18 << 20)};
        for (size_t at = 0; at < 18 << 20; at += 4096) blocks[0][at] = blocks[1][at] = 1;
        free(blocks[0]);
        free(blocks[1]);
        for (int i = 0; i < PLACES; i++)
            if (!passed[own][i]) passed[own][i] = malloc(100000);
        rounds[own]++;
    }
}

int main(void) {
    signal(SIGUSR1, free_one_of_the_other);
    pthread_t threads[2];
    for (long cpu = 0; cpu < 2; cpu++)
        if (pthread_create(&threads[cpu], NULL, work, (void *)cpu)) abort();
    for (int i = 0; i < SIGNALS; i++) {
        pthread_kill(threads[0], SIGUSR1);
        pthread_kill(threads[1], SIGUSR1);
        usleep(1000);
    }
    long before[2] = {rounds[0], rounds[1]};
    sleep(2);
    printf("crossed rounds0=%ld rounds1=%ld freed0=%ld freed1=%ld\n", rounds[0] - before[0], rounds[1] - before[1], freed[0], freed[1]);
    fflush(stdout);
    _exit(rounds[0] == before[0] || rounds[1] == before[1] || !freed[0] || !freed[1]);
}
