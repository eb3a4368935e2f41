/* Makes processes while threads allocate: see fork.rs. */
#define _GNU_SOURCE
#include "blocks.h"

#include <spawn.h>

enum { THREADS = 4, SHARED = 64, KEPT = 32 };

/* Blocks that lie here are nobody's: whoever takes one out checks it, frees it, and puts in another. */
static struct held *_Atomic shared[SHARED];
static atomic_int stop;

static void *allocates(void *number) {
    unsigned seed = (unsigned)(size_t)number;
    while (!atomic_load(&stop)) {
        int place = (int)(rand_r(&seed) % SHARED);
        give(atomic_exchange(&shared[place], NULL));
        give(atomic_exchange(&shared[place], take(some_size(&seed), seed)));
    }
    return NULL;
}

static pthread_t threads[THREADS];

static void start_threads(void) {
    for (size_t i = 0; i < THREADS; i++) threads[i] = started(allocates, (void *)(i + 1));
}

static void end_threads(void) {
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < SHARED; i++) give(atomic_exchange(&shared[i], NULL));
}

static void *frees_shared(void *part) {
    for (size_t i = (size_t)part; i < SHARED; i += THREADS) {
        give(atomic_exchange(&shared[i], NULL));
        work((unsigned)i, 3);
    }
    return NULL;
}

static struct held *kept[KEPT];

static void keep(unsigned seed) {
    for (int i = 0; i < KEPT; i++) kept[i] = take(some_size(&seed), seed);
}

static void free_kept(void) {
    for (int i = 0; i < KEPT; i++) give(kept[i]);
}

/* A child that hangs is killed, which its parent sees. */
static void live_as_child(int round) {
    alarm(60);
    work((unsigned)round, 30);
    free_kept();
    /* Half of what the other threads had allocated, and then all, by threads of its own. */
    for (int i = 0; i < SHARED; i += 2) give(atomic_exchange(&shared[i], NULL));
    keep((unsigned)round + 7);
    if (round % 4 == 0) {
        pthread_t own[THREADS];
        for (size_t i = 0; i < THREADS; i++) own[i] = started(frees_shared, (void *)i);
        for (int i = 0; i < THREADS; i++) pthread_join(own[i], NULL);
    }
    free_kept();
}

/* The number that a child in which all is well ends with. */
static int status_of(int round) {
    return 10 + round % 200;
}

static void fork_once(int round) {
    pid_t child = fork();
    if (child == 0) {
        live_as_child(round);
        _exit(failures ? 1 : status_of(round));
    }
    expect_status(child, status_of(round));
}

static void fork_while_busy(void) {
    start_threads();
    for (int round = 0; round < 400 && !failures; round++) {
        keep((unsigned)round);
        fork_once(round);
        free_kept();
    }
    end_threads();
}

/* Children that have children while they have threads. */
static void fork_in_children(void) {
    start_threads();
    for (int round = 0; round < 20 && !failures; round++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            start_threads();
            keep(1);
            for (int below = 0; below < 3 && !failures; below++) fork_once(below);
            end_threads();
            free_kept();
            _exit(failures ? 1 : status_of(round));
        }
        expect_status(child, status_of(round));
    }
    end_threads();
}

static void *forks(void *number) {
    for (int round = 0; round < 50 && !failures; round++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            work((unsigned)round, 20);
            run_in_thread(frees_shared, 0);
            _exit(failures ? 1 : status_of(round));
        }
        expect_status(child, status_of(round));
        work((unsigned)(size_t)number, 20);
    }
    return NULL;
}

/* Several threads fork at a time, while others allocate. */
static void fork_in_threads(void) {
    start_threads();
    pthread_t forking[3];
    for (size_t i = 0; i < 3; i++) forking[i] = started(forks, (void *)i);
    for (int i = 0; i < 3; i++) pthread_join(forking[i], NULL);
    end_threads();
}

/* What this program does where it was started by itself. */
static int live_as_spawned(const char *number) {
    work((unsigned)atoi(number), 20);
    return failures ? 1 : atoi(number);
}

