/* aml.h - a writer of ACPI machine language (ACPI 6.4, chapter 20) */
#pragma once

#include "base/types.h"

#define AML_DEPTH_MAX 8

/* Writes into the caller's buffer. Running out of room or depth sets `failed`, and everything after
 * is dropped: check it once at the end. */
struct aml {
    u8 *data;
    size_t len, cap;
    size_t open[AML_DEPTH_MAX]; /* where the contents of the open blocks begin */
    unsigned depth;
    bool failed;
};

void aml_init(struct aml *a, u8 *data, size_t cap);

/* Blocks: everything up to aml_end belongs to it. Names are paths such as "\\_SB" or "COM1". */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args);
void aml_package(struct aml *a, u8 elements);
void aml_end(struct aml *a);

/* Name(name, value): the value is whatever is written next. */
void aml_name(struct aml *a, const char *name);
void aml_integer(struct aml *a, u64 value);
void aml_string(struct aml *a, const char *text);
/* "PNP0501" as the compressed integer of _HID. */
void aml_eisa_id(struct aml *a, const char *id);

/* A resource template (_CRS): a buffer of descriptors, closed by aml_end. */
void aml_resources(struct aml *a);
/* What a bridge passes on, first to last number: a producer's address space descriptor. */
enum aml_space { AML_MEMORY, AML_PORTS, AML_BUSES };
void aml_window(struct aml *a, enum aml_space space, u32 first, u32 last);
void aml_io(struct aml *a, u16 port, u8 length);
void aml_irq(struct aml *a, u8 irq);                  /* edge, active high, exclusive */
void aml_memory(struct aml *a, u32 base, u32 length); /* 32-bit fixed, read-write */
