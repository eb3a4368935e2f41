/* A program whose cpuset changes while it runs.
 *
 *   confine FILE STEP...      FILE: the cpuset's list of nodes; STEP: MEMS, or MEMS=HOMES
 *
 * A thread lives on each CPU that the program may use. At each step the nodes MEMS are written into FILE (by a process
 * of its own, the program's parent, as from outside) and the program calls malloc_trim(0); then each thread allocates
 * blocks, of which half stay until the end of the next step. A thread's memory belongs on its own node, or where HOMES
 * says (kernel.h). Prints "RESULT stepN ..." for each step: where the blocks lie that were allocated in it. The first
 * may come from a list that was made before it, and are not counted. */
#define _GNU_SOURCE
#include <malloc.h>
#include <sys/wait.h>

#include "kernel.h"

enum { BLOCKS = 2000, FIRST = 300 };
static int cpus[MOST_CPUS], cpu_count, steps;
static char **step;
static struct tally tally;
static pthread_barrier_t barrier;

static void *live(void *argument)
{
    int thread = (int)(intptr_t)argument;
    uint64_t state = 88172645463325252u + (unsigned)thread;
    static __thread char *now[BLOCKS], *before[BLOCKS];
    run_on(cpus[thread]);
    for (int i = 0; i < steps; i++) {
        pthread_barrier_wait(&barrier);
        const char *homes = strchr(step[i], '=');
        int home = home_in(homes ? homes + 1 : NULL, node_now());
        for (int block = 0; block < BLOCKS; block++) {
            size_t size = next_random(&state) % 200 ? any_size(&state) : large_size(&state);
            now[block] = malloc(size);
            if (!now[block]) fail("malloc");
            memset(now[block], 1, size);
            if (block >= FIRST) ask(&tally, now[block], size, home);
        }
        for (int block = 0; block < BLOCKS; block++) {
            if (i > 0) free(before[block]);
            before[block] = now[block];
            if (block % 2) {
                free(now[block]);
                before[block] = NULL;
            }
        }
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

/* Has the parent write the step's nodes, and waits until it has. */
static void change(int to_parent, int from_parent, int number)
{
    char done;
    if (write(to_parent, &number, sizeof number) != sizeof number || read(from_parent, &done, 1) != 1) fail("change");
}

static void run(int to_parent, int from_parent)
{
    pthread_t threads[MOST_CPUS];
    cpu_count = allowed_cpus(cpus);
    pthread_barrier_init(&barrier, NULL, (unsigned)cpu_count + 1);
    for (int i = 0; i < cpu_count; i++)
        if (pthread_create(&threads[i], NULL, live, (void *)(intptr_t)i)) fail("pthread_create");
    for (int i = 0; i < steps; i++) {
        char label[32];
        change(to_parent, from_parent, i);
        malloc_trim(0);
        memset(&tally, 0, sizeof tally);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        snprintf(label, sizeof label, "step%d", i + 1);
        print_result(label, &tally, "");
    }
    for (int i = 0; i < cpu_count; i++) pthread_join(threads[i], NULL);
}

int main(int words, char **arguments)
{
    int there[2], back[2], number, status;
    if (words < 3) return 2;
    step = arguments + 2;
    steps = words - 2;
    if (pipe(there) || pipe(back)) fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        close(there[0]);
        close(back[1]);
        run(there[1], back[0]);
        return 0;
    }
    close(there[1]);
    close(back[0]);
    while (read(there[0], &number, sizeof number) == sizeof number) {
        FILE *file = fopen(arguments[1], "w");
        if (!file || fprintf(file, "%.*s\n", (int)strcspn(step[number], "="), step[number]) < 0 || fclose(file))
            fail(arguments[1]);
        if (write(back[1], "", 1) != 1) fail("write");
    }
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
