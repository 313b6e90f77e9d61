/* fuzz_bzimage.c - any bytes as a Linux bzImage */
#include "boot_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return load_bytes(data, size, bzimage_load);
}
