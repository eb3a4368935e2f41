/* A process that frees much and then does nothing: what is resident, and which threads it has. See background.rs. */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
enum { ALL = 200, LITTLE = 12 };

/* Of a file of the process's, without allocating. */
static const char *text_of(const char *name) {
    static char text[4096];
    int file = open(name, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    return text;
}

static long resident_mib(void) {
    return atol(strchr(text_of("/proc/self/statm"), ' ')) * sysconf(_SC_PAGESIZE) / (long)MIB;
}

static int threads(void) {
    const char *line = strstr(text_of("/proc/self/status"), "\nThreads:");
    return line ? atoi(line + 9) : -1;
}

/* Threads named so, and whether each of them has every signal blocked that can be. */
static int named(const char *name, int *blocked) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    *blocked = 1;
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        char path[300];
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        if (strncmp(text_of(path), name, strlen(name)) || !strcmp(task->d_name, "..")) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        const char *line = strstr(text_of(path), "\nSigBlk:");
        /* All but SIGKILL, SIGSTOP and the two of the C library. */
        unsigned long long all = ~0ull & ~(1ull << (SIGKILL - 1)) & ~(1ull << (SIGSTOP - 1)) & ~(3ull << 31);
        if (!line || (strtoull(line + 8, NULL, 16) & all) != all) *blocked = 0;
        count++;
    }
    if (tasks) closedir(tasks);
    return count;
}

static void fill_and_free(size_t size) {
    static char *blocks[ALL * MIB / 1000];
    size_t count = ALL * MIB / size;
    for (size_t i = 0; i < count; i++) memset(blocks[i] = malloc(size), 1, size);
    for (size_t i = 0; i < count; i++) free(blocks[i]);
}

/* Waits until little more is resident than before. */
static void falls_to(long before) {
    for (int i = 0; i < 3000; i++) {
        if (resident_mib() <= before + LITTLE) return;
        usleep(10000);
    }
    fprintf(stderr, "%ld MiB resident before, %ld after\n", before, resident_mib());
    _exit(1);
}

static const size_t SIZES[] = {1000, 100000, 1500000, 4 * MIB + 1};

static void idle(void) {
    free(malloc(100));
    memset(malloc(MIB), 1, MIB);
    /* So that the table's own pages count. */
    fill_and_free(1000);
    malloc(1);
    for (unsigned i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        long before = resident_mib() < 40 ? resident_mib() : 10;
        fill_and_free(SIZES[i]);
        falls_to(before);
    }
    int blocked;
    CHECK(threads() == 2);
    CHECK(named("homing", &blocked) == 1);
    CHECK(blocked);
}

/* What is freed stays, where nobody looks at the time. */
static void plain(void) {
    fill_and_free(1000);
    long then = resident_mib();
    CHECK(then > LITTLE);
    usleep(700000);
    CHECK(resident_mib() == then);
    CHECK(threads() == 1);
}

static void child(void (*work)(void)) {
    pid_t process = fork();
    if (process == 0) {
        CHECK(threads() == 1);
        work();
        _exit(failures != 0);
    }
    int status = -1;
    waitpid(process, &status, 0);
    if (status != 0) _exit(2);
}

static void nothing(void) {
    for (int i = 0; i < 100; i++) usleep(1000);
    CHECK(threads() == 1);
}

static void idle_with_child(void) {
    idle();
    child(idle);
}

/* Children of children, of threads, and of a process in the middle of giving back. */
static void forks(void) {
    fill_and_free(1000);
    child(nothing);
    child(idle_with_child);
    for (int i = 0; i < 20; i++) {
        fill_and_free(100000);
        usleep(i * 3000);
        child(i % 5 ? nothing : idle);
    }
    idle();
}

static pthread_barrier_t barrier;

static void *begins(void *argument) {
    pthread_barrier_wait(&barrier);
    for (size_t size = 10; size < 3 * MIB; size *= 3) free(malloc(size));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

/* All come first at once, in a child, where none has begun yet. */
static void together(void) {
    enum { THREADS = 8 };
    pthread_t others[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&others[i], NULL, begins, NULL) == 0);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    int blocked;
    CHECK(named("homing", &blocked) == 1 && blocked);
    CHECK(threads() == THREADS + 2);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++) pthread_join(others[i], NULL);
}

static void many_together(void) {
    free(malloc(1));
    for (int i = 0; i < 50; i++) child(together);
}

/* There is no thread, and all else is as it is without the setting. */
static void refused(void) {
    for (unsigned i = 0; i < 3; i++) fill_and_free(SIZES[i]);
    CHECK(threads() == 1);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "idle")) idle();
    else if (!strcmp(what, "plain")) plain();
    else if (!strcmp(what, "forks")) forks();
    else if (!strcmp(what, "together")) many_together();
    else if (!strcmp(what, "refused")) refused();
    else return 125;
    return failures != 0;
}
