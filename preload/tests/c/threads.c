/* Starts and ends threads: see threads.rs. */
#define _GNU_SOURCE
#include "blocks.h"

/* That no more is in memory after many threads than after some, but for pages of stacks and tables that one of them
 * happened to need first: so many bytes at most. */
static void expect_memory_back(long before, long slack) {
    long after = resident_after_trim();
    printf("before=%ld after=%ld\n", before, after);
    CHECK(after <= before + slack);
}

static void *works(void *seed) {
    work((unsigned)(size_t)seed, 20);
    return NULL;
}

static void one_after_another(void) {
    for (size_t i = 0; i < 200; i++) run_in_thread(works, (void *)i);
    long before = resident_after_trim();
    for (size_t i = 0; i < 10000; i++) run_in_thread(works, (void *)i);
    expect_memory_back(before, MIB);
}

enum { AT_ONCE = 1000, OWN = 8 };
static pthread_barrier_t all_there;
static struct held *passed_on[AT_ONCE][OWN];

/* All hold memory at the same time; each frees what another has allocated. */
static void *lives_with_others(void *number) {
    size_t mine = (size_t)number, others = (mine + AT_ONCE / 2) % AT_ONCE;
    unsigned seed = (unsigned)mine;
    for (int i = 0; i < OWN; i++) passed_on[mine][i] = take(some_size(&seed) % 200000 + 8, seed);
    pthread_barrier_wait(&all_there);
    for (int i = 0; i < OWN; i++) give(passed_on[others][i]);
    pthread_barrier_wait(&all_there);
    work(seed, 5);
    return NULL;
}

static void a_thousand_at_once(void) {
    static pthread_t threads[AT_ONCE];
    pthread_barrier_init(&all_there, NULL, AT_ONCE);
    long before = 0;
    /* The first round shows what it takes to have had so many: their arenas and stacks are kept for the next ones. */
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < AT_ONCE; i++) threads[i] = started(lives_with_others, (void *)i);
        for (int i = 0; i < AT_ONCE; i++) pthread_join(threads[i], NULL);
        if (round == 0) before = resident_after_trim();
    }
    expect_memory_back(before, 4 * MIB);
    /* An arena takes some 6 KiB; a table that describes its slab, a page. */
    CHECK(before < (long)AT_ONCE * 48 * 1024);
}

/* Keys made before the allocator's own and after it: destructors of the later ones come after its hook, and in the last
 * three rounds all do. */
enum { ROUNDS = 4, KEYS = 2 };
static pthread_key_t keys[KEYS];
static atomic_int destroyed[KEYS];
static struct held *_Atomic left[64];

struct round {
    int key, number;
    struct held *own;
};

static void set_round(int key, int number, unsigned seed) {
    struct round *round = malloc(sizeof *round);
    *round = (struct round){key, number, take(some_size(&seed), seed)};
    CHECK(pthread_setspecific(keys[key], round) == 0);
}

static void destroy(void *value) {
    struct round *round = value;
    unsigned seed = (unsigned)(round->number + 10 * round->key);
    give(round->own);
    work(seed, 5);
    /* What outlives the thread, for what another thread may have left. */
    for (int i = 0; i < 8; i++) give(atomic_exchange(&left[rand_r(&seed) % 64], take(some_size(&seed), seed)));
    if (round->number < ROUNDS) set_round(round->key, round->number + 1, seed);
    else atomic_fetch_add(&destroyed[round->key], 1);
    free(round);
}

static void *sets_both(void *seed) {
    set_round(0, 1, (unsigned)(size_t)seed);
    set_round(1, 1, (unsigned)(size_t)seed + 1);
    return NULL;
}

__attribute__((constructor)) static void make_first_key(void) {
    pthread_key_create(&keys[0], destroy);
}

static void destructor_rounds(void) {
    free(malloc(100));
    CHECK(pthread_key_create(&keys[1], destroy) == 0);
    printf("first_key=%u second_key=%u\n", keys[0], keys[1]);
    CHECK(sysconf(_SC_THREAD_DESTRUCTOR_ITERATIONS) == ROUNDS);
    for (size_t i = 0; i < 200; i++) run_in_thread(sets_both, (void *)i);
    long before = resident_after_trim();
    for (size_t i = 0; i < 1000; i++) run_in_thread(sets_both, (void *)i);
    for (int i = 0; i < 64; i++) give(atomic_exchange(&left[i], NULL));
    expect_memory_back(before, MIB);
    for (int key = 0; key < KEYS; key++) CHECK(destroyed[key] == 1200);
}

