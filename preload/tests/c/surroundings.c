/* Puts the allocator in surroundings that break allocators: see surroundings.rs. */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <malloc.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* What the fork's handlers do, which are registered before anything in main. */
static enum { NOTHING, ALLOCATE, LOCK } in_handlers;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *large;
static int refused;

static void allocate_much(void) {
    static char *blocks[3000];
    for (int i = 0; i < 3000; i++) {
        blocks[i] = malloc(i % 7 ? 200 : 70000);
        refused += blocks[i] == NULL;
    }
    for (int i = 0; i < 3000; i++) free(blocks[i]);
}

static void before(void) {
    if (in_handlers == LOCK) pthread_mutex_lock(&mutex);
    if (in_handlers != ALLOCATE) return;
    allocate_much();
    large = realloc(large, 100 * MIB);
    refused += large == NULL;
    void *aligned = NULL;
    refused += posix_memalign(&aligned, 64 * MIB, 100) != 0;
    free(aligned);
}

static void after_in_parent(void) {
    if (in_handlers == LOCK) pthread_mutex_unlock(&mutex);
}

static void after_in_child(void) {
    if (in_handlers == LOCK) pthread_mutex_unlock(&mutex);
    if (in_handlers == ALLOCATE) allocate_much();
}

__attribute__((constructor)) static void register_handlers(void) {
    pthread_atfork(before, after_in_parent, after_in_child);
}

static void fork_once(void) {
    pid_t child = fork();
    if (child == 0) {
        free(malloc(100));
        _exit(refused);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
}

static void fork_handlers_allocate(void) {
    large = malloc(40 * MIB);
    free(malloc(40 * MIB));
    in_handlers = ALLOCATE;
    fork_once();
    CHECK(refused == 0);
}

static atomic_int stop;

static void *allocates_under_the_mutex(void *unused) {
    while (!stop) {
        pthread_mutex_lock(&mutex);
        void *blocks[100];
        for (int i = 0; i < 100; i++) blocks[i] = malloc(70000);
        for (int i = 0; i < 100; i++) free(blocks[i]);
        pthread_mutex_unlock(&mutex);
        sched_yield();
    }
    return unused;
}

static void fork_handler_waits(void) {
    in_handlers = LOCK;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, allocates_under_the_mutex, NULL) == 0);
    for (int i = 0; i < 300; i++) fork_once();
    stop = 1;
    pthread_join(thread, NULL);
}

static pthread_key_t key;

static void *has_something_to_free(void *block) {
    pthread_setspecific(key, block);
    return NULL;
}

/* Threads that come to the allocator for the first time when they end. */
static void first_use_in_a_destructor(void) {
    /* So that the allocator's own key is older than this one. */
    void *volatile first = malloc(10);
    free(first);
    CHECK(pthread_key_create(&key, free) == 0);
    for (int i = 0; i < 2000; i++) {
        void *block = malloc(1024);
        memset(block, 1, 1024);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, has_something_to_free, block) == 0);
        pthread_join(thread, NULL);
    }
    struct mallinfo2 info = mallinfo2();
    CHECK(info.uordblks < 4 * MIB);
}

/* More than the kernel allows mappings (vm.max_map_count, 65,530). */
static void many_large_blocks(void) {
    enum { COUNT = 40000 };
    static char *blocks[COUNT];
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(2 * MIB + 200000);
        CHECK(blocks[i] != NULL);
        if (i % 1000 == 0) blocks[i][0] = 1;
    }
    for (int i = 0; i < COUNT; i++) free(blocks[i]);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, has_something_to_free, NULL) == 0);
    pthread_join(thread, NULL);
}

static void limit_lowered(void) {
    size_t size = 40 * MIB;
    char *block = malloc(size), *other = malloc(size);
    memset(block, 1, size);
    memset(other, 2, size);
    struct rlimit limit = {2048 * MIB, 2048 * MIB};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    char *grown = realloc(block, 100 * MIB);
    if (grown) block = grown;
    for (size_t i = 0; i < size; i += 4096) CHECK(block[i] == 1 && other[i] == 2);
    CHECK(block[size - 1] == 1);
    free(block);
    free(other);
}

/* Threads fill memory, end, and leave it to another to free: it goes back without being asked for. */
static void *fills(void *blocks) {
    for (int i = 0; i < 2000; i++) {
        ((char **)blocks)[i] = malloc(1000);
        memset(((char **)blocks)[i], 1, 1000);
    }
    return NULL;
}

static void left_behind(void) {
    enum { THREADS = 64 };
    static char *blocks[THREADS][2000];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(threads + i, NULL, fills, blocks[i]) == 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    size_t full = mallinfo2().uordblks;
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < 2000; j++) free(blocks[i][j]);
    /* Ordinary work goes on, until it has; it never does where nobody looks after what was left. */
    for (int round = 0; round < 20000 && mallinfo2().uordblks >= full / 4; round++) {
        for (int i = 0; i < 2000; i++) blocks[0][i] = malloc(3000);
        for (int i = 0; i < 2000; i++) free(blocks[0][i]);
    }
    CHECK(mallinfo2().uordblks < full / 4);
}

int main(int count, char **words) {
    CHECK(count == 2);
    const char *what = words[1];
    if (!strcmp(what, "fork-handlers-allocate")) fork_handlers_allocate();
    else if (!strcmp(what, "fork-handler-waits")) fork_handler_waits();
    else if (!strcmp(what, "first-use-in-a-destructor")) first_use_in_a_destructor();
    else if (!strcmp(what, "many-large-blocks")) many_large_blocks();
    else if (!strcmp(what, "limit-lowered")) limit_lowered();
    else if (!strcmp(what, "left-behind")) left_behind();
    else CHECK(!"a known word");
    return failures != 0;
}
