/* smap.S - SMEP, SMAP and UMIP (SDM vol. 3 4.6, 2.5)
 * expected: all checks passed */
#include "guest.inc"

#define CR4_UMIP 0x800
#define CR4_SMEP 0x100000
#define CR4_SMAP 0x200000

    .code64
main:
    mov $7, %eax
    xor %ecx, %ecx
    cpuid
    mov %ebx, %r12d
    mov %ecx, %r13d
    bt $7, %r12d
    jnc no_smep
    movb $0xc3, PAGE(64)
    CR4_SET(CR4_SMEP)
    EXPECT(PF, PF_P | PF_I, mov $PAGE(64), %eax; jmp *%rax)
    mov $PAGE(64), %eax
    CHECK(exc_rip, %rax)
    USER(USER_DONE, 0, user_done)
    CR4_CLEAR(CR4_SMEP)
    EXPECT(NONE, 0, mov $PAGE(64), %eax; call *%rax)
no_smep:
    bt $20, %r12d
    jnc no_smap
    EXPECT(NONE, 0, stac; clac)
    CR4_SET(CR4_SMAP)
    EXPECT(PF, PF_P, mov PAGE(64), %eax)
    EXPECT(PF, PF_P | PF_W, mov %eax, PAGE(64))
    stac
    EXPECT(NONE, 0, mov PAGE(64), %eax)
    EXPECT(NONE, 0, mov %eax, PAGE(64))
    pushfq
    pop %rax
    and $FLAG_AC, %eax
    CHECK(%rax, $FLAG_AC)
    /* AC in RFLAGS does not help implicit accesses: an LDT in a user page. */
    mov $0x00cf93000000ffff, %rax
    mov %rax, PAGE(65)
    mov $(0xfff + ((PAGE(65) & 0xffffff) << 16) + ((PAGE(65) & 0xff000000) << 32)), %rax
    bts $47, %rax /* present */
    bts $41, %rax /* type 2 */
    mov %rax, gdt + SEL_FREE
    movq $0, gdt + SEL_FREE + 8
    mov $SEL_FREE, %eax
    lldt %ax
    EXPECT(PF, PF_P, mov $4, %ecx; mov %ecx, %es)
    mov $PAGE(65), %eax
    CHECK(exc_cr2, %rax)
    clac
    EXPECT(PF, PF_P, mov PAGE(64), %eax)
    /* POPF may set AC too. */
    pushfq
    orl $FLAG_AC, (%rsp)
    popfq
    EXPECT(NONE, 0, mov PAGE(64), %eax)
    clac
    /* User mode does not care. */
    USER(USER_DONE, 0, user_read)
    CR4_CLEAR(CR4_SMAP)
    EXPECT(NONE, 0, mov PAGE(64), %eax)
    USER(UD, 0, user_stac)
no_smap:
    bt $2, %r13d
    jnc no_umip
    USER(USER_DONE, 0, user_sgdt)
    CR4_SET(CR4_UMIP)
    USER(GP, 0, user_sgdt)
    USER(GP, 0, user_sidt)
    USER(GP, 0, user_sldt)
    USER(GP, 0, user_str)
    USER(GP, 0, user_smsw)
    EXPECT(NONE, 0, sldt %ax; str %ax; smsw %ax; sgdt PAGE(66); sidt PAGE(66))
    CR4_CLEAR(CR4_UMIP)
    USER(USER_DONE, 0, user_smsw)
no_umip:
    ret

    .section .user, "ax"
user_done:
    DONE
user_read:
    mov PAGE(64), %eax
    DONE
user_stac:
    stac
    DONE
user_sgdt:
    sgdt PAGE(66)
    DONE
user_sidt:
    sidt PAGE(66)
    DONE
user_sldt:
    sldt %ax
    DONE
user_str:
    str %ax
    DONE
user_smsw:
    smsw %ax
    DONE
