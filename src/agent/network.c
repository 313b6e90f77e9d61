/* network.c - a fixed address for the first network interface */
#include "network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 3000
#define ETHER   1 /* ARPHRD_ETHER */

static bool is_ethernet(const char *name)
{
    char path[300], text[16] = "";
    FILE *f;

    snprintf(path, sizeof(path), "/sys/class/net/%s/type", name);
    f = fopen(path, "re");
    if (!f)
        return false;
    if (!fgets(text, sizeof(text), f))
        text[0] = 0;
    fclose(f);
    return atoi(text) == ETHER;
}

/* The first by name. */
static bool find_interface(char name[IFNAMSIZ])
{
    DIR *dir = opendir("/sys/class/net");
    struct dirent *entry;

    name[0] = 0;
    while (dir && (entry = readdir(dir)))
        if (entry->d_name[0] != '.' && is_ethernet(entry->d_name) &&
            (!name[0] || strcmp(entry->d_name, name) < 0))
            snprintf(name, IFNAMSIZ, "%.15s", entry->d_name);
    if (dir)
        closedir(dir);
    return name[0];
}

static bool wait_interface(char name[IFNAMSIZ])
{
    const struct timespec tick = {.tv_nsec = 5 * 1000 * 1000};

    for (int ms = 0; ms < WAIT_MS; ms += 5) {
        if (find_interface(name))
            return true;
        nanosleep(&tick, NULL);
    }
    return false;
}

static struct sockaddr *put_address(struct sockaddr *out, struct in_addr address)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;

    memset(in, 0, sizeof(*in));
    in->sin_family = AF_INET;
    in->sin_addr = address;
    return out;
}

static int set_address(int fd, const char *name, struct in_addr address, int prefix)
{
    struct in_addr mask = {htonl(prefix ? ~0u << (32 - prefix) : 0)};
    struct ifreq r = {0};

    strncpy(r.ifr_name, name, IFNAMSIZ - 1);
    put_address(&r.ifr_addr, address);
    if (ioctl(fd, SIOCSIFADDR, &r) < 0)
        return -errno;
    put_address(&r.ifr_netmask, mask);
    if (ioctl(fd, SIOCSIFNETMASK, &r) < 0)
        return -errno;
    if (ioctl(fd, SIOCGIFFLAGS, &r) < 0)
        return -errno;
    r.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &r) < 0 ? -errno : 0;
}

static int set_gateway(int fd, char *name, struct in_addr gateway)
{
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = name};

    put_address(&route.rt_gateway, gateway);
    put_address(&route.rt_dst, (struct in_addr){0});
    put_address(&route.rt_genmask, (struct in_addr){0});
    return ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST ? -errno : 0;
}

static int set_dns(const char *dns)
{
    FILE *f = fopen("/etc/resolv.conf", "we");

    if (!f)
        return -errno;
    fprintf(f, "nameserver %s\n", dns);
    return fclose(f) ? -errno : 0;
}

static void complain(const char *what, int err)
{
    if (err)
        fprintf(stderr, "ring3-agent: network: %s: %s\n", what, strerror(-err));
}

void network_configure(const char *text)
{
    char copy[128], *rest = copy, *address, *gateway, *dns, *slash, name[IFNAMSIZ];
    struct in_addr ip, via, server;
    int fd, prefix;

    snprintf(copy, sizeof(copy), "%s", text);
    address = strsep(&rest, ",");
    gateway = strsep(&rest, ",");
    dns = strsep(&rest, ",");
    slash = strchr(address, '/');
    prefix = slash ? atoi(slash + 1) : 24;
    if (slash)
        *slash = 0;
    if (!inet_aton(address, &ip) || prefix < 0 || prefix > 32 ||
        (gateway && !inet_aton(gateway, &via)) || (dns && !inet_aton(dns, &server))) {
        complain(text, -EINVAL);
        return;
    }
    if (!wait_interface(name)) {
        complain("no interface", -ENODEV);
        return;
    }
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    complain(name, fd < 0 ? -errno : set_address(fd, name, ip, prefix));
    if (gateway)
        complain("gateway", set_gateway(fd, name, via));
    if (dns)
        complain("resolv.conf", set_dns(dns));
    close(fd);
}

/* The kernel's table: interface, destination, gateway ...; a header line. */
static bool has_default_route(void)
{
    FILE *table = fopen("/proc/net/route", "re");
    char line[256], destination[16];
    bool found = false;

    if (!table)
        return false;
    while (!found && fgets(line, sizeof(line), table))
        found = sscanf(line, "%*s %15s", destination) == 1 && !strcmp(destination, "00000000");
    fclose(table);
    return found;
}

void network_wait(void)
{
    const struct timespec tick = {.tv_nsec = 20 * 1000 * 1000};
    char name[IFNAMSIZ];

    for (int ms = 0; ms < WAIT_MS && find_interface(name) && !has_default_route(); ms += 20)
        nanosleep(&tick, NULL);
}
