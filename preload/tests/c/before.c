/* A library whose constructor comes before the allocator's (linked with `-z initfirst`): see beginnings.rs. With RESOLVER
 * defined, it comes from the resolver of an indirect function instead. */
#define _GNU_SOURCE
#include "work.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static bool held;
#include "early.h"

#ifndef RESOLVER
static void *in_a_thread(void *unused) {
    held = held && works(2);
    return unused;
}

__attribute__((constructor)) static void begin(void) {
    work_and_keep();
    pthread_t thread;
    held = held && pthread_create(&thread, NULL, in_a_thread, NULL) == 0 && pthread_join(thread, NULL) == 0;
    pid_t child = fork();
    if (child == 0) _exit(!works(3));
    int status = -1;
    held = held && waitpid(child, &status, 0) == child && status == 0;
}
#endif

bool what_came_before_is_whole(void) {
    for (unsigned i = 0; i < WORKS; i++) held = held && give(&kept[i]);
    return held && answer() == 42;
}
