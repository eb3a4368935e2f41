/* A program with an allocator of its own: see loading.rs. */
#define _GNU_SOURCE
#define OWN_C_NAMES
#include "own_allocator.h"

#include "blocks.h"

static int by_length(const void *one, const void *other) {
    return (int)strlen(*(char *const *)one) - (int)strlen(*(char *const *)other);
}

/* What the C library allocates and the program frees, and the other way round. */
static void *use_the_library(void *unused) {
    char *texts[100], *line = NULL;
    size_t length = 0;
    for (int i = 0; i < 100; i++) CHECK(asprintf(&texts[i], "%0*d", 1 + i * 37 % 100, 1) > 0);
    qsort(texts, 100, sizeof *texts, by_length);
    FILE *file = fopen("/proc/self/maps", "r");
    while (getline(&line, &length, file) > 0) {}
    fclose(file);
    free(line);
    for (int i = 0; i < 100; i++) {
        char *copy = strdup(texts[i]);
        CHECK((int)strlen(copy) == i + 1);
        free(copy);
        free(texts[i]);
    }
    work(5, 100);
    return unused;
}

int main(void) {
    long live = own_live;
    use_the_library(NULL);
    for (int i = 0; i < 20; i++) run_in_thread(use_the_library, NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        use_the_library(NULL);
        run_in_thread(use_the_library, NULL);
        _exit(failures ? 1 : 42);
    }
    expect_status(child, 42);
    CHECK(own_served > 20 * 100);
    /* What threads hold once and for all. */
    CHECK(own_live < live + 100);
    /* The preloaded one's figure, where there is one: it was never asked. */
    printf("theirs=%zu\n", mallinfo2().uordblks);
    return failures != 0;
}
