/* A library with thread-local storage that must lie in what the dynamic linker keeps for all threads: see
 * loading.rs. */
__thread char storage[SIZE] __attribute__((tls_model("initial-exec")));

char *address_of_storage(void) {
    return storage;
}
