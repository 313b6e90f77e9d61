/* fuzz_elf.c - any bytes as an ELF kernel with a PVH note */
#include "boot_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return load_bytes(data, size, pvh_load);
}
