/* What faulty programs say of themselves on standard output, without allocating. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set while what is freed is freed wrongly. */
static int silent;

/* Names the block that the case is about, which this thread has just been given. */
static void *tell(void *block, size_t size) {
    dprintf(1, "block=%ld size=%zu allocated=%d\n", (long)block, size, gettid());
    return block;
}

__attribute__((unused)) static char *filled(void *block, size_t size) {
    memset(block, 'b', size);
    return (char *)tell(block, size);
}

/* Names the pointer that is to be freed or moved, where it is no block. */
static void *other_pointer(const char *pointer) {
    dprintf(1, "pointer=%ld\n", (long)pointer);
    return (void *)pointer;
}

/* Says that this thread frees the block now. */
static void say_freed(void) {
    if (!silent) dprintf(1, "freed=%d\n", gettid());
}

static void give(void *block) {
    say_freed();
    free(block);
}

/* Leaves nothing of what calls have left on the stack below. */
static void __attribute__((noinline)) wipe_below(void) {
    char room[100000];
    memset(room, 0, sizeof room);
    __asm__ volatile("" : : "r"(room) : "memory");
}

static void *call(void *function) {
    ((void (*)(void))function)();
    wipe_below();
    return NULL;
}

__attribute__((unused)) static void in_thread(void (*function)(void)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, call, (void *)function)) abort();
    pthread_join(thread, NULL);
}
