/* wire.h - how one field of a state struct looks in the stream (private to snap/) */
#pragma once

#include "base/types.h"
#include "snap/snap.h"

/* Bytes of one element, on the wire and in memory. */
unsigned wire_width(u8 type);
/* Payload bytes of a record of this kind: all fields with their 5-byte heads. */
size_t wire_payload(const struct snap_desc *d);

/* Little-endian numbers of 1, 2, 4 or 8 bytes. */
void wire_store(u8 *to, unsigned width, u64 val);
u64 wire_fetch(const u8 *from, unsigned width);

/* Element i of field f in the object. */
u64 wire_get(const struct snap_field *f, const u8 *obj, u32 i);
void wire_set(const struct snap_field *f, u8 *obj, u32 i, u64 val);
