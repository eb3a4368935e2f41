/* Shows what it was given, or ends in a chosen way: see launcher.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void close_stderr(void) {
    fclose(stderr);
    close(2);
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    free(malloc(100));
    if (!strcmp(what, "exit")) return atoi(arguments[2]);
    if (!strcmp(what, "signal")) {
        kill(getpid(), atoi(arguments[2]));
        pause();
    }
    if (!strcmp(what, "close-stderr")) {
        atexit(close_stderr);
        close_stderr();
        return 0;
    }
    if (!strcmp(what, "fork")) {
        if (fork() == 0) exit(0);
        wait(NULL);
        return 0;
    }
    if (!strcmp(what, "system")) return system("/bin/ls / >/dev/null; /bin/true");
    printf("name: [%s]\n", arguments[0]);
    for (int i = 1; i < count; i++) printf("argument: [%s]\n", arguments[i]);
    printf("length=%zu\n", strlen(what));
    printf("process=%d\n", (int)getpid());
    for (char **entry = environ; *entry; entry++)
        if (!strncmp(*entry, "HOMING_", 7) || !strncmp(*entry, "LD_PRELOAD=", 11)) puts(*entry);
    Dl_info info;
    void *place = dlsym(RTLD_DEFAULT, "malloc");
    if (dladdr(place, &info)) printf("malloc: %s\n", info.dli_fname);
    return 0;
}
