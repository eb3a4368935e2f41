/* What a preloaded allocator owes to C programs that ask about their heap (mallinfo(3), malloc_trim(3), malloc_info(3),
 * mallopt(3)), and to the C library's own callers: see contract.rs. */
#include "contract.h"

#include <stdbool.h>
#include <sys/mman.h>

/* ---- Memory that goes back ------------------------------------------------------------------------------------- */

static void *many[2000];

/* Takes so many blocks, writes to all of each, and frees them all. */
static bool take_and_free(size_t count, size_t size) {
    for (size_t i = 0; i < count; i++) {
        if (!(many[i] = malloc(size))) return false;
        memset(many[i], 1, size);
    }
    for (size_t i = 0; i < count; i++) free(many[i]);
    return true;
}

/* Trims until nothing goes back any more; false where that takes for ever. */
static bool trimmed(void) {
    for (int i = 0; i < 10; i++)
        if (malloc_trim(0) == 0) return true;
    return false;
}

CHECKED("malloc_trim", "1 when memory went back, and then there is no more of it") {
    static const size_t EACH[] = {1000, 20000, 100000};
    for (size_t kind = 0; kind < LENGTH(EACH); kind++) {
        HOLDS(take_and_free(LENGTH(many), EACH[kind]));
        /* By its own figure: the kernel's is known to some hundred pages only. */
        size_t before = mallinfo2().keepcost;
        KEEPS_ERRNO(HOLDS(malloc_trim(0) == 1));
        HOLDS(mallinfo2().keepcost <= before);
    }
}

CHECKED("malloc_trim", "0 when nothing is left to give back") {
    HOLDS(take_and_free(LENGTH(many), 20000));
    HOLDS(trimmed());
    for (int i = 0; i < 3; i++) KEEPS_ERRNO(HOLDS(malloc_trim(0) == 0));
}

CHECKED("malloc_trim", "what is in use stays as it is") {
    for (size_t i = 0; i < LENGTH(many); i++) {
        HOLDS(many[i] = malloc(i * 37));
        memset(many[i], (int)(i % 255), i * 37);
    }
    for (size_t i = 0; i < LENGTH(many); i += 2) free(many[i]);
    malloc_trim(0);
    for (size_t i = 1; i < LENGTH(many); i += 2) {
        HOLDS(all(many[i], i * 37, (int)(i % 255)));
        free(many[i]);
    }
}

CHECKED("malloc_trim", "whatever the pad") {
    static const size_t PADS[] = {1, 4096, PTRDIFF_MAX, SIZE_MAX};
    for (size_t i = 0; i < LENGTH(PADS); i++) {
        HOLDS(take_and_free(100, 20000));
        int went;
        KEEPS_ERRNO(went = malloc_trim(PADS[i]));
        HOLDS(went == 0 || went == 1);
    }
}

/* ---- Figures ---------------------------------------------------------------------------------------------------- */

/* Bytes that are handed out, whichever way: glibc counts its mappings apart. */
static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Whether a figure has changed by what it should, give or take what blocks are rounded up by and what is kept. */
static bool about(size_t changed, size_t wanted, size_t slack) {
    return changed + slack >= wanted && changed <= wanted + slack;
}

CHECKED("mallinfo2", "bytes in use grow and shrink by what is taken and freed") {
    static const size_t EACH[] = {1000, 30000, 100000, MIB, 3 * MIB};
    for (size_t kind = 0; kind < LENGTH(EACH); kind++) {
        size_t count = 40 * MIB / EACH[kind];
        static void *blocks[50000];
        HOLDS(trimmed());
        size_t before = in_use();
        size_t taken = 0;
        for (size_t i = 0; i < count; i++) {
            HOLDS(blocks[i] = malloc(EACH[kind]));
            taken += malloc_usable_size(blocks[i]);
        }
        size_t with = in_use();
        HOLDS(about(with - before, taken, MIB));
        for (size_t i = 0; i < count; i++) free(blocks[i]);
        HOLDS(trimmed());
        HOLDS(about(with - in_use(), taken, MIB));
    }
}

