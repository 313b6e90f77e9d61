/* v86.S - virtual-8086 mode: IOPL, sensitive instructions, INT, IRET, VME, PVI (SDM vol. 3
 * chapter 20) expected: all checks passed */
#define GUEST32
#include "guest.inc"

#define CR4_VME 1
#define CR4_PVI 2
/* Code of virtual-8086 mode is copied to 1000:0, its stack is 2000:1000, the 8086 IVT at 0. */
#define V86_SEG 0x1000
#define V86(vec, err, label, flags)                                                                \
    EXPECT_BEGIN; pushl $0x5555; pushl $0x4444; pushl $0x3333; pushl $0x2222; pushl $0x2000;       \
    pushl $0x1000; pushl $FLAG_VM + 2 + (flags); pushl $V86_SEG; pushl $(label) - v86_code;        \
    iret; EXPECT_END(vec, err)
#define IOPL3 0x3000

    .code32
main:
    mov $v86_code, %esi
    mov $V86_SEG * 16, %edi
    mov $v86_end - v86_code, %ecx
    rep movsb
    /* Entered by IRET with all segments; left by an exception with all of them on the stack. */
    V86(UD, 0, v_ud, IOPL3)
    mov exc_flags, %eax
    and $FLAG_VM, %eax
    CHECK(%eax, $FLAG_VM)
    CHECK(exc_cs, $V86_SEG)
    CHECK(exc_ss, $0x2000)
    CHECK(exc_sp, $0x1000)
    CHECK(exc_v86_es, $0x2222)
    CHECK(exc_v86_ds, $0x3333)
    CHECK(exc_ds, $0)
    CHECK(exc_rip, $v_ud - v86_code)
    /* Base = selector * 16; offsets beyond FFFF are #GP. */
    V86(UD, 0, v_base, IOPL3)
    CHECK(%eax, $0x20)
    V86(GP, 0, v_limit, IOPL3)
    V86(SS_FAULT, 0, v_limit_bp, IOPL3)
    /* Privileged instructions, and those that do not exist here. */
    V86(GP, 0, v_hlt, IOPL3)
    V86(GP, 0, v_movcr, IOPL3)
    V86(GP, 0, v_lgdt, IOPL3)
    V86(UD, 0, v_sldt, IOPL3)
    V86(UD, 0, v_arpl, IOPL3)
    V86(UD, 0, v_lar, IOPL3)
    V86(UD, 0, v_verr, IOPL3)
    /* IOPL below 3: the sensitive ones. */
    V86(GP, 0, v_cli, 0)
    V86(GP, 0, v_sti, 0)
    V86(GP, 0, v_pushf, 0)
    V86(GP, 0, v_popf, 0)
    V86(GP, 0, v_iret, 0)
    V86(GP, 0, v_int, 0)
    V86(BP, 0, v_int3, 0)
    V86(GP, 0x50 * 8 + 2, v_int, IOPL3) /* through the IDT, whose gate has DPL 0 */
    V86(GP, 0, v_in, IOPL3) /* the bitmap decides alone */
    V86(UD, 0, v_cli_sti, IOPL3)
    V86(UD, 0, v_popf_if, IOPL3)
    mov exc_flags, %eax
    and $FLAG_IF + IOPL3, %eax
    CHECK(%eax, $IOPL3) /* IF cleared, IOPL kept */
    V86(UD, 0, v_iret_ok, IOPL3)
    CHECK(exc_rip, $v_iret_target - v86_code)
    V86(UD, 0, v_far, IOPL3)
    CHECK(exc_cs, $V86_SEG - 1)

    /* VME. */
    mov $1, %eax
    cpuid
    bt $1, %edx
    jnc no_vme
    /* Redirection map: 32 bytes below the I/O map; bit clear = to the 8086 handler. */
    movw $0x88 + 0x20, gdt + 0x38
    andb $0xfd, gdt + 0x38 + 5
    movw $0x88, tss + 102
    mov $0x38, %eax
    ltr %ax
    movb $0xff, tss + 0xa8
    movw $v_handler - v86_code, 4 * 0x50
    movw $V86_SEG, 4 * 0x50 + 2
    CR4_SET(CR4_VME)
    /* INT goes to 1000:v_handler with IF and TF cleared. */
    V86(UD, 0, v_int, IOPL3 + FLAG_IF)
    CHECK(exc_rip, $v_handler_ud - v86_code)
    CHECK(exc_sp, $0x1000 - 6)
    mov exc_flags, %eax
    and $FLAG_IF, %eax
    CHECK(%eax, $0)
    movzwl 0x20000 + 0xffe, %eax /* FLAGS as pushed */
    and $FLAG_IF + IOPL3, %eax
    CHECK(%eax, $FLAG_IF + IOPL3)
    /* IOPL 0: VIF plays IF, IOPL reads as 3. */
    V86(UD, 0, v_int, FLAG_IF + FLAG_VIF)
    CHECK(exc_rip, $v_handler_ud - v86_code)
    mov exc_flags, %eax
    and $FLAG_IF + FLAG_VIF, %eax
    CHECK(%eax, $FLAG_IF)
    movzwl 0x20000 + 0xffe, %eax
    and $FLAG_IF + IOPL3, %eax
    CHECK(%eax, $FLAG_IF + IOPL3)
    /* Bit set: to the monitor. */
    orb $1, tss + 0x68 + 0x50 / 8
    V86(GP, 0, v_int, 0)
    andb $0xfe, tss + 0x68 + 0x50 / 8
    V86(UD, 0, v_cli, FLAG_VIF)
    mov exc_flags, %eax
    and $FLAG_VIF, %eax
    CHECK(%eax, $0)
    V86(UD, 0, v_sti, 0)
    mov exc_flags, %eax
    and $FLAG_VIF, %eax
    CHECK(%eax, $FLAG_VIF)
    V86(GP, 0, v_sti, FLAG_VIP) /* a virtual interrupt is waiting */
    V86(UD, 0, v_pushf, FLAG_VIF)
    movzwl 0x20000 + 0xffe, %eax
    and $FLAG_IF + IOPL3, %eax
    CHECK(%eax, $FLAG_IF + IOPL3)
    V86(UD, 0, v_popf_if, FLAG_VIF)
    mov exc_flags, %eax
    and $FLAG_VIF, %eax
    CHECK(%eax, $0)
    V86(GP, 0, v_pushfd, 0)
    V86(UD, 0, v_iret_ok, 0)
    CHECK(exc_rip, $v_iret_target - v86_code)
    CR4_CLEAR(CR4_VME)
    /* PVI: the same for CPL 3 in protected mode. */
    CR4_SET(CR4_PVI)
    EXPECT(USER_DONE, 0, pushl $0x23; pushl $user_stack32; pushl $FLAG_VIF + 2; pushl $0x1b;
           pushl $user_cli; iret)
    mov exc_flags, %eax
    and $FLAG_VIF, %eax
    CHECK(%eax, $0)
    EXPECT(GP, 0, pushl $0x23; pushl $user_stack32; pushl $FLAG_VIP + 2; pushl $0x1b;
           pushl $user_sti; iret)
    CR4_CLEAR(CR4_PVI)
    USER(GP, 0, user_cli)
