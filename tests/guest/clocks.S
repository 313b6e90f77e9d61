/* clocks.S - TSC, PIT, ACPI PM timer and HPET agree on how much time passes
 * expected: all checks passed */
#include "guest.inc"

#define PM_TIMER_HZ 3579545
#define PIT_HZ 1193182

/* PM timer port: from the FADT, found by way of the RSDP in F0000-FFFFF (or the EBDA's start). */
    .code64
main:
    call find_fadt
    test %rax, %rax
    jz finish
    mov 76(%rax), %edx /* PM_TMR_BLK */
    test %edx, %edx
    setne %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    mov %edx, pm_port
    /* PIT channel 2 counts down 50 ms while the PM timer runs. */
    in $0x61, %al
    and $0xfc, %al
    or $1, %al
    out %al, $0x61
    mov $0xb0, %al /* channel 2, mode 0 */
    out %al, $0x43
    mov $(59659 & 0xff), %al
    out %al, $0x42
    mov $(59659 >> 8), %al
    out %al, $0x42
    mov pm_port, %edx
    in %dx, %eax
    mov %eax, %r12d
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, %r13
1:  in $0x61, %al
    test $0x20, %al
    jz 1b
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    sub %r13, %rax
    mov %rax, %r13 /* TSC ticks in 50 ms */
    mov pm_port, %edx
    in %dx, %eax
    sub %r12d, %eax
    and $0xffffff, %eax
    /* 50 ms are 178977 PM ticks; allow from -2% up to +50% for a busy host. */
    mov %eax, %ebx
    cmp $175000, %ebx
    setae %al
    cmp $270000, %ebx
    setbe %cl
    and %cl, %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    /* The TSC's own idea of its frequency, where CPUID tells it: leaf 15H or 40000010H (kHz). */
    mov $0x40000010, %eax
    cpuid
    mov %eax, %ecx
    test %ecx, %ecx
    jz 1f
    mov %r13, %rax
    xor %edx, %edx
    imul $50, %rcx, %rcx /* ticks in 50 ms */
    mov %rcx, %r8
    cmp %rcx, %rax
    /* not shorter than 98% */
    imul $98, %r8, %r8
    imul $100, %rax, %rax
    cmp %r8, %rax
    setae %al
    movzbl %al, %eax
    CHECK(%rax, $1)
1:  /* HPET against the PM timer. */
    mov $0xfed00000, %r14d
    mov (%r14), %rax
    shr $32, %rax
    mov %rax, %r15 /* femtoseconds a tick */
    cmp $100000000, %rax
    setbe %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    orl $1, 0x10(%r14)
    mov 0xf0(%r14), %rbx
    mov pm_port, %edx
    in %dx, %eax
    mov %eax, %r12d
1:  in %dx, %eax
    sub %r12d, %eax
    and $0xffffff, %eax
    cmp $35795, %eax /* 10 ms */
    jb 1b
    mov 0xf0(%r14), %rax
    sub %rbx, %rax
    mul %r15 /* femtoseconds */
    mov $1000000000, %rcx
    div %rcx /* microseconds */
    mov %rax, %rbx
    cmp $9800, %rbx
    setae %al
    cmp $30000, %rbx
    setbe %cl
    and %cl, %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    /* All count upwards. */
    mov $1000, %ecx
    mov 0xf0(%r14), %rbx
1:  mov 0xf0(%r14), %rax
    cmp %rbx, %rax
    jb 2f
    mov %rax, %rbx
    loop 1b
2:  CHECK(%rcx, $0)
    /* The TSC never goes back in 100 ms, read by RDTSC or, now and then, by RDMSR. */
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, %rbx
    mov %rax, %r13
    xor %edi, %edi /* how often it did */
    xor %esi, %esi
1:  inc %esi
    test $1023, %esi
    jnz 2f
    mov $0x10, %ecx
    rdmsr
    jmp 3f
2:  rdtsc
3:  shl $32, %rdx
    or %rdx, %rax
    cmp %rbx, %rax
    adc $0, %edi
    mov %rax, %rbx
    sub %r13, %rax
    cmp $100000000, %rax
    jb 1b
    CHECK(%rdi, $0)
    /* HPET registers by 4 and by 8 bytes are the same. */
    andl $~1, 0x10(%r14)
    movl $0x11223344, 0xf0(%r14)
    movl $0x55667788, 0xf4(%r14)
    mov 0xf0(%r14), %rax
    mov $0x5566778811223344, %rbx
    CHECK(%rax, %rbx)
    mov 0xf4(%r14), %eax
    CHECK(%rax, $0x55667788)
    ret

/* rax: the FADT, or 0 after a failed check. */
find_fadt:
    mov $0xe0000, %esi
    mov $0x2052545020445352, %rax /* "RSD PTR " */
1:  cmp %rax, (%rsi)
    je 1f
    add $16, %esi
    cmp $0x100000, %esi
    jb 1b
    movzwl 0x40e, %esi /* EBDA segment */
    shl $4, %esi
    cmp %rax, (%rsi)
    je 1f
    CHECK($0, $1)
    xor %eax, %eax
    ret
1:  mov 16(%rsi), %ebx /* RSDT */
    mov $4, %r9d
    cmpb $2, 15(%rsi)
    jb 1f
    mov 24(%rsi), %rbx /* XSDT */
    mov $8, %r9d
1:  mov 4(%rbx), %ecx
    add %rbx, %rcx /* end */
    lea 36(%rbx), %rdi
1:  cmp %rcx, %rdi
    jae 2f
    mov (%rdi), %eax
    cmp $8, %r9d
    jne 3f
    mov (%rdi), %rax
3:  add %r9, %rdi
    cmpl $0x50434146, (%rax) /* "FACP" */
    jne 1b
    ret
2:  CHECK($0, $2)
    xor %eax, %eax
    ret

    .section .bss
pm_port: .skip 4
