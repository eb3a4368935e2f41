/* Does one thing that breaks allocators: see hazards.rs. */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static long resident(void) {
    char text[256] = {0};
    int file = open("/proc/self/statm", O_RDONLY);
    read(file, text, sizeof text - 1);
    close(file);
    return atol(strchr(text, ' ')) * sysconf(_SC_PAGESIZE);
}

static void tell(const void *pointer) {
    printf("pointer=%ld\n", (long)pointer);
    fflush(stdout);
}

/* Frees a block of that size twice. */
static void double_free(size_t size) {
    char *block = malloc(size);
    memset(block, 1, size);
    tell(block);
    free(block);
    free(block);
}

/* As above, with another block of the size freed before. */
static void double_free_of_two(size_t size) {
    char *one = malloc(size), *other = malloc(size);
    tell(other);
    free(one);
    free(other);
    free(other);
}

/* By a thread that owns neither block, from another thread's arena. */
static void *doomed;

static void frees_twice(void) {
    free(doomed);
    free(doomed);
}

static void double_free_elsewhere(size_t size) {
    void *live = malloc(size);
    doomed = malloc(size);
    tell(doomed);
    pthread_t thread;
    pthread_create(&thread, NULL, (void *(*)(void *))frees_twice, NULL);
    pthread_join(thread, NULL);
    free(live);
}

static void foreign(const char *which) {
    static char in_program[64];
    char on_stack[64];
    char *wanted = !strcmp(which, "stack")   ? on_stack + 16
                   : !strcmp(which, "static") ? in_program + 16
                   : !strcmp(which, "low")    ? (char *)4096
                   : !strcmp(which, "high")   ? (char *)0xffff800000000000
                                              : NULL;
    if (!wanted) {
        size_t size = !strcmp(which, "inside-run") ? 200000 : 8 * MIB;
        wanted = (char *)malloc(size) + (!strcmp(which, "inside-run") ? 65536 : 4096);
    }
    tell(wanted);
    free(wanted);
}

/* Blocks of many sizes, each filled with its own byte. */
static const size_t SIZES[] = {8, 24, 100, 1000, 4000, 20000, 100000, 300000, 3 << 20};
enum { KINDS = 9, EACH = 8 };
static unsigned char *made[KINDS][EACH];

static void make(void) {
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < EACH; i++) {
            made[k][i] = malloc(SIZES[k]);
            if (!made[k][i]) {
                fprintf(stderr, "no memory for %zu bytes\n", SIZES[k]);
                _exit(1);
            }
            memset(made[k][i], k + i, SIZES[k]);
        }
}

static void unmake(void) {
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < EACH; i++) {
            CHECK(made[k][i][0] == (unsigned char)(k + i) && made[k][i][SIZES[k] - 1] == (unsigned char)(k + i));
            free(made[k][i]);
        }
}

static void *call(void *function) {
    ((void (*)(void))function)();
    return NULL;
}

static void in_thread(void (*function)(void)) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, call, (void *)function);
    CHECK(error == 0);
    if (!error) pthread_join(thread, NULL);
}

static void free_from_another_thread(void) {
    for (int round = 0; round < 50; round++) {
        make();
        in_thread(unmake);
        in_thread(make);
        unmake();
    }
    CHECK(resident() < (long)(300 * MIB));
}

/* One thread only allocates, another only frees: what was freed must serve again. */
enum { RING = 1024, PASSED = 400000 };
static void *_Atomic ring[RING];

static void *only_frees(void *unused) {
    for (int i = 0; i < PASSED; i++) {
        void *block;
        while (!(block = atomic_exchange(&ring[i % RING], NULL))) sched_yield();
        free(block);
    }
    return unused;
}

static void thread_that_only_frees(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, only_frees, NULL);
    for (int i = 0; i < PASSED; i++) {
        char *block = malloc(1000);
        memset(block, 1, 1000);
        while (atomic_load(&ring[i % RING])) sched_yield();
        atomic_store(&ring[i % RING], block);
    }
    pthread_join(thread, NULL);
    /* 400 MB have passed. */
    CHECK(resident() < (long)(100 * MIB));
}

static atomic_int stop;

static void *keeps_allocating(void *seed_pointer) {
    unsigned seed = (unsigned)(uintptr_t)seed_pointer;
    static _Thread_local char *mine[64];
    while (!atomic_load(&stop)) {
        unsigned i = rand_r(&seed) % 64;
        free(mine[i]);
        size_t size = (size_t)1 << rand_r(&seed) % 22;
        mine[i] = malloc(size);
        if (mine[i]) mine[i][0] = mine[i][size - 1] = 1;
    }
    for (int i = 0; i < 64; i++) free(mine[i]);
    return NULL;
}

static void thread_of_child(void) {
    for (int i = 0; i < 200; i++) free(malloc((size_t)i * 100));
}

