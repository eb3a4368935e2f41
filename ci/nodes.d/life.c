/* What happens to memory in a program's life, on a machine with many nodes. One workload a run:
 *
 *   life KIND place|far [SCALE]
 *
 *   churn     every thread replaces random blocks of its own
 *   pairs     a producer on each node, its consumer on the next
 *   migrated  as churn, but the threads have moved to another node after they were warm
 *   rebirth   threads end, and threads of other nodes take over what they left
 *   table     all threads swap blocks through one table
 *   large     as churn, with blocks of 64 KiB to 4 MiB
 *   build     one thread builds lists for threads on all nodes, which take them apart
 *
 * "place" asks the kernel for every block, once it is written, on which node its pages lie (kernel.h), and prints
 * "RESULT KIND home=SHARE ...": the share of the bytes handed out that lie on the node of the thread that asked for
 * them, or on the node that LIFE_HOME names for it ("1:2": what threads on node 1 get belongs on node 2). "far" only
 * works, and bounds what shared instruments count by stores to a marked page. Threads are pinned, one or two a CPU. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "kernel.h"

enum { SLOTS = 1200, RING = 64, SHARED = 4096 };
static int cpus[MOST_CPUS], cpu_count;
static bool asks;
static int scale = 1;
static struct tally tally;
static volatile char *marker;
static pthread_barrier_t barrier;

struct block { struct block *next; size_t size; };

static struct block *obtain(size_t size, bool counts)
{
    struct block *block = malloc(size);
    if (!block) fail("malloc");
    memset(block, (int)size, size);
    block->size = size;
    block->next = NULL;
    if (asks && counts) ask(&tally, (char *)block, size, home_now());
    return block;
}

/* Reads the block, a word a line, and gives it back. */
static void done_with(struct block *block)
{
    if (!block) return;
    unsigned sum = 0;
    for (size_t at = 0; at < block->size; at += 64) sum += ((unsigned char *)block)[at];
    __asm__ volatile("" : : "r"(sum));
    free(block);
}

static void meet(void) { pthread_barrier_wait(&barrier); }

static void begin_counting(int thread)
{
    meet();
    if (thread == 0) marker[0x10] = 1;
    meet();
}

static void end_counting(int thread)
{
    meet();
    if (thread == 0) marker[0x20] = 1;
    meet();
}

typedef size_t size_of_block(uint64_t *);

static void replace(struct block **table, int slots, long times, size_of_block *size, uint64_t *state, bool counts)
{
    for (long i = 0; i < times; i++) {
        struct block **slot = &table[next_random(state) % (unsigned)slots];
        done_with(*slot);
        *slot = obtain(size(state), counts);
    }
}

static void clear(struct block **table, int slots)
{
    for (int i = 0; i < slots; i++) {
        done_with(table[i]);
        table[i] = NULL;
    }
}

static void churn(int thread)
{
    run_on(cpus[thread]);
    struct block **table = calloc(SLOTS, sizeof *table);
    uint64_t state = 88172645463325252u + (unsigned)thread;
    replace(table, SLOTS, 3000, any_size, &state, false);
    begin_counting(thread);
    replace(table, SLOTS, 12000L * scale, any_size, &state, true);
    end_counting(thread);
    clear(table, SLOTS);
    free(table);
}

static void migrated(int thread)
{
    run_on(cpus[thread]);
    struct block **table = calloc(SLOTS, sizeof *table);
    uint64_t state = 88172645463325252u + (unsigned)thread;
    replace(table, SLOTS, 6000, any_size, &state, false);
    meet();
    run_on(cpus[(thread + 1) % cpu_count]);
    begin_counting(thread);
    replace(table, SLOTS, 12000L * scale, any_size, &state, true);
    end_counting(thread);
    clear(table, SLOTS);
    free(table);
}

static void large(int thread)
{
    enum { FEW = 8 };
    run_on(cpus[thread]);
    struct block **table = calloc(FEW, sizeof *table);
    uint64_t state = 88172645463325252u + (unsigned)thread;
    replace(table, FEW, 20, large_size, &state, false);
    begin_counting(thread);
    replace(table, FEW, 60L * scale, large_size, &state, true);
    end_counting(thread);
    clear(table, FEW);
    free(table);
}

static struct block *shared[SHARED];

static void table(int thread)
{
    uint64_t state = 88172645463325252u + (unsigned)thread;
    run_on(cpus[thread]);
    for (long i = -4000; i < 10000L * scale; i++) {
        if (i == 0) begin_counting(thread);
        struct block *block = obtain(any_size(&state), i >= 0);
        done_with(__atomic_exchange_n(&shared[next_random(&state) % SHARED], block, __ATOMIC_ACQ_REL));
    }
    end_counting(thread);
    if (thread == 0) clear(shared, SHARED);
}

/* A ring of lists with room for a few. */
struct ring {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct block *lists[RING];
    unsigned begin, end;
    bool closed;
};
static struct ring rings[MOST_CPUS];

