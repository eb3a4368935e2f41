/* What homing.h promises, called as a C or a C++ program does. One argument names the check. */
#ifdef __cplusplus
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#else
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#endif
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"
#include "homing.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static homing_bump *arena_of(size_t size, int overflow, bool zero)
{
    homing_bump_config config = homing_bump_config_default();
    homing_bump *bump = NULL;
    config.pool_size = size;
    config.overflow = overflow;
    config.zero_on_reset = zero;
    CHECK(homing_bump_create(&config, &bump) == HOMING_STATUS_OK);
    CHECK(bump != NULL);
    return bump;
}

static bool is_zero(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

static void nodes(void)
{
    int home = homing_home_node();
    uint16_t node = (uint16_t)(home < 0 ? 0 : home);
    static const size_t sizes[] = {0, 1, 24, 4096, 100000, 3 << 20};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        for (size_t align = 1; align <= 64 << 20; align *= 8) {
            void *block = NULL;
            CHECK(homing_alloc_on_node(sizes[i], align, node, &block) == HOMING_STATUS_OK);
            CHECK(block != NULL && (uintptr_t)block % align == 0);
            memset(block, 1, sizes[i]);
            CHECK(homing_node_of(block) == node);
            if (i % 2)
                free(block);
            else
                CHECK(homing_free_on_node(block, sizes[i], align, node) == HOMING_STATUS_OK);
        }
    }
    void *block = &block;
    CHECK(homing_alloc_on_node(100, 3, node, &block) == HOMING_STATUS_BAD_LAYOUT && block == NULL);
    CHECK(homing_alloc_on_node(SIZE_MAX, 8, node, &block) == HOMING_STATUS_BAD_LAYOUT && block == NULL);
    CHECK(homing_alloc_on_node(PTRDIFF_MAX / 2, 8, node, &block) == HOMING_STATUS_NO_MEMORY && block == NULL);
    CHECK(homing_alloc_on_node(100, 8, 1023, &block) == HOMING_STATUS_NO_SUCH_NODE && block == NULL);
    CHECK(homing_alloc_on_node(100, 8, 65535, &block) == HOMING_STATUS_NO_SUCH_NODE && block == NULL);
    CHECK(homing_alloc_on_node(100, 8, node, NULL) == HOMING_STATUS_NULL);
    CHECK(homing_alloc_on_node(100, 8, node, &block) == HOMING_STATUS_OK);
    CHECK(homing_free_on_node(block, 100, 8, node + 1) == HOMING_STATUS_WRONG_NODE);
    CHECK(homing_free_on_node(block, 100, 8, node) == HOMING_STATUS_OK);
    CHECK(homing_free_on_node(NULL, 100, 8, node) == HOMING_STATUS_OK);
    CHECK(homing_node_of(NULL) == -1);
}

static void misuse(void)
{
    char *block = (char *)malloc(100);
    memset(block, 1, 100);
    CHECK(homing_try_free(block + 1) == HOMING_STATUS_INTERIOR);
    CHECK(homing_try_free(block) == HOMING_STATUS_OK);
    CHECK(homing_try_free(block) == HOMING_STATUS_DOUBLE_FREE);
    CHECK(homing_try_free(&block) == HOMING_STATUS_FOREIGN);
    CHECK(homing_try_free(NULL) == HOMING_STATUS_OK);
}

static void texts(void)
{
    for (int status = -1; status < 100; status++)
        CHECK(strlen(homing_status_text((homing_status)status)) > 8);
    CHECK(strcmp(homing_status_text(HOMING_STATUS_NULL), homing_status_text(HOMING_STATUS_OK)) != 0);
    CHECK(strcmp(homing_status_text(HOMING_STATUS_OTHER), homing_status_text((homing_status)12345)) == 0);
}

