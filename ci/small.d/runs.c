/* runs SO PROGRAM ARGS...: runs the program many times with and without SO preloaded, in turn, and prints how many KiB
 * more the median run with it had resident at most, and how many microseconds longer the shortest run took: what others
 * do on the machine only ever makes a run longer. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RUNS = 101 };
static long kib[2][RUNS], micros[2][RUNS];

static int less(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

int main(int count, char **words)
{
    if (count < 3) return 2;
    for (int run = 0; run < RUNS; run++)
        for (int with = 0; with < 2; with++) {
            struct timespec begin, end;
            clock_gettime(CLOCK_MONOTONIC, &begin);
            pid_t child = fork();
            if (child == 0) {
                if (with) setenv("LD_PRELOAD", words[1], 1);
                execv(words[2], words + 2);
                _exit(127);
            }
            int status;
            struct rusage usage;
            if (wait4(child, &status, 0, &usage) != child || status != 0) return 1;
            clock_gettime(CLOCK_MONOTONIC, &end);
            kib[with][run] = usage.ru_maxrss;
            micros[with][run] = (end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000;
        }
    for (int with = 0; with < 2; with++) {
        qsort(kib[with], RUNS, sizeof(long), less);
        qsort(micros[with], RUNS, sizeof(long), less);
    }
    printf("%ld %ld\n", kib[1][RUNS / 2] - kib[0][RUNS / 2], micros[1][0] - micros[0][0]);
    return 0;
}
