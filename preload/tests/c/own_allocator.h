/* An allocator of a program's or a library's own, in C and C++, which knows its blocks: whatever else it is handed
 * ends the process with the status 8. */
#ifndef OWN_ALLOCATOR_H
#define OWN_ALLOCATOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* Stands before each block. */
struct own_header {
    size_t size;
    struct own_header *next_free;
};

enum { OWN_LEAST = 5, OWN_KINDS = 24, OWN_POOL = 256 << 20 };
static char own_pool[OWN_POOL] __attribute__((aligned(16)));
static size_t own_used;
static struct own_header *own_free[OWN_KINDS];
static char own_lock;
/* Blocks ever handed out, and those that are out now. */
static volatile long own_served, own_live;

static void own_enter(void) {
    while (__atomic_test_and_set(&own_lock, __ATOMIC_ACQUIRE)) {}
}

static void own_leave(void) {
    __atomic_clear(&own_lock, __ATOMIC_RELEASE);
}

static void own_say_and_end(const char *text) {
    (void)!write(2, text, strlen(text));
    _exit(8);
}

static struct own_header *own_header_of(void *block) {
    int is_own = (char *)block >= own_pool && (char *)block < own_pool + own_used;
    if (!is_own) own_say_and_end("not the own allocator's block\n");
    return (struct own_header *)block - 1;
}

static void *own_malloc(size_t size) {
    int kind = 0;
    while (kind < OWN_KINDS && (size_t)1 << (kind + OWN_LEAST) < size + sizeof(struct own_header)) kind++;
    if (kind == OWN_KINDS) return NULL;
    own_enter();
    struct own_header *header = own_free[kind];
    if (header) {
        own_free[kind] = header->next_free;
    } else if (own_used + ((size_t)1 << (kind + OWN_LEAST)) <= OWN_POOL) {
        header = (struct own_header *)(own_pool + own_used);
        own_used += (size_t)1 << (kind + OWN_LEAST);
    }
    if (header) {
        header->size = size;
        own_served++, own_live++;
    }
    own_leave();
    return header ? header + 1 : NULL;
}

static void own_release(void *block) {
    if (!block) return;
    struct own_header *header = own_header_of(block);
    int kind = 0;
    while ((size_t)1 << (kind + OWN_LEAST) < header->size + sizeof *header) kind++;
    own_enter();
    header->next_free = own_free[kind];
    own_free[kind] = header;
    own_live--;
    own_leave();
}

#ifdef OWN_C_NAMES
#ifndef OWN_VISIBILITY
#define OWN_VISIBILITY
#endif

OWN_VISIBILITY void *malloc(size_t size) {
    return own_malloc(size);
}

OWN_VISIBILITY void free(void *block) {
    own_release(block);
}

OWN_VISIBILITY void *calloc(size_t count, size_t size) {
    void *block = size && count > SIZE_MAX / size ? NULL : own_malloc(count * size);
    return block ? memset(block, 0, count * size) : NULL;
}

OWN_VISIBILITY void *realloc(void *block, size_t size) {
    void *new = own_malloc(size);
    if (!block || !new) return new;
    size_t old = own_header_of(block)->size;
    memcpy(new, block, old < size ? old : size);
    own_release(block);
    return new;
}
#endif

#endif
