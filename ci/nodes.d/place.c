/* Threads that move from node to node, and ask the kernel where each page of their blocks lies (move_pages(2) with no
 * node list). Prints "RESULT home=H node0=N ...": the share of pages on the node of the thread that asked for them, and
 * the share on each node. The first blocks after a move may come from a list that was made before it, and are not
 * counted. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NODES_WITH_CPU = 3, NODES = 4, BLOCKS = 2000, FIRST = 300, PAGE = 4096 };
static long home, all, on[NODES];

static void check(char *block, size_t size, int node)
{
    for (char *page = block; page < block + size; page += PAGE) {
        void *address = (void *)((unsigned long)page & ~(PAGE - 1ul));
        int status = -1;
        syscall(SYS_move_pages, 0, 1ul, &address, NULL, &status, 0);
        __sync_fetch_and_add(&all, 1);
        if (status == node) __sync_fetch_and_add(&home, 1);
        if (status >= 0 && status < NODES) __sync_fetch_and_add(&on[status], 1);
    }
}

static void *travel(void *seed)
{
    unsigned state = (unsigned)(long)seed;
    for (int stop = 0; stop < 3 * NODES_WITH_CPU; stop++) {
        int node = stop % NODES_WITH_CPU;
        cpu_set_t here;
        CPU_ZERO(&here);
        CPU_SET(node, &here);
        sched_setaffinity(0, sizeof here, &here);
        static __thread char *blocks[BLOCKS];
        for (int i = 0; i < BLOCKS; i++) {
            size_t size = 16u << (rand_r(&state) % 11);
            blocks[i] = malloc(size);
            if (!blocks[i]) abort();
            memset(blocks[i], 1, size);
            if (i >= FIRST) check(blocks[i], size, node);
        }
        for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[3];
    for (long i = 0; i < 3; i++) pthread_create(threads + i, NULL, travel, (void *)(i + 1));
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    printf("RESULT home=%.4f", (double)home / all);
    for (int node = 0; node < NODES; node++) printf(" node%d=%.4f", node, (double)on[node] / all);
    puts("");
    return 0;
}
