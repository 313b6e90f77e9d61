/* gs.c - the GS base of this thread: translated code finds its vCPU there */
#include "engine/bt/gs.h"

#include <asm/prctl.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FSGSBASE_ENABLED 2u /* AT_HWCAP2: the kernel lets programs use WRGSBASE */

void gs_set(const void *base)
{
    if (getauxval(AT_HWCAP2) & FSGSBASE_ENABLED)
        asm volatile("wrgsbase %0" : : "r"(base));
    else
        syscall(SYS_arch_prctl, ARCH_SET_GS, base);
}
