/* Does one thing that breaks allocators: see hazards.rs. */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
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

/* One that is not noticed at once, since others were freed after it; then all free blocks are counted. */
static void late_double_free(void) {
    char *blocks[40];
    for (int i = 0; i < 40; i++) blocks[i] = malloc(1000);
    for (int i = 0; i < 8; i++) free(blocks[i]);
    free(blocks[3]);
    alarm(20);
    /* The list that it has made endless becomes the thread's own. */
    for (int i = 0; i < 13; i++) blocks[i] = malloc(1000);
    malloc_trim(0);
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    const char *with = count > 2 ? arguments[2] : "";
    if (!strcmp(what, "double-free")) double_free(strtoul(with, NULL, 10));
    else if (!strcmp(what, "double-free-of-two")) double_free_of_two(strtoul(with, NULL, 10));
    else if (!strcmp(what, "double-free-elsewhere")) double_free_elsewhere(strtoul(with, NULL, 10));
    else if (!strcmp(what, "foreign")) foreign(with);
    else if (!strcmp(what, "late-double-free")) late_double_free();
    else if (!strcmp(what, "other-thread")) free_from_another_thread();
    else if (!strcmp(what, "little-room")) little_room();
    else if (!strcmp(what, "little-room-large")) little_room_for_large();
    else return 9;
    return failures != 0;
}
