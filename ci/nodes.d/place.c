/* Threads that move from CPU to CPU, and ask the kernel where their blocks lie.
 *
 *   place [BLOCKS]      BLOCKS: how many each thread has at a time, 2000 if not given
 *
 * Prints "RESULT place home=SHARE node0=SHARE ...": the share on the node of the thread that asked for the block, and
 * the share on each node. The first blocks after a move may come from a list that was made before it, and are not
 * counted. */
#define _GNU_SOURCE
#include "kernel.h"

enum { MOST_BLOCKS = 2000, FIRST = 300, THREADS = 3 };
static int cpus[MOST_CPUS], cpu_count, count = MOST_BLOCKS;
static struct tally tally;

static void *travel(void *seed)
{
    unsigned state = (unsigned)(long)seed;
    for (int stop = 0; stop < 3 * cpu_count; stop++) {
        run_on(cpus[stop % cpu_count]);
        static __thread char *blocks[MOST_BLOCKS];
        for (int i = 0; i < count; i++) {
            size_t size = 16u << (rand_r(&state) % 11);
            blocks[i] = malloc(size);
            if (!blocks[i]) abort();
            memset(blocks[i], 1, size);
            if (i >= FIRST) ask(&tally, blocks[i], size, home_now());
        }
        for (int i = 0; i < count; i++) free(blocks[i]);
    }
    return NULL;
}

int main(int words, char **arguments)
{
    pthread_t threads[THREADS];
    if (words > 1) count = atoi(arguments[1]);
    if (count <= FIRST || count > MOST_BLOCKS) return 2;
    cpu_count = allowed_cpus(cpus);
    for (long i = 0; i < THREADS; i++) pthread_create(threads + i, NULL, travel, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    print_result("place", &tally, "");
    return 0;
}
