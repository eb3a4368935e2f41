/* Runs a program to which the kernel refuses system calls, as sandboxes do:
 *
 *   sandbox EPERM|ENOSYS CALL[,CALL...] PROGRAM ARGUMENT... */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct { const char *name; unsigned number; } CALLS[] = {
    {"mbind", SYS_mbind},
    {"get_mempolicy", SYS_get_mempolicy},
    {"move_pages", SYS_move_pages},
    /* Not in the headers of Debian 12's gcc at every architecture. */
    {"process_madvise", 440},
    {"getcpu", SYS_getcpu},
    {"rseq", SYS_rseq},
    {"clone", SYS_clone},
    {"clone3", 435},
};
enum { KNOWN = sizeof CALLS / sizeof *CALLS };

static void fail(const char *what) {
    perror(what);
    exit(125);
}

static unsigned number_of(const char *name) {
    for (int i = 0; i < KNOWN; i++)
        if (!strcmp(name, CALLS[i].name)) return CALLS[i].number;
    fprintf(stderr, "sandbox: no call is known as %s\n", name);
    exit(125);
}

int main(int count, char **words) {
    static struct sock_filter filter[2 * KNOWN + 2];
    unsigned short length = 0;
    unsigned refused[KNOWN];
    int refusals = 0;
    if (count < 4) return 125;
    int error = strcmp(words[1], "ENOSYS") ? EPERM : ENOSYS;
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (char *name = strtok(words[2], ","); name && refusals < KNOWN; name = strtok(NULL, ",")) {
        refused[refusals] = number_of(name);
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[refusals++], 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {length, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) fail("seccomp");
    /* They must really be refused. */
    for (int i = 0; i < refusals; i++) {
        errno = 0;
        if (syscall(refused[i], 0, 0, 0, 0, 0, 0) != -1 || errno != error) fail("sandbox: the filter does nothing");
    }
    execv(words[3], words + 3);
    fail(words[3]);
}
