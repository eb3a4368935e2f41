/* Does one thing that a setting changes, and says what came of it: see support/settings.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static long resident(void) {
    char text[256] = {0};
    int file = open("/proc/self/statm", O_RDONLY);
    read(file, text, sizeof text - 1);
    close(file);
    char *space = strchr(text, ' ');
    return atol(space) * sysconf(_SC_PAGESIZE);
}

static void fill(void) {
    static char *blocks[128];
    int count = 0;
    errno = 0;
    while (count < 128 && (blocks[count] = malloc(MIB))) count++;
    int served = count;
    int enomem = errno == ENOMEM;
    void *again = NULL, *large = NULL, *large_again = NULL;
    if (count > 20) {
        large = malloc(16 * MIB);
        free(blocks[--count]);
        again = malloc(MIB);
        free(again);
        for (int i = 0; i < 20; i++) free(blocks[--count]);
        large_again = malloc(16 * MIB);
    }
    printf("blocks=%d enomem=%d again=%d large=%d large_again=%d\n", served, enomem, again != NULL, large != NULL,
           large_again != NULL);
}

/* Bytes that are not zero, among those that can be read at all. */
static long nonzero(int memory, const volatile char *block, size_t from, size_t size) {
    static char bytes[8 * MIB];
    ssize_t got = pread(memory, bytes, size, (off_t)(size_t)block);
    long count = 0;
    for (ssize_t i = from; i < got; i++) count += bytes[i] != 0;
    return count;
}

static void zero(void) {
    static const size_t sizes[] = {24, 100, 1000, 5000, 20000, 100000, 700000, 3 * MIB};
    int memory = open("/proc/self/mem", O_RDONLY);
    long freed = 0, recycled = 0, cleared = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        char *blocks[8];
        int some = sizes[s] > MIB ? 2 : 8;
        for (int i = 0; i < some; i++) memset(blocks[i] = malloc(sizes[s]), 0xAA, sizes[s]);
        for (int i = 0; i < some; i++) free(blocks[i]);
        /* The first two words may hold the allocator's own. */
        for (int i = 0; i < some; i++) freed += nonzero(memory, blocks[i], 16, sizes[s]);
        for (int i = 0; i < some; i++) {
            blocks[i] = malloc(sizes[s]);
            recycled += nonzero(memory, blocks[i], 0, sizes[s]);
            memset(blocks[i], 0xAA, sizes[s]);
        }
        for (int i = 0; i < some; i++) free(blocks[i]);
        for (int i = 0; i < some; i++) cleared += nonzero(memory, blocks[i] = calloc(1, sizes[s]), 0, sizes[s]);
        for (int i = 0; i < some; i++) free(blocks[i]);
    }
    printf("freed=%ld recycled=%ld calloc=%ld\n", freed, recycled, cleared);
}

static void purge(size_t size) {
    size_t count = 64 * MIB / size;
    static char *blocks[64 * MIB / 1024];
    memset(blocks, 1, sizeof blocks);
    for (size_t i = 0; i < count; i++) memset(blocks[i] = malloc(size), 1, size);
    long before = resident();
    for (size_t i = 0; i < count; i++) free(blocks[i]);
    printf("before=%ld after=%ld\n", before, resident());
}

/* A block that is never written to, beside what a pool keeps. */
static void mapping(void) {
    static void *volatile block;
    block = malloc(32 * MIB);
    printf("served=%d resident=%ld\n", block != NULL, resident());
}

int main(int count, char **arguments) {
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    const char *what = count > 1 ? arguments[1] : "";
    free(malloc(1));
    if (!strcmp(what, "resident")) printf("resident=%ld\n", resident());
    else if (!strcmp(what, "fill")) fill();
    else if (!strcmp(what, "zero")) zero();
    else if (!strcmp(what, "mapping")) mapping();
    else if (!strcmp(what, "purge-small")) purge(1024);
    else if (!strcmp(what, "purge-runs")) purge(MIB);
    else if (!strcmp(what, "purge-mappings")) purge(8 * MIB);
    else if (strcmp(what, "nothing")) return 9;
    return 0;
}
