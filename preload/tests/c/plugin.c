/* A library that a program loads, and that allocates: with whichever allocator it is bound to, or, with OWN_C_NAMES,
 * with one of its own that nobody else sees. See loading.rs. */
#define _GNU_SOURCE
#ifdef OWN_C_NAMES
#define OWN_VISIBILITY __attribute__((visibility("hidden")))
#include "own_allocator.h"
#endif

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

void *plugin_make(size_t size) {
    return malloc(size);
}

void *plugin_resize(void *block, size_t size) {
    return realloc(block, size);
}

void plugin_free(void *block) {
    free(block);
}

/* Made by the C library. */
char *plugin_copy(const char *text) {
    return strdup(text);
}

/* What this library knows by the name. */
void *plugin_malloc(void) {
    return (void *)malloc;
}