CHECKED("mallinfo2", "one mapping counts whole") {
    size_t before = in_use();
    void *block;
    HOLDS(block = malloc(100 * MIB));
    HOLDS(about(in_use() - before, 100 * MIB, 128 * KIB));
    free(block);
    HOLDS(in_use() == before);
}

CHECKED("mallinfo2", "what is free, used and obtained adds up") {
    HOLDS(take_and_free(LENGTH(many), 20000));
    struct mallinfo2 info;
    KEEPS_ERRNO(info = mallinfo2());
    HOLDS(info.arena == info.uordblks + info.fordblks && info.keepcost <= info.fordblks);
}

CHECKED("mallinfo2", "free bytes fall to nearly nothing when they go back") {
    HOLDS(take_and_free(LENGTH(many), 20000));
    HOLDS(trimmed());
    HOLDS(mallinfo2().keepcost < 256 * KIB);
}

CHECKED("mallinfo", "the same figures as mallinfo2, as ints") {
    void *block;
    HOLDS(block = malloc(MIB));
    struct mallinfo2 full = mallinfo2();
    struct mallinfo info;
    /* By its name: the header warns of it. */
    struct mallinfo (*in_ints)(void) = (struct mallinfo (*)(void))named("mallinfo");
    KEEPS_ERRNO(info = in_ints());
    HOLDS(info.arena == (int)full.arena && info.ordblks == (int)full.ordblks && info.smblks == (int)full.smblks);
    HOLDS(info.hblks == (int)full.hblks && info.hblkhd == (int)full.hblkhd && info.usmblks == (int)full.usmblks);
    HOLDS(info.fsmblks == (int)full.fsmblks && info.uordblks == (int)full.uordblks);
    HOLDS(info.fordblks == (int)full.fordblks && info.keepcost == (int)full.keepcost && info.uordblks > 0);
    free(block);
}

/* What the call writes to that descriptor. */
static size_t written_to(int descriptor, char *text, size_t most, void (*call)(void)) {
    int file = memfd_create("written", 0), kept = dup(descriptor);
    dup2(file, descriptor);
    call();
    fflush(descriptor == 1 ? stdout : stderr);
    dup2(kept, descriptor);
    close(kept);
    ssize_t got = pread(file, text, most - 1, 0);
    close(file);
    text[got > 0 ? got : 0] = 0;
    return got > 0 ? (size_t)got : 0;
}

CHECKED("malloc_stats", "lines on standard error, with the bytes in use") {
    static char text[8192], out[100];
    KEEPS_ERRNO(written_to(2, text, sizeof text, malloc_stats));
    char *line = strstr(text, "in use bytes");
    HOLDS(line && strchr(line, '=') && strtoul(strchr(line, '=') + 1, NULL, 10) > 0);
    HOLDS(text[strlen(text) - 1] == '\n');
    fflush(stdout);
    int to_null = open("/dev/null", O_WRONLY), kept = dup(2);
    dup2(to_null, 2);
    size_t on_out = written_to(1, out, sizeof out, malloc_stats);
    dup2(kept, 2);
    close(kept);
    close(to_null);
    HOLDS(on_out == 0);
}

/* Whether a text is one element of XML: every element that begins ends, in order, every attribute is quoted, and
 * nothing but blanks stands outside. */
