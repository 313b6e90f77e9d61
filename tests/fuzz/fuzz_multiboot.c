/* fuzz_multiboot.c - any bytes as a multiboot kernel */
#include "boot_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return load_bytes(data, size, multiboot_load);
}
