/* net.c - the options --net and --publish */
#include "cli/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- --net ---- */

/* Locally administered, one a NIC; the same at every start, so that a guest finds its network
 * again. */
static void default_mac(u8 mac[6], unsigned n)
{
    static const u8 first[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

    memcpy(mac, first, 6);
    mac[5] = (u8)(mac[5] + n);
}

static bool parse_mac(const char *text, u8 mac[6])
{
    unsigned part[6];
    char end;

    if (strlen(text) != 17 || sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &part[0], &part[1],
                                     &part[2], &part[3], &part[4], &part[5], &end) != 6)
        return false;
    for (unsigned i = 0; i < 6; i++)
        mac[i] = (u8)part[i];
    return !(mac[0] & 1); /* no group address */
}

static const struct {
    const char *name;
    enum machine_net_kind kind;
    const char *path_key; /* names what it is connected to; NULL: nothing to name */
} kinds[] = {
    {"user", NET_USER, NULL},
    {"tap", NET_TAP, "ifname"},
    {"stream", NET_STREAM, "path"},
    {"dgram", NET_DGRAM, "local"},
};

static const char *path_key(enum machine_net_kind kind)
{
    return kinds[kind].path_key;
}

static int parse_key(struct machine_net *net, char *key, char *value, struct err *e)
{
    bool on = value && !strcmp(value, "on");

    if (!strcmp(key, "mac") && value)
        return parse_mac(value, net->mac)
                   ? 0
                   : err_set(e, EINVAL, "option --net: mac=%s: six bytes as 52:54:00:12:34:56",
                             value);
    if (path_key(net->kind) && !strcmp(key, path_key(net->kind)) && value && *value)
        net->path = value;
    else if (net->kind == NET_DGRAM && !strcmp(key, "remote") && value && *value)
        net->remote = value;
    else if (net->kind == NET_STREAM && !strcmp(key, "server") && !value)
        net->server = true;
    else if (net->kind == NET_USER && !strcmp(key, "restrict") &&
             (on || (value && !strcmp(value, "off"))))
        net->user.restricted = on;
    else
        return err_set(e, EINVAL, "option --net: %s does not take '%s%s%s'", kinds[net->kind].name,
                       key, value ? "=" : "", value ? value : "");
    return 0;
}

static int check_nic(const struct machine_net *net, struct err *e)
{
    const char *key = path_key(net->kind);

    if (key && !net->path)
        return err_set(e, EINVAL, "option --net: %s needs %s=", kinds[net->kind].name, key);
    if (net->kind == NET_TAP && strlen(net->path) > 15)
        return err_set(e, EINVAL, "option --net: ifname=%s: more than 15 characters", net->path);
    if (net->kind == NET_DGRAM && !net->remote)
        return err_set(e, EINVAL, "option --net: dgram needs remote=");
    return 0;
}

static int parse_kind(const char *word, struct machine_net *net, struct err *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (strcmp(word, kinds[i].name))
            continue;
        *net = (struct machine_net){.kind = kinds[i].kind};
        return 0;
    }
    return err_set(e, EINVAL, "option --net: unknown kind '%s' (user, tap, stream, dgram or none)",
                   word);
}

/* The copy lives as long as the options: values point into it. */
static int parse_nic(struct net_options *n, const char *text, bool *none, struct err *e)
{
    char *rest, *word;
    struct machine_net *net = &n->net[n->nets];
    int rc;

    if (n->nets == NICS_MAX)
        return err_set(e, EINVAL, "option --net: at most %d interfaces", NICS_MAX);
    rest = n->text[n->nets];
    if (snprintf(rest, NET_TEXT_BYTES, "%s", text) >= NET_TEXT_BYTES)
        return err_set(e, EINVAL, "option --net: too long");
    word = strsep(&rest, ",");
    if (!strcmp(word, "none") && !rest) {
        *none = true;
        return 0;
    }
    rc = parse_kind(word, net, e);
    if (rc)
        return rc;
    default_mac(net->mac, n->nets++);
    while (!rc && (word = strsep(&rest, ","))) {
        char *value = strchr(word, '=');

        if (value)
            *value++ = 0;
        rc = parse_key(net, word, value, e);
    }
    return rc ? rc : check_nic(net, e);
}

/* ---- --publish ---- */

static bool parse_port(const char *text, u16 *port)
{
    u64 value;

    if (!parse_number(text, &value) || value < 1 || value > 0xffff)
        return false;
    *port = (u16)value;
    return true;
}

static bool parse_address(const char *text, u8 out[4])
{
    unsigned part[4];
    char end;

    if (sscanf(text, "%3u.%3u.%3u.%3u%c", &part[0], &part[1], &part[2], &part[3], &end) != 4)
        return false;
    for (unsigned i = 0; i < 4; i++) {
        if (part[i] > 255)
            return false;
        out[i] = (u8)part[i];
    }
    return true;
}

static int parse_forward(struct net_options *n, const char *text, struct err *e)
{
    struct net_forward f = {.host = {127, 0, 0, 1}};
    char copy[128], *rest = copy, *word[3] = {NULL};
    unsigned words = 0;
    bool good;

    if (n->forwards == FORWARDS_MAX)
        return err_set(e, EINVAL, "option --publish: at most %d ports", FORWARDS_MAX);
    snprintf(copy, sizeof(copy), "%s", text);
    if (!strncmp(copy, "udp:", 4) || !strncmp(copy, "tcp:", 4)) {
        f.udp = copy[0] == 'u';
        rest += 4;
    }
    while (rest && words < 3)
        word[words++] = strsep(&rest, ":");
    good = strlen(text) < sizeof(copy) && !rest && words >= 2;
    if (good && words == 3)
        good = parse_address(word[0], f.host);
    good = good && parse_port(word[words - 2], &f.host_port) &&
           parse_port(word[words - 1], &f.guest_port);
    if (!good)
        return err_set(e, EINVAL,
                       "option --publish: '%s' is not [udp:][ADDRESS:]PORT:PORT, host's first",
                       text);
    n->forward[n->forwards++] = f;
    return 0;
}

/* ---- both ---- */

static struct machine_net *first_user(struct net_options *n)
{
    for (unsigned i = 0; i < n->nets; i++)
        if (n->net[i].kind == NET_USER)
            return &n->net[i];
    return NULL;
}

int net_parse(const struct options *o, struct net_options *n, struct err *e)
{
    struct machine_net *user;
    bool none = false;
    int rc = 0;

    *n = (struct net_options){.nets = 0};
    for (unsigned i = 0; i < o->net.count && !rc; i++)
        rc = parse_nic(n, o->net.item[i], &none, e);
    if (!rc && none && n->nets)
        rc = err_set(e, EINVAL, "option --net: none goes alone");
    if (!rc && !o->net.count && !o->script && !o->bios)
        rc = parse_nic(n, "user", &none, e);
    for (unsigned i = 0; i < o->publish.count && !rc; i++)
        rc = parse_forward(n, o->publish.item[i], e);
    if (rc)
        return rc;
    user = first_user(n);
    if (n->forwards && !user)
        return err_set(e, EINVAL, "option --publish needs an interface of kind user");
    if (user) {
        user->user.forward = n->forward;
        user->user.forwards = n->forwards;
    }
    return 0;
}

const char *net_agent_words(const struct net_options *n)
{
    return n->nets && n->net[0].kind == NET_USER ? " ring3.net=10.0.2.15/24,10.0.2.2,10.0.2.3" : "";
}
