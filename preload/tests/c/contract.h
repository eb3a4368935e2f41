/* Named checks of a contract. Each says of itself whether it holds, and the others go on: see contract.rs.
 *
 * A program that includes this has checks and its `main`:
 *
 *   PROGRAM                  runs every check: a line "holds NAME" or "differs NAME: where and what" for each, or
 *                            "absent NAME" where nobody has the symbol
 *   PROGRAM -list            runs none: a line "absent NAME" for each
 *   PROGRAM -whose SYMBOL... says which object serves those names
 *   PROGRAM TEXT             runs those checks whose names have the text in them; fails if there are none
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define IS_ALIGNED(block, to) ((uintptr_t)(block) % (to) == 0)
/* What `errno` is before each call that must leave it alone. No error has this number. */
#define UNTOUCHED 7777
#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* Kept from the compiler, which refuses such sizes. */
__attribute__((unused)) static volatile size_t too_much = SIZE_MAX - 100;

enum { MOST_CHECKS = 512 };
static struct check {
    const char *subject, *what;
    void (*run)(const void *with);
    const void *with;
} checks[MOST_CHECKS];
static size_t check_count;

/* Where the running check found that something does not hold. */
static int failed_line;
static const char *failed_condition;

__attribute__((unused)) static void add_check(const char *subject, const char *what, void (*run)(const void *),
                                              const void *with) {
    if (check_count == MOST_CHECKS) abort();
    struct check check = {subject, what, run, with};
    checks[check_count++] = check;
}

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

/* A check of that subject; what follows is its body. */
#define CHECKED(subject, what) CHECKED_AS(subject, what, JOINED(check_, __LINE__), JOINED(adds_, __LINE__))
#define CHECKED_AS(subject, what, function, adds)                                              \
    static void function(const void *);                                                        \
    __attribute__((constructor)) static void adds(void) { add_check(subject, what, function, NULL); } \
    static void function(__attribute__((unused)) const void *unused)

/* Ends the check where the condition does not hold. */
#define HOLDS(condition)                 \
    do {                                 \
        if (!(condition)) {              \
            failed_line = __LINE__;      \
            failed_condition = #condition; \
            return;                      \
        }                                \
    } while (0)

/* Does something that must leave `errno` alone. */
#define KEEPS_ERRNO(statement)       \
    do {                             \
        errno = UNTOUCHED;           \
        statement;                   \
        HOLDS(errno == UNTOUCHED);   \
    } while (0)

/* Whether all bytes have the value: the first has, and each is like the one after it. */
__attribute__((unused)) static int all(const void *block, size_t size, int value) {
    const unsigned char *bytes = (const unsigned char *)block;
    return size == 0 || (bytes[0] == (unsigned char)value && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Bytes of the process that are in memory. Allocates nothing. */
__attribute__((unused)) static size_t resident(void) {
    char text[256] = {0};
    int file = open("/proc/self/statm", O_RDONLY);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0) abort();
    close(file);
    return strtoul(strchr(text, ' '), NULL, 10) * (size_t)getpagesize();
}

/* A function by its name, also where no header declares it (any more). Null where nobody has it. */
static void *named(const char *symbol) { return dlsym(RTLD_DEFAULT, symbol); }

/* The symbol that a check is of: its subject, as far as that is a name. */
static void *subject_of(const struct check *check) {
    char symbol[100];
    snprintf(symbol, sizeof symbol, "%.*s", (int)strcspn(check->subject, "("), check->subject);
    return named(symbol);
}

static int say_whose(char **symbols) {
    for (; *symbols; symbols++) {
        Dl_info info;
        void *place = named(*symbols);
        printf("%s %s\n", *symbols, place && dladdr(place, &info) ? info.dli_fname : "nobody");
    }
    return 0;
}

int main(int count, char **words) {
    static char line[512];
    setvbuf(stdout, line, _IOLBF, sizeof line);
    if (count > 1 && !strcmp(words[1], "-whose")) return say_whose(words + 2);
    size_t chosen = 0;
    for (size_t i = 0; i < check_count; i++) {
        const struct check *check = &checks[i];
        char name[256];
        snprintf(name, sizeof name, "%s: %s", check->subject, check->what);
        int only_lists = count > 1 && !strcmp(words[1], "-list");
        if (count > 1 && !only_lists && !strstr(name, words[1])) continue;
        chosen++;
        if (only_lists || !subject_of(check)) {
            printf("absent %s\n", name);
            continue;
        }
        failed_condition = NULL;
        check->run(check->with);
        if (failed_condition) printf("differs %s\t%s:%d: %s\n", name, __BASE_FILE__, failed_line, failed_condition);
        else printf("holds %s\n", name);
    }
    return chosen == 0;
}
