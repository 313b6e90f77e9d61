/* aml.c - a writer of ACPI machine language (ACPI 6.4, chapter 20) */
#include "machine/aml.h"

#include <string.h>

#include "machine/bytes.h"

enum aml_op {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
};

/* Resource descriptors (ACPI 6.4, 6.4). */
#define RES_IRQ_NO_FLAGS   0x22
#define RES_IO             0x47
#define RES_END            0x79
#define RES_MEMORY32_FIXED 0x86
#define RES_DWORD          0x87
#define RES_WORD           0x88
#define RES_FIXED          0x0c

/* A template's open block is marked, so that aml_end knows to write the buffer's head. */
#define OPEN_TEMPLATE ((size_t)1 << 63)

void aml_init(struct aml *a, u8 *data, size_t cap)
{
    *a = (struct aml){.data = data, .cap = cap};
}

static void put(struct aml *a, const void *bytes, size_t n)
{
    if (a->failed || n > a->cap - a->len) {
        a->failed = true;
        return;
    }
    memcpy(a->data + a->len, bytes, n);
    a->len += n;
}

static void put8(struct aml *a, u8 byte)
{
    put(a, &byte, 1);
}

static void open_block(struct aml *a, size_t mark)
{
    if (a->depth == AML_DEPTH_MAX) {
        a->failed = true;
        return;
    }
    a->open[a->depth++] = a->len | mark;
}

/* Moves the open contents up and writes `head` before them. */
static void insert(struct aml *a, size_t at, const u8 *head, size_t n)
{
    if (a->failed || n > a->cap - a->len) {
        a->failed = true;
        return;
    }
    memmove(a->data + at + n, a->data + at, a->len - at);
    memcpy(a->data + at, head, n);
    a->len += n;
}

/* PkgLength: its own bytes count too; bits 7-6 of the first give the number of the others. */
static size_t encode_length(size_t contents, u8 out[4])
{
    size_t n = contents + 1 <= 0x3f      ? 1
               : contents + 2 <= 0xfff   ? 2
               : contents + 3 <= 0xfffff ? 3
                                         : 4;
    size_t total = contents + n;

    if (n == 1) {
        out[0] = (u8)total;
        return 1;
    }
    out[0] = (u8)((n - 1) << 6 | (total & 0xf));
    for (size_t i = 1; i < n; i++)
        out[i] = (u8)(total >> (4 + 8 * (i - 1)));
    return n;
}

static void end_template(struct aml *a, size_t at)
{
    size_t contents;
    u8 head[4], size[3] = {OP_WORD};

    put8(a, RES_END);
    put8(a, 0); /* checksum: 0 = not computed */
    if (a->failed)
        return;
    contents = a->len - at;
    put_le16(size + 1, (u16)contents);
    insert(a, at, size, sizeof(size));
    insert(a, at, head, encode_length(contents + sizeof(size), head));
}

void aml_end(struct aml *a)
{
    size_t at;
    u8 head[4];

    if (a->failed || a->depth == 0) {
        a->failed = true;
        return;
    }
    at = a->open[--a->depth];
    if (at & OPEN_TEMPLATE)
        end_template(a, at & ~OPEN_TEMPLATE);
    else
        insert(a, at, head, encode_length(a->len - at, head));
}

/* A name path of one segment, padded with '_' to four; a leading backslash is kept. */
static void put_path(struct aml *a, const char *name)
{
    char seg[4] = {'_', '_', '_', '_'};
    size_t n;

    if (*name == '\\')
        put8(a, (u8)*name++);
    n = strlen(name);
    if (n == 0 || n > 4) {
        a->failed = true;
        return;
    }
    memcpy(seg, name, n);
    put(a, seg, 4);
}

void aml_scope(struct aml *a, const char *name)
{
    put8(a, OP_SCOPE);
    open_block(a, 0);
    put_path(a, name);
}

