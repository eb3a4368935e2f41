/* A process that forbids itself all but memory calls once it has begun, as sandboxes do: the kernel ends it at any other.
 * See confinements.rs. Its first allocation comes after that, or before, as the argument says. */
#define _GNU_SOURCE
#include "check.h"
#include "work.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Memory, and waiting for each other; then what the program itself ends with. */
static unsigned allowed[] = {
    SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_mbind, SYS_get_mempolicy, SYS_move_pages, SYS_futex,
    SYS_sched_yield, SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigprocmask, SYS_set_robust_list,
    /* The debug mode's: asked once a thread; and which pages of a large freed block are worth a look. */
    SYS_gettid, SYS_mincore,
};
enum { CALLS = sizeof allowed / sizeof *allowed, OF_DEBUG = 2, THREADS = 3 };

static void confine(void) {
    static struct sock_filter filter[CALLS + 3];
    unsigned char calls = getenv("HOMING_DEBUG") ? CALLS : CALLS - OF_DEBUG;
    unsigned short length = 0;
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned char i = 0; i < calls; i++)
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (unsigned char)(calls - i), 0);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {length, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program)) {
        perror("seccomp");
        _exit(125);
    }
}

static pthread_barrier_t barrier;
static struct piece passed[THREADS][200];

/* Blocks of all sizes, that grow and shrink, and that others free. */
static void work_confined(size_t mine) {
    for (unsigned round = 0; round < 10; round++) CHECK(works(round));
    char *large = malloc(100);
    for (size_t size = 1000; size < 100 * MIB; size *= 2) CHECK((large = realloc(large, size)));
    CHECK((large = realloc(large, 3 * MIB)));
    free(large);
    void *far = NULL;
    CHECK(posix_memalign(&far, 64 * MIB, 5 * MIB) == 0);
    free(far);
    for (unsigned i = 0; i < 200; i++) CHECK(take(&passed[mine][i], i * 379 % 60000, i));
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < 200; i++) CHECK(give(&passed[(mine + 1) % THREADS][i]));
    CHECK(mallinfo2().arena > 0);
    malloc_trim(0);
}

static void *thread(void *number) {
    /* Begun before, as the pools of threads are; and then when the process is confined. */
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    work_confined((size_t)number);
    return NULL;
}

int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "used-before")) CHECK(works(1));
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_t threads[THREADS];
    /* The C library allocates for them. */
    size_t begun = count > 1 && !strcmp(words[1], "alone") ? 0 : THREADS - 1;
    for (size_t i = 0; i < begun; i++) CHECK(pthread_create(&threads[i], NULL, thread, (void *)(i + 1)) == 0);
    if (begun > 0) pthread_barrier_wait(&barrier);
    confine();
    if (begun == 0) {
        char *large = malloc(3 * MIB);
        CHECK(large);
        free(large);
        for (unsigned round = 0; round < 10; round++) CHECK(works(round));
        _exit(failures != 0);
    }
    pthread_barrier_wait(&barrier);
    work_confined(0);
    for (size_t i = 0; i < begun; i++) pthread_join(threads[i], NULL);
    _exit(failures != 0);
}