static bool is_well_formed(const char *text) {
    char open[32][64];
    int depth = 0, elements = 0;
    for (const char *at = text; *at;) {
        if (*at != '<') {
            if (depth == 0 && !strchr(" \n", *at)) return false;
            if (*at == '&' || *at == '>') return false;
            at++;
            continue;
        }
        bool closes = at[1] == '/';
        at += 1 + closes;
        size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz_-");
        if (length == 0 || length >= sizeof open[0]) return false;
        if (closes) {
            if (depth == 0 || strlen(open[depth - 1]) != length || strncmp(open[--depth], at, length)) return false;
            at += length;
            if (*at++ != '>') return false;
            continue;
        }
        if (depth == 0 && elements) return false;
        if (depth == 32) return false;
        elements++;
        sprintf(open[depth++], "%.*s", (int)length, at);
        at += length;
        while (*at == ' ') {
            at += strspn(at, " ");
            length = strspn(at, "abcdefghijklmnopqrstuvwxyz_-");
            if (length == 0 || at[length] != '=' || at[length + 1] != '"') return false;
            at += length + 2;
            at += strcspn(at, "\"<&");
            if (*at++ != '"') return false;
        }
        if (*at == '/') {
            depth--;
            at++;
        }
        if (*at++ != '>') return false;
    }
    return depth == 0 && elements > 1;
}

/* What `malloc_info` writes; to be freed. */
static char *info_text(void) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    int answer = malloc_info(0, stream);
    fclose(stream);
    if (answer == 0) return text;
    free(text);
    return NULL;
}

CHECKED("malloc_info", "XML that is well-formed, the element malloc around all") {
    HOLDS(!is_well_formed("<a><b></a></b>") && !is_well_formed("<a><b>") && !is_well_formed("<a b=c></a>"));
    HOLDS(!is_well_formed("<a><b/></a>more") && is_well_formed("<a><b c=\"d\"/>\n</a>\n"));
    char *text = info_text();
    HOLDS(text && is_well_formed(text) && !strncmp(text, "<malloc version=\"", 17));
    free(text);
}

/* The size that the last of these elements in the text has. */
static size_t size_of_last(const char *text, const char *element) {
    const char *last = NULL;
    for (const char *at = text; (at = strstr(at, element)); at++) last = at;
    const char *size = last ? strstr(last, "size=\"") : NULL;
    return size ? strtoul(size + 6, NULL, 10) : 0;
}

CHECKED("malloc_info", "the system's bytes follow what is taken") {
    char *text = info_text();
    HOLDS(text);
    size_t before = size_of_last(text, "<system type=\"current\"");
    free(text);
    static void *blocks[400];
    for (int i = 0; i < 400; i++) HOLDS(blocks[i] = malloc(100000));
    HOLDS(text = info_text());
    HOLDS(size_of_last(text, "<system type=\"current\"") >= before + 30 * MIB);
    free(text);
    for (int i = 0; i < 400; i++) free(blocks[i]);
}

CHECKED("malloc_info", "options other than 0 write nothing and are -1 and EINVAL") {
    static const int OPTIONS[] = {1, 2, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < LENGTH(OPTIONS); i++) {
        char *text = NULL;
        size_t length = 0;
        FILE *stream = open_memstream(&text, &length);
        errno = UNTOUCHED;
        int answer = malloc_info(OPTIONS[i], stream), error = errno;
        fclose(stream);
        free(text);
        HOLDS(answer == -1 && error == EINVAL && length == 0);
    }
}

CHECKED("mallopt", "1 for what is not known") {
    static const int UNKNOWN[] = {12345, -12345, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < LENGTH(UNKNOWN); i++) KEEPS_ERRNO(HOLDS(mallopt(UNKNOWN[i], 1) == 1));
}

CHECKED("mallopt", "1 for what changes nothing that a program relies on") {
    static const int KNOWN[] = {M_TOP_PAD, M_MMAP_MAX, M_CHECK_ACTION, M_PERTURB, M_ARENA_TEST, M_ARENA_MAX};
    for (size_t i = 0; i < LENGTH(KNOWN); i++) KEEPS_ERRNO(HOLDS(mallopt(KNOWN[i], 1 << 20) == 1));
    KEEPS_ERRNO(HOLDS(mallopt(M_MXFAST, 160) == 1 && mallopt(M_MXFAST, 0) == 1));
}

CHECKED("mallopt", "0 for what is out of range") {
    KEEPS_ERRNO(HOLDS(mallopt(M_MXFAST, 161) == 0 && mallopt(M_MXFAST, -1) == 0));
}

