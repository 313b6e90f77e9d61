/* iret.S - IRET between levels, sizes and modes; flags it may change; NT; null SS (SDM vol. 2 IRET)
 * expected: all checks passed */
#include "guest.inc"

#define FRAME(ss, sp, flags, cs, ip) pushq ss; pushq sp; pushq flags; pushq cs; pushq ip

    .code64
main:
    /* To the same level: RSP and SS are always popped. */
    mov %rsp, %rbp
    EXPECT(UD, 0, FRAME($0x10, %rbp, $FLAG_CF + 2, $8, $98f); iretq; 98: ud2)
    CHECK(exc_rip, $98b)
    CHECK(exc_sp, %rbp)
    mov exc_flags, %rax
    and $1, %eax
    CHECK(%rax, $1)
    /* A null SS is fine on the way to 64-bit code of CPL 0, not of CPL 3. */
    EXPECT(UD, 0, FRAME($0, %rbp, $2, $8, $98f); iretq; 98: ud2)
    CHECK(exc_ss, $0)
    EXPECT(GP, 0, FRAME($3, $USER_STACK, $2, $0x2b, $user_done); iretq)
    EXPECT(GP, 0x20, FRAME($0x20, $USER_STACK, $2, $0x2b, $user_done); iretq) /* RPL of SS */
    EXPECT(GP, 0, FRAME($0x23, $USER_STACK, $2, $0, $user_done); iretq)
    EXPECT(GP, 0x10, FRAME($0x10, %rbp, $2, $0x10, $98f); iretq; 98:) /* not code */
    EXPECT(GP, 0x28, FRAME($0x23, $USER_STACK, $2, $0x28, $user_done); iretq) /* DPL 3, RPL 0 */
    /* A target that is not canonical: #GP at the IRET, CPL unchanged. */
    mov $0x8000000000000000, %rdx
    EXPECT(GP, 0, FRAME($0x23, $USER_STACK, $2, $0x2b, %rdx); 97: iretq)
    CHECK(exc_rip, $97b)
    CHECK(exc_cs, $8)
    /* NT in 64-bit mode. */
    EXPECT(GP, 0, pushfq; orl $FLAG_NT, (%rsp); popfq; FRAME($0x10, %rbp, $2, $8, $98f); iretq; 98:)
    pushfq
    andl $~FLAG_NT, (%rsp)
    popfq
    /* To compatibility mode, and the 32- and 16-bit forms. */
    EXPECT(USER_DONE, 0, FRAME($0x23, $USER_STACK, $2, $0x1b, $user_compat); iretq)
    CHECK(exc_cs, $0x1b)
    CHECK(%rax, $0x11223344)
    mov $tss_stack_top - 0x100, %edx
    EXPECT(UD, 0, sub $20, %rsp; movl $98f, (%rsp); movl $8, 4(%rsp); movl $2, 8(%rsp);
           mov %edx, 12(%rsp); movl $0x10, 16(%rsp); iretl; 98: ud2)
    CHECK(exc_sp, %rdx)
    /* Data segments that CPL 3 may not have become null. */
    mov $0x10, %eax
    mov %eax, %ds
    mov $0x23, %eax
    mov %eax, %es
    USER(USER_DONE, 0, user_segs)
    CHECK(%r8, $0)
    CHECK(%r9, $0x23)
    /* CPL 3 changes neither IF nor IOPL, by POPF or IRET. */
    USER(USER_DONE, 0, user_popf)
    mov exc_flags, %rax
    and $0x3200, %eax
    CHECK(%rax, $0)
    mov exc_flags, %rax
    and $0x200000, %eax
    CHECK(%rax, $0x200000) /* ID it does */
    /* CPL 0 sets IF by POPF only as the image says. */
    EXPECT(UD, 0, FRAME($0x10, %rbp, $0x3002, $8, $98f); iretq; 98: ud2)
    mov exc_flags, %rax
    and $0x3000, %eax
    CHECK(%rax, $0x3000)
    pushq $2
    popfq
    /* RF in the image: it is loaded, and the next instruction clears it. */
    EXPECT(UD, 0, FRAME($0x10, %rbp, $FLAG_RF + 2, $8, $98f); iretq; 98: nop; ud2)
    /* VM is ignored in long mode. */
    EXPECT(UD, 0, FRAME($0x10, %rbp, $FLAG_VM + 2, $8, $98f); iretq; 98: ud2)
    mov exc_flags, %rax
    and $FLAG_VM, %eax
    CHECK(%rax, $0)
    ret

    .section .user, "ax"
user_done:
    DONE
user_segs:
    mov %ds, %r8d
    mov %es, %r9d
    DONE
user_popf:
    pushq $0x203202
    popfq
    DONE
    .code32
user_compat:
    mov $0x11223344, %eax
    DONE
    .code64
