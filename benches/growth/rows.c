/* What grows with the heap, the threads or time, one row at a time: `rows ROW SIZE` does a row of that size once and prints one
 * number. `homing-benches growth` runs it under several allocators; what a row's number means stands there. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

/* ---- What is measured ------------------------------------------------------------------------------------------- */

/* Microseconds of processor time, of the whole process. */
static double cpu(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static double wall(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

/* MiB in memory; read without the allocator. */
static double resident(void) {
    char text[200] = "";
    FILE *file = fopen("/proc/self/statm", "r");
    char buffer[200];
    setvbuf(file, buffer, _IOFBF, sizeof buffer);
    if (!fgets(text, sizeof text, file)) abort();
    fclose(file);
    long all, now;
    if (sscanf(text, "%ld %ld", &all, &now) != 2) abort();
    return now * (double)sysconf(_SC_PAGESIZE) / MIB;
}

/* So that no block is optimized away. */
static void *volatile sink;
static void *take(size_t size) {
    void *block = malloc(size);
    if (!block) {
        fprintf(stderr, "no memory for %zu bytes\n", size);
        exit(3);
    }
    return sink = block;
}
static void *take_all(size_t size) { return memset(take(size), 1, size); }

/* A table that is not of the allocator's. */
static void **table(size_t places) {
    void *table = mmap(NULL, places * sizeof(void *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return table == MAP_FAILED ? abort(), NULL : table;
}

static uint32_t seed = 12345;
static uint32_t next_number(void) { return (seed = seed * 1664525 + 1013904223) >> 8; }

/* ---- Threads ------------------------------------------------------------------------------------------------------ */

static pthread_barrier_t done, again;
struct crowd {
    int count;
    void (*work)(int);
    pthread_t threads[4000];
};
static struct crowd crowd;

static void *one_of_the_crowd(void *number) {
    crowd.work((int)(intptr_t)number);
    pthread_barrier_wait(&done);
    pthread_barrier_wait(&again);
    return NULL;
}

/* So many threads have worked, and stand still. */
static void work_and_stand(int count, void (*work)(int)) {
    crowd.count = count;
    crowd.work = work;
    pthread_barrier_init(&done, NULL, count + 1);
    pthread_barrier_init(&again, NULL, count + 1);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (int i = 0; i < count; i++)
        if (pthread_create(&crowd.threads[i], &attributes, one_of_the_crowd, (void *)(intptr_t)i)) abort();
    pthread_barrier_wait(&done);
}

static void end_all(void) {
    pthread_barrier_wait(&again);
    for (int i = 0; i < crowd.count; i++) pthread_join(crowd.threads[i], NULL);
}

/* ---- Rows: finding ------------------------------------------------------------------------------------------------ */

static double fill(size_t gib) {
    double begun = cpu();
    for (size_t i = 0; i < gib * 1024; i++) take(MIB);
    return (cpu() - begun) / (gib * 1024);
}

static double holes(size_t count) {
    void **blocks = table(count);
    for (size_t i = 0; i < count; i++) blocks[i] = take(100 << 10);
    for (size_t i = 0; i < count; i += 2) free(blocks[i]);
    double begun = cpu();
    for (size_t i = 0; i < count / 8; i++) take(190 << 10);
    return (cpu() - begun) / (count / 8);
}

static double shrunk(size_t count) {
    void **blocks = table(count);
    for (size_t i = 0; i < count; i++) blocks[i] = take(19000 + next_number() % 3000);
    const size_t pairs = 20000;
    double begun = cpu();
    for (size_t i = 0; i < pairs; i++) {
        void **one = &blocks[next_number() % count];
        *one = realloc(*one, 500 + next_number() % 1000);
        *one = realloc(*one, 19000 + next_number() % 3000);
    }
    return (cpu() - begun) / pairs;
}

static double mappings(size_t count) {
    void **blocks = table(count);
    for (size_t i = 0; i < count; i++) blocks[i] = take(22 * MIB / 10);
    for (size_t i = 0; i < count; i += 2) free(blocks[i]);
    double begun = cpu();
    for (size_t i = 0; i < 200; i++) take(40 * MIB);
    return (cpu() - begun) / 200;
}

static size_t owned;
static void **of_the_sleeper;
static pthread_barrier_t asleep, awake;
static double slept;
static void *sleeper(void *unused) {
    for (size_t i = 0; i < owned; i++) of_the_sleeper[i] = take(64);
    pthread_barrier_wait(&asleep);
    pthread_barrier_wait(&awake);
    double begun = wall();
    take(64);
    slept = (wall() - begun) / 1000;
    return unused;
}
static double woken(size_t count) {
    owned = count;
    of_the_sleeper = table(count);
    pthread_barrier_init(&asleep, NULL, 2);
    pthread_barrier_init(&awake, NULL, 2);
    pthread_t thread;
    pthread_create(&thread, NULL, sleeper, NULL);
    pthread_barrier_wait(&asleep);
    for (size_t i = 0; i < count; i++) free(of_the_sleeper[i]);
    pthread_barrier_wait(&awake);
    pthread_join(thread, NULL);
    return slept;
}

/* ---- Rows: what threads without work hold on to ------------------------------------------------------------------- */

/* MiB that threads which have done that work, and stand still, hold on to after malloc_trim. */
static double held_once_trimmed(size_t threads, void (*work)(int)) {
    double before = resident();
    work_and_stand((int)threads, work);
    malloc_trim(0);
    return resident() - before;
}

static void some_large(int number) {
    (void)number;
    void *blocks[4];
    for (int i = 0; i < 4; i++) blocks[i] = take_all(500 << 10);
    for (int i = 0; i < 4; i++) free(blocks[i]);
}
static double parked_large(size_t threads) {
    double before = resident();
    work_and_stand((int)threads, some_large);
    sleep(4);
    return resident() - before;
}
static double parked_large_trimmed(size_t threads) { return held_once_trimmed(threads, some_large); }

static void every_size(int number) {
    (void)number;
    for (size_t size = 16; size <= 2 * MIB; size += size / 8) free(take_all(size));
}
static double touched(size_t threads) {
    double before = resident();
    work_and_stand((int)threads, every_size);
    return resident() - before;
}
static double touched_and_joined(size_t threads) {
    double before = resident();
    work_and_stand((int)threads, every_size);
    end_all();
    free(take(64));
    return resident() - before;
}

static void half_a_mib(int number) {
    (void)number;
    void *blocks[50];
    for (int i = 0; i < 50; i++) blocks[i] = take_all(10000);
    for (int i = 0; i < 50; i++) free(blocks[i]);
}
static double ended(size_t threads) {
    double before = resident();
    work_and_stand((int)threads, half_a_mib);
    end_all();
    for (int i = 0; i < 300; i++) {
        free(take(64 + i));
        usleep(10000);
    }
    return resident() - before;
}

/* Each frees what others have taken, of its own nothing; then all stand still. */
static void **of_others;
enum { EACH = 12000 };
static pthread_barrier_t all_have;
static void free_of_others(int number) {
    for (int i = 0; i < EACH; i++) of_others[number * EACH + i] = take_all(64 + i % 30 * 32);
    pthread_barrier_wait(&all_have);
    for (int i = 0; i < EACH; i++) free(of_others[(number + 1 + i % (crowd.count - 1)) % crowd.count * EACH + i]);
}
static double freed_by_others(size_t threads) {
    of_others = table(threads * EACH);
    pthread_barrier_init(&all_have, NULL, threads);
    double before = resident();
    work_and_stand((int)threads, free_of_others);
    munmap(of_others, threads * EACH * sizeof(void *));
    return resident() - before;
}
static double freed_by_others_trimmed(size_t threads) {
    double left = freed_by_others(threads), before = resident();
    malloc_trim(0);
    return left - before + resident();
}

static void own_32_mib(int number) {
    (void)number;
    enum { COUNT = 32 * MIB / 8192 };
    void **blocks = table(COUNT);
    for (size_t i = 0; i < COUNT; i++) blocks[i] = take_all(8000);
    for (size_t i = 0; i < COUNT; i++) free(blocks[i]);
    munmap(blocks, COUNT * sizeof(void *));
}
static double parked_own(size_t threads) { return held_once_trimmed(threads, own_32_mib); }

/* ---- Rows: what a block costs ------------------------------------------------------------------------------------- */

static double sparse(size_t mib) {
    size_t count = mib * (MIB / 64), kept = 1000;
    void **blocks = table(count);
    double before = resident();
    for (size_t i = 0; i < count; i++) blocks[i] = take_all(60);
    for (size_t i = 0; i < count; i++)
        if (i % kept >= 12) free(blocks[i]);
    malloc_trim(0);
    madvise(blocks, count * sizeof(void *), MADV_DONTNEED);
    return resident() - before;
}

static double locked(size_t count) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
        perror("mlockall");
        exit(3);
    }
    double before = resident();
    for (size_t i = 0; i < count; i++) take(25 * MIB / 10);
    return resident() - before;
}

static void limit(int resource, size_t kib) {
    struct rlimit limit = {kib << 10, kib << 10};
    if (setrlimit(resource, &limit)) abort();
}

static double limited_data(size_t kib) {
    limit(RLIMIT_DATA, kib);
    void *large[6];
    for (int i = 0; i < 6; i++) large[i] = take_all(25 * MIB / 10);
    for (int i = 0; i < 6; i++) free(large[i]);
    size_t count = 0;
    while ((sink = malloc(1000))) count++;
    return count * 1000.0 / MIB;
}

static double limited_addresses(size_t kib) {
    limit(RLIMIT_AS, kib);
    size_t count = 0;
    while ((sink = malloc(3 * MIB))) count++;
    return count * 3;
}

static double passed_on(size_t count) {
    void *before = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t size = 12000000 - i * 300000;
        void *now = take_all(size);
        free(before);
        before = now;
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024.0;
}

static double far_aligned(size_t count) {
    size_t had = 0;
    for (void *block; had < count && posix_memalign(&block, 32 * MIB, 1000) == 0; had++) sink = block;
    return had;
}

/* ---- Rows: over and over ------------------------------------------------------------------------------------------ */

static double over_and_over(size_t rounds) {
    enum { LIVE = 20 };
    static void *blocks[LIVE];
    double begun = cpu();
    for (size_t i = 0; i < rounds; i++) {
        void **one = &blocks[next_number() % LIVE];
        free(*one);
        size_t size = (5 + next_number() % 21) * MIB;
        *one = take(size);
        for (size_t at = 0; at < size; at += 4096) ((char *)*one)[at] = 1;
    }
    return (cpu() - begun) / rounds;
}

/* Larson's server (P. Larson and M. Krishnan, "Memory Allocation for Long-Running Server Applications", ISMM 1998). */
enum { HELD = 1000, PAIRS = 200000, HEIRS = 10 };
struct server {
    void *blocks[HELD];
    size_t largest;
    unsigned seed, heirs;
};
static sem_t servers_done;
static void *serve(void *argument) {
    struct server *server = argument;
    for (int i = 0; i < PAIRS; i++) {
        void **one = &server->blocks[rand_r(&server->seed) % HELD];
        free(*one);
        *one = take(16 + rand_r(&server->seed) % server->largest);
        *(char *)*one = 1;
    }
    if (server->heirs--) {
        pthread_t heir;
        if (pthread_create(&heir, NULL, serve, server)) abort();
        pthread_detach(heir);
    } else
        sem_post(&servers_done);
    return NULL;
}
static double served(size_t largest) {
    static struct server servers[2];
    sem_init(&servers_done, 0, 0);
    for (unsigned i = 0; i < 2; i++) {
        servers[i] = (struct server){.largest = largest, .seed = i + 1, .heirs = HEIRS};
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, &servers[i])) abort();
        pthread_detach(thread);
    }
    for (int i = 0; i < 2; i++)
        while (sem_wait(&servers_done)) continue;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_stime.tv_sec * 1e9 + usage.ru_stime.tv_usec * 1e3) / (2.0 * PAIRS * (HEIRS + 1));
}