static void arenas(void)
{
    homing_bump *bump = arena_of(10000, HOMING_BUMP_OVERFLOW_ERROR, true);
    unsigned char *first = (unsigned char *)homing_bump_alloc(bump, 1000, 1);
    CHECK(first != NULL && is_zero(first, 1000));
    memset(first, 7, 1000);
    for (size_t align = 1; align <= 64; align *= 2)
        CHECK((uintptr_t)homing_bump_alloc(bump, 3, align) % align == 0);
    errno = 0;
    CHECK(homing_bump_alloc(bump, 10000, 1) == NULL && errno == ENOMEM);
    CHECK(homing_bump_alloc(bump, SIZE_MAX, 1) == NULL && errno == ENOMEM);
    CHECK(homing_bump_alloc(bump, SIZE_MAX - 4096, (size_t)64 << 20) == NULL);
    errno = 0;
    CHECK(homing_bump_alloc(bump, 8, 0) == NULL && errno == EINVAL);
    CHECK(homing_bump_alloc(bump, 8, 24) == NULL && errno == EINVAL);
    homing_bump_stats stats = homing_bump_read_stats(bump);
    CHECK(stats.used >= 1021 && stats.used < 1200 && stats.capacity == 10000);
    CHECK(stats.overflows >= 3 && stats.resets == 0);
    CHECK(stats.utilisation > 0.1 && stats.utilisation < 0.12);
    homing_bump_reset(bump);
    stats = homing_bump_read_stats(bump);
    CHECK(stats.used == 0 && stats.resets == 1 && stats.high_water_mark >= 1021 && stats.utilisation == 0);
    unsigned char *all = (unsigned char *)homing_bump_alloc(bump, 10000, 1);
    CHECK(all != NULL && is_zero(all, 10000));
    homing_bump_destroy(bump);
    homing_bump_destroy(NULL);

    bump = arena_of(10000, HOMING_BUMP_OVERFLOW_GROW, false);
    first = (unsigned char *)homing_bump_alloc(bump, 5000, 1);
    memset(first, 7, 5000);
    homing_bump_reset(bump);
    CHECK(((unsigned char *)homing_bump_alloc(bump, 5000, 1))[4999] == 7);
    CHECK(homing_bump_alloc(bump, 1 << 20, 4096) != NULL);
    CHECK((uintptr_t)homing_bump_alloc(bump, 1, (size_t)64 << 20) % ((size_t)64 << 20) == 0);
    homing_bump_destroy(bump);

    homing_bump_config config = homing_bump_config_default();
    CHECK(config.limit == 0);
    config.pool_size = 4096;
    config.limit = 10000;
    CHECK(homing_bump_create(&config, &bump) == HOMING_STATUS_OK);
    CHECK(homing_bump_alloc(bump, 4096, 1) != NULL && homing_bump_alloc(bump, 1, 1) != NULL);
    CHECK(homing_bump_read_stats(bump).capacity == 10000);
    CHECK(homing_bump_alloc(bump, 5904, 1) == NULL && errno == ENOMEM);
    CHECK(homing_bump_read_stats(bump).overflows == 2);
    CHECK(homing_bump_alloc(bump, 5903, 1) != NULL && homing_bump_alloc(bump, 1, 1) == NULL);
    homing_bump_reset(bump);
    CHECK(homing_bump_alloc(bump, 10000, 1) != NULL);
    homing_bump_destroy(bump);

    config = homing_bump_config_default();
    CHECK(config.pool_size == 65536 && config.node == -1 && config.zero_on_reset);
    CHECK(config.overflow == HOMING_BUMP_OVERFLOW_GROW);
    CHECK(homing_bump_create(&config, NULL) == HOMING_STATUS_NULL);
    CHECK(homing_bump_create(NULL, &bump) == HOMING_STATUS_OK);
    homing_bump_destroy(bump);
    config.overflow = 17;
    CHECK(homing_bump_create(&config, &bump) == HOMING_STATUS_BAD_CONFIG && bump == NULL);
    config = homing_bump_config_default();
    config.node = -2;
    CHECK(homing_bump_create(&config, &bump) == HOMING_STATUS_BAD_CONFIG && bump == NULL);
    config.node = 1023;
    CHECK(homing_bump_create(&config, &bump) == HOMING_STATUS_NO_SUCH_NODE && bump == NULL);
}

static void checkpoints(void)
{
    homing_bump *bump = arena_of(10000, HOMING_BUMP_OVERFLOW_ERROR, true);
    homing_bump *other = arena_of(10000, HOMING_BUMP_OVERFLOW_ERROR, true);
    homing_checkpoint none;
    memset(&none, 0, sizeof none);
    CHECK(homing_bump_restore(bump, none) == HOMING_STATUS_FOREIGN_CHECKPOINT);
    char *kept = (char *)homing_bump_alloc(bump, 5, 1);
    memcpy(kept, "kept", 5);
    homing_checkpoint outer = homing_bump_checkpoint(bump);
    char *given_up = (char *)homing_bump_alloc(bump, 100, 1);
    homing_checkpoint inner = homing_bump_checkpoint(bump);
    CHECK(homing_bump_restore(other, outer) == HOMING_STATUS_FOREIGN_CHECKPOINT);
    CHECK(homing_bump_restore(bump, inner) == HOMING_STATUS_OK);
    CHECK(homing_bump_restore(bump, outer) == HOMING_STATUS_OK);
    CHECK(homing_bump_restore(bump, inner) == HOMING_STATUS_FUTURE_CHECKPOINT);
    CHECK(homing_bump_alloc(bump, 100, 1) == given_up);
    CHECK(homing_bump_alloc(bump, 100, 1) != NULL);
    CHECK(homing_bump_restore(bump, inner) == HOMING_STATUS_STALE_CHECKPOINT);
    CHECK(homing_bump_restore(bump, outer) == HOMING_STATUS_OK);
    CHECK(strcmp(kept, "kept") == 0);
    homing_bump_reset(bump);
    CHECK(homing_bump_restore(bump, outer) == HOMING_STATUS_STALE_CHECKPOINT);
    homing_bump_destroy(bump);
    homing_bump_destroy(other);
}

