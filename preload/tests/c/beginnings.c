/* Comes to the allocator before anything else of the process has: see beginnings.rs. With RESOLVER defined, from the
 * resolver of an indirect function, before the loader is done. */
#define _GNU_SOURCE
#include "check.h"
#include "work.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

extern char **environ;

static bool held = true;
#include "early.h"

/* Without an environment, more often than the allocator waits for one. */
static void without_environment(void) {
    environ = NULL;
    for (unsigned i = 0; i < 50; i++) held = held && works(i);
    work_and_keep();
}

/* The first allocation of the process is `setenv`'s. */
static void with_setenv(void) {
    static char name[32], value[64];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, i % 10 ? "BEGINNING_%d" : "HOMING_BEGINNING_%d", i);
        snprintf(value, sizeof value, "%d%0*d", i, i % 40 + 1, 0);
        held = held && setenv(name, value, 1) == 0 && !strcmp(getenv(name), value);
        if (i % 3 == 0) held = held && unsetenv(name) == 0 && !getenv(name);
    }
    held = held && !strncmp(getenv("BEGINNING_998"), "998", 3);
    held = held && clearenv() == 0 && setenv("BEGINNING", "again", 1) == 0 && !strcmp(getenv("BEGINNING"), "again");
    work_and_keep();
}

/* Settings that the program gives itself. */
static void with_settings(void) {
    static char *settings[] = {"HOMING_VERBOSE=1", "HOMING_ZERO=alloc", NULL};
    environ = settings;
    work_and_keep();
}

static int called;
static void at_the_end(void) { called++; }
static void at_the_end_with(int status, void *nothing) {
    (void)nothing;
    called += status == 0;
}

/* The C library has room for some functions, and allocates for more of them, under the lock of its list. */
static void in_atexit(void) {
    for (int i = 0; i < 100; i++) held = held && atexit(at_the_end) == 0;
}

static void in_on_exit(void) {
    for (int i = 0; i < 100; i++) held = held && on_exit(at_the_end_with, NULL) == 0;
}

static void in_pthread_atfork(void) {
    for (int i = 0; i < 200; i++) held = held && pthread_atfork(at_the_end, NULL, at_the_end) == 0;
}

/* On a stack of 16 KiB that ends at pages that cannot be touched. */
static void on_a_small_stack(void) {
    static ucontext_t here, there;
    enum { STACK = 16384, GUARD = 65536 };
    char *place = mmap(NULL, GUARD + STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(place + GUARD, STACK, PROT_READ | PROT_WRITE);
    getcontext(&there);
    there.uc_stack.ss_sp = place + GUARD;
    there.uc_stack.ss_size = STACK;
    there.uc_link = &here;
    makecontext(&there, work_and_keep, 0);
    swapcontext(&here, &there);
}

/* Called by the loader before the constructors of any object. */
static void at_the_very_first(int count, char **words, char **variables) {
    (void)variables;
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "plain")) work_and_keep();
    else if (!strcmp(what, "without-environment")) without_environment();
    else if (!strcmp(what, "setenv")) with_setenv();
    else if (!strcmp(what, "settings")) with_settings();
    else if (!strcmp(what, "small-stack")) on_a_small_stack();
    else if (!strcmp(what, "in-atexit")) in_atexit();
    else if (!strcmp(what, "in-on-exit")) in_on_exit();
    else if (!strcmp(what, "in-pthread-atfork")) in_pthread_atfork();
}
__attribute__((section(".preinit_array"), used)) static void (*const FIRST)(int, char **, char **) = at_the_very_first;

/* Where the first allocation is to be while the program runs already: see at_the_very_first. */
static int later(const char *what) {
    if (!strcmp(what, "atexit")) in_atexit();
    else if (!strcmp(what, "on-exit")) in_on_exit();
    else if (!strcmp(what, "pthread-atfork")) in_pthread_atfork();
    else return 2;
    CHECK(held && works(1));
    return failures != 0;
}

int main(int count, char **words) {
    alarm(60);
    if (count > 2 && !strcmp(words[1], "later")) return later(words[2]);
    if (count > 1 && !strncmp(words[1], "in-", 3)) return !held || !works(1);
    CHECK(held && answer() == 42);
    /* Of a library that was there before. */
    bool (*theirs)(void) = (bool (*)(void))dlsym(RTLD_DEFAULT, "what_came_before_is_whole");
    if (theirs) CHECK(theirs());
    else CHECK(kept[0].block);
    for (unsigned i = 0; i < WORKS && kept[0].block; i++) {
        CHECK(malloc_usable_size(kept[i].block) >= kept[i].size);
        unsigned char *longer = realloc(kept[i].block, kept[i].size + 10000);
        CHECK(longer);
        kept[i].block = longer;
    }
    for (unsigned i = 0; i < WORKS && kept[i].block; i++) CHECK(give(&kept[i]));
    for (unsigned i = 0; i < 20; i++) CHECK(works(i));
    /* The ordinary blocks of a process that has begun: not each of them a mapping. */
    void *some[64];
    int apart = 0;
    for (int i = 0; i < 64; i++) {
        some[i] = malloc(100);
        apart += i > 0 && (uintptr_t)some[i] / 65536 != (uintptr_t)some[i - 1] / 65536;
    }
    CHECK(apart < 10);
    for (int i = 0; i < 64; i++) free(some[i]);
    return failures != 0;
}