static double grown(size_t rounds) {
    enum { BUFFERS = 100 };
    static struct { void *start; size_t size; } buffers[BUFFERS];
    double begun = cpu();
    for (size_t i = 0; i < rounds * BUFFERS; i++) {
        size_t one = next_number() % BUFFERS;
        size_t size = buffers[one].size ? buffers[one].size * 3 / 2 : 16;
        if (size > 4 * MIB) {
            free(buffers[one].start);
            buffers[one].start = NULL;
            size = 16;
        }
        void *start = realloc(buffers[one].start, size);
        if (!start) exit(3);
        memset((char *)start + (buffers[one].start ? buffers[one].size : 0), 1, size - (buffers[one].start ? buffers[one].size : 0));
        buffers[one].start = start;
        buffers[one].size = size;
    }
    return (cpu() - begun) / (rounds * BUFFERS);
}

static double walked(size_t arrays) {
    size_t length = 22 * MIB / 10 / sizeof(double);
    double **rows = (double **)table(arrays), sum = 0;
    for (size_t i = 0; i < arrays; i++) rows[i] = take_all(length * sizeof(double));
    double begun = cpu();
    for (int round = 0; round < 10; round++)
        for (size_t at = 0; at < length; at += 8)
            for (size_t i = 0; i < arrays; i++) sum += rows[i][at];
    double took = cpu() - begun;
    sink = sum > 1 ? rows : NULL;
    return took * 1000 / (10.0 * (length / 8) * arrays);
}

