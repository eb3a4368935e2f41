/* What a core dump holds of a process: see dumps.rs. `idle`: one block; `freed`: much was in use, and is free; `live`: a block
 * that the dump must have. Then `wait` for who dumps it, or abort. */
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *blocks[200];

int main(int count, char **words) {
    const char *what = count > 2 ? words[1] : "";
    if (!strcmp(what, "freed")) {
        for (int i = 0; i < 200; i++) {
            CHECK((blocks[i] = malloc(4 << 20)));
            memset(blocks[i], 'f', 4 << 20);
        }
        for (int i = 0; i < 200; i++) free(blocks[i]);
    }
    char *kept = malloc(100);
    CHECK(kept);
    snprintf(kept, 100, "kept until %s", "the dump");
    alarm(60);
    if (!strcmp(words[2], "abort")) abort();
    CHECK(write(1, "r", 1) == 1);
    pause();
    return kept == NULL;
}
