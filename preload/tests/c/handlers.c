/* Handlers of signals that allocate, while the thread is in the middle of the allocator or outside of it: see
 * handlers.rs.
 *
 * In the middle: a filter has the kernel send SIGSYS instead of doing a system call that concerns memory. The handler does
 * what a program might, then the call in the kernel's place. So it runs in the midst of every slow path that comes to the
 * kernel, each time, on every machine. */
#define _GNU_SOURCE
#include "check.h"
#include "work.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- What handlers do ------------------------------------------------------------------------------------------ */

/* Each thread's own, so that nothing is between threads but the allocator. */
enum { KEPT = 16 };
static _Thread_local struct piece kept[KEPT];
static _Thread_local unsigned turn, depth;
static _Thread_local bool broken;
/* Calls that were interrupted, by any thread. */
static int interrupted;

/* Frees what an earlier one took, and takes others: of every size in turn, the largest (mappings) now and then. */
static void in_a_handler(void) {
    unsigned i = turn % KEPT;
    if (kept[i].block && !give(&kept[i])) broken = true;
    unsigned size = turn % 50 == 0 ? WORKS - 1 - turn / 50 % 2 : turn % (WORKS - 2);
    if (!take(&kept[i], WORK_SIZES[size], turn)) broken = true;
    struct piece piece;
    if (!take(&piece, 200 * (turn % 9), turn) || !give(&piece)) broken = true;
    turn++;
}

/* What handlers have kept for each other; none does anything meanwhile. */
static void give_all(void) {
    depth++;
    for (unsigned i = 0; i < KEPT; i++)
        if (kept[i].block && !give(&kept[i])) broken = true;
    depth--;
}

/* ---- In the middle of the allocator ---------------------------------------------------------------------------- */

/* A system call that the filter lets through: `through` is the address that it returns to. */
long let_through(long number, long a, long b, long c, long d, long e, long f);
extern const char through[];
__asm__(".globl let_through, through\n"
        ".hidden let_through, through\n"
        "let_through:\n"
        "    mov %rdi, %rax\n    mov %rsi, %rdi\n    mov %rdx, %rsi\n    mov %rcx, %rdx\n"
        "    mov %r8, %r10\n    mov %r9, %r8\n    mov 8(%rsp), %r9\n"
        "    syscall\n"
        "through:\n"
        "    ret\n");

static void on_call(int signal, siginfo_t *info, void *context) {
    (void)signal;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    int error = errno;
    /* What this does comes here again, and is only done. */
    bool outermost = depth++ == 0;
    if (outermost) {
        __atomic_fetch_add(&interrupted, 1, __ATOMIC_RELAXED);
        in_a_handler();
    }
    registers[REG_RAX] = let_through(info->si_syscall, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                                     registers[REG_R10], registers[REG_R8], registers[REG_R9]);
    if (outermost) in_a_handler();
    depth--;
    errno = error;
}

#define SIGNAL_FOR(number) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (field))

static void have_calls_interrupted(void) {
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSYS, &action, NULL);
    uintptr_t let = (uintptr_t)through;
    struct sock_filter filter[] = {
        LOAD(offsetof(struct seccomp_data, instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)let, 0, 3),
        LOAD(offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(let >> 32), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        LOAD(offsetof(struct seccomp_data, nr)),
        SIGNAL_FOR(SYS_mmap),
        SIGNAL_FOR(SYS_munmap),
        SIGNAL_FOR(SYS_mprotect),
        SIGNAL_FOR(SYS_madvise),
        SIGNAL_FOR(SYS_mremap),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* Small blocks by the slab, so that slabs come from the kernel and go back to it. */
static bool slabs(unsigned round) {
    enum { MANY = 600 };
    struct piece *many = malloc(MANY * sizeof *many);
    size_t size = WORK_SIZES[1 + round % 10];
    for (unsigned i = 0; i < MANY; i++)
        if (!take(&many[i], size, i)) return false;
    for (unsigned i = 0; i < MANY; i++)
        if (!give(&many[i])) return false;
    free(many);
    return true;
}

static void *works_on(void *unused) {
    bool held = true;
    for (unsigned round = 0; round < 10; round++) {
        held = held && works(round) && slabs(round);
        if (round % 10 == 9) malloc_trim(0);
    }
    give_all();
    return held && !broken ? unused : "a block was not served, or not as it must be";
}

static void in_the_middle(void) {
    have_calls_interrupted();
    CHECK(!works_on(NULL));
    int in_one_thread = interrupted;
    /* With an arena that is new, and with what others have left. On stacks of our own: the C library gives those that it
     * makes back to the kernel while it holds up all signals, and there SIGSYS ends the process. */
    enum { STACK = 1 << 20 };
    static char stacks[2][STACK] __attribute__((aligned(4096)));
    for (int i = 0; i < 3; i++) {
        pthread_t threads[2];
        void *answers[2];
        for (int t = 0; t < 2; t++) {
            pthread_attr_t attributes;
            pthread_attr_init(&attributes);
            CHECK(pthread_attr_setstack(&attributes, stacks[t], STACK) == 0);
            CHECK(pthread_create(&threads[t], &attributes, works_on, NULL) == 0);
        }
        for (int t = 0; t < 2; t++) CHECK(pthread_join(threads[t], &answers[t]) == 0 && !answers[t]);
    }
    printf("alone=%d interrupted=%d\n", in_one_thread, interrupted);
}

/* ---- Outside of the allocator ----------------------------------------------------------------------------------- */

static void on_signal(int signal) {
    (void)signal;
    int error = errno;
    in_a_handler();
    errno = error;
}

/* On an alternate stack of 16 KiB, between any two operations of the program. */
static void outside(void) {
    stack_t stack = {.ss_sp = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                     .ss_size = 16384};
    CHECK(sigaltstack(&stack, NULL) == 0);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    static struct piece pieces[1000];
    for (unsigned i = 0; i < 20000; i++) {
        struct piece *piece = &pieces[i * 7 % 1000];
        if (piece->block) CHECK(give(piece));
        raise(SIGUSR1);
        CHECK(take(piece, i % 5000, i));
    }
    give_all();
    CHECK(turn >= 20000 && !broken);
}

/* ---- At any instruction ---------------------------------------------------------------------------------------- */

enum { HANDLERS = 500, PIECES = 512 };
static volatile sig_atomic_t handled;

static void at_any_instruction_handler(int signal) {
    (void)signal;
    in_a_handler();
    handled++;
}

/* Until so many handlers have interrupted it, wherever it was. */
static void at_any_instruction(void) {
    struct sigaction action = {.sa_handler = at_any_instruction_handler, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    static struct piece pieces[PIECES];
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (unsigned round = 0; handled < HANDLERS && !broken; round++) {
        struct piece *piece = &pieces[round * 2654435761u >> 23];
        if (piece->block && !give(piece)) broken = true;
        if (!take(piece, WORK_SIZES[round % 97 == 0 ? round % WORKS : round % (WORKS / 2)], round)) broken = true;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    for (unsigned i = 0; i < PIECES; i++)
        if (pieces[i].block && !give(&pieces[i])) broken = true;
    give_all();
    CHECK(!broken);
}

int main(int count, char **words) {
    /* Who waits for itself, waits no longer than this. */
    alarm(300);
    if (count > 1 && !strcmp(words[1], "in-the-middle")) in_the_middle();
    else if (count > 1 && !strcmp(words[1], "outside")) outside();
    else if (count > 1 && !strcmp(words[1], "anywhere")) at_any_instruction();
    else return 9;
    return failures != 0;
}
