/* A library that opens another by its name alone, which is found by this one's own path. See loading.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

/* 0 where it is found, in each way, and where it is in this library's namespace. */
int plugin_test(void) {
    for (int i = 0; i < 2; i++) {
        int flags = RTLD_NOW | (i ? RTLD_DEEPBIND : 0);
        void *handle = dlopen("libbelow.so", flags), *again = dlmopen(LM_ID_BASE, "libbelow.so", flags);
        if (!handle || again != handle || !dlsym(handle, "plugin_make")) {
            fprintf(stderr, "opener: %s\n", dlerror());
            return 1;
        }
        dlclose(again);
        dlclose(handle);
    }
    return 0;
}
