/* A small node that is asked for more than it has. The program stays on one CPU of that node.
 *
 *   overfill spill CPU     allocates half as much again as the node has, which may not fail; then frees all, and what it
 *                          allocates anew is to lie at home again
 *   overfill return CPU    other memory fills the node while the program allocates; once the other memory is gone, what
 *                          the program still holds is to come home
 *   overfill shared CPU    likewise, while a forked child shares a page of it, which cannot be moved
 *   overfill bind CPU      (HOMING_POLICY=bind) allocates until it gets no more, which is to be said by ENOMEM, and lives on
 *   overfill rest CPU MIB  (HOMING_POLICY=bind) likewise, where other memory has filled the node but for so many MiB
 *                          since the program's first block
 *
 * Each stage prints a RESULT of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kernel.h"

enum { MOST_BLOCKS = 1 << 18, SOME = 32 << 20, CHUNK = 1 << 20, MOST_CHUNKS = 1024 };
static struct { char *block; size_t size; } blocks[MOST_BLOCKS];
static size_t count, bytes;
static uint64_t state = 88172645463325252u;
static int here;

/* The node's memory in bytes: "Total" or "Free". */
static size_t memory(const char *which)
{
    char path[64], line[128], format[64];
    size_t kib = 0;
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/meminfo", here);
    snprintf(format, sizeof format, "Node %%*d Mem%s: %%zu", which);
    FILE *file = fopen(path, "r");
    if (!file) fail(path);
    while (fgets(line, sizeof line, file) && sscanf(line, format, &kib) != 1) {}
    fclose(file);
    return kib << 10;
}

/* Allocates and writes blocks, one in 200 of them large, until the program holds so many bytes; or gets none. */
static bool hold(size_t wanted)
{
    while (bytes < wanted && count < MOST_BLOCKS) {
        size_t size = next_random(&state) % 200 ? any_size(&state) : large_size(&state);
        char *block = malloc(size);
        if (!block) return false;
        memset(block, 1, size);
        blocks[count].block = block;
        blocks[count++].size = size;
        bytes += size;
    }
    return true;
}

static void free_all(void)
{
    while (count > 0) free(blocks[--count].block);
    bytes = 0;
}

static void tell(const char *stage, const char *more)
{
    struct tally *tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED) fail("mmap");
    for (size_t i = 0; i < count; i++) ask(tally, blocks[i].block, blocks[i].size, here);
    print_result(stage, tally, more);
    munmap(tally, sizeof *tally);
}

static void spill(void)
{
    bool all = hold(memory("Total") / 2 * 3);
    tell("filled", all ? "failed=0" : "failed=1");
    free_all();
    malloc_trim(0);
    all = hold(SOME);
    tell("anew", all ? "failed=0" : "failed=1");
}

/* The other memory: pieces that are touched until one lands elsewhere, or no more than so many bytes are left. */
static char *chunks[MOST_CHUNKS];
static int taken;

static void fill_node(size_t left)
{
    for (bool fits = true; fits && taken < MOST_CHUNKS && memory("Free") > left; taken++) {
        char *chunk = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (chunk == MAP_FAILED) fail("mmap");
        memset(chunk, 1, CHUNK);
        static struct tally tally;
        memset(&tally, 0, sizeof tally);
        ask(&tally, chunk, CHUNK, here);
        chunks[taken] = chunk;
        fits = tally.home * 2 > tally.all;
    }
}

/* A child that shares one page with this process, the lowest block's that is away: of all others it lets go. */
static pid_t share_a_page(void)
{
    uintptr_t away = UINTPTR_MAX, low = UINTPTR_MAX, high = 0;
    for (size_t i = 0; i < count; i++) {
        void *page = (void *)((uintptr_t)blocks[i].block & ~(uintptr_t)(PAGE - 1));
        int where;
        where_pages_lie(&page, 1, &where);
        if (where != here && (uintptr_t)page < away) away = (uintptr_t)page;
        if ((uintptr_t)page < low) low = (uintptr_t)page;
        if ((uintptr_t)blocks[i].block + blocks[i].size > high) high = (uintptr_t)blocks[i].block + blocks[i].size;
    }
    high &= ~(uintptr_t)(PAGE - 1);
    if (away == UINTPTR_MAX) { fprintf(stderr, "overfill: nothing is away\n"); exit(1); }
    int ready[2];
    char byte = 1;
    if (pipe(ready)) fail("pipe");
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        while (taken > 0) munmap(chunks[--taken], CHUNK);
        /* Not all between is mapped (ENOMEM); the rest of it is let go all the same. */
        if (away > low && madvise((void *)low, away - low, MADV_DONTNEED) && errno != ENOMEM) _exit(1);
        if (madvise((void *)(away + PAGE), high - away - PAGE, MADV_DONTNEED) && errno != ENOMEM) _exit(1);
        if (write(ready[1], &byte, 1) != 1) _exit(1);
        for (;;) pause();
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) fail("the child");
    close(ready[0]);
    return child;
}

static void come_back(bool shared)
{
    fill_node(0);
    if (memory("Total") / 2 < SOME) fail("the node is too small for what is to come home");
    bool all = hold(SOME);
    tell("spilled", all ? "failed=0" : "failed=1");
    pid_t child = shared ? share_a_page() : 0;
    while (taken > 0) munmap(chunks[--taken], CHUNK);
    malloc_trim(0);
    tell("returned", "");
    /* Waited for, so that its memory is there for the next program. */
    if (child && (kill(child, SIGKILL) || waitpid(child, NULL, 0) != child)) fail("the child");
    /* None of it was lost on the way. */
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; at < blocks[i].size; at++)
            if (blocks[i].block[at] != 1) { fprintf(stderr, "overfill: a block has changed\n"); exit(1); }
    free_all();
}

static void use_up(void)
{
    char more[64];
    errno = 0;
    bool all = hold(4 * memory("Total"));
    snprintf(more, sizeof more, "null=%d enomem=%d part=%.2f", !all, errno == ENOMEM, (double)bytes / (double)memory("Total"));
    tell("bound", more);
    free_all();
    malloc_trim(0);
    all = hold(SOME);
    tell("anew", all ? "failed=0" : "failed=1");
}

static void use_up_rest(size_t left)
{
    /* So that the allocator has looked at the node while it had room. */
    if (!hold(CHUNK)) fail("the first block");
    fill_node(left);
    errno = 0;
    bool all = hold(memory("Total"));
    tell("rest", !all && errno == ENOMEM ? "enomem=1" : "enomem=0");
    free_all();
}

int main(int words, char **arguments)
{
    static char buffer[4096];
    /* What is printed needs no memory when there is none. */
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    if (words != 3 + !strcmp(arguments[1 % words], "rest")) return 2;
    run_on(atoi(arguments[2]));
    here = node_now();
    if (!strcmp(arguments[1], "spill")) spill();
    else if (!strcmp(arguments[1], "return")) come_back(false);
    else if (!strcmp(arguments[1], "shared")) come_back(true);
    else if (!strcmp(arguments[1], "rest")) use_up_rest((size_t)atoi(arguments[3]) << 20);
    else if (!strcmp(arguments[1], "bind")) use_up();
    else return 2;
    return 0;
}
