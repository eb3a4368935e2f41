/* Comes to the allocator before anything else of the process has: see beginnings.rs. With RESOLVER defined, from the
 * resolver of an indirect function, before the loader is done. */
#define _GNU_SOURCE
#include "check.h"
#include "work.h"

#include <dlfcn.h>
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
}
__attribute__((section(".preinit_array"), used)) static void (*const FIRST)(int, char **, char **) = at_the_very_first;

int main(void) {
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
