/* Programs without a fault, one a case: `faultless CASE`. The debug mode has nothing to say of them: see faultless.rs. */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static const size_t SIZES[] = {0, 1, 24, 1000, 20000, 65536, 300000, 3 * MIB, 40 * MIB};
enum { KINDS = sizeof SIZES / sizeof *SIZES };

static void every_verb(void) {
    for (int k = 0; k < KINDS; k++) {
        size_t size = SIZES[k];
        char *block = malloc(size);
        memset(block, 1, size);
        CHECK(malloc_usable_size(block) >= size);
        memset(block, 2, malloc_usable_size(block));
        free(block);
        block = calloc(1, size);
        for (size_t i = 0; i < size; i += 97) CHECK(block[i] == 0);
        free(block);
        for (size_t align = 16; align <= 64 * MIB; align *= size > MIB ? 64 : 4) {
            void *aligned = NULL;
            CHECK(posix_memalign(&aligned, align, size) == 0 && (size_t)aligned % align == 0);
            memset(aligned, 3, size);
            free(aligned);
        }
    }
    free(NULL);
    CHECK(malloc((size_t)1 << 62) == NULL && errno == ENOMEM);
}

static void growing_and_shrinking(void) {
    char *block = NULL;
    for (size_t size = 1; size < 70 * MIB; size = size * 3 / 2 + 7) {
        block = realloc(block, size);
        CHECK(size < 30 || block[size / 3] == 5);
        memset(block, 5, size);
        CHECK(realloc(block, (size_t)1 << 62) == NULL && block[size - 1] == 5);
    }
    for (size_t size = 70 * MIB; size > 0; size /= 3) {
        block = realloc(block, size);
        CHECK(block[0] == 5);
    }
    CHECK(realloc(block, 0) == NULL);
}

static void the_c_library(void) {
    free(strdup("a string"));
    char *text = NULL, *line = NULL, *whole = NULL;
    CHECK(asprintf(&text, "%0*d", 5000, 7) == 5000);
    size_t room = 0, length = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    while (getline(&line, &room, file) > 0)
        ;
    fclose(file);
    FILE *memory = open_memstream(&whole, &length);
    for (int i = 0; i < 10000; i++) fprintf(memory, "%d ", i);
    fclose(memory);
    struct dirent **entries;
    int count = scandir("/proc/self", &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) free(entries[i]);
    free(entries);
    regex_t expression;
    CHECK(regcomp(&expression, "(a|b)*c+[[:alpha:]]{2,5}", REG_EXTENDED) == 0);
    CHECK(regexec(&expression, "ababccxyz", 0, NULL, 0) == 0);
    regfree(&expression);
    char *real = realpath("/proc/self/exe", NULL);
    CHECK(real);
    setenv("SOMETHING", "of some length that is copied", 1);
    unsetenv("SOMETHING");
    free(real);
    free(text);
    free(line);
    free(whole);
}

/* Threads that allocate, hand over to each other and free until the process ends. */
static void *_Atomic passed[64];
static atomic_int turns;

static void *busy(void *seed) {
    unsigned state = (unsigned)(size_t)seed * 2654435761u;
    for (;;) {
        state = state * 1664525 + 1013904223;
        size_t size = state >> 24 == 0 ? 5 * MIB : (state >> 12) % (state >> 28 == 0 ? 200000 : 600);
        char *block = malloc(size);
        if (size) block[size / 2] = 1;
        if (state % 7 == 0) block = realloc(block, size * 2 + 1);
        free(atomic_exchange(&passed[state >> 8 & 63], block));
        atomic_fetch_add(&turns, 1);
    }
    return NULL;
}

static void begin_busy(int count) {
    for (int i = 1; i <= count; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, busy, (void *)(size_t)i);
    }
    while (atomic_load(&turns) < 20000) sched_yield();
}

static void threads_at_work_at_the_exit(void) { begin_busy(4); }

