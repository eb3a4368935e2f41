/* Is loaded with the shared object, or loads it, in every way: see loading.rs. */
#define _GNU_SOURCE
#include "blocks.h"

#include <dlfcn.h>
#include <signal.h>

static void *opened(const char *file, int flags) {
    void *handle = dlopen(file, RTLD_NOW | flags);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(2);
    }
    return handle;
}

static int flags_of(const char *word) {
    return !strcmp(word, "deepbind") ? RTLD_LOCAL | RTLD_DEEPBIND : !strcmp(word, "global") ? RTLD_GLOBAL : RTLD_LOCAL;
}

static void tell(const void *pointer) {
    printf("pointer=%ld\n", (long)pointer);
    fflush(stdout);
}

static void *works(void *seed) {
    work((unsigned)(size_t)seed, 100);
    return NULL;
}

/* What a program does all the time: it allocates, in threads, too, and forks. */
static void live(void) {
    works((void *)1);
    for (size_t i = 0; i < 10; i++) run_in_thread(works, (void *)i);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        works((void *)2);
        run_in_thread(works, (void *)3);
        _exit(failures ? 1 : 42);
    }
    expect_status(child, 42);
}

/* That the name means the function of that file. */
static void expect_in(const char *file, void *function) {
    Dl_info info = {0};
    CHECK(dladdr(function, &info));
    char *found = realpath(info.dli_fname, NULL), *wanted = realpath(file, NULL);
    if (!found || !wanted || strcmp(found, wanted) != 0) {
        fprintf(stderr, "the function is %s's instead of %s's\n", info.dli_fname, file);
        failures++;
    }
    free(found);
    free(wanted);
}

static void serves_all(const char *file) {
    static const char *const names[] = {"malloc", "free", "calloc", "realloc", "posix_memalign", "_Znwm", "_ZdlPv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) expect_in(file, dlsym(RTLD_DEFAULT, names[i]));
    live();
}

/* A shared object's functions, found by its handle. */
static struct {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*realloc)(void *, size_t);
    size_t (*usable)(void *);
} theirs;

static void *find_theirs(const char *library, int flags) {
    void *handle = opened(library, flags);
    theirs.malloc = (void *(*)(size_t))dlsym(handle, "malloc");
    theirs.free = (void (*)(void *))dlsym(handle, "free");
    theirs.realloc = (void *(*)(void *, size_t))dlsym(handle, "realloc");
    theirs.usable = (size_t(*)(void *))dlsym(handle, "malloc_usable_size");
    expect_in(library, (void *)theirs.malloc);
    CHECK(theirs.malloc != malloc);
    return handle;
}

static void *works_with_theirs(void *start) {
    unsigned seed = (unsigned)(size_t)start;
    struct held all[64];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 64; i++) {
            size_t size = some_size(&seed);
            all[i] = (struct held){size, (unsigned char)i, theirs.malloc(size)};
            CHECK(all[i].bytes && theirs.usable(all[i].bytes) >= size);
            fill(&all[i]);
            all[i].bytes = theirs.realloc(all[i].bytes, size + 100);
        }
        works((void *)(size_t)seed);
        for (int i = 0; i < 64; i++) {
            CHECK(is_whole(&all[i]));
            theirs.free(all[i].bytes);
        }
    }
    return NULL;
}

static pthread_barrier_t loaded;

static void *waits_and_works_with_theirs(void *seed) {
    struct held *before = take(1000, 1);
    pthread_barrier_wait(&loaded);
    works_with_theirs(seed);
    give(before);
    return NULL;
}

/* The program goes on with its own malloc and free; threads from before and after use the other, too. */
static void load_late(const char *library, const char *how) {
    enum { BEFORE = 4, BLOCKS = 200 };
    pthread_t threads[BEFORE];
    struct held *from_before[BLOCKS];
    unsigned seed = 7;
    pthread_barrier_init(&loaded, NULL, BEFORE + 1);
    for (size_t i = 0; i < BEFORE; i++) threads[i] = started(waits_and_works_with_theirs, (void *)i);
    for (int i = 0; i < BLOCKS; i++) from_before[i] = take(some_size(&seed), seed);
    find_theirs(library, flags_of(how));
    pthread_barrier_wait(&loaded);
    for (int i = 0; i < BLOCKS; i++) give(from_before[i]);
    for (int i = 0; i < BEFORE; i++) pthread_join(threads[i], NULL);
    run_in_thread(works_with_theirs, NULL);
    live();
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        works_with_theirs((void *)1);
        run_in_thread(works_with_theirs, (void *)2);
        _exit(failures ? 1 : 42);
    }
    expect_status(child, 42);
}

/* A block of the program's allocator comes to the other one. */
static void hand_over(const char *library, const char *how, const char *function) {
    find_theirs(library, flags_of(how));
    void *block = malloc(!strcmp(how, "local") ? 100 : 1000000);
    tell(block);
    if (!strcmp(function, "free")) theirs.free(block);
    else if (!strcmp(function, "realloc")) block = theirs.realloc(block, 5000);
    else if (!strcmp(function, "malloc_usable_size")) CHECK(theirs.usable(block) == 0);
}

