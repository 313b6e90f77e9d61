/* disks.c - the disks of a run: --disk and --ephemeral */
#include "cli/disks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/disk/probe.h"

static int parse_format(struct disk_config *d, const char *value, struct err *e)
{
    if (!strcmp(value, "raw"))
        d->format = DISK_RAW;
    else if (!strcmp(value, "qcow2"))
        d->format = DISK_QCOW2;
    else
        return err_set(e, EINVAL, "option --disk: format=%s: raw or qcow2", value);
    return 0;
}

static int parse_bytes(const char *key, const char *value, u64 *bytes, struct err *e)
{
    if (!parse_size(value, bytes) || *bytes % 512)
        return err_set(
            e, EINVAL,
            "option --disk: %s=%s: MiB, or bytes with suffix B, K, M, G or T, a multiple "
            "of 512",
            key, value);
    return 0;
}

static int parse_serial(struct machine_disk *d, const char *value, struct err *e)
{
    if (strlen(value) > BLK_SERIAL_MAX)
        return err_set(e, EINVAL, "option --disk: serial=%s: at most %d bytes", value,
                       BLK_SERIAL_MAX);
    d->serial = value;
    return 0;
}

static int parse_word(struct disk_list *l, struct machine_disk *d, char *word, struct err *e)
{
    char *value = strchr(word, '=');

    if (value)
        *value++ = '\0';
    if (value && !strcmp(word, "format"))
        return parse_format(&d->disk, value, e);
    if (value && !strcmp(word, "offset"))
        return parse_bytes(word, value, &d->disk.offset, e);
    if (value && !strcmp(word, "size"))
        return parse_bytes(word, value, &d->disk.size, e);
    if (value && !strcmp(word, "serial"))
        return parse_serial(d, value, e);
    if (!value && !strcmp(word, "ro"))
        d->disk.read_only = true;
    else if (!value && !strcmp(word, "snapshot"))
        d->disk.snapshot = true;
    else if (!value && !strcmp(word, "data"))
        l->data |= d == l->item;
    else
        return err_set(
            e, EINVAL,
            "option --disk: '%s': ro, snapshot, data, format=, offset=, size= or serial= "
            "(a comma in a name is written twice)",
            word);
    return 0;
}

static int parse_disk(struct disk_list *l, const char *text, bool ephemeral, struct err *e)
{
    struct machine_disk *d = &l->item[l->count];
    char *rest = strdup(text), *word;
    int rc = 0;

    if (!rest)
        return err_set(e, ENOMEM, "option --disk: no memory");
    l->text[l->count++] = rest;
    d->disk.path = option_item(&rest);
    if (!*d->disk.path)
        return err_set(e, EINVAL, "option --disk: '%s' names no file", text);
    while (!rc && (word = option_item(&rest)))
        rc = parse_word(l, d, word, e);
    if (!rc && d->disk.read_only && d->disk.snapshot)
        return err_set(e, EINVAL, "option --disk: %s: either ro or snapshot", d->disk.path);
    if (ephemeral && !d->disk.read_only)
        d->disk.snapshot = true;
    return rc;
}

int disks_parse(struct disk_list *l, const struct options *o, struct err *e)
{
    if (o->disk.count > DISKS_MAX)
        return err_set(e, EINVAL, "option --disk: at most %d disks", DISKS_MAX);
    if (o->ephemeral && !o->disk.count)
        return err_set(e, EINVAL, "option --ephemeral needs a disk: --disk FILE");
    for (unsigned i = 0; i < o->disk.count; i++) {
        int rc = parse_disk(l, o->disk.item[i], o->ephemeral, e);
        if (rc)
            return rc;
    }
    return 0;
}

void disks_free(struct disk_list *l)
{
    while (l->count)
        free(l->text[--l->count]);
}

int disks_root(const struct disk_list *l, char *out, size_t size, struct err *e)
{
    struct disk_config cfg = l->item[0].disk;
    unsigned partition;
    struct disk *d;
    int rc;

    *out = '\0';
    if (!l->count || l->data)
        return 0;
    cfg.read_only = true; /* only to look */
    cfg.snapshot = false;
    rc = disk_open(&cfg, &d, e);
    if (rc)
        return rc;
    if (disk_find_root(d, &partition))
        snprintf(out, size, partition ? "/dev/vda%u" : "/dev/vda", partition);
    return disk_close(d);
}