no_vme:
    ret

    .data
    .code16
v86_code:
v_ud:
    ud2
v_base:
    mov $0x10, %ax
    mov %ax, %fs
    movw $0x20, %fs:0x7f00 /* linear 8000 */
    xor %eax, %eax
    mov $0x800, %ax
    mov %ax, %gs
    movw %gs:0, %ax
    ud2
v_limit:
    mov $0xffff, %bx
    mov (%bx), %ax
v_limit_bp:
    mov $0xffff, %bp
    mov (%bp), %ax
v_hlt:
    hlt
v_movcr:
    mov %cr0, %eax
v_lgdt:
    lgdt 0
v_sldt:
    sldt %ax
v_arpl:
    arpl %ax, %bx
v_lar:
    lar %ax, %bx
v_verr:
    verr %ax
v_cli:
    cli
    ud2
v_sti:
    sti
    nop
    ud2
v_pushf:
    pushf
    ud2
v_pushfd:
    pushfl
    ud2
v_popf:
    popf
    ud2
v_int:
    int $0x50
    ud2
v_int3:
    int3
v_in:
    in $0x61, %al
    ud2
v_cli_sti:
    sti
    cli
    ud2
v_popf_if:
    push $2
    popf
    ud2
v_iret:
v_iret_ok:
    push $2
    push $V86_SEG
    push $v_iret_target - v86_code
    iret
v_iret_target:
    ud2
v_far:
    ljmp $V86_SEG - 1, $v_far_target - v86_code + 16
v_far_target:
    ud2
v_handler:
    nop
v_handler_ud:
    ud2
v86_end:
    .code32

    .section .user, "ax"
    .code32
user_cli:
    cli
    DONE
user_sti:
    sti
    DONE
