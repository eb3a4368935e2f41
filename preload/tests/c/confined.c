/* Ordinary work of several threads, in surroundings that lack something: see confinements.rs. */
#define _GNU_SOURCE
#include "check.h"
#include "work.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 30, PASSED = 400 };

/* What each thread leaves for the next one to free. */
static struct piece passed[THREADS][PASSED];
static pthread_barrier_t barrier;

static void *thread(void *number) {
    size_t mine = (size_t)number, next = (mine + 1) % THREADS;
    bool held = true;
    for (unsigned round = 0; round < ROUNDS; round++) {
        held = held && works(round);
        for (unsigned i = 0; i < PASSED && held; i++) held = take(&passed[mine][i], i * 37 % 9000, i);
        pthread_barrier_wait(&barrier);
        for (unsigned i = 0; i < PASSED && held; i++) held = give(&passed[next][i]);
        pthread_barrier_wait(&barrier);
    }
    return held ? NULL : "a block was not served, or not as it must be";
}

static void in_threads(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (size_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, thread, (void *)i) == 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *answer = NULL;
        pthread_join(threads[i], &answer);
        CHECK(!answer);
    }
}

/* Everything that a thread may ask of the allocator, on a stack with nothing to spare. */
static void *needs_little_stack(void *answer) {
    bool held = true;
    for (unsigned round = 0; round < 10; round++) held = held && works(round);
    held = held && malloc((size_t)1 << 60) == NULL && errno == ENOMEM;
    held = held && mallinfo2().uordblks > 0;
    malloc_trim(0);
    char *large = malloc(MIB);
    for (size_t size = 2 * MIB; size < 100 * MIB && large; size *= 2) large = realloc(large, size);
    held = held && large;
    free(large);
    *(bool *)answer = held;
    return NULL;
}

/* A thread's stack of the least size that there is; below it are pages that cannot be touched. */
static void on_a_small_stack(void) {
    size_t stack = (size_t)sysconf(_SC_THREAD_STACK_MIN), guard = 65536;
    if (stack < 16384) stack = 16384;
    char *place = mmap(NULL, guard + stack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(place + guard, stack, PROT_READ | PROT_WRITE);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    CHECK(pthread_attr_setstack(&attributes, place + guard, stack) == 0);
    pthread_t thread;
    bool held = false;
    for (int i = 0; i < 20; i++) {
        CHECK(pthread_create(&thread, &attributes, needs_little_stack, &held) == 0);
        pthread_join(thread, NULL);
        CHECK(held);
    }
    size_t unused = guard;
    while (unused < guard + stack && !place[unused]) unused++;
    printf("stack=%zu unused=%zu\n", stack, unused - guard);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "small-stack")) on_a_small_stack();
    else in_threads();
    printf("proc=%d sys=%d\n", access("/proc/self/stat", F_OK) == 0, access("/sys/devices", F_OK) == 0);
    malloc_trim(0);
    CHECK(mallinfo2().arena > 0);
    return failures != 0;
}
