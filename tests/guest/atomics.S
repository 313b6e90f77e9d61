/* atomics.S - LOCK and ordinary accesses across pages: all or nothing; CMPXCHG8B/16B; XADD (SDM
 * vol. 3 8.1) expected: all checks passed */
#include "guest.inc"

    .code64
main:
    /* Across two present pages. */
    movl $0xfffffffe, PAGE(65) - 2
    lock incl PAGE(65) - 2
    mov PAGE(65) - 2, %eax
    mov $-1, %ebx
    CHECK(%rax, %rbx)
    lock incl PAGE(65) - 2
    mov PAGE(65) - 2, %eax
    CHECK(%rax, $0)
    mov $0x1122334455667788, %rax
    xchg %rax, PAGE(65) - 3
    mov PAGE(65) - 3, %rbx
    mov $0x1122334455667788, %rax
    CHECK(%rax, %rbx)
    /* The second page is missing or read-only: the first stays as it was. */
    movq $0, USER_PTE(66)
    invlpg PAGE(66)
    movl $0x5a5a5a5a, PAGE(66) - 4
    EXPECT(PF, PF_W, mov $-1, %rax; mov %rax, PAGE(66) - 4)
    mov PAGE(66) - 4, %eax
    CHECK(%rax, $0x5a5a5a5a)
    EXPECT(PF, PF_W, lock incq PAGE(66) - 4)
    mov PAGE(66) - 4, %eax
    CHECK(%rax, $0x5a5a5a5a)
    EXPECT(PF, PF_W, movdqu %xmm0, PAGE(66) - 4)
    mov PAGE(66) - 4, %eax
    CHECK(%rax, $0x5a5a5a5a)
    EXPECT(PF, PF_W, fninit; fxsave PAGE(66) - 256)
    EXPECT(PF, 0, mov PAGE(66) - 4, %rax)
    /* The first page is missing: CR2 names it. */
    movq $0, USER_PTE(67)
    invlpg PAGE(67)
    EXPECT(PF, PF_W, mov %rax, PAGE(68) - 4)
    mov $PAGE(68) - 4, %eax
    CHECK(exc_cr2, %rax)
    /* CMPXCHG writes always, also when it does not exchange. */
    movl $7, PAGE(69)
    movq $USER_PHYS + 69 * 0x1000 + 5, USER_PTE(69)
    invlpg PAGE(69)
    EXPECT(PF, PF_P | PF_W, mov $1, %eax; lock cmpxchg %ecx, PAGE(69))
    CHECK(%rax, $1)
    EXPECT(PF, PF_P | PF_W, mov $1, %eax; cmpxchg8b PAGE(69))
    movq $USER_PHYS + 69 * 0x1000 + 7, USER_PTE(69)
    invlpg PAGE(69)
    mov $1, %eax
    lock cmpxchg %ecx, PAGE(69)
    CHECK(%rax, $7)
    mov $7, %eax
    mov $9, %ecx
    lock cmpxchg %ecx, PAGE(69)
    mov PAGE(69), %eax
    CHECK(%rax, $9)
    /* 16 bytes. */
    mov $1, %eax
    cpuid
    bt $13, %ecx
    jnc 1f
    movq $1, PAGE(70)
    movq $2, PAGE(70) + 8
    mov $1, %eax
    mov $2, %edx
    mov $3, %ebx
    mov $4, %ecx
    lock cmpxchg16b PAGE(70)
    setz %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    mov PAGE(70) + 8, %rax
    CHECK(%rax, $4)
    EXPECT(GP, 0, lock cmpxchg16b PAGE(70) + 8)
1:  mov $5, %ecx
    lock xadd %rcx, PAGE(70)
    CHECK(%rcx, $3)
    mov PAGE(70), %rax
    CHECK(%rax, $8)
    lock btsl $65, PAGE(70) - 8 /* an immediate bit offset stays in the operand */
    EXPECT(UD, 0, .byte 0xf0, 0x01, 0xc0) /* LOCK with registers */
    EXPECT(UD, 0, .byte 0xf0, 0x8b, 0x04, 0x25; .long PAGE(70)) /* LOCK MOV */
    /* Alignment checks are for CPL 3 with AC and AM. */
    CR0_SET(0x40000)
    USER(AC, 0, user_unaligned)
    EXPECT(NONE, 0, pushfq; orl $FLAG_AC, (%rsp); popfq; mov PAGE(70) + 1, %eax)
    CR0_CLEAR(0x40000)
    USER(USER_DONE, 0, user_unaligned)
    ret

    .section .user, "ax"
user_unaligned:
    pushfq
    orl $FLAG_AC, (%rsp)
    popfq
    mov PAGE(70) + 1, %eax
    DONE
