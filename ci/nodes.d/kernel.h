/* What the programs for the guests share: pinning, blocks of random sizes, and asking the kernel where memory lies.
 *
 * Where a page lies is the kernel's word: move_pages(2) with no list of nodes moves nothing and tells. */
#ifndef KERNEL_H
#define KERNEL_H

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, MOST_CPUS = 64, MOST_NODES = 1024, QUESTION = 64 };

static inline void fail(const char *what) { perror(what); exit(1); }

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

/* 16 B to 16 KiB, every doubling as likely as the next. */
static inline size_t any_size(uint64_t *state)
{
    size_t least = (size_t)16 << next_random(state) % 10;
    return least + next_random(state) % least;
}

/* 64 KiB to 4 MiB. */
static inline size_t large_size(uint64_t *state)
{
    size_t least = (size_t)65536 << next_random(state) % 6;
    return least + next_random(state) % least;
}

static inline void run_on(int cpu)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(cpu, &here);
    if (sched_setaffinity(0, sizeof here, &here)) fail("sched_setaffinity");
}

/* The CPUs this process may run on, in order; how many. */
static inline int allowed_cpus(int cpus[MOST_CPUS])
{
    int count = 0;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) fail("sched_getaffinity");
    for (int cpu = 0; cpu < CPU_SETSIZE && count < MOST_CPUS; cpu++)
        if (CPU_ISSET(cpu, &allowed)) cpus[count++] = cpu;
    return count;
}

/* The node of the CPU this thread runs on; by the vDSO, which no filter of system calls reaches. */
static inline int node_now(void)
{
    unsigned cpu, node;
    if (getcpu(&cpu, &node)) fail("getcpu");
    return (int)node;
}

/* Where memory of a thread on that node belongs: there, unless HOMES names another ("2:3,0:1": for node 2 node 3, for
 * node 0 node 1), as for a node without memory or one that the process may not use. */
static inline int home_in(const char *homes, int node)
{
    for (; homes && *homes; homes = strchr(homes, ',') ? strchr(homes, ',') + 1 : NULL) {
        int from, to;
        if (sscanf(homes, "%d:%d", &from, &to) == 2 && from == node) return to;
    }
    return node;
}

/* The home of this thread by the environment's LIFE_HOME. */
static inline int home_now(void) { return home_in(getenv("LIFE_HOME"), node_now()); }

/* A question to the judge: a process outside, where this one is refused the system call itself (see refuse.c). A guest
 * takes about a millisecond for it, so that the judge is asked of one block in so many. */
enum { JUDGED = 32 };
struct question { unsigned long count; void *pages[QUESTION]; };

static inline void where_pages_lie(void **pages, unsigned long count, int *where)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const char *judge = getenv("JUDGE");
    if (!judge) {
        if (syscall(SYS_move_pages, 0, count, pages, NULL, where, 0)) fail("move_pages");
        return;
    }
    struct question question = { .count = count };
    memcpy(question.pages, pages, count * sizeof *pages);
    pthread_mutex_lock(&lock);
    ssize_t size = (ssize_t)(count * sizeof *where);
    if (send(atoi(judge), &question, sizeof question, 0) != sizeof question) fail("send");
    if (recv(atoi(judge), where, (size_t)size, 0) != size) fail("recv");
    pthread_mutex_unlock(&lock);
}

/* How many of the bytes asked for lie where. */
struct tally { uint64_t home, all, on[MOST_NODES]; };

/* Adds a block's bytes, all of which have been written, to the tally. Many threads may. */
static inline void ask(struct tally *tally, const char *block, size_t size, int home)
{
    static __thread unsigned turn;
    if (getenv("JUDGE") && turn++ % JUDGED) return;
    for (const char *at = block; at < block + size;) {
        void *pages[QUESTION];
        int where[QUESTION];
        size_t bytes[QUESTION], count = 0;
        for (; count < QUESTION && at < block + size; count++) {
            char *page = (char *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1));
            const char *end = page + PAGE < block + size ? page + PAGE : block + size;
            pages[count] = page;
            bytes[count] = (size_t)(end - at);
            at = end;
        }
        where_pages_lie(pages, count, where);
        for (size_t i = 0; i < count; i++) {
            __atomic_fetch_add(&tally->all, bytes[i], __ATOMIC_RELAXED);
            if (where[i] == home) __atomic_fetch_add(&tally->home, bytes[i], __ATOMIC_RELAXED);
            if (where[i] >= 0 && where[i] < MOST_NODES) __atomic_fetch_add(&tally->on[where[i]], bytes[i], __ATOMIC_RELAXED);
        }
    }
}

/* Prints "RESULT LABEL home=SHARE away=N bytes=N nodes=N node0=SHARE ...", and what the caller adds: the share at home,
 * the bytes that are not, all bytes, how many nodes have a share that is worth the name (a third of a hundredth), and
 * each node's that has any. */
static inline void print_result(const char *label, const struct tally *tally, const char *more)
{
    double all = tally->all ? (double)tally->all : 1.0;
    int nodes = 0;
    for (int node = 0; node < MOST_NODES; node++) nodes += (double)tally->on[node] / all > 1.0 / 300;
    printf("RESULT %s home=%.4f away=%llu bytes=%llu nodes=%d", label, (double)tally->home / all,
           (unsigned long long)(tally->all - tally->home), (unsigned long long)tally->all, nodes);
    for (int node = 0; node < MOST_NODES; node++)
        if (tally->on[node]) printf(" node%d=%.4f", node, (double)tally->on[node] / all);
    printf("%s%s\n", *more ? " " : "", more);
    fflush(stdout);
}

#endif
