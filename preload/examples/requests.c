/* A server's inner loop in C: each request is split into words that lie in a bump arena, answered, and forgotten at once by a
 * reset; and a block of memory on a node of the machine.
 *
 *     cargo build --release
 *     cc preload/examples/requests.c -I preload/include -L target/release -lhoming_preload -Wl,-rpath,$PWD/target/release
 *     ./a.out
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "homing.h"

struct words {
    const char *first;
    struct words *others;
};

/* A copy of `length` bytes in the arena, with a zero byte behind it. */
static char *copied(homing_bump *arena, const char *text, size_t length)
{
    char *copy = homing_bump_alloc(arena, length + 1, 1);
    if (copy)
        memcpy(copy, text, length); /* The arena's memory is zero, and so is the last byte. */
    return copy;
}

/* The words of a text, the last one first. */
static struct words *split(homing_bump *arena, const char *text)
{
    struct words *words = NULL;
    while (*text) {
        size_t length = strcspn(text, " ");
        struct words *more = homing_bump_alloc(arena, sizeof *more, _Alignof(struct words));
        char *copy = copied(arena, text, length);
        if (!more || !copy)
            return NULL;
        more->first = copy;
        more->others = words;
        words = more;
        text += length + strspn(text + length, " ");
    }
    return words;
}

static int serve(void)
{
    static const char *const requests[] = {"read the first line", "write all of it again", "read"};
    homing_bump *arena;
    homing_bump_config config = homing_bump_config_default();
    config.pool_size = 4096;
    config.overflow = HOMING_BUMP_OVERFLOW_ERROR;
    homing_status status = homing_bump_create(&config, &arena);
    if (status != HOMING_STATUS_OK) {
        fprintf(stderr, "no arena: %s\n", homing_status_text(status));
        return 1;
    }
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        printf("%s:", requests[i]);
        for (struct words *words = split(arena, requests[i]); words; words = words->others)
            printf(" %s", words->first);
        printf(" (%zu bytes)\n", homing_bump_read_stats(arena).used);
        homing_bump_reset(arena);
    }

    /* A request that turns out to be too large is given up to where it began. */
    homing_checkpoint before = homing_bump_checkpoint(arena);
    int pieces = 0;
    while (pieces < 100 && homing_bump_alloc(arena, 1000, 8))
        pieces++;
    printf("full after %d pieces, at %.0f %%; ", pieces,
           homing_bump_read_stats(arena).utilisation * 100);
    status = homing_bump_restore(arena, before);
    printf("restored to %zu bytes: %s\n", homing_bump_read_stats(arena).used, homing_status_text(status));
    homing_bump_reset(arena);
    printf("restored after a reset: %s\n", homing_status_text(homing_bump_restore(arena, before)));

    homing_bump_stats stats = homing_bump_read_stats(arena);
    printf("%d resets, %d requests too many, at most %zu bytes\n", (int)stats.resets, (int)stats.overflows,
           stats.high_water_mark);
    homing_bump_destroy(arena);
    return 0;
}

static int place(void)
{
    int node = homing_home_node();
    void *block;
    homing_status status = homing_alloc_on_node(1 << 20, 64, node < 0 ? 0 : (uint16_t)node, &block);
    if (status != HOMING_STATUS_OK) {
        fprintf(stderr, "no memory on node %d: %s\n", node, homing_status_text(status));
        return 1;
    }
    memset(block, 1, 1 << 20);
    printf("a block on the home node: %s\n", homing_node_of(block) == (node < 0 ? 0 : node) ? "yes" : "no");
    free(block);
    status = homing_alloc_on_node(1 << 20, 64, 1022, &block);
    printf("a block on node 1022: %s\n", homing_status_text(status));
    return 0;
}

int main(void)
{
    int failed = serve() || place();
    homing_thread_cleanup();
    return failed;
}
