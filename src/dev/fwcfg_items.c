/* fwcfg_items.c - building the table of fw_cfg items and its file directory */
#include "dev/fwcfg_items.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ID_TRADITIONAL BIT(0)
#define ID_DMA         BIT(1)

/* One entry of the file directory, big-endian, behind a u32 count. */
struct dir_entry {
    u32 size;
    u16 select;
    u16 reserved;
    char name[FWCFG_NAME_MAX];
};

const struct fwcfg_item *fwcfg_find(const struct fwcfg *f, u16 key)
{
    for (u32 i = 0; i < f->count; i++) {
        if (f->items[i].key == key)
            return &f->items[i];
    }
    return NULL;
}

static struct fwcfg_item *find_file(struct fwcfg *f, const char *name)
{
    for (u32 i = 0; i < f->count; i++) {
        if (f->items[i].name[0] && !strcmp(f->items[i].name, name))
            return &f->items[i];
    }
    return NULL;
}

static int set_item(struct fwcfg *f, u16 key, const char *name, const void *data, size_t len,
                    bool copy, struct err *e)
{
    struct fwcfg_item *it = (struct fwcfg_item *)fwcfg_find(f, key);
    u8 *own = NULL;
    if (len > UINT32_MAX)
        return err_set(e, EINVAL, "fw_cfg: item %#x is larger than 4 GiB", key);
    if (!it && f->count == FWCFG_ITEMS_MAX)
        return err_set(e, ENOSPC, "fw_cfg: more than %d items", FWCFG_ITEMS_MAX);
    if (copy) {
        own = malloc(len ? len : 1);
        if (!own)
            return err_set(e, ENOMEM, "fw_cfg: no memory for item %#x", key);
        memcpy(own, data, len);
    }
    if (!it)
        it = &f->items[f->count++];
    else if (it->owned)
        free((void *)it->data);
    *it = (struct fwcfg_item){.key = key, .data = own ? own : data, .len = (u32)len, .owned = copy};
    if (name)
        strcpy(it->name, name); /* length checked by add_file */
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct dir_entry *)a)->name, ((const struct dir_entry *)b)->name);
}

/* The directory is an item itself, sorted by name as its readers expect. */
static int rebuild_directory(struct fwcfg *f, struct err *e)
{
    size_t n = 0, bytes = sizeof(u32) + FWCFG_ITEMS_MAX * sizeof(struct dir_entry);
    u8 *dir = calloc(1, bytes);
    if (!dir)
        return err_set(e, ENOMEM, "fw_cfg: no memory for the file directory");
    struct dir_entry *entry = (struct dir_entry *)(dir + sizeof(u32));
    for (u32 i = 0; i < f->count; i++) {
        const struct fwcfg_item *it = &f->items[i];
        if (!it->name[0])
            continue;
        entry[n].size = htobe32(it->len);
        entry[n].select = htobe16(it->key);
        strcpy(entry[n].name, it->name);
        n++;
    }
    qsort(entry, n, sizeof(*entry), by_name);
    u32 count = htobe32((u32)n);
    memcpy(dir, &count, sizeof(count));
    int ret = set_item(f, FWCFG_FILE_DIR, NULL, dir, sizeof(u32) + n * sizeof(*entry), true, e);
    free(dir);
    return ret;
}

static int add_file(struct fwcfg *f, const char *name, const void *data, size_t len, bool copy,
                    struct err *e)
{
    struct fwcfg_item *it = find_file(f, name);
    if (!name[0] || strlen(name) >= FWCFG_NAME_MAX)
        return err_set(e, EINVAL, "fw_cfg: file name %s is empty or longer than %d bytes", name,
                       FWCFG_NAME_MAX - 1);
    int ret = set_item(f, it ? it->key : f->next_file, name, data, len, copy, e);
    if (ret)
        return ret;
    if (!it)
        f->next_file++;
    return rebuild_directory(f, e);
}

int fwcfg_add(struct fwcfg *f, u16 key, const void *data, size_t len, struct err *e)
{
    return set_item(f, key, NULL, data, len, true, e);
}

int fwcfg_add_static(struct fwcfg *f, u16 key, const void *data, size_t len, struct err *e)
{
    return set_item(f, key, NULL, data, len, false, e);
}

int fwcfg_add_u16(struct fwcfg *f, u16 key, u16 val, struct err *e)
{
    val = htole16(val);
    return fwcfg_add(f, key, &val, sizeof(val), e);
}

int fwcfg_add_u32(struct fwcfg *f, u16 key, u32 val, struct err *e)
{
    val = htole32(val);
    return fwcfg_add(f, key, &val, sizeof(val), e);
}

int fwcfg_add_u64(struct fwcfg *f, u16 key, u64 val, struct err *e)
{
    val = htole64(val);
    return fwcfg_add(f, key, &val, sizeof(val), e);
}

int fwcfg_add_string(struct fwcfg *f, u16 key, const char *text, struct err *e)
{
    return fwcfg_add(f, key, text, strlen(text) + 1, e);
}

int fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, size_t len, struct err *e)
{
    return add_file(f, name, data, len, true, e);
}

int fwcfg_add_file_static(struct fwcfg *f, const char *name, const void *data, size_t len,
                          struct err *e)
{
    return add_file(f, name, data, len, false, e);
}

int fwcfg_init(struct fwcfg *f, struct mem *mem, struct err *e)
{
    memset(f, 0, sizeof(*f));
    f->mem = mem;
    f->next_file = FWCFG_FILE_FIRST;
    int ret = fwcfg_add(f, FWCFG_SIGNATURE, "QEMU", 4, e);
    if (!ret)
        ret = fwcfg_add_u32(f, FWCFG_ID, ID_TRADITIONAL | ID_DMA, e);
    if (!ret)
        ret = rebuild_directory(f, e);
    if (ret)
        fwcfg_fini(f);
    return ret;
}

void fwcfg_fini(struct fwcfg *f)
{
    for (u32 i = 0; i < f->count; i++) {
        if (f->items[i].owned)
            free((void *)f->items[i].data);
    }
    f->count = 0;
}