/* The C library's own memory of a thread is freed after all destructors: its text for an unknown error. */
static void *has_the_library_allocate(void *number) {
    CHECK(strstr(strerror(100000 + (int)(size_t)number), "Unknown error"));
    return NULL;
}

static void late_frees_of_the_library(void) {
    for (size_t i = 0; i < 500; i++) run_in_thread(has_the_library_allocate, (void *)i);
    size_t before = mallinfo2().uordblks;
    for (size_t i = 0; i < 20000; i++) run_in_thread(has_the_library_allocate, (void *)i);
    printf("before=%zu after=%zu\n", before, mallinfo2().uordblks);
    CHECK(mallinfo2().uordblks <= before + 65536);
}

/* Threads that never allocate free what the main thread has made. */
enum { BATCH = 200 };

static void *only_frees(void *batch) {
    for (int i = 0; i < BATCH; i++) give(((struct held **)batch)[i]);
    return NULL;
}

static void only_free(void) {
    static struct held *batches[4][BATCH];
    unsigned seed = 1;
    long before = 0;
    for (int round = 0; round < 60; round++) {
        pthread_t threads[4];
        for (int t = 0; t < 4; t++) {
            for (int i = 0; i < BATCH; i++) batches[t][i] = take(some_size(&seed) % 50000 + 8, seed);
            threads[t] = started(only_frees, batches[t]);
        }
        for (int t = 0; t < 4; t++) pthread_join(threads[t], NULL);
        if (round == 10) before = resident_after_trim();
    }
    expect_memory_back(before, MIB);
}

/* Threads that go on for as long as there is a process. */
static void *never_ends(void *seed) {
    for (unsigned round = (unsigned)(size_t)seed;; round += 4) work(round, 20);
    return NULL;
}

static void start_detached(void) {
    for (size_t i = 0; i < 4; i++) pthread_detach(started(never_ends, (void *)i));
    work(9, 200);
}

/* Each runs when the process ends, while the detached threads go on. */
static struct held *for_the_end[8][10];

static void free_at_the_end(int nth) {
    for (int i = 0; i < 10; i++) give(for_the_end[nth][i]);
    work((unsigned)nth, 20);
}

static void at_exit_0(void) { free_at_the_end(0); }
static void at_exit_1(void) { free_at_the_end(1); }
static void at_quick_exit_2(void) { free_at_the_end(2); }
static void on_exit_3(int status, void *unused) {
    (void)status, (void)unused;
    free_at_the_end(3);
}

/* Registered before the program's first allocation, so that it runs after all others. */
static void at_exit_last(void) {
    free_at_the_end(4);
    if (failures) _exit(1);
}

__attribute__((constructor)) static void register_the_last(void) {
    atexit(at_exit_last);
    at_quick_exit(at_exit_last);
}

__attribute__((destructor)) static void at_the_very_end(void) {
    free_at_the_end(5);
    if (failures) _exit(1);
}

static void *makes_for_the_end(void *unused) {
    unsigned seed = 3;
    for (int nth = 0; nth < 6; nth++)
        for (int i = 0; i < 10; i++) for_the_end[nth][i] = take(some_size(&seed), seed);
    return unused;
}

static void *exits(void *status) {
    exit((int)(size_t)status);
}

static int end_while_threads_go_on(const char *how) {
    atexit(at_exit_0);
    atexit(at_exit_1);
    at_quick_exit(at_quick_exit_2);
    on_exit(on_exit_3, NULL);
    /* By a thread that is over when they are freed. */
    run_in_thread(makes_for_the_end, NULL);
    start_detached();
    if (failures) return 1;
    if (!strcmp(how, "return")) return 42;
    if (!strcmp(how, "exit")) exit(42);
    if (!strcmp(how, "_exit")) _exit(42);
    if (!strcmp(how, "quick_exit")) quick_exit(42);
    pthread_detach(started(exits, (void *)(size_t)42));
    if (!strcmp(how, "other-thread-exits")) pause();
    if (!strcmp(how, "main-thread-ends")) pthread_exit(NULL);
    return 9;
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    alarm(300);
    if (!strcmp(what, "one-after-another")) one_after_another();
    else if (!strcmp(what, "at-once")) a_thousand_at_once();
    else if (!strcmp(what, "destructor-rounds")) destructor_rounds();
    else if (!strcmp(what, "late-library")) late_frees_of_the_library();
    else if (!strcmp(what, "only-free")) only_free();
    else if (!strcmp(what, "end") && count > 2) return end_while_threads_go_on(words[2]);
    else return 9;
    return failures != 0;
}