void aml_device(struct aml *a, const char *name)
{
    put8(a, OP_EXT);
    put8(a, OP_EXT_DEVICE);
    open_block(a, 0);
    put_path(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
    put8(a, OP_METHOD);
    open_block(a, 0);
    put_path(a, name);
    put8(a, args & 7);
}

void aml_package(struct aml *a, u8 elements)
{
    put8(a, OP_PACKAGE);
    open_block(a, 0);
    put8(a, elements);
}

void aml_name(struct aml *a, const char *name)
{
    put8(a, OP_NAME);
    put_path(a, name);
}

void aml_integer(struct aml *a, u64 value)
{
    u8 bytes[9];
    size_t n;

    if (value <= 1) {
        put8(a, value ? OP_ONE : OP_ZERO);
        return;
    }
    n = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    bytes[0] = n == 1 ? OP_BYTE : n == 2 ? OP_WORD : n == 4 ? OP_DWORD : OP_QWORD;
    put_le64(bytes + 1, value);
    put(a, bytes, 1 + n);
}

void aml_string(struct aml *a, const char *text)
{
    put8(a, OP_STRING);
    put(a, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return c >= 'A' ? (unsigned)(c - 'A') + 10 : (unsigned)(c - '0');
}

void aml_eisa_id(struct aml *a, const char *id)
{
    u8 bytes[5] = {OP_DWORD};
    unsigned letters;

    if (strlen(id) != 7) {
        a->failed = true;
        return;
    }
    letters =
        (unsigned)(id[0] - '@') << 10 | (unsigned)(id[1] - '@') << 5 | (unsigned)(id[2] - '@');
    bytes[1] = (u8)(letters >> 8);
    bytes[2] = (u8)letters;
    bytes[3] = (u8)(hex_digit(id[3]) << 4 | hex_digit(id[4]));
    bytes[4] = (u8)(hex_digit(id[5]) << 4 | hex_digit(id[6]));
    put(a, bytes, sizeof(bytes));
}

void aml_resources(struct aml *a)
{
    put8(a, OP_BUFFER);
    open_block(a, OPEN_TEMPLATE);
}

/* Word and DWord Address Space descriptors (6.4.3.5): type, general flags (both ends fixed), type
 * specific flags, then granularity, first, last, translation, length. */
void aml_window(struct aml *a, enum aml_space space, u32 first, u32 last)
{
    static const u8 specific[] = {[AML_MEMORY] = 1 /* writable */, [AML_PORTS] = 3 /* all */};
    size_t word = space == AML_MEMORY ? 4 : 2;
    u8 d[26] = {word == 4 ? RES_DWORD : RES_WORD, (u8)(3 + 5 * word), 0, (u8)space, RES_FIXED};
    u32 values[5] = {0, first, last, 0, last - first + 1};

    d[5] = space == AML_BUSES ? 0 : specific[space];
    for (size_t i = 0; i < 5; i++) {
        if (word == 4)
            put_le32(d + 6 + i * 4, values[i]);
        else
            put_le16(d + 6 + i * 2, (u16)values[i]);
    }
    put(a, d, 6 + 5 * word);
}

void aml_io(struct aml *a, u16 port, u8 length)
{
    u8 d[8] = {RES_IO, 1 /* decodes 16 bits */};

    put_le16(d + 2, port);
    put_le16(d + 4, port);
    d[6] = 1;
    d[7] = length;
    put(a, d, sizeof(d));
}

void aml_irq(struct aml *a, u8 irq)
{
    u8 d[3] = {RES_IRQ_NO_FLAGS};

    put_le16(d + 1, (u16)(1u << irq));
    put(a, d, sizeof(d));
}

void aml_memory(struct aml *a, u32 base, u32 length)
{
    u8 d[12] = {RES_MEMORY32_FIXED, 9, 0, 1 /* writable */};

    put_le32(d + 4, base);
    put_le32(d + 8, length);
    put(a, d, sizeof(d));
}