static void fork_while_busy(void) {
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, keeps_allocating, (void *)(i + 1));
    for (int round = 0; round < 100; round++) {
        make();
        pid_t child = fork();
        if (child == 0) {
            /* A child that hangs is killed, which the parent sees. */
            alarm(60);
            unmake();
            make();
            in_thread(thread_of_child);
            unmake();
            _exit(failures != 0);
        }
        int status = -1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        unmake();
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

static void some_work(void) {
    static _Thread_local char *mine[100];
    for (int i = 0; i < 100; i++) memset(mine[i] = malloc(100 + i * 50), 1, 100 + i * 50);
    for (int i = 0; i < 100; i++) free(mine[i]);
}

/* In little room: to the first null, then on with what was freed. */
static void little_room(void) {
    static char *pieces[4096];
    int count = 0;
    while (count < 4096 && (pieces[count] = malloc(100000))) memset(pieces[count++], 1, 100000);
    printf("pieces=%d\n", count);
    CHECK(count < 4096 && errno == ENOMEM);
    for (int i = 0; i < count / 2; i++) free(pieces[i]);
    for (int round = 0; round < 3; round++) {
        int again = 0;
        while (again < count / 2 && (pieces[again] = malloc(90000))) memset(pieces[again++], 2, 90000);
        /* Some of it serves other sizes now. */
        printf("again=%d\n", again);
        CHECK(again >= count / 2 - 100);
        for (int i = 0; i < again; i++) free(pieces[i]);
        for (int i = 0; i < 1000; i++) some_work();
    }
    for (int i = count / 2; i < count; i++) free(pieces[i]);
}

/* In little room all of it went to small blocks, which are free again: a large one is wanted. */
static void little_room_for_large(void) {
    static char *pieces[4096];
    int count = 0;
    while (count < 4096 && (pieces[count] = malloc(100000))) count++;
    while (count) free(pieces[--count]);
    char *large = malloc(50 * MIB);
    CHECK(large);
    free(large);
    in_thread(some_work);
}

static void one_after_another(void) {
    for (int i = 0; i < 100; i++) in_thread(some_work);
    long before = resident();
    for (int i = 0; i < 1000; i++) in_thread(some_work);
    printf("before=%ld after=%ld\n", before, resident());
    CHECK(resident() - before < (long)(4 * MIB));
}

static pthread_key_t early, late;

static void destructor(void *block) {
    free(block);
    some_work();
    /* Comes again in each of the C library's rounds, and after the allocator's own hook. */
    pthread_setspecific(early, malloc(500));
    pthread_setspecific(late, malloc(70000));
}

static void with_specifics(void) {
    pthread_setspecific(early, malloc(100));
    pthread_setspecific(late, malloc(100000));
    some_work();
}

static void *kept_for_exit[100];

static void at_the_exit(void) {
    for (int i = 0; i < 100; i++) free(kept_for_exit[i]);
    make();
    unmake();
    /* After `main`: only this tells. */
    if (failures) _exit(1);
}

__attribute__((destructor(101))) static void at_the_very_end(void) {
    free(malloc(1000));
    some_work();
}

static void frees_at_the_end(void) {
    pthread_key_create(&early, destructor);
    for (int i = 0; i < 100; i++) kept_for_exit[i] = malloc((size_t)i * 1000);
    atexit(at_the_exit);
    free(malloc(1));
    pthread_key_create(&late, destructor);
    for (int i = 0; i < 200; i++) in_thread(with_specifics);
    CHECK(resident() < (long)(100 * MIB));
}

/* The shared object, loaded when the program has long begun, and only for itself. */
static void *(*their_malloc)(size_t);
static void (*their_free)(void *);
static void *(*their_calloc)(size_t, size_t);
static void *(*their_realloc)(void *, size_t);

static void with_theirs(void) {
    for (int round = 0; round < 3; round++) {
        for (int k = 0; k < KINDS; k++) {
            unsigned char *block = their_malloc(SIZES[k]);
            CHECK(block);
            memset(block, 7, SIZES[k]);
            block = their_realloc(block, SIZES[k] * 2);
            CHECK(block && block[SIZES[k] - 1] == 7);
            their_free(block);
            their_free(their_calloc(1, SIZES[k]));
        }
    }
}

static void load_late(const char *library, int flags) {
    make();
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | flags);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        failures++;
        return;
    }
    their_malloc = dlsym(handle, "malloc");
    their_free = dlsym(handle, "free");
    their_calloc = dlsym(handle, "calloc");
    their_realloc = dlsym(handle, "realloc");
    CHECK((void *)their_malloc != (void *)malloc);
    with_theirs();
    for (int i = 0; i < 20; i++) in_thread(with_theirs);
    pid_t child = fork();
    if (child == 0) {
        with_theirs();
        _exit(failures != 0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    unmake();
    CHECK(dlclose(handle) == 0);
    /* Threads' exit hooks still lead there. */
    in_thread(some_work);
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    const char *with = count > 2 ? arguments[2] : "";
    if (!strcmp(what, "double-free")) double_free(strtoul(with, NULL, 10));
    else if (!strcmp(what, "double-free-of-two")) double_free_of_two(strtoul(with, NULL, 10));
    else if (!strcmp(what, "double-free-elsewhere")) double_free_elsewhere(strtoul(with, NULL, 10));
    else if (!strcmp(what, "foreign")) foreign(with);
    else if (!strcmp(what, "other-thread")) free_from_another_thread();
    else if (!strcmp(what, "only-frees")) thread_that_only_frees();
    else if (!strcmp(what, "fork")) fork_while_busy();
    else if (!strcmp(what, "little-room")) little_room();
    else if (!strcmp(what, "little-room-large")) little_room_for_large();
    else if (!strcmp(what, "threads")) one_after_another();
    else if (!strcmp(what, "end")) frees_at_the_end();
    else if (!strcmp(what, "late")) load_late(with, 0);
    else if (!strcmp(what, "late-deepbind")) load_late(with, RTLD_DEEPBIND);
    else return 9;
    return failures != 0;
}