/* A library that allocates. */
static struct {
    void *(*make)(size_t);
    void *(*resize)(void *, size_t);
    void (*free)(void *);
    char *(*copy)(const char *);
    void *(*malloc)(void);
} plugin;

static void load_plugin(const char *file, int flags) {
    void *handle = opened(file, flags);
    plugin.make = (void *(*)(size_t))dlsym(handle, "plugin_make");
    plugin.resize = (void *(*)(void *, size_t))dlsym(handle, "plugin_resize");
    plugin.free = (void (*)(void *))dlsym(handle, "plugin_free");
    plugin.copy = (char *(*)(const char *))dlsym(handle, "plugin_copy");
    plugin.malloc = (void *(*)(void))dlsym(handle, "plugin_malloc");
    CHECK(plugin.make && plugin.resize && plugin.free && plugin.copy && plugin.malloc);
}

static void *works_with_plugin(void *unused) {
    for (size_t size = 8; size < 4 * MIB; size = size * 3 / 2) {
        char *block = plugin.make(size);
        CHECK(block);
        memset(block, 5, size);
        block = plugin.resize(block, size * 2);
        CHECK(block && block[0] == 5 && block[size - 1] == 5);
        work((unsigned)size, 3);
        plugin.free(block);
    }
    return unused;
}

/* The plugin frees its own blocks, and the program its own, whatever each of them calls malloc. */
static void use_plugin(const char *file, const char *how, const char *allocator) {
    struct held *before = take(5000, 3);
    load_plugin(file, flags_of(how));
    expect_in(allocator, plugin.malloc());
    works_with_plugin(NULL);
    for (int i = 0; i < 10; i++) run_in_thread(works_with_plugin, NULL);
    live();
    give(before);
}

/* What the C library makes for the plugin is its malloc's, and the plugin's is another. */
static void mix(const char *file, const char *what) {
    load_plugin(file, RTLD_LOCAL | RTLD_DEEPBIND);
    void *block = plugin.copy("a text");
    if (!strcmp(what, "program-frees-the-plugins")) block = plugin.make(100);
    if (!strcmp(what, "plugin-frees-the-programs")) block = malloc(100);
    tell(block);
    if (!strncmp(what, "plugin", 6)) plugin.free(block);
    else free(block);
}

static void second_namespace(const char *library) {
    void *handle = dlmopen(LM_ID_NEWLM, library, RTLD_NOW);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(2);
    }
    theirs.malloc = (void *(*)(size_t))dlsym(handle, "malloc");
    theirs.free = (void (*)(void *))dlsym(handle, "free");
    theirs.realloc = (void *(*)(void *, size_t))dlsym(handle, "realloc");
    theirs.usable = (size_t(*)(void *))dlsym(handle, "malloc_usable_size");
    CHECK(theirs.malloc && theirs.malloc != malloc);
    works_with_theirs(NULL);
    for (size_t i = 0; i < 10; i++) run_in_thread(works_with_theirs, (void *)i);
    live();
}

/* Loads the libraries of the folder with that name by their numbers, from one on, until there is no room for their
 * storage; gives how many there are then. */
enum { MOST = 64 };
static void *numbered[MOST];

static int load_numbered(const char *folder, const char *name, int from) {
    for (int i = from; i < MOST; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s-%d.so", folder, name, i);
        numbered[i] = dlopen(file, RTLD_NOW | RTLD_LOCAL);
        if (!numbered[i]) {
            CHECK(strstr(dlerror(), "static TLS"));
            return i;
        }
    }
    CHECK(!"so many cannot be loaded");
    return MOST;
}

/* Uses the storage up, then makes room again by giving up so many of the small libraries. */
static void load_with_little_storage(const char *folder, const char *library, int room) {
    int large = load_numbered(folder, "large", 0), small = load_numbered(folder, "small", 0);
    printf("large=%d small=%d\n", large, small);
    CHECK(large > 0 && small >= room);
    for (int i = 0; i < room; i++) CHECK(dlclose(numbered[small - 1 - i]) == 0);
    CHECK(load_numbered(folder, "large", large) == large);
    load_late(library, "local");
}

/* Has a library test itself. */
static void test_itself(const char *file, const char *how) {
    int (*test)(void) = (int (*)(void))dlsym(opened(file, flags_of(how)), "plugin_test");
    CHECK(test && test() == 0);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    alarm(300);
    if (!strcmp(what, "serves-all") && count == 3) serves_all(words[2]);
    else if (!strcmp(what, "late") && count == 4) load_late(words[2], words[3]);
    else if (!strcmp(what, "hand-over") && count == 5) hand_over(words[2], words[3], words[4]);
    else if (!strcmp(what, "plugin") && count == 5) use_plugin(words[2], words[3], words[4]);
    else if (!strcmp(what, "test-itself") && count == 4) test_itself(words[2], words[3]);
    else if (!strcmp(what, "mix") && count == 4) mix(words[2], words[3]);
    else if (!strcmp(what, "namespace") && count == 3) second_namespace(words[2]);
    else if (!strcmp(what, "count-large") && count == 3) printf("loaded=%d\n", load_numbered(words[2], "large", 0));
    else if (!strcmp(what, "little-storage") && count == 5)
        load_with_little_storage(words[2], words[3], atoi(words[4]));
    else return 9;
    return failures != 0;
}