static void children_that_exit_while_others_work(void) {
    begin_busy(3);
    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        if (child == 0) {
            free(realloc(malloc(100), 100000));
            exit(0);
        }
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

static void *exits(void *unused) {
    free(malloc(100));
    exit(0);
}

static void another_thread_exits(void) {
    void *mine = malloc(1000);
    pthread_t thread;
    pthread_create(&thread, NULL, exits, NULL);
    for (;;) {
        pause();
        free(mine);
    }
}

/* A handler that allocates and frees, over a thread that waits. */
static volatile sig_atomic_t handled;
static void *between;

static void handler(int number) {
    free(between);
    between = malloc(200 + handled % 3 * 50000);
    handled++;
}

static void handlers_that_allocate(void) {
    signal(SIGUSR1, handler);
    for (int i = 0; i < 1000; i++) {
        char *block = malloc((size_t)i * 30);
        raise(SIGUSR1);
        free(block);
    }
    CHECK(handled == 1000);
}

/* Little memory: what waits in the quarantine must not be missed. */
static void little_memory(void) {
    static const size_t sizes[] = {MIB, 3000, 100000, 30000, 5 * MIB};
    for (int k = 0; k < 5; k++)
        for (size_t total = 0; total < 200 * MIB; total += sizes[k]) {
            char *block = malloc(sizes[k]);
            if (!block) {
                fprintf(stderr, "no memory for %zu bytes after %zu were freed\n", sizes[k], total);
                failures++;
                return;
            }
            block[0] = 1;
            free(block);
        }
}

/* Bytes of the process that are in memory. */
static size_t resident(void) {
    static char text[256];
    int file = open("/proc/self/statm", O_RDONLY);
    ssize_t read_ = read(file, text, sizeof text - 1);
    close(file);
    unsigned long pages = 0;
    CHECK(read_ > 0 && sscanf(text, "%*u %lu", &pages) == 1);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Large blocks that are hardly touched: neither getting nor freeing them is to bring all of them into memory. */
static void large_blocks_hardly_touched(void) {
    size_t before = resident();
    for (int i = 0; i < 20; i++) {
        char *block = i % 2 ? malloc(1000 * MIB) : calloc(1000, MIB);
        CHECK(block);
        for (size_t at = 0; at < 1000 * MIB; at += 100 * MIB) {
            CHECK(i % 2 || !block[at]);
            block[at] = 1;
        }
        CHECK(resident() - before < 64 * MIB);
        free(block);
        /* Of memory that was used before, too. */
        char *used = malloc(20 * MIB);
        memset(used, 1, 20 * MIB);
        free(used);
        char *zero = calloc(19, MIB);
        CHECK(zero && !zero[5 * MIB] && !zero[19 * MIB - 1]);
        free(zero);
    }
    CHECK(resident() - before < 64 * MIB);
}

static void until_there_is_none(void) {
    static void *blocks[100000];
    static const size_t sizes[] = {100, 3000, 60000, MIB, 20 * MIB};
    for (int k = 4; k >= 0; k--) {
        int count = 0;
        while (count < 100000 && (blocks[count] = malloc(sizes[k]))) count++;
        CHECK(count > 0);
        if (count > 1) CHECK(realloc(blocks[0], (size_t)1 << 40) == NULL);
        while (count--) free(blocks[count]);
    }
}

/* Ways to keep a block that something points to. */

static void *in_static;
static __thread void *of_thread;
static pthread_barrier_t kept;

static void kept_in_a_static(void) {
    for (int k = 0; k < KINDS; k++) {
        void **block = malloc(SIZES[k] + sizeof(void *));
        *block = in_static;
        in_static = block;
    }
}

static void kept_in_a_thread_local(void) { of_thread = malloc(500); }

static void *keeps(void *unused) {
    void *volatile on_stack = malloc(700);
    of_thread = malloc(900);
    pthread_barrier_wait(&kept);
    for (;;) {
        pause();
        free(on_stack);
    }
    return NULL;
}

static void kept_by_another_thread(void) {
    pthread_barrier_init(&kept, NULL, 2);
    pthread_t thread;
    pthread_create(&thread, NULL, keeps, NULL);
    pthread_barrier_wait(&kept);
}

static void kept_by_its_middle(void) {
    in_static = (char *)malloc(1000) + 500;
    of_thread = (char *)malloc(40 * MIB) + 35 * MIB;
}

static void kept_by_its_last_byte(void) { in_static = (char *)malloc(24) + 23; }

static void kept_in_mapped_memory(void) {
    /* Several, so that some come to lie beside the allocator's own ranges. */
    void **before = NULL;
    for (int i = 0; i < 50; i++) {
        void **map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        map[100] = malloc(i % 2 ? 300 : 300000);
        map[0] = before;
        before = map;
    }
}

/* A guard within a mapping is no mapping of its own, and cannot be read (MADV_GUARD_INSTALL of Linux 6.13). */
static void kept_behind_a_guard(void) {
    void **map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(map, 4096, 102);
    map[60000 / sizeof *map] = malloc(300);
}

static void kept_in_an_unwatched_block(void) {
    void **holder = aligned_alloc(32 * MIB, 4096);
    holder[10] = malloc(100);
    in_static = holder;
}

/* To the later slots of what waits to be used again, where masking leads to headers that stand there still. */
static void kept_beside_pointers_to_what_was_freed(void) {
    enum { BLOCKS = 32 };
    static char *dangling[BLOCKS][20], *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) blocks[i] = malloc(3 * MIB);
    for (int i = 0; i < BLOCKS; i++) {
        for (int slot = 0; slot < 20; slot++) dangling[i][slot] = blocks[i] + (size_t)(260 + slot) * 65536;
        free(blocks[i]);
        usleep(1700);
    }
    CHECK(dangling[0][0]);
}

static void kept_by_a_key(void) {
    pthread_key_t key;
    pthread_key_create(&key, free);
    pthread_setspecific(key, malloc(333));
}

static void kept_in_the_environment(void) {
    char *text = malloc(100);
    strcpy(text, "KEPT=in the environment");
    putenv(text);
}

static void kept_in_a_frame_of_before(void) {
    void *volatile here = malloc(444);
    exit(here == NULL);
}

static void frees_kept(void) { free(in_static); }

static void kept_until_the_exit(void) {
    in_static = malloc(555);
    atexit(frees_kept);
}

static void kept_by_a_child(void) {
    in_static = malloc(10);
    *(void **)in_static = malloc(20);
    if (fork() == 0) exit(0);
    int status = -1;
    wait(&status);
    CHECK(status == 0);
}

#define CASE(function) {#function, function}
static const struct {
    const char *name;
    void (*act)(void);
} CASES[] = {
    CASE(every_verb), CASE(growing_and_shrinking), CASE(the_c_library), CASE(threads_at_work_at_the_exit),
    CASE(children_that_exit_while_others_work), CASE(another_thread_exits), CASE(handlers_that_allocate),
    CASE(little_memory), CASE(large_blocks_hardly_touched), CASE(until_there_is_none), CASE(kept_in_a_static), CASE(kept_in_a_thread_local),
    CASE(kept_by_another_thread), CASE(kept_by_its_middle), CASE(kept_by_its_last_byte), CASE(kept_in_mapped_memory),
    CASE(kept_behind_a_guard), CASE(kept_in_an_unwatched_block), CASE(kept_beside_pointers_to_what_was_freed), CASE(kept_by_a_key),
    CASE(kept_in_the_environment), CASE(kept_in_a_frame_of_before), CASE(kept_until_the_exit), CASE(kept_by_a_child),
};

int main(int count, char **arguments) {
    for (size_t i = 0; count > 1 && i < sizeof CASES / sizeof *CASES; i++)
        if (!strcmp(CASES[i].name, arguments[1])) {
            CASES[i].act();
            return failures != 0;
        }
    return 9;
}
