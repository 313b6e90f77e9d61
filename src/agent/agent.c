/* agent.c - guest-side init: mounts, runs one command or a shell, powers off
 *
 * As process 1 it reads two kernel parameters: ring3.agent=TTY runs the command the monitor asks
 * for over that serial port (proto.h); without it a shell gets the console, of
 * ring3.size=ROWSxCOLS.
 * As an ordinary program, `agent --serve FD` speaks the same protocol on an open descriptor.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "boot.h"
#include "serve.h"
#include "shell.h"

static struct channel channel;

/* Process 1 also gets what poweroff(8), halt(8) and reboot(8) of busybox send to init. */
static int open_signals(bool as_init)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (as_init) {
        sigaddset(&set, SIGUSR1);
        sigaddset(&set, SIGUSR2);
        sigaddset(&set, SIGTERM);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int reboot_command(int signo)
{
    switch (signo) {
    case SIGTERM: return RB_AUTOBOOT;
    case SIGUSR1: return RB_HALT_SYSTEM;
    default: return RB_POWER_OFF;
    }
}

static _Noreturn void run_as_init(void)
{
    char tty[32];
    int signal_fd, end;

    boot_system();
    signal_fd = open_signals(true);
    if (boot_param("ring3.agent", tty, sizeof(tty))) {
        end = channel_open_tty(&channel, tty);
        if (end == 0) {
            end = serve(&channel, signal_fd);
            channel_close(&channel);
        } else {
            fprintf(stderr, "ring3-agent: /dev/%s: %s\n", tty, strerror(-end));
        }
    } else {
        end = shell_run(signal_fd);
    }
    boot_down(reboot_command(end));
}

static int serve_fd(const char *arg)
{
    int err = channel_init(&channel, atoi(arg));

    if (err == 0)
        err = serve(&channel, open_signals(false));
    if (err < 0)
        fprintf(stderr, "ring3-agent: %s\n", strerror(-err));
    return err ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--serve") == 0)
        return serve_fd(argv[2]);
    if (getpid() == 1)
        run_as_init();
    fprintf(stderr, "usage: agent --serve FD (or as init of a guest)\n");
    return 2;
}