/* Pages of a range that are in memory; those of what is not mapped are not. */
static size_t pages_of(void *start, size_t bytes) {
    static unsigned char pages[4096];
    size_t page = 4096, count = bytes / page;
    if (count > sizeof pages || mincore((void *)((uintptr_t)start & -page), bytes, pages)) return 0;
    size_t there = 0;
    for (size_t i = 0; i < count; i++) there += pages[i] & 1;
    return there;
}

CHECKED("mallopt", "M_MMAP_THRESHOLD: a freed block of so many bytes goes back at once") {
    KEEPS_ERRNO(HOLDS(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1));
    static const size_t EACH[] = {MIB + 5000, MIB + MIB / 2, 3 * MIB, 10 * MIB};
    for (size_t kind = 0; kind < LENGTH(EACH); kind++) {
        char *block = malloc(EACH[kind]);
        HOLDS(block);
        memset(block, 1, EACH[kind]);
        HOLDS(pages_of(block, EACH[kind]) > EACH[kind] / 4096 - 2);
        free(block);
        HOLDS(pages_of(block, EACH[kind]) == 0);
    }
}

CHECKED("mallopt", "M_TRIM_THRESHOLD: no more than that waits, and with -1 all of it") {
    KEEPS_ERRNO(HOLDS(mallopt(M_TRIM_THRESHOLD, -1) == 1));
    HOLDS(take_and_free(LENGTH(many), 20000));
    HOLDS(mallinfo2().keepcost > 30 * MIB);
    static const size_t BOUNDS[] = {8 * MIB, MIB, 0};
    for (size_t i = 0; i < LENGTH(BOUNDS); i++) {
        KEEPS_ERRNO(HOLDS(mallopt(M_TRIM_THRESHOLD, BOUNDS[i]) == 1));
        HOLDS(take_and_free(LENGTH(many), 20000));
        HOLDS(mallinfo2().keepcost <= BOUNDS[i] + 256 * KIB);
    }
}

/* ---- The C library's own callers ------------------------------------------------------------------------------- */

CHECKED("strdup", "its block is one of ours") {
    char *copy = strdup("a copy");
    HOLDS(copy && !strcmp(copy, "a copy") && malloc_usable_size(copy) >= 7);
    HOLDS(copy = realloc(copy, 100000));
    HOLDS(!strcmp(copy, "a copy"));
    KEEPS_ERRNO(free(copy));
}

CHECKED("strndup", "its block is one of ours") {
    char *copy = strndup("a copy", 3);
    HOLDS(copy && !strcmp(copy, "a c") && malloc_usable_size(copy) >= 4);
    HOLDS(copy = realloc(copy, 100000));
    HOLDS(!strcmp(copy, "a c"));
    KEEPS_ERRNO(free(copy));
}

CHECKED("reallocarray", "its block is one of ours, and a product that overflows leaves the old one") {
    int *array;
    KEEPS_ERRNO(array = reallocarray(NULL, 10, sizeof *array));
    HOLDS(array && malloc_usable_size(array) >= 10 * sizeof *array);
    memset(array, 9, 10 * sizeof *array);
    errno = UNTOUCHED;
    HOLDS(reallocarray(array, too_much, sizeof *array) == NULL && errno == ENOMEM);
    HOLDS(all(array, 10 * sizeof *array, 9));
    KEEPS_ERRNO(array = reallocarray(array, 100000, sizeof *array));
    HOLDS(array && all(array, 10 * sizeof *array, 9));
    KEEPS_ERRNO(free(array));
}

CHECKED("open_memstream", "its block is one of ours") {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    HOLDS(stream);
    for (int i = 0; i < 10000; i++) fputs("0123456789", stream);
    HOLDS(fclose(stream) == 0 && length == 100000 && malloc_usable_size(text) > length);
    HOLDS(text = realloc(text, 10));
    HOLDS(!memcmp(text, "0123456789", 10));
    KEEPS_ERRNO(free(text));
}
