/* apic.S - local APIC and IOAPIC: timer, self-IPI, priorities, EOI, spurious vector (SDM vol. 3
 * chapter 10) expected: all checks passed */
#include "guest.inc"

#define APIC(reg) 0xfee00000 + (reg)
#define APIC_WRITE(reg, val) movl $(val), (reg)(%r15)
#define APIC_READ(reg) movl (reg)(%r15), %eax
#define ID 0x20
#define VERSION 0x30
#define TPR 0x80
#define PPR 0xa0
#define EOI 0xb0
#define LDR 0xd0
#define DFR 0xe0
#define SVR 0xf0
#define ISR 0x100
#define IRR 0x200
#define ESR 0x280
#define ICR_LOW 0x300
#define ICR_HIGH 0x310
#define LVT_TIMER 0x320
#define TIMER_INIT 0x380
#define TIMER_NOW 0x390
#define TIMER_DIVIDE 0x3e0
#define SELF 0x40000
#define IOAPIC 0xfec00000

    .code64
main:
    mov $0xfee00000, %r15d
    mov $IOAPIC, %r14d
    APIC_READ(VERSION)
    and $0xf0, %eax
    CHECK(%rax, $0x10)
    APIC_WRITE(SVR, 0x1ff)
    APIC_WRITE(TPR, 0)
    /* IPI to itself, fixed, physical and by shorthand. */
    sti
    APIC_WRITE(ICR_LOW, SELF + 0x50)
    nop
    mov irq_count + 4 * 0x50, %eax
    CHECK(%rax, $1)
    APIC_READ(ID)
    and $0xff000000, %eax
    mov %eax, ICR_HIGH(%r15)
    APIC_WRITE(ICR_LOW, 0x51)
    nop
    mov irq_count + 4 * 0x51, %eax
    CHECK(%rax, $1)
    /* IRR while IF is off; the higher vector first. */
    cli
    APIC_WRITE(ICR_LOW, SELF + 0x52)
    APIC_WRITE(ICR_LOW, SELF + 0x63)
    APIC_READ(IRR + 0x20) /* vectors 40-5f */
    CHECK(%rax, $1 << 18)
    APIC_READ(IRR + 0x30)
    CHECK(%rax, $1 << 3)
    /* TPR 6: 5x is held back, 63 too (same class); 7 would be let through. */
    APIC_WRITE(TPR, 0x60)
    APIC_READ(PPR)
    CHECK(%rax, $0x60)
    sti
    nop
    mov irq_count + 4 * 0x63, %eax
    CHECK(%rax, $0)
    /* CR8 is the same register. */
    mov %cr8, %rax
    CHECK(%rax, $6)
    mov $5, %eax
    mov %rax, %cr8
    nop
    mov irq_count + 4 * 0x63, %eax
    CHECK(%rax, $1)
    mov irq_count + 4 * 0x52, %eax
    CHECK(%rax, $0)
    xor %eax, %eax
    mov %rax, %cr8
    nop
    mov irq_count + 4 * 0x52, %eax
    CHECK(%rax, $1)
    EXPECT(GP, 0, mov $0x10, %eax; mov %rax, %cr8)
    APIC_READ(IRR + 0x20)
    CHECK(%rax, $0)
    /* Vectors below 16 are errors. */
    APIC_WRITE(ESR, 0)
    APIC_WRITE(ICR_LOW, SELF + 5)
    APIC_WRITE(ESR, 0)
    APIC_READ(ESR)
    and $0x60, %eax
    cmp $0, %eax
    setne %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    APIC_WRITE(ESR, 0)

    /* Timer: one-shot, then periodic, then masked. */
    APIC_WRITE(TIMER_DIVIDE, 0xb)
    APIC_WRITE(LVT_TIMER, 0x54)
    APIC_WRITE(TIMER_INIT, 100000)
    WAIT_IRQ(0x54, 1)
    APIC_READ(TIMER_NOW)
    CHECK(%rax, $0)
    APIC_WRITE(LVT_TIMER, 0x20055)
    APIC_WRITE(TIMER_INIT, 100000)
    WAIT_IRQ(0x55, 5)
    APIC_WRITE(LVT_TIMER, 0x30055)
    APIC_WRITE(TIMER_INIT, 0)
    mov irq_count + 4 * 0x54, %eax
    CHECK(%rax, $1)
    /* TSC deadline. */
    mov $1, %eax
    cpuid
    bt $24, %ecx
    jnc 1f
    APIC_WRITE(LVT_TIMER, 0x40056)
    mfence
    rdtsc
    add $1000000, %eax
    adc $0, %edx
    mov $0x6e0, %ecx
    wrmsr
    WAIT_IRQ(0x56, 1)
    mov $0x6e0, %ecx
    rdmsr
    or %edx, %eax
    CHECK(%rax, $0) /* disarmed */
1:
    /* IOAPIC: the PIT on pin 2 (or 0), edge, vector 57. */
    movl $1, (%r14)
    mov 0x10(%r14), %eax
    shr $16, %eax
    and $0xff, %eax
    CHECK(%rax, $23)
    movl $0x10 + 2 * 2, (%r14)
    movl $0x57, 0x10(%r14)
    movl $0x11 + 2 * 2, (%r14)
    APIC_READ(ID)
    mov %eax, 0x10(%r14)
    mov $0x34, %al
    out %al, $0x43
    mov $0xff, %al
    out %al, $0x40
    mov $3, %al
    out %al, $0x40
    WAIT_IRQ(0x57, 5)
    movl $0x10 + 2 * 2, (%r14)
    movl $0x10057, 0x10(%r14)
    /* x2APIC: registers are MSRs, the page is gone. */
    mov $1, %eax
    cpuid
    bt $21, %ecx
    jnc 1f
    cli
    APIC_WRITE(LVT_TIMER, 0x10000)
    mov $MSR_APIC_BASE, %ecx
    rdmsr
    or $0x400, %eax
    wrmsr
    EXPECT(NONE, 0, mov $0x80f, %ecx; rdmsr)
    CHECK(%rax, $0x1ff)
    sti
    mov $0x83f, %ecx /* self IPI */
    mov $0x58, %eax
    xor %edx, %edx
    wrmsr
    nop
    cli
    mov irq_count + 4 * 0x58, %eax
    CHECK(%rax, $1)
    mov $0x80b, %ecx /* the handler's EOI went to the page: do it here */
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
    EXPECT(GP, 0, mov $0x80b, %ecx; mov $1, %eax; xor %edx, %edx; wrmsr)
    EXPECT(GP, 0, mov $0x80e, %ecx; rdmsr) /* DFR does not exist */
    EXPECT(GP, 0, mov $0x802, %ecx; wrmsr) /* read-only */
    /* Back to xAPIC only by way of disabled. */
    EXPECT(GP, 0, mov $MSR_APIC_BASE, %ecx; rdmsr; and $~0x400, %eax; wrmsr)
1:  cli
    ret
