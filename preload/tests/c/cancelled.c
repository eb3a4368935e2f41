/* A thread that is to be cancelled calls the allocator: see cancellation.rs. None of its functions is a cancellation point, so
 * the thread goes on behind each of them, and ends where it asks for it. */
#define _GNU_SOURCE
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *what;
static int came_through;

/* A large block in each way that there is. */
static void large(void) {
    void *block = malloc(3 << 20);
    CHECK(block);
    block = realloc(block, 50 << 20);
    CHECK(block);
    free(block);
    block = calloc(5, 1 << 20);
    CHECK(block);
    free(block);
    block = memalign(1 << 20, 4 << 20);
    CHECK(block);
    free(block);
    CHECK(posix_memalign(&block, 64 << 20, 100) == 0);
    free(block);
}

static void small(void) {
    static void *blocks[20000];
    for (int i = 0; i < 20000; i++) CHECK((blocks[i] = malloc(1 + i % 3000)));
    for (int i = 0; i < 20000; i++) blocks[i] = realloc(blocks[i], 1 + i % 5000);
    for (int i = 0; i < 20000; i++) free(blocks[i]);
}

static void figures(void) {
    /* Opening a file is a cancellation point of the program's own. */
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    FILE *stream = tmpfile();
    pthread_setcancelstate(state, NULL);
    CHECK(stream && malloc_info(0, stream) == 0);
    struct mallinfo2 info = mallinfo2();
    CHECK(info.arena >= info.uordblks);
    malloc_stats();
    malloc_trim(0);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void misuse(void) {
    void *block = malloc(100);
    free(block);
    free(block);
}

static void *cancelled(void *nothing) {
    pthread_cancel(pthread_self());
    if (!strcmp(what, "large")) large();
    else if (!strcmp(what, "small")) small();
    else if (!strcmp(what, "misuse")) misuse();
    else if (!strcmp(what, "figures")) figures();
    came_through = 1;
    pthread_testcancel();
    came_through = 2;
    return nothing;
}

int main(int count, char **words) {
    what = count > 1 ? words[1] : "";
    pthread_t thread;
    void *result = NULL;
    CHECK(pthread_create(&thread, NULL, cancelled, NULL) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(came_through == 1 && result == PTHREAD_CANCELED);
    return failures != 0;
}
