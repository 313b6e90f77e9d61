/* agent.c - guest-side init: mounts, runs one command or a shell, powers off
 *
 * As process 1 it loads drivers for the virtio devices there are, and reads kernel parameters:
 *   ring3.net=ADDRESS/PREFIX[,GATEWAY[,DNS]]  the first network interface, without ring3.root
 *   ring3.share=TAG:PATH[:ro]                 a folder by 9p (repeatable)
 *   ring3.root=DEVICE                         a disk whose own init takes over
 *   ring3.agent=TTY                           runs the command that the monitor asks for over this
 *                                             serial port (proto.h); `port`: over the virtio
 *                                             console port PROTO_PORT
 *   ring3.size=ROWSxCOLS                      without a command a shell gets the console, this big
 * As an ordinary program, `agent --serve FD` speaks the same protocol on an open descriptor.
 * As a service of systemd, `agent --service` does so where ring3.agent says, on the virtio port
 * without it, and then has the machine powered off.
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
#include "modules.h"
#include "network.h"
#include "port.h"
#include "root.h"
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

static int open_channel(const char *where)
{
    int err = strcmp(where, "port") ? channel_open_tty(&channel, where)
                                    : channel_open_port(&channel, PROTO_PORT);

    if (err)
        fprintf(stderr, "ring3-agent: %s: %s\n", where, strerror(-err));
    return err;
}

/* Drivers, network, folders, and perhaps a root of its own. What a command may need is there when
 * it starts; other drivers come when they come. A system on a disk configures its network itself:
 * an interface that is up already could not get the name which that system has for it. */
static void set_up(void)
{
    char value[128], device[64];
    const char *root = "";

    if (boot_param("ring3.root", device, sizeof(device))) {
        modules_load(DEVICE_BLK);
        if (root_mount(device) == 0)
            root = ROOT_MOUNT;
    }
    if (!*root && boot_param("ring3.net", value, sizeof(value)) && modules_load(DEVICE_NET))
        network_configure(value);
    if (boot_param("ring3.share", value, sizeof(value)) && modules_load(DEVICE_9P))
        boot_each_param("ring3.share", root_share, root);
    modules_load_rest(*root);
    if (*root) {
        root_enter();
        _exit(1); /* the kernel panics, as it does without a root */
    }
}

static _Noreturn void run_as_init(void)
{
    char tty[32];
    int signal_fd, end;

    boot_system();
    set_up();
    signal_fd = open_signals(true);
    if (boot_param("ring3.agent", tty, sizeof(tty))) {
        end = open_channel(tty);
        if (end == 0) {
            end = serve(&channel, signal_fd);
            channel_close(&channel);
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

static int serve_as_service(void)
{
    char where[32];

    if (!boot_param("ring3.agent", where, sizeof(where)))
        strcpy(where, "port");
    network_wait();
    if (open_channel(where))
        return 1;
    serve(&channel, open_signals(false));
    channel_close(&channel);
    execlp("systemctl", "systemctl", "poweroff", "--force", (char *)NULL);
    fprintf(stderr, "ring3-agent: systemctl: %s\n", strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--serve") == 0)
        return serve_fd(argv[2]);
    if (argc == 2 && strcmp(argv[1], "--service") == 0)
        return serve_as_service();
    if (getpid() == 1)
        run_as_init();
    fprintf(stderr, "usage: agent --serve FD | --service (or as init of a guest)\n");
    return 2;
}
