/* What memcheck is to find, so that its silence about other programs means something. */
#include <stdlib.h>
#include <string.h>

/* A branch on what was never written: of the stack, where no allocator is in the way. */
static int on_the_stack(void) {
    volatile int unset[2];
    unset[0] = 1;
    return unset[1] == 7 ? 3 : 0;
}

/* A byte written behind a block's end. */
static int behind_a_block(void) {
    volatile char *block = malloc(40);
    if (block == NULL)
        return 1;
    block[40] = 1;
    free((void *)block);
    return 0;
}

int main(int count, char **words) {
    return count == 2 && strcmp(words[1], "stack") == 0 ? on_the_stack() : behind_a_block();
}
