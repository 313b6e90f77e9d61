/* root.c - shared folders, and a disk as the new root */
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS    5000
#define P9_OPTIONS "trans=virtio,version=9p2000.L,msize=524288,cache=mmap"

static void complain(const char *what, const char *name)
{
    fprintf(stderr, "ring3-agent: %s %s: %s\n", what, name, strerror(errno));
}

static void make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
    mkdir(path, 0755);
}

void root_share(const char *text, const char *root)
{
    char copy[512], path[1024], *rest = copy, *tag, *where, *mode;
    unsigned long flags = MS_NODEV;

    snprintf(copy, sizeof(copy), "%s", text);
    tag = strsep(&rest, ":");
    where = strsep(&rest, ":");
    mode = strsep(&rest, ":");
    if (!where || where[0] != '/') {
        errno = EINVAL;
        complain("share", text);
        return;
    }
    if (mode && !strcmp(mode, "ro"))
        flags |= MS_RDONLY;
    snprintf(path, sizeof(path), "%s%s", root, where);
    make_folders(path);
    if (mount(tag, path, "9p", flags, P9_OPTIONS) < 0)
        complain("share", where);
}

/* A disk that cannot be written is mounted so. */
static int mount_as(const char *device, const char *type)
{
    if (mount(device, ROOT_MOUNT, type, 0, NULL) == 0)
        return 0;
    return errno == EACCES || errno == EROFS ? mount(device, ROOT_MOUNT, type, MS_RDONLY, NULL)
                                             : -1;
}

/* With the kernel's own list of disk file systems; ext4, the usual one, first. */
static int mount_any(const char *device)
{
    char line[128];
    FILE *list;

    if (mount_as(device, "ext4") == 0)
        return 0;
    list = fopen("/proc/filesystems", "re");
    while (list && fgets(line, sizeof(line), list)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '\t' && mount_as(device, line + 1) == 0) {
            fclose(list);
            return 0;
        }
    }
    if (list)
        fclose(list);
    errno = EINVAL; /* no file system that this kernel knows */
    return -1;
}

/* What takes over from a disk; one without it holds data, not a system. */
static const char *const inits[] = {"/sbin/init", "/etc/init", "/bin/init"};
#define INITS (sizeof(inits) / sizeof(inits[0]))

static bool has_init(void)
{
    char path[64];
    struct stat st;

    for (size_t i = 0; i < INITS; i++) {
        snprintf(path, sizeof(path), ROOT_MOUNT "%s", inits[i]);
        if (lstat(path, &st) == 0) /* a link may lead to where the new root will be */
            return true;
    }
    return false;
}

int root_mount(const char *device)
{
    const struct timespec tick = {.tv_nsec = 5 * 1000 * 1000};

    for (int ms = 0; ms < WAIT_MS && access(device, F_OK); ms += 5)
        nanosleep(&tick, NULL);
    mkdir("/mnt", 0755);
    mkdir(ROOT_MOUNT, 0755);
    if (access(device, F_OK) == 0 && mount_any(device) == 0) {
        if (has_init())
            return 0;
        umount(ROOT_MOUNT);
        errno = ENOENT;
    }
    complain("no system on", device);
    return -errno;
}

void root_enter(void)
{
    static const char *const kept[] = {"/dev", "/proc", "/sys", "/run"};

    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        char to[64];

        snprintf(to, sizeof(to), ROOT_MOUNT "%s", kept[i]);
        mkdir(to, 0755);
        if (mount(kept[i], to, NULL, MS_MOVE, NULL) < 0)
            complain("move", kept[i]);
    }
    /* The old root is the kernel's rootfs: it cannot be unmounted, but covered. */
    if (chdir(ROOT_MOUNT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0) {
        complain("switch", "root");
        return;
    }
    for (size_t i = 0; i < INITS; i++)
        execl(inits[i], inits[i], (char *)NULL);
    complain("init", "of the new root");
}
