/* step.S - single-step, debug registers, RF, and the shadows of STI and MOV SS (SDM vol. 3
 * 17.2-17.3, 6.8) expected: all checks passed */
#include "guest.inc"

#define DR7_ON(n, type, len) (1 << (2 * (n)) | ((type) | (len) << 2) << (16 + 4 * (n)))
#define EXEC 0
#define WRITE 1
#define RW 3
#define BYTE 0
#define LONG 3
#define SET_TF pushfq; orl $FLAG_TF, (%rsp); popfq

    .code64
main:
    mov $0xffff0ff0, %eax
    mov %rax, %dr6
    /* The trap comes after the instruction behind the one that set TF. */
    EXPECT(DB, 0, SET_TF; nop; 98: nop; nop)
    CHECK(exc_rip, $98b)
    mov exc_dr6, %rax
    and $0xe00f, %eax
    CHECK(%rax, $0x4000)
    mov exc_flags, %rax
    and $FLAG_TF, %eax
    CHECK(%rax, $FLAG_TF)
    /* DR6.BS stays until software clears it. */
    mov %dr6, %rax
    and $0x4000, %eax
    CHECK(%rax, $0x4000)
    mov $0xffff0ff0, %eax
    mov %rax, %dr6
    /* MOV SS holds the trap back for one instruction. */
    mov $0x10, %ecx
    EXPECT(DB, 0, SET_TF; mov %ecx, %ss; nop; 98: nop)
    CHECK(exc_rip, $98b)
    /* An exception's own delivery clears TF and is not followed by a trap in the handler. */
    EXPECT(UD, 0, SET_TF; ud2)
    /* A repeated string instruction traps after each element. */
    mov $2, %ecx
    mov $PAGE(64), %edi
    EXPECT(DB, 0, SET_TF; 98: rep stosb; nop)
    CHECK(exc_rip, $98b)
    CHECK(%rcx, $1)

    /* Execution breakpoint: a fault before the instruction; alone among faults it does not set
     * RF in the saved flags. */
    mov $bp_here, %eax
    mov %rax, %dr0
    mov $DR7_ON(0, EXEC, BYTE) + 0x400, %eax
    mov %rax, %dr7
    xor %ebx, %ebx
    EXPECT(DB, 0, nop; bp_here: inc %ebx; nop)
    CHECK(exc_rip, $bp_here)
    CHECK(%rbx, $0)
    mov exc_dr6, %rax
    and $0xf, %eax
    CHECK(%rax, $1)
    mov exc_flags, %rax
    and $FLAG_RF, %eax
    CHECK(%rax, $0)
    /* Disabled, the other faults do. */
    xor %eax, %eax
    mov %rax, %dr7
    EXPECT(UD, 0, ud2)
    mov exc_flags, %rax
    and $FLAG_RF, %eax
    CHECK(%rax, $FLAG_RF)
    mov $DR7_ON(0, EXEC, BYTE) + 0x400, %eax
    mov %rax, %dr7
    /* IRET with RF set runs the instruction once; the next time it faults again. */
    mov $bp_loop, %eax
    mov %rax, %dr0
    xor %ebx, %ebx
    mov $0xffff0ff0, %eax
    mov %rax, %dr6
    mov %rsp, %rbp
    EXPECT(DB, 0, pushq $0x10; pushq %rbp; pushq $FLAG_RF + 2; pushq $8; pushq $bp_loop; iretq;
           bp_loop: inc %ebx; jmp bp_loop)
    CHECK(%rbx, $1)
    /* Data breakpoints: traps, after the access. */
    xor %eax, %eax
    mov %rax, %dr7
    mov $PAGE(65), %eax
    mov %rax, %dr1
    mov $DR7_ON(1, WRITE, LONG) + 0x400, %eax
    mov %rax, %dr7
    EXPECT(NONE, 0, mov PAGE(65), %eax)
    EXPECT(DB, 0, movb $7, PAGE(65) + 3; 98: nop)
    CHECK(exc_rip, $98b)
    mov exc_dr6, %rax
    and $0xf, %eax
    CHECK(%rax, $2)
    movzbl PAGE(65) + 3, %eax
    CHECK(%rax, $7)
    EXPECT(NONE, 0, movb $7, PAGE(65) + 4)
    EXPECT(DB, 0, movw $7, PAGE(65) - 1)
    mov $DR7_ON(1, RW, LONG) + 0x400, %eax
    mov %rax, %dr7
    EXPECT(DB, 0, mov PAGE(65), %al)
    /* MOV SS holds data breakpoints back too. */
    xor %eax, %eax
    mov %rax, %dr7
    movw $0x10, PAGE(65)
    mov $DR7_ON(1, RW, LONG) + 0x400, %eax
    mov %rax, %dr7
    EXPECT(DB, 0, mov PAGE(65), %ss; nop; 98: nop)
    CHECK(exc_rip, $98b)
    xor %eax, %eax
    mov %rax, %dr7

    /* DR7.GD: any access to a debug register faults, and GD is cleared for the handler. */
    mov $0x2400, %eax
    mov %rax, %dr7
    EXPECT(DB, 0, mov %dr0, %rax)
    mov exc_dr6, %rax
    and $0x2000, %eax
    CHECK(%rax, $0x2000)
    mov %dr7, %rax
    and $0x2000, %eax
    CHECK(%rax, $0)
    /* CR4.DE makes DR4 and DR5 undefined; without it they are DR6 and DR7. */
    mov %dr7, %rbx
    EXPECT(NONE, 0, .byte 0x0f, 0x21, 0xe8) /* mov %dr5, %rax */
    CHECK(%rax, %rbx)
    CR4_SET(8)
    EXPECT(UD, 0, .byte 0x0f, 0x21, 0xe8)
    CR4_CLEAR(8)
    /* The upper halves of DR6 and DR7 are reserved. */
    EXPECT(GP, 0, mov $0x100000000, %rax; mov %rax, %dr7)
    EXPECT(GP, 0, mov $0x100000000, %rax; mov %rax, %dr6)
    USER(GP, 0, user_dr)

    /* INT1 is a trap with an empty DR6. */
    mov $0xffff0ff0, %eax
    mov %rax, %dr6
    EXPECT(DB, 0, .byte 0xf1; 98: nop)
    CHECK(exc_rip, $98b)
    ret

    .section .user, "ax"
user_dr:
    mov %dr0, %rax
    DONE
