/* Says what does not hold, and goes on. */
#include <stdio.h>
static int failures;
#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                                  \
        }                                                                                \
    } while (0)
