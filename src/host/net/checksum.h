/* checksum.h - Internet checksums of frames (RFC 1071) */
#pragma once

#include "base/types.h"

/* The ones' complement sum of the bytes, folded to 16 bits, on top of `sum`; in host order of
 * big-endian words, so that `~` of it, written big-endian, is a checksum. */
u16 checksum_add(u16 sum, const u8 *data, size_t len);

/* Completes a checksum that the sender left: the sum from `start` to the end of the frame goes to
 * `start + offset` (which holds the sum of the pseudo header). False when that lies outside. */
bool checksum_complete(u8 *frame, size_t len, u16 start, u16 offset);
