/* segments.S - limits, types and privilege of segments in 32-bit protected mode (SDM vol. 3
 * chapter 5) expected: all checks passed */
#define GUEST32
#include "guest.inc"

/* Descriptors at 48 and up: base 420000, limit 0FFF unless said. */
#define S_DATA 0x48
#define S_RO 0x50
#define S_DOWN 0x58
#define S_CODE 0x60    /* execute only */
#define S_ABSENT 0x68
#define S_DPL3 0x70
#define S_DOWN16 0x78
#define S_CONF 0x80
#define S_SYS 0x88
#define S_SHORT_CODE 0x90

    .code32
main:
    SET_GDT(S_DATA, 0x00000fff, 0x00409342)
    SET_GDT(S_RO, 0x00000fff, 0x00409142)
    SET_GDT(S_DOWN, 0x00000fff, 0x00409742)
    SET_GDT(S_CODE, 0x00000fff, 0x00409942)
    SET_GDT(S_ABSENT, 0x00000fff, 0x00401342)
    SET_GDT(S_DPL3, 0x00000fff, 0x0040f342)
    SET_GDT(S_DOWN16, 0x00000fff, 0x00009742)
    SET_GDT(S_CONF, 0x0000ffff, 0x00cf9f00)
    SET_GDT(S_SYS, 0x00000fff, 0x00008242)
    /* Limits: the last byte in, the next out; words half out. */
    mov $S_DATA, %eax
    mov %eax, %fs
    EXPECT(NONE, 0, movb $1, %fs:0xfff)
    EXPECT(GP, 0, movb $1, %fs:0x1000)
    EXPECT(GP, 0, movw $1, %fs:0xfff)
    EXPECT(NONE, 0, movl $1, %fs:0xffc)
    EXPECT(GP, 0, mov %fs:0xffd, %eax)
    EXPECT(GP, 0, mov %fs:0xffffffff, %ax) /* wraps */
    /* Read-only, expand-down, execute-only. */
    mov $S_RO, %eax
    mov %eax, %fs
    EXPECT(NONE, 0, mov %fs:0, %eax)
    EXPECT(GP, 0, mov %eax, %fs:0)
    EXPECT(GP, 0, lock incl %fs:0)
    mov $S_DOWN, %eax
    mov %eax, %fs
    EXPECT(GP, 0, mov %fs:0xfff, %al)
    EXPECT(NONE, 0, mov %fs:0x1000, %al)
    EXPECT(NONE, 0, mov %fs:0x10000, %al)
    mov $S_DOWN16, %eax
    mov %eax, %fs
    EXPECT(NONE, 0, mov %fs:0xffff, %al)
    EXPECT(GP, 0, mov %fs:0xffff, %ax)
    EXPECT(GP, 0, mov %fs:0x10000, %al)
    EXPECT(GP, S_CODE, mov $S_CODE, %eax; mov %eax, %fs)
    /* What may be loaded where. */
    EXPECT(NP, S_ABSENT, mov $S_ABSENT, %eax; mov %eax, %fs)
    EXPECT(SS_FAULT, S_ABSENT, mov $S_ABSENT, %eax; mov %eax, %ss)
    EXPECT(GP, S_RO, mov $S_RO, %eax; mov %eax, %ss)
    EXPECT(GP, 0, xor %eax, %eax; mov %eax, %ss)
    EXPECT(GP, S_DPL3, mov $S_DPL3, %eax; mov %eax, %ss)
    EXPECT(GP, 0x20, mov $0x23, %eax; mov %eax, %ss)
    EXPECT(GP, 0x10, mov $0x13, %eax; mov %eax, %fs; jmp 97f) /* RPL 3 on DPL 0 */
