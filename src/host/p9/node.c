/* node.c - files of the tree that a 9P server serves, and how they are reached */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "host/p9/server.h"

/* ---- descriptors ---- */

int p9_fd_open(struct p9 *s, int dir, const char *name, int flags, mode_t mode)
{
    int fd;

    if (s->fds >= s->fds_max)
        return -EMFILE;
    fd = openat(dir, name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW, mode);
    if (fd < 0)
        return -errno;
    s->fds++;
    return fd;
}

void p9_fd_close(struct p9 *s, int fd)
{
    close(fd);
    s->fds--;
}

struct p9_link p9_node_link(const struct p9_node *n)
{
    struct p9_link l;

    snprintf(l.name, sizeof(l.name), "%d", n->fd);
    return l;
}

/* The entry in /proc is a link to the file itself, not to a name: following it leads nowhere else.
 * A symbolic link opened this way is -ELOOP. */
int p9_node_reopen(struct p9 *s, const struct p9_node *n, int flags)
{
    int fd;

    if (n->type != S_IFREG && n->type != S_IFDIR)
        return n->type == S_IFLNK ? -ELOOP : -EOPNOTSUPP;
    if (s->fds >= s->fds_max)
        return -EMFILE;
    fd = openat(s->proc, p9_node_link(n).name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    s->fds++;
    return fd;
}

/* ---- file systems ---- */

/* Files there act on the kernel or on processes, this one among them, or block. */
static bool kernels_own(int fd)
{
    static const u32 magic[] = {
        0x9fa0,     /* proc */
        0x62656572, /* sysfs */
        0x64626720, /* debugfs */
        0x74726163, /* tracefs */
        0x73636673, /* securityfs */
        0x62656570, /* configfs */
        0x27e0eb,   /* cgroup */
        0x63677270, /* cgroup2 */
        0xcafe4a11, /* bpf */
        0xde5e81e4, /* efivarfs */
    };
    struct statfs fs;

    if (fstatfs(fd, &fs))
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(magic); i++)
        if ((u32)fs.f_type == magic[i])
            return true;
    return false;
}

static unsigned device_index(const struct p9 *s, dev_t dev)
{
    unsigned i = 0;

    while (i < s->devices && s->device[i] != dev)
        i++;
    return i;
}

/* Notes a device that is met for the first time; false when it is closed to clients. */
static bool device_open(struct p9 *s, int fd, dev_t dev)
{
    unsigned i = device_index(s, dev);

    if (i < s->devices)
        return !s->closed[i];
    if (s->devices == P9_DEVICES)
        return !kernels_own(fd);
    s->device[i] = dev;
    s->closed[i] = kernels_own(fd);
    s->devices++;
    return !s->closed[i];
}

/* ---- qids ---- */

/* The inode number, and the device's index above it. What does not fit is mixed: equal ones are
 * then not impossible, but as rare as any of 2^56. */
u64 p9_qid_path(struct p9 *s, dev_t dev, ino_t ino)
{
    unsigned i = device_index(s, dev);
    u64 x = ino;

    if (i < s->devices && ino < BIT64(56))
        return (u64)i << 56 | x;
    x += (u64)dev * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (x ^ x >> 31) | 0xffull << 56;
}

static u8 qid_type(mode_t mode)
{
    return S_ISDIR(mode) ? QID_DIR : S_ISLNK(mode) ? QID_SYMLINK : 0;
}

struct p9_qid p9_qid_of(struct p9 *s, const struct stat *st)
{
    return (struct p9_qid){
        .type = qid_type(st->st_mode),
        .version = (u32)st->st_mtim.tv_sec ^ (u32)st->st_mtim.tv_nsec ^ (u32)st->st_size << 8,
        .path = p9_qid_path(s, st->st_dev, st->st_ino),
    };
}

/* ---- nodes ---- */

static int node_new(struct p9 *s, int fd, struct p9_node **out)
{
    struct p9_node *n = NULL;
    struct stat st;
    int rc = 0;

    if (fstat(fd, &st))
        rc = -errno;
    else if (!device_open(s, fd, st.st_dev))
        rc = -EACCES;
    else if (!(n = malloc(sizeof(*n))))
        rc = -ENOMEM;
    if (rc) {
        p9_fd_close(s, fd);
        return rc;
    }
    *n = (struct p9_node){fd, 1, st.st_mode & S_IFMT, st.st_dev, st.st_ino};
    *out = n;
    return 0;
}