static const struct {
    const char *name;
    double (*run)(size_t);
} ROWS[] = {
    {"fill", fill},           {"holes", holes},
    {"shrunk", shrunk},       {"mappings", mappings},
    {"woken", woken},         {"parked-large", parked_large},
    {"parked-large-trimmed", parked_large_trimmed},
    {"touched", touched},     {"touched-and-joined", touched_and_joined},
    {"ended", ended},         {"freed-by-others", freed_by_others},
    {"freed-by-others-trimmed", freed_by_others_trimmed},
    {"parked-own", parked_own},
    {"sparse", sparse},       {"locked", locked},
    {"limited-data", limited_data}, {"limited-addresses", limited_addresses},
    {"passed-on", passed_on}, {"far-aligned", far_aligned},
    {"over-and-over", over_and_over}, {"served", served}, {"grown", grown},
    {"walked", walked},
};

int main(int words, char **word) {
    for (size_t i = 0; words == 3 && i < sizeof ROWS / sizeof *ROWS; i++)
        if (!strcmp(ROWS[i].name, word[1])) {
            printf("%.3f\n", ROWS[i].run(strtoul(word[2], NULL, 10)));
            fflush(stdout);
            _exit(0);
        }
    fprintf(stderr, "usage: rows ROW SIZE\n");
    return 2;
}
