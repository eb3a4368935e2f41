/* Runs one command under a time limit and reports what it took.
 *
 *   measure REPORT SECONDS PRELOAD COMMAND [ARGUMENT ...]
 *
 * PRELOAD is the library to preload, or "-" for none. One line is appended to REPORT:
 *   STATUS PEAK_KIB MAPPED COMMAND
 * STATUS as a shell gives it (128 + signal; 124 when the time ran out), PEAK_KIB the most memory that any one process
 * of the command held, MAPPED "yes" once the library was seen in the command's own /proc/PID/maps, else "no".
 * The command's status is also the status of this program.
 *
 * In C because a process starts with the peak memory of the one it was forked from: behind a shell or an interpreter
 * small programs would all seem to need ten megabytes. And apart from timeout(1), because some programs put their
 * children in sessions of their own (CPython's test workers): whatever the command leaves behind becomes a child of
 * this process, and is ended by it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GRACE_SECONDS = 5 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int shell_status(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int has_mapped(pid_t pid, const char *library) {
    char path[64], line[4600];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    int found = 0;
    while (maps && !found && fgets(line, sizeof line, maps))
        found = strstr(line, library) != NULL;
    if (maps)
        fclose(maps);
    return found;
}

/* Signals every living child of this process, and says how many there are. */
static int signal_children(int signal) {
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    int count = 0;
    while (proc && (entry = readdir(proc))) {
        int pid = atoi(entry->d_name), parent = 0;
        char path[64], text[512], state = 'Z';
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *stat = pid > 0 ? fopen(path, "re") : NULL;
        if (!stat)
            continue;
        /* The name of the command, in brackets, may hold anything: what follows its last bracket counts. */
        if (fgets(text, sizeof text, stat) && strrchr(text, ')'))
            sscanf(strrchr(text, ')') + 1, " %c %d", &state, &parent);
        fclose(stat);
        if (parent == (int)getpid() && state != 'Z') {
            kill(pid, signal);
            count++;
        }
    }
    if (proc)
        closedir(proc);
    return count;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: measure REPORT SECONDS PRELOAD COMMAND [ARGUMENT ...]\n");
        return 2;
    }
    const char *library = strcmp(argv[3], "-") ? argv[3] : NULL;
    double start = now(), limit = atof(argv[2]);

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    /* Blocked, so that they can be waited for together with the passing of time. */
    sigset_t awaited, before;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGINT);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGHUP);
    sigprocmask(SIG_BLOCK, &awaited, &before);

    pid_t child = fork();
    if (child == 0) {
        /* A shell starts background commands with interrupts ignored; the command is to have the usual handling. */
        signal(SIGINT, SIG_DFL);
        signal(SIGQUIT, SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (library)
            setenv("LD_PRELOAD", library, 1);
        execvp(argv[4], argv + 4);
        fprintf(stderr, "%s: %s\n", argv[4], strerror(errno));
        _exit(127);
    }
    if (child < 0) {
        perror("fork");
        return 2;
    }

    int result = -1, mapped = 0, ending = 0;
    double deadline = start + limit;
    for (;;) {
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            /* The time that ran out, or the signal that came, is what the command ended of. */
            if (pid == child && result < 0)
                result = shell_status(status);
            if (pid == child)
                child = 0;
        }
        if (pid < 0 && errno == ECHILD)
            break;
        if (child == 0 && !ending) {
            ending = 1;
            deadline = now() + GRACE_SECONDS;
        }
        if (!ending && now() >= deadline) {
            result = 124;
            ending = 1;
            deadline = now() + GRACE_SECONDS;
        }
        /* Children of children come to this process only as their own parents end: hence again and again. */
        if (ending)
            signal_children(now() < deadline ? SIGTERM : SIGKILL);
        if (library && !mapped && child > 0)
            mapped = has_mapped(child, library);

        /* Short naps until the library was seen (quick commands end soon), longer ones after that. */
        struct timespec nap = {0, 100 * 1000 * 1000};
        if (library && !mapped)
            nap.tv_nsec = now() - start < 0.2 ? 200 * 1000 : 10 * 1000 * 1000;
        int got = sigtimedwait(&awaited, NULL, &nap);
        if (got > 0 && got != SIGCHLD && !ending) {
            result = 128 + got;
            ending = 1;
            deadline = now() + GRACE_SECONDS;
        }
    }

    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    FILE *report = fopen(argv[1], "ae");
    if (!report) {
        perror(argv[1]);
        return 2;
    }
    fprintf(report, "%d %ld %s %s\n", result, usage.ru_maxrss, mapped ? "yes" : "no", argv[4]);
    fclose(report);
    return result;
}
