/* mmio.S - device memory by accesses of all sizes: HPET (32 and 64 bits), IOAPIC and local APIC
 * (32 bits), a hole, ROM expected: all checks passed */
#include "guest.inc"

#define HPET 0xfed00000

    .code64
main:
    mov $HPET, %r14d
    /* The capabilities register by bytes, words and doublewords is the same as by 8 bytes. */
    mov (%r14), %rbx
    mov 4(%r14), %eax
    shl $32, %rax
    mov (%r14), %ecx
    or %rcx, %rax
    CHECK(%rax, %rbx)
    /* An instruction that reads, changes and writes. */
    andl $~1, 0x10(%r14)
    movq $0, 0xf0(%r14)
    addl $5, 0xf0(%r14)
    mov 0xf0(%r14), %rax
    CHECK(%rax, $5)
    lock xaddq %rax, 0xf0(%r14)
    mov 0xf0(%r14), %rax
    CHECK(%rax, $10)
    mov $0x55, %eax
    xchg %rax, 0xf0(%r14)
    CHECK(%rax, $10)
    /* String and vector instructions, push and pop. */
    mov $scratch, %edi
    lea 0xf0(%r14), %rsi
    mov $2, %ecx
    rep movsl
    mov scratch, %rax
    CHECK(%rax, $0x55)
    pushq 0xf0(%r14)
    popq 0xf0(%r14)
    mov $0x1122334455667788, %rax
    movq %rax, %xmm0
    movq %xmm0, 0xf0(%r14)
    mov 0xf0(%r14), %rbx
    CHECK(%rax, %rbx)
    movq 0xf0(%r14), %xmm1
    movq %xmm1, %rbx
    CHECK(%rax, %rbx)
    /* Local APIC: 32-bit registers at multiples of 16. */
    mov $0xfee00000, %r15d
    movl $0x20, 0x80(%r15)
    mov 0x80(%r15), %eax
    CHECK(%rax, $0x20)
    movl $0, 0x80(%r15)
    /* IOAPIC: index and window. */
    mov $0xfec00000, %r13d
    movl $0x10, (%r13)
    mov (%r13), %eax
    CHECK(%rax, $0x10)
    movl $0x00010033, 0x10(%r13)
    mov 0x10(%r13), %eax
    CHECK(%rax, $0x00010033)
    /* A hole reads as ones. */
    mov $0xfd000000, %ebx
    mov (%rbx), %rax
    CHECK(%rax, $-1)
    movq $0, (%rbx)
    mov (%rbx), %eax
    mov $-1, %ebx
    CHECK(%rax, %rbx)
    /* An access across the end of RAM's page into device memory, and across two registers. */
    movl $0x11111111, 0xf0(%r14)
    movl $0x22222222, 0xf4(%r14)
    mov 0xf2(%r14), %eax
    mov 0xf0(%r14), %rax
    mov $0x2222222211111111, %rbx
    CHECK(%rax, %rbx)
    ret

    .section .bss
    .balign 16
scratch: .skip 16
