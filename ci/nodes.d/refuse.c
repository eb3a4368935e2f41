/* Runs a program to which the kernel refuses the system calls that have to do with nodes, as containers do.
 *
 *   refuse EPERM|ENOSYS [getcpu] PROGRAM ARGUMENT...
 *
 * Refused are mbind, set_mempolicy, get_mempolicy and move_pages, and getcpu if named (what the vDSO and rseq tell stays).
 * The program cannot ask the kernel where its memory lies, then: this one stays, is not refused anything, and answers for
 * the kernel what comes through the socket named by JUDGE (kernel.h). */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "kernel.h"

#define REFUSE(number, error)                                                                                              \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)(error))

static void refuse(int error, bool getcpu_too)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        REFUSE(SYS_mbind, error),
        REFUSE(SYS_set_mempolicy, error),
        REFUSE(SYS_get_mempolicy, error),
        REFUSE(SYS_move_pages, error),
        REFUSE(getcpu_too ? SYS_getcpu : SYS_mbind, error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) fail("seccomp");
    /* It must really be in force: the programs are judged by it. */
    if (!syscall(SYS_mbind, NULL, 0, 0, NULL, 0, 0) || errno != error) fail("the filter does nothing");
}

int main(int words, char **arguments)
{
    int sockets[2], status;
    if (words < 3) return 2;
    int error = strcmp(arguments[1], "ENOSYS") ? EPERM : ENOSYS;
    bool getcpu_too = !strcmp(arguments[2], "getcpu");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets)) fail("socketpair");
    pid_t child = fork();
    if (child == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", sockets[1]);
        setenv("JUDGE", number, 1);
        close(sockets[0]);
        refuse(error, getcpu_too);
        execvp(arguments[2 + getcpu_too], arguments + 2 + getcpu_too);
        fail(arguments[2 + getcpu_too]);
    }
    close(sockets[1]);
    struct question question;
    while (recv(sockets[0], &question, sizeof question, 0) == sizeof question) {
        int where[QUESTION];
        if (syscall(SYS_move_pages, child, question.count, question.pages, NULL, where, 0)) fail("move_pages");
        if (send(sockets[0], where, question.count * sizeof *where, 0) < 0) fail("send");
    }
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
