/* pairs ROUNDS bulk|one: allocates and frees 512 blocks of 64 bytes, ROUNDS times. */
#include <stdlib.h>
#include <string.h>

static void *blocks[512];

int main(int count, char **words)
{
    if (count != 3) return 2;
    long rounds = atol(words[1]);
    if (strcmp(words[2], "one") == 0)
        for (long pair = 0; pair < rounds * 512; pair++) {
            void *block = malloc(64);
            __asm__ volatile("" : : "r"(block) : "memory");
            free(block);
        }
    else
        for (long round = 0; round < rounds; round++) {
            for (int i = 0; i < 512; i++) blocks[i] = malloc(64);
            __asm__ volatile("" : : : "memory");
            for (int i = 0; i < 512; i++) free(blocks[i]);
        }
    return 0;
}