int p9_node_open(struct p9 *s, int dir, const char *name, struct p9_node **out)
{
    int fd = p9_fd_open(s, dir, name, O_PATH, 0);

    return fd < 0 ? fd : node_new(s, fd, out);
}

int p9_node_of_fd(struct p9 *s, int fd, struct p9_node **out)
{
    struct p9_node at = {.fd = fd};
    int path;

    if (s->fds >= s->fds_max)
        return -EMFILE;
    path = openat(s->proc, p9_node_link(&at).name, O_PATH | O_CLOEXEC);
    if (path < 0)
        return -errno;
    s->fds++;
    return node_new(s, path, out);
}

struct p9_node *p9_node_get(struct p9_node *n)
{
    n->refs++;
    return n;
}

void p9_node_put(struct p9 *s, struct p9_node *n)
{
    if (!n || --n->refs)
        return;
    p9_fd_close(s, n->fd);
    free(n);
}

/* ---- where a node is ---- */

static bool same_file(const struct p9_node *n, const struct stat *st)
{
    return n->dev == st->st_dev && n->ino == st->st_ino;
}

static int path_of(struct p9 *s, const struct p9_node *n, char path[PATH_MAX])
{
    ssize_t len = readlinkat(s->proc, p9_node_link(n).name, path, PATH_MAX);

    if (len < 0)
        return -errno;
    if (len == PATH_MAX)
        return -ENAMETOOLONG;
    path[len] = '\0';
    return 0;
}

/* The node's path of this moment below the root's: *below points into path. The host may rename
 * directories above both, between the two looks: then they are taken again. */
static int path_below(struct p9 *s, const struct p9_node *n, char path[PATH_MAX], char **below)
{
    char root[PATH_MAX];

    for (unsigned i = 0; i < 3; i++) {
        int rc = path_of(s, s->root, root);
        size_t len = strlen(root);

        if (!rc)
            rc = path_of(s, n, path);
        if (rc)
            return rc;
        if (len == 1)
            len = 0; /* the host's own root */
        if (!strncmp(path, root, len) && path[len] == '/') {
            *below = path + len + 1;
            return 0;
        }
    }
    return -ESTALE;
}

int p9_node_inside(struct p9 *s, const struct p9_node *n)
{
    char path[PATH_MAX], *below;

    if (n->type != S_IFDIR)
        return -ENOTDIR;
    return n == s->root ? 0 : path_below(s, n, path, &below);
}

/* Opens the directory that `path` names below the root, component by component. */
static int walk_down(struct p9 *s, char *path)
{
    int dir = p9_fd_open(s, s->root->fd, ".", O_PATH | O_DIRECTORY, 0);
    char *name;

    while (dir >= 0 && (name = strsep(&path, "/"))) {
        int next = *name && strcmp(name, "..") ? p9_fd_open(s, dir, name, O_PATH | O_DIRECTORY, 0)
                                               : -ENOENT;

        p9_fd_close(s, dir);
        dir = next;
    }
    return dir;
}

int p9_node_locate(struct p9 *s, const struct p9_node *n, int *dir, char name[NAME_MAX + 1])
{
    char path[PATH_MAX], *below, *slash;
    struct stat st;
    int rc;

    if (n->dev == s->root->dev && n->ino == s->root->ino)
        return -EBUSY;
    rc = path_below(s, n, path, &below);
    if (rc)
        return rc;
    slash = strrchr(below, '/');
    if (strlen(slash ? slash + 1 : below) > NAME_MAX)
        return -ENOENT; /* the kernel's "NAME (deleted)" */
    strcpy(name, slash ? slash + 1 : below);
    if (slash)
        *slash = '\0';
    *dir = walk_down(s, slash ? below : NULL);
    if (*dir < 0)
        return *dir;
    if (fstatat(*dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && same_file(n, &st))
        return 0;
    p9_fd_close(s, *dir);
    return -ENOENT;
}

int p9_node_parent(struct p9 *s, struct p9_node *n, struct p9_node **out)
{
    char name[NAME_MAX + 1];
    int dir, rc = p9_node_locate(s, n, &dir, name);

    if (rc == -EBUSY) {
        *out = p9_node_get(s->root);
        return 0;
    }
    return rc ? rc : node_new(s, dir, out);
}