static void put(struct ring *ring, struct block *list)
{
    pthread_mutex_lock(&ring->lock);
    while (ring->end - ring->begin == RING) pthread_cond_wait(&ring->changed, &ring->lock);
    ring->lists[ring->end++ % RING] = list;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

static struct block *take(struct ring *ring)
{
    struct block *list = NULL;
    pthread_mutex_lock(&ring->lock);
    while (ring->end == ring->begin && !ring->closed) pthread_cond_wait(&ring->changed, &ring->lock);
    if (ring->end != ring->begin) list = ring->lists[ring->begin++ % RING];
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
    return list;
}

static void close_ring(struct ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->closed = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

static struct block *build_list(int length, uint64_t *state, bool counts)
{
    struct block *list = NULL;
    for (int i = 0; i < length; i++) {
        struct block *block = obtain(any_size(state), counts);
        block->next = list;
        list = block;
    }
    return list;
}

static void take_apart(struct ring *ring, uint64_t *state)
{
    for (struct block *list; (list = take(ring));) {
        while (list) {
            struct block *next = list->next;
            /* A result, of this thread's own. */
            struct block *result = state ? obtain(any_size(state), true) : NULL;
            done_with(list);
            done_with(result);
            list = next;
        }
    }
}

/* Threads 0.. produce, threads cpu_count.. consume. */
static void pairs(int thread)
{
    int pair = thread % cpu_count;
    if (thread < cpu_count) {
        uint64_t state = 88172645463325252u + (unsigned)thread;
        run_on(cpus[pair]);
        for (int i = 0; i < RING; i++) put(&rings[pair], build_list(32, &state, false));
        begin_counting(thread);
        for (int i = 0; i < 350 * scale; i++) put(&rings[pair], build_list(32, &state, true));
        close_ring(&rings[pair]);
    } else {
        run_on(cpus[(pair + 1) % cpu_count]);
        begin_counting(thread);
        take_apart(&rings[pair], NULL);
    }
    end_counting(thread);
}

/* Thread 0 builds for all others. */
static void build(int thread)
{
    uint64_t state = 88172645463325252u + (unsigned)thread;
    if (thread == 0) {
        run_on(cpus[0]);
        for (int i = 0; i < 20 * cpu_count; i++) put(&rings[i % cpu_count], build_list(32, &state, false));
        begin_counting(thread);
        for (int i = 0; i < 250 * cpu_count * scale; i++) put(&rings[i % cpu_count], build_list(32, &state, true));
        for (int i = 0; i < cpu_count; i++) close_ring(&rings[i]);
    } else {
        run_on(cpus[thread - 1]);
        begin_counting(thread);
        take_apart(&rings[thread - 1], &state);
    }
    end_counting(thread);
}

static struct block *left[MOST_CPUS][SLOTS];
static int generation;

static void live(int thread)
{
    /* Takes over what a thread of another node has left, and leaves half of what it has. */
    struct block **table = left[thread];
    uint64_t state = 88172645463325252u + (unsigned)(thread + 100 * generation);
    run_on(cpus[(thread + generation) % cpu_count]);
    replace(table, SLOTS, 4000L, any_size, &state, generation > 0);
    clear(table, SLOTS / 2);
}

static void start_all(int threads, void (*body)(int));

static void rebirth(void)
{
    for (generation = 0; generation <= 3 * scale; generation++) {
        if (generation == 1) marker[0x10] = 1;
        start_all(cpu_count, live);
    }
    marker[0x20] = 1;
}

struct start { void (*body)(int); int thread; };

static void *run(void *argument)
{
    struct start *start = argument;
    start->body(start->thread);
    return NULL;
}

static void start_all(int threads, void (*body)(int))
{
    static struct start starts[2 * MOST_CPUS];
    pthread_t ids[2 * MOST_CPUS];
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        starts[i] = (struct start){ body, i };
        if (pthread_create(&ids[i], NULL, run, &starts[i])) fail("pthread_create");
    }
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
}

int main(int count, char **arguments)
{
    if (count < 3) { fprintf(stderr, "usage: life KIND place|far [SCALE]\n"); return 2; }
    const char *kind = arguments[1];
    asks = !strcmp(arguments[2], "place");
    if (count > 3) scale = atoi(arguments[3]);
    marker = mmap((void *)0x5ca1ab1e0000, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (marker == MAP_FAILED) fail("mmap");
    cpu_count = allowed_cpus(cpus);
    for (int i = 0; i < MOST_CPUS; i++) {
        pthread_mutex_init(&rings[i].lock, NULL);
        pthread_cond_init(&rings[i].changed, NULL);
    }
    if (!strcmp(kind, "churn")) start_all(cpu_count, churn);
    else if (!strcmp(kind, "pairs")) start_all(2 * cpu_count, pairs);
    else if (!strcmp(kind, "migrated")) start_all(cpu_count, migrated);
    else if (!strcmp(kind, "rebirth")) rebirth();
    else if (!strcmp(kind, "table")) start_all(cpu_count, table);
    else if (!strcmp(kind, "large")) start_all(cpu_count, large);
    else if (!strcmp(kind, "build")) start_all(cpu_count + 1, build);
    else { fprintf(stderr, "life: there is no workload %s\n", kind); return 2; }
    print_result(kind, &tally, "");
    return 0;
}
