/* shell.c - the interactive guest: one login shell with job control on the console */
#include "shell.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot.h"
#include "child.h"

/* /dev/console cannot be a controlling tty; the tty behind it is the last one listed here. */
static int open_console(void)
{
    char names[128] = "", path[160] = "/dev/console", *name;
    FILE *file = fopen("/sys/class/tty/console/active", "re");

    if (file) {
        if (fgets(names, sizeof(names), file))
            names[strcspn(names, "\n")] = 0;
        fclose(file);
    }
    name = strrchr(names, ' ');
    name = name ? name + 1 : names;
    if (strcmp(name, "tty0") == 0)
        name = "tty1";
    if (*name)
        snprintf(path, sizeof(path), "/dev/%s", name);
    return open(path, O_RDWR | O_NOCTTY);
}

static void set_size(int fd)
{
    char value[32];
    struct winsize size = {0};

    if (boot_param("ring3.size", value, sizeof(value)) &&
        sscanf(value, "%hux%hu", &size.ws_row, &size.ws_col) == 2)
        ioctl(fd, TIOCSWINSZ, &size);
}

static _Noreturn void become_shell(void)
{
    int fd;

    child_reset_signals();
    setsid();
    fd = open_console();
    if (fd >= 0) {
        ioctl(fd, TIOCSCTTY, 0);
        set_size(fd);
        dup2(fd, STDIN_FILENO);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        if (fd > STDERR_FILENO)
            close(fd);
    }
    execl("/bin/sh", "sh", "-l", (char *)NULL);
    fprintf(stderr, "ring3-agent: /bin/sh: %s\n", strerror(errno));
    _exit(127);
}

int shell_run(int signal_fd)
{
    struct signalfd_siginfo info;
    pid_t shell = fork(), pid;
    int flags = fcntl(signal_fd, F_GETFL);

    if (shell == 0)
        become_shell();
    if (shell < 0 || flags < 0 || fcntl(signal_fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return -errno;
    for (;;) {
        if (read(signal_fd, &info, sizeof(info)) != sizeof(info))
            continue;
        if (info.ssi_signo != SIGCHLD)
            return (int)info.ssi_signo;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            if (pid == shell)
                return 0;
    }
}