static void spawn_while_busy(const char *self) {
    extern char **environ;
    start_threads();
    for (int round = 0; round < 100 && !failures; round++) {
        char number[16];
        snprintf(number, sizeof number, "%d", status_of(round));
        char *arguments[] = {(char *)self, "spawned", number, NULL};
        posix_spawn_file_actions_t actions;
        CHECK(posix_spawn_file_actions_init(&actions) == 0);
        for (int i = 10; i < 60; i++) CHECK(posix_spawn_file_actions_adddup2(&actions, 2, i) == 0);
        pid_t child = -1;
        CHECK(posix_spawn(&child, self, &actions, NULL, arguments, environ) == 0);
        CHECK(posix_spawn_file_actions_destroy(&actions) == 0);
        expect_status(child, status_of(round));
    }
    for (int round = 0; round < 20 && !failures; round++) {
        int status = system("exit 7");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    end_threads();
}

/* The child has its parent's memory: what it allocates is the parent's, although POSIX lets it do no such thing. */
static void vfork_while_busy(const char *self) {
    start_threads();
    for (int round = 0; round < 100 && !failures; round++) {
        char number[16];
        snprintf(number, sizeof number, "%d", status_of(round));
        pid_t child = vfork();
        if (child == 0) {
            execl(self, self, "spawned", number, (char *)NULL);
            _exit(1);
        }
        expect_status(child, status_of(round));
        struct held *volatile made = NULL;
        child = vfork();
        if (child == 0) {
            work((unsigned)round, 20);
            made = take(100000, (unsigned)round);
            _exit(status_of(round));
        }
        expect_status(child, status_of(round));
        CHECK(made);
        give(made);
    }
    end_threads();
}

/* Streams whose locks are held while their buffers grow, and the C library's list of them, which a fork takes. */
enum { LINE = 9000 };
static char lines_file[] = "/tmp/homing-lines-XXXXXX";

static void *flushes(void *nothing) {
    while (!atomic_load(&stop)) fflush(NULL);
    return nothing;
}

static void *reads_lines(void *nothing) {
    FILE *stream = fopen(lines_file, "r");
    CHECK(stream);
    while (stream && !atomic_load(&stop)) {
        char *line = NULL;
        size_t room = 0;
        rewind(stream);
        while (getline(&line, &room, stream) > 0) {}
        free(line);
    }
    if (stream) fclose(stream);
    return nothing;
}

static void fork_beside_streams(void) {
    int file = mkstemp(lines_file);
    CHECK(file >= 0);
    FILE *stream = fdopen(file, "w");
    CHECK(stream);
    for (int i = 0; stream && i < 5; i++) fprintf(stream, "%*d\n", LINE, i);
    fclose(stream);
    pthread_t beside[4];
    for (int i = 0; i < 4; i++) beside[i] = started(i % 2 ? reads_lines : flushes, NULL);
    for (int round = 0; round < 300 && !failures; round++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            work((unsigned)round, 10);
            /* The list of streams is the child's, and nobody is inside. */
            FILE *own = fopen(lines_file, "r");
            CHECK(own && fflush(NULL) == 0);
            _exit(failures ? 1 : status_of(round));
        }
        expect_status(child, status_of(round));
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 4; i++) pthread_join(beside[i], NULL);
    unlink(lines_file);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    /* The whole program does not hang either. */
    alarm(300);
    if (!strcmp(what, "busy")) fork_while_busy();
    else if (!strcmp(what, "children")) fork_in_children();
    else if (!strcmp(what, "threads")) fork_in_threads();
    else if (!strcmp(what, "spawn")) spawn_while_busy(words[0]);
    else if (!strcmp(what, "streams")) fork_beside_streams();
    else if (!strcmp(what, "vfork")) vfork_while_busy(words[0]);
    else if (!strcmp(what, "spawned") && count > 2) return live_as_spawned(words[2]);
    else return 9;
    return failures != 0;
}