97:
    EXPECT(GP, S_SYS, mov $S_SYS, %eax; mov %eax, %fs)
    EXPECT(GP, 0x1f8, mov $0x1f8, %eax; mov %eax, %fs)
    EXPECT(GP, 0x4c, mov $0x4c, %eax; mov %eax, %fs) /* there is no LDT */
    EXPECT(UD, 0, .byte 0x8e, 0xc8) /* MOV CS */
    /* Null: loading is fine, using is not. */
    xor %eax, %eax
    mov %eax, %fs
    EXPECT(GP, 0, mov %fs:0, %al)
    /* The accessed bit is set by the load. */
    andb $0xfe, gdt + S_DATA + 5
    mov $S_DATA, %eax
    mov %eax, %fs
    movzbl gdt + S_DATA + 5, %eax
    CHECK(%eax, $0x93)
    /* The hidden part lives on when the descriptor changes. */
    movb $0, gdt + S_DATA + 5
    EXPECT(NONE, 0, mov %fs:0, %al)
    movb $0x93, gdt + S_DATA + 5
    /* Stack limits are #SS(0). */
    EXPECT(SS_FAULT, 0, pushl $S_DPL3 + 3; pushl $0x1004; pushl $2; pushl $0x1b;
           pushl $user_push; iret)
    CHECK(exc_sp, $0x1004)
    EXPECT(USER_DONE, 0, pushl $S_DPL3 + 3; pushl $0x1000; pushl $2; pushl $0x1b;
           pushl $user_push; iret)
    CHECK(exc_sp, $0xffc)
    EXPECT(SS_FAULT, 0, pushl $S_DPL3 + 3; pushl $0x1000; pushl $2; pushl $0x1b; pushl $user_pop;
           iret)
    /* VERR, VERW, LAR, LSL. */
    mov $S_RO, %eax
    verr %ax
    setz %bl
    verw %ax
    setz %bh
    movzwl %bx, %ebx
    CHECK(%ebx, $1)
    mov $S_CODE, %eax
    verr %ax
    setz %bl
    movzbl %bl, %ebx
    CHECK(%ebx, $0)
    mov $S_DATA, %eax
    lsl %eax, %ecx
    CHECK(%ecx, $0xfff)
    lar %eax, %ecx
    and $0x00f0ff00, %ecx
    CHECK(%ecx, $0x00409300)
    mov $0x10, %eax
    lsl %eax, %ecx
    CHECK(%ecx, $0xffffffff)
    mov $0x1f8, %eax
    mov $0x77, %ecx
    lar %eax, %ecx
    setz %al
    movzbl %al, %eax
    CHECK(%eax, $0)
    CHECK(%ecx, $0x77)
    /* Far jumps: limit of the new segment, conforming code, data. */
    SET_GDT(S_SHORT_CODE, 0x000000ff, 0x00409b00)
    EXPECT(GP, 0, ljmp $S_SHORT_CODE, $0x100)
    EXPECT(GP, S_DATA, ljmp $S_DATA, $0)
    EXPECT(GP, 0, ljmp $0, $0)
    EXPECT(GP, 0x18, ljmp $0x1b, $0) /* DPL 3 from CPL 0 */
    EXPECT(NONE, 0, ljmp $S_CONF, $98f; 98:)
    EXPECT(UD, 0, ljmp $S_CONF, $98f; 98: ud2)
    CHECK(exc_cs, $S_CONF)
    ljmp $8, $98f
98:
    /* Conforming code keeps CPL 3. */
    USER(USER_DONE, 0, user_conf)
    mov exc_cs, %eax
    CHECK(%eax, $S_CONF + 3)
    USER(GP, 0x10, user_kernel_data)
    USER(GP, 8, user_kernel_code)
    USER(GP, 0, user_lgdt)
    /* LES and friends check before they load the offset. */
    mov $0x5555, %ebx
    movl $0x1111, scratch
    movw $S_ABSENT, scratch + 4
    EXPECT(NP, S_ABSENT, lfs scratch, %ebx)
    CHECK(%ebx, $0x5555)
    movw $S_DATA, scratch + 4
    EXPECT(NONE, 0, lfs scratch, %ebx)
    CHECK(%ebx, $0x1111)
    ret

    .section .bss
scratch: .skip 8

    .section .user, "ax"
    .code32
user_conf:
    ljmp $S_CONF + 3, $1f
1:  DONE
user_push:
    push %eax
    DONE
user_pop:
    pop %eax
    DONE
user_kernel_data:
    mov $0x10, %eax
    mov %eax, %ds
user_kernel_code:
    ljmp $8, $0
user_lgdt:
    lgdt gdt_ptr
