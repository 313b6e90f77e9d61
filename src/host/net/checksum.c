/* checksum.c - Internet checksums of frames (RFC 1071) */
#include "host/net/checksum.h"

#include <string.h>

/* Eight bytes at a time in the host's byte order: the sum is swapped once at the end. */
u16 checksum_add(u16 sum, const u8 *data, size_t len)
{
    u64 total = 0, word;

    for (; len >= 8; len -= 8, data += 8) {
        memcpy(&word, data, 8);
        total += word;
        total += total < word; /* end-around carry */
    }
    if (len) {
        word = 0;
        memcpy(&word, data, len);
        total += word;
        total += total < word;
    }
    total = (total & 0xffffffff) + (total >> 32);
    total = (total & 0xffffffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total = __builtin_bswap16((u16)total) + sum;
    return (u16)((total & 0xffff) + (total >> 16));
}

bool checksum_complete(u8 *frame, size_t len, u16 start, u16 offset)
{
    size_t at = (size_t)start + offset;
    u16 sum;

    if (start >= len || at + 2 > len)
        return false;
    sum = (u16)~checksum_add(0, frame + start, len - start);
    if (!sum)
        sum = 0xffff; /* 0 would mean "none" to UDP, and is the same number to others */
    frame[at] = (u8)(sum >> 8);
    frame[at + 1] = (u8)sum;
    return true;
}
