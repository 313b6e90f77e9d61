/* modules.c - kernel modules for the virtio devices that are there */
#include "modules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PCI_DEVICES   "/sys/bus/pci/devices"
#define VENDOR_VIRTIO 0x1af4
#define DEVICE_VIRTIO 0x1040 /* + type */
#define TYPES         64

static unsigned long long present; /* a bit a type of device that the bus has */
static bool looked;

static void module_dir(char *out, size_t size)
{
    struct utsname names;

    uname(&names);
    snprintf(out, size, "/lib/modules/%s", names.release);
}

static unsigned read_hex(const char *device, const char *file)
{
    char path[512], text[32] = "";
    FILE *f;

    snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", device, file);
    f = fopen(path, "re");
    if (!f)
        return 0;
    if (!fgets(text, sizeof(text), f))
        text[0] = 0;
    fclose(f);
    return (unsigned)strtoul(text, NULL, 16);
}

static void load_file(const char *dir, const char *file)
{
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        fprintf(stderr, "ring3-agent: module %s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* The list has a line a driver: the type of device (0: the PCI transport), then the files to load
 * in this order. */
static void load_driver(int type)
{
    char dir[128], path[160], line[512];
    FILE *list;

    module_dir(dir, sizeof(dir));
    snprintf(path, sizeof(path), "%s/ring3.list", dir);
    list = fopen(path, "re");
    if (!list)
        return; /* drivers are built in, or somebody else's business */
    while (fgets(line, sizeof(line), list)) {
        char *rest = line, *word = strsep(&rest, " \n");

        if (atoi(word) != type)
            continue;
        while ((word = strsep(&rest, " \n")))
            if (*word)
                load_file(dir, word);
    }
    fclose(list);
}

/* Looks once; the transport's own modules go first. */
static void look(void)
{
    struct dirent *entry;
    DIR *bus;

    if (looked)
        return;
    looked = true;
    bus = opendir(PCI_DEVICES);
    if (!bus)
        return;
    while ((entry = readdir(bus))) {
        unsigned device;

        if (entry->d_name[0] == '.' || read_hex(entry->d_name, "vendor") != VENDOR_VIRTIO)
            continue;
        device = read_hex(entry->d_name, "device") - DEVICE_VIRTIO;
        if (device < TYPES)
            present |= 1ull << device;
    }
    closedir(bus);
    if (present)
        load_driver(0);
}

bool modules_load(int type)
{
    look();
    if (!(present >> type & 1))
        return false;
    load_driver(type);
    return true;
}

void modules_load_rest(bool wait)
{
    look();
    if (!present || (!wait && fork() != 0))
        return;
    for (int type = 1; type < TYPES; type++)
        modules_load(type);
    if (!wait)
        _exit(0);
}
