/* irq.S - PIT through the 8259s, STI and MOV SS shadows, HLT, interrupted REP, masking (SDM vol.
 * 3 6.8; 8254, 8259A) expected: all checks passed */
#include "guest.inc"

#define IRQ0 0x20
/* Channel 0, mode 2, about 1 ms. */
#define PIT_PERIODIC                                                                               \
    movb $0x34, %al; outb %al, $0x43; movb $(1193 & 0xff), %al; outb %al, $0x40;                   \
    movb $(1193 >> 8), %al; outb %al, $0x40
/* Channel 0, mode 0: one interrupt in about 1 ms. */
#define PIT_ONCE                                                                                   \
    movb $0x30, %al; outb %al, $0x43; movb $(1193 & 0xff), %al; outb %al, $0x40;                   \
    movb $(1193 >> 8), %al; outb %al, $0x40

    .code64
main:
    /* Vectors 20-2F, IRQ 0 only. */
    mov $0x11, %al
    out %al, $0x20
    out %al, $0xa0
    mov $0x20, %al
    out %al, $0x21
    mov $0x28, %al
    out %al, $0xa1
    mov $4, %al
    out %al, $0x21
    mov $2, %al
    out %al, $0xa1
    mov $1, %al
    out %al, $0x21
    out %al, $0xa1
    mov $0xfe, %al
    out %al, $0x21
    mov $0xff, %al
    out %al, $0xa1

    /* HLT wakes up by an interrupt and goes on behind it. */
    PIT_ONCE
    sti
98: hlt
97: cli
    mov irq_count + 4 * IRQ0, %eax
    CHECK(%rax, $1)
    CHECK(irq_rip, $97b)
    /* STI lets one more instruction go: here HLT, so that no interrupt is lost between the two. */
    PIT_ONCE
1:  mov $0xa, %al /* read IRR */
    out %al, $0x20
    in $0x20, %al
    test $1, %al
    jz 1b
    sti
    nop
98: nop
    cli
    CHECK(irq_rip, $98b)
    mov irq_count + 4 * IRQ0, %eax
    CHECK(%rax, $2)
    /* STI; CLI: the window never opens. */
    PIT_ONCE
1:  mov $0xa, %al
    out %al, $0x20
    in $0x20, %al
    test $1, %al
    jz 1b
    sti
    cli
    nop
    mov irq_count + 4 * IRQ0, %eax
    CHECK(%rax, $2)
    /* MOV SS, as POPF opens the window: the instruction behind MOV SS still runs. */
    mov $0x10, %ecx
    pushq $FLAG_IF + 2
    popfq
98: cli
    CHECK(irq_rip, $98b)
    mov irq_count + 4 * IRQ0, %eax
    CHECK(%rax, $3)
    /* A long REP is interrupted and finishes. */
    PIT_PERIODIC
    sti
    mov $3, %r12d
1:  mov $0x100000, %ecx
    mov $0x1000000, %edi
    mov $0x5a, %al
    rep stosb
    CHECK(%rcx, $0)
    CHECK(%rdi, $0x1100000)
    dec %r12d
    jnz 1b
    /* Ten ticks come by themselves. */
    mov irq_count + 4 * IRQ0, %ebx
    add $10, %ebx
1:  cmp %ebx, irq_count + 4 * IRQ0
    jb 1b
    /* Masked at the controller: none. */
    mov $0xff, %al
    out %al, $0x21
    nop
    mov irq_count + 4 * IRQ0, %ebx
    mov $2000000, %ecx
1:  dec %ecx
    jnz 1b
    cmp %ebx, irq_count + 4 * IRQ0
    sete %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    /* In CPL 3, too: IF is on there. */
    mov $0xfe, %al
    out %al, $0x21
    movl $0, irq_count + 4 * IRQ0
    EXPECT_BEGIN
    pushq $0x23
    pushq $USER_STACK
    pushq $FLAG_IF + 2
    pushq $0x2b
    pushq $user_spin
    iretq
    EXPECT_END(GP, 0)
    cli
    mov irq_count + 4 * IRQ0, %eax
    cmp $3, %eax
    setae %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    ret

    .section .user, "ax"
user_spin: /* about 5 ms of time stamp, by a long loop of counting */
    mov $20000000, %ecx
1:  dec %ecx
    jnz 1b
    hlt
