/* wire.c - elements of state structs to and from little-endian bytes */
#include "snap/wire.h"

#include <string.h>

unsigned wire_width(u8 type)
{
    switch (type) {
    case SNAP_T_U8: return 1;
    case SNAP_T_U16: return 2;
    case SNAP_T_U32: return 4;
    case SNAP_T_U64: return 8;
    case SNAP_T_BOOL: return sizeof(bool);
    default: ASSERT(!"a known field type"); return 0;
    }
}

size_t wire_payload(const struct snap_desc *d)
{
    size_t bytes = 0;

    for (const struct snap_field *f = d->fields; f->name; f++)
        bytes += 5 + (size_t)f->count * wire_width(f->type);
    return bytes;
}

void wire_store(u8 *to, unsigned width, u64 val)
{
    for (unsigned i = 0; i < width; i++)
        to[i] = (u8)(val >> (8 * i));
}

u64 wire_fetch(const u8 *from, unsigned width)
{
    u64 val = 0;

    for (unsigned i = 0; i < width; i++)
        val |= (u64)from[i] << (8 * i);
    return val;
}

/* The host is little-endian (x86-64), so an element's bytes are its wire bytes. */
u64 wire_get(const struct snap_field *f, const u8 *obj, u32 i)
{
    unsigned width = wire_width(f->type);
    u64 val = 0;

    memcpy(&val, obj + f->offset + (size_t)i * width, width);
    return val;
}

void wire_set(const struct snap_field *f, u8 *obj, u32 i, u64 val)
{
    unsigned width = wire_width(f->type);

    memcpy(obj + f->offset + (size_t)i * width, &val, width);
}
