/* boot.c - mounts, host name, loopback; and the way down */
#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long processes may take to end before they are killed. */
#define TERM_MS 500

static void complain(const char *what, const char *name)
{
    fprintf(stderr, "ring3-agent: %s %s: %s\n", what, name, strerror(errno));
}

static const struct {
    const char *type, *path;
    unsigned long flags;
    const char *options;
} mounts[] = {
    {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"devtmpfs", "/dev", MS_NOSUID, "mode=0755"},
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
};

static const struct {
    const char *target, *path;
} links[] = {
    {"/proc/self/fd", "/dev/fd"},
    {"/proc/self/fd/0", "/dev/stdin"},
    {"/proc/self/fd/1", "/dev/stdout"},
    {"/proc/self/fd/2", "/dev/stderr"},
};

/* The kernel opens /dev/console for us when it can; otherwise /dev/null keeps 0, 1 and 2 in use. */
static void fill_stdio(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static void bring_up_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0) {
        complain("interface", "lo");
    } else {
        request.ifr_flags |= IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
            complain("interface", "lo");
    }
    if (fd >= 0)
        close(fd);
}

static void set_hostname(void)
{
    char name[65] = "ring3";
    FILE *file = fopen("/etc/hostname", "re");

    if (file) {
        if (fgets(name, sizeof(name), file))
            name[strcspn(name, "\n")] = 0;
        fclose(file);
    }
    if (sethostname(name, strlen(name)) < 0)
        complain("host name", name);
}

void boot_system(void)
{
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        mkdir(mounts[i].path, 0755);
        if (mount(mounts[i].type, mounts[i].path, mounts[i].type, mounts[i].flags,
                  mounts[i].options) < 0)
            complain("mount", mounts[i].path);
    }
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        if (symlink(links[i].target, links[i].path) < 0 && errno != EEXIST)
            complain("link", links[i].path);
    fill_stdio();
    set_hostname();
    bring_up_loopback();
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 1);
    setenv("TERM", "linux", 0);
    if (chdir("/") < 0)
        complain("directory", "/");
}

static void read_cmdline(char *line, size_t size)
{
    FILE *file = fopen("/proc/cmdline", "re");

    line[0] = 0;
    if (!file)
        return;
    if (!fgets(line, (int)size, file))
        line[0] = 0;
    fclose(file);
}

/* The value of the next `name=` in what is left of the line. */
static const char *next_param(char **rest, const char *name)
{
    size_t len = strlen(name);
    char *word;

    while ((word = strsep(rest, " \n")))
        if (strncmp(word, name, len) == 0 && word[len] == '=')
            return word + len + 1;
    return NULL;
}

bool boot_param(const char *name, char *value, size_t size)
{
    char line[4096], *rest = line;
    const char *text;
    bool found = false;

    read_cmdline(line, sizeof(line));
    /* The last one counts, as for most of the kernel's own. */
    while ((text = next_param(&rest, name)))
        found = snprintf(value, size, "%s", text) < (int)size;
    return found;
}

void boot_each_param(const char *name, void (*fn)(const char *value, const char *root),
                     const char *root)
{
    char line[4096], *rest = line;
    const char *text;

    read_cmdline(line, sizeof(line));
    while ((text = next_param(&rest, name)))
        fn(text, root);
}

/* Waits until no child is left, but not longer than `ms`. */
static void reap_all(int ms)
{
    const struct timespec tick = {.tv_nsec = 10 * 1000 * 1000};
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0 || errno != ECHILD) {
        if (pid == 0 && ms <= 0)
            return;
        if (pid == 0) {
            nanosleep(&tick, NULL);
            ms -= 10;
        }
    }
}

static void unmount_all(void)
{
    static char paths[64][256];
    size_t count = 0;
    struct mntent *entry;
    FILE *file = setmntent("/proc/self/mounts", "re");

    if (file) {
        while (count < sizeof(paths) / sizeof(paths[0]) && (entry = getmntent(file)))
            snprintf(paths[count++], sizeof(paths[0]), "%s", entry->mnt_dir);
        endmntent(file);
    }
    /* Last mounted, first unmounted. What is in use becomes read-only. */
    while (count-- > 0)
        if (umount2(paths[count], 0) < 0)
            mount(NULL, paths[count], NULL, MS_REMOUNT | MS_RDONLY, NULL);
}

_Noreturn void boot_down(int reboot_command)
{
    if (kill(-1, SIGTERM) == 0)
        reap_all(TERM_MS);
    if (kill(-1, SIGKILL) == 0)
        reap_all(TERM_MS);
    sync();
    unmount_all();
    reboot(reboot_command);
    complain("reboot", "failed");
    for (;;)
        pause();
}
