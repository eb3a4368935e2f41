/* No memory is left; then a little is freed, here and there, and that much can be had again: see hazards.rs. */
#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 6 << 20, THREADS = 8, EACH = 20000 };
static void *volatile held[MOST + 1];
static size_t count;

static void fill(size_t size) {
    for (; count < MOST && (held[count] = malloc(size)); count++)
        /* What the thread keeps at hand is given back for it. */
        if (count % 100 == 0) free(held[MOST] = malloc(300000));
    CHECK(count > 1000 && count < MOST);
}

/* Of blocks all over the heap one is freed, and is to be had again at once. */
static void one_at_a_time(size_t size) {
    fill(size);
    for (size_t i = 0, step = count / 300; i < 300; i++) {
        free(held[i * step]);
        CHECK((held[i * step] = malloc(size)));
        if (failures) return;
    }
}

/* What came back in a hundred places is to be had again, all of it. */
static void many_at_once(size_t size) {
    fill(size);
    size_t freed = 0, had = 0;
    for (size_t i = 0; i < count; i += count / 100) {
        free(held[i]);
        held[i] = NULL;
        freed++;
    }
    for (size_t i = 0; i < count; i += count / 100) had += (held[i] = malloc(size)) != NULL;
    CHECK(had == freed);
}

static void *blocks_of[THREADS][EACH];
static pthread_barrier_t all_have_some, all_may_free;

static void *take_and_free_some(void *number) {
    void **own = blocks_of[(size_t)number];
    for (size_t i = 0; i < EACH; i++) own[i] = malloc(64);
    pthread_barrier_wait(&all_have_some);
    pthread_barrier_wait(&all_may_free);
    for (size_t i = 0; i < EACH; i += 100) free(own[i]);
    return NULL;
}

/* What threads freed that have ended since is to be had by the one that is left. */
static void of_threads_that_ended(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&all_have_some, NULL, THREADS + 1);
    pthread_barrier_init(&all_may_free, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, take_and_free_some, (void *)i) == 0);
    pthread_barrier_wait(&all_have_some);
    fill(64);
    pthread_barrier_wait(&all_may_free);
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    size_t had = 0;
    while (malloc(64)) had++;
    CHECK(had >= THREADS * (EACH / 100));
}

int main(int words, char **word) {
    if (words != 3) return 2;
    size_t size = strtoul(word[2], NULL, 10);
    if (!strcmp(word[1], "one-at-a-time")) one_at_a_time(size);
    else if (!strcmp(word[1], "many-at-once")) many_at_once(size);
    else of_threads_that_ended();
    return failures != 0;
}