static void locals(void)
{
    homing_bump *bump, *again;
    CHECK(homing_bump_local(&bump) == HOMING_STATUS_OK);
    CHECK(homing_bump_local(&again) == HOMING_STATUS_REENTERED && again == NULL);
    char *kept = (char *)homing_bump_alloc(bump, 5, 1);
    memcpy(kept, "kept", 5);
    homing_bump_destroy(bump);
    CHECK(homing_bump_local(&bump) == HOMING_STATUS_OK);
    CHECK(homing_bump_read_stats(bump).used == 5 && strcmp(kept, "kept") == 0);
    homing_bump_destroy(bump);
    homing_thread_cleanup();
    CHECK(homing_bump_local(&bump) == HOMING_STATUS_OK);
    CHECK(homing_bump_read_stats(bump).used == 0);
    /* Given up while in use: the next use begins clean. */
    CHECK(homing_bump_alloc(bump, 100, 1) != NULL);
    homing_thread_cleanup();
    homing_bump_destroy(bump);
    CHECK(homing_bump_local(&bump) == HOMING_STATUS_OK);
    CHECK(homing_bump_read_stats(bump).used == 0);
    homing_bump_destroy(bump);
    CHECK(homing_bump_local(NULL) == HOMING_STATUS_NULL);
}

static void cleanups(void)
{
    size_t before = 0;
    for (int i = 0; i < 10000; i++) {
        homing_bump *bump;
        CHECK(homing_bump_local(&bump) == HOMING_STATUS_OK);
        memset(homing_bump_alloc(bump, 30000, 8), 1, 30000);
        homing_bump_destroy(bump);
        memset(malloc(16), 1, 16);
        homing_thread_cleanup();
        if (i == 100)
            before = mallinfo2().uordblks;
    }
    /* 10,000 blocks of 16 bytes are 157 KiB. */
    CHECK(mallinfo2().uordblks < before + (1 << 20));
}

static homing_bump *shared;
static volatile bool is_done;

static void *watch(void *unused)
{
    size_t most = 0;
    while (!is_done) {
        homing_bump_stats stats = homing_bump_read_stats(shared);
        CHECK(stats.used <= stats.capacity && stats.high_water_mark >= most);
        CHECK(stats.utilisation >= 0 && stats.utilisation <= 1);
        most = stats.high_water_mark;
    }
    (void)unused;
    return NULL;
}

static void watched(void)
{
    shared = arena_of(1 << 16, HOMING_BUMP_OVERFLOW_GROW, false);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, watch, NULL) == 0);
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 100; i++)
            CHECK(homing_bump_alloc(shared, 1000, 8) != NULL);
        homing_bump_reset(shared);
    }
    is_done = true;
    pthread_join(thread, NULL);
    CHECK(homing_bump_read_stats(shared).resets == 2000);
    homing_bump_destroy(shared);
}

static int seen_in_handler = -1;

static void handler(int number)
{
    homing_bump *bump;
    seen_in_handler = homing_bump_local(&bump);
    (void)number;
}

static void handlers(void)
{
    homing_bump *bump;
    CHECK(homing_bump_local(&bump) == HOMING_STATUS_OK);
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    CHECK(seen_in_handler == HOMING_STATUS_REENTERED);
    homing_bump_destroy(bump);
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        void (*check)(void);
    } checks[] = {
        {"nodes", nodes},     {"misuse", misuse},     {"texts", texts},     {"arenas", arenas},     {"checkpoints", checkpoints},
        {"locals", locals},   {"cleanups", cleanups}, {"watched", watched}, {"handlers", handlers},
    };
    for (size_t i = 0; i < LENGTH(checks); i++) {
        if (count == 2 && strcmp(arguments[1], checks[i].name) == 0) {
            checks[i].check();
            return failures ? 1 : 0;
        }
    }
    fprintf(stderr, "no such check\n");
    return 2;
}
