/* doublefault.S - double faults, interrupt stacks, #NP, #SS and #TS during delivery (SDM vol. 3
 * 6.14.5, 6.15) expected: all checks passed */
#include "guest.inc"

#define GATE(vec) idt + (vec) * 16

    .code64
main:
    /* IST: the handler runs on its stack even without a change of level. */
    movb $1, GATE(UD) + 4
    EXPECT(UD, 0, ud2)
    mov exc_handler_sp, %rax
    mov $ist_stack_top, %ebx
    CHECK(%rax, %rbx)
    movb $0, GATE(UD) + 4
    /* Without IST it stays, aligned to 16 bytes. */
    EXPECT(UD, 0, mov %rsp, %r15; sub $5, %rsp; mov %rsp, %r14; ud2)
    mov exc_handler_sp, %rax
    mov %r14, %rbx
    and $~15, %rbx
    CHECK(%rax, %rbx)
    CHECK(exc_sp, %r14)

    /* #PF while delivering #PF: double fault, error code 0, on the IST. */
    movb $1, GATE(DF) + 4
    EXPECT(DF, 0, movabs $0x12345678000, %rsp; mov PAGE(64) - 0x40000000 + 0x100000000, %al)
    mov $ist_stack_top, %ebx
    CHECK(exc_handler_sp, %rbx)
    /* Error codes of exceptions during delivery of an exception have EXT (bit 0) set. #UD is
     * benign: #NP follows it; #GP and #DE are contributory: their gates missing make a double
     * fault. */
    andb $0x7f, GATE(UD) + 5
    EXPECT(NP, UD * 8 + 3, ud2)
    orb $0x80, GATE(UD) + 5
    andb $0x7f, GATE(GP) + 5
    EXPECT(DF, 0, xor %ecx, %ecx; not %ecx; rdmsr)
    EXPECT(DF, 0, xor %edx, %edx; xor %ecx, %ecx; mov %ecx, %eax; andb $0x7f, GATE(DE) + 5;
           div %ecx)
    orb $0x80, GATE(DE) + 5
    orb $0x80, GATE(GP) + 5
    /* #PF with its gate gone: #NP is contributory, after a page fault that doubles. */
    andb $0x7f, GATE(PF) + 5
    movq $0, USER_PTE(64)
    invlpg PAGE(64)
    EXPECT(DF, 0, mov PAGE(64), %eax)
    orb $0x80, GATE(PF) + 5
    EXPECT(PF, 0, mov PAGE(64), %eax)
    /* A gate to a null, a data and an absent code segment. */
    movw $0, GATE(UD) + 2
    EXPECT(GP, 1, ud2)
    movw $0x10, GATE(UD) + 2
    EXPECT(GP, 0x11, ud2)
    mov $0x00af1b000000ffff, %rax
    mov %rax, gdt + SEL_FREE
    movw $SEL_FREE, GATE(UD) + 2
    EXPECT(NP, SEL_FREE + 1, ud2)
    movw $0x30, GATE(UD) + 2 /* 32-bit code */
    EXPECT(GP, 0x31, ud2)
    movw $8, GATE(UD) + 2
    /* A gate of a type there is not. */
    movb $0x80, GATE(UD) + 5
    EXPECT(GP, UD * 8 + 3, ud2)
    movb $0x8e, GATE(UD) + 5
    /* IDT limit. */
    lidt idt_short
    EXPECT(GP, 0x60 * 8 + 2, int $0x60)
    lidt idt_ptr
    /* A non-canonical stack in the TSS: #SS while coming from CPL 3, delivered on IST. */
    movb $2, GATE(SS_FAULT) + 4
    movb $2, GATE(DF) + 4
    mov $ist_stack_top - 0x1000, %eax
    mov %rax, tss + 44
    mov $0x8000000000000000, %rax
    mov %rax, tss + 4
    USER(SS_FAULT, 1, user_ud) /* #UD is benign: #SS follows it, not #DF */
    ret

    .data
idt_short:
    .word 0x60 * 16 - 1
    .quad idt

    .section .user, "ax"
user_ud:
    ud2
