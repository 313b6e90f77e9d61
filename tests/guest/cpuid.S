/* cpuid.S - CPUID agrees with itself and with what works; MSRs that exist and that do not (SDM
 * vol. 2 CPUID, vol. 4) expected: all checks passed */
#include "guest.inc"

    .code64
main:
    xor %eax, %eax
    cpuid
    cmp $7, %eax
    setae %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    /* CPUID writes the whole of its four registers. */
    mov $-1, %rax
    mov %rax, %rbx
    mov %rax, %rcx
    mov %rax, %rdx
    mov $1, %eax
    xor %ecx, %ecx
    cpuid
    mov %ebx, %r8d
    CHECK(%rbx, %r8)
    mov %ecx, %r9d
    mov %edx, %r10d
    /* Long mode must say so: LM, NX, SYSCALL, PAE, MSR, FXSR, SSE2. */
    bt $26, %r10d
    setc %al
    bt $24, %r10d
    setc %bl
    bt $6, %r10d
    setc %dl
    and %bl, %al
    and %dl, %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    mov $0x80000001, %eax
    cpuid
    and $(1 << 29) + (1 << 20) + (1 << 11), %edx
    CHECK(%rdx, $(1 << 29) + (1 << 20) + (1 << 11))
    /* Leaves beyond the last. */
    mov $0x80000000, %eax
    cpuid
    cmp $0x80000008, %eax
    setae %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    mov $0x80000008, %eax
    cpuid
    mov %eax, %ebx
    and $0xff, %eax
    cmp $36, %al
    setae %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    shr $8, %ebx
    and $0xff, %ebx
    CHECK(%rbx, $48)
    /* The hypervisor bit is reserved for us; its leaves then exist. */
    bt $31, %r9d
    jnc 1f
    mov $0x40000000, %eax
    cpuid
    shr $24, %eax
    CHECK(%rax, $0x40)
1:  /* What is announced works, what is not is #UD. */
    bt $22, %r9d /* MOVBE */
    jnc 1f
    EXPECT(NONE, 0, movbe scratch, %eax)
    jmp 2f
1:  EXPECT(UD, 0, movbe scratch, %eax)
2:  bt $30, %r9d /* RDRAND */
    jnc 1f
    EXPECT(NONE, 0, rdrand %rax)
    jmp 2f
1:  EXPECT(UD, 0, rdrand %rax)
2:  bt $23, %r9d /* POPCNT */
    jnc 1f
    EXPECT(NONE, 0, popcnt %eax, %eax)
    jmp 2f
1:  EXPECT(UD, 0, popcnt %eax, %eax)
2:  mov $7, %eax
    xor %ecx, %ecx
    cpuid
    bt $8, %ebx /* BMI2, needs no CR4 */
    jnc 1f
    EXPECT(NONE, 0, rorx $1, %eax, %eax)
    jmp 2f
1:  EXPECT(UD, 0, rorx $1, %eax, %eax)
2:  mov $7, %eax
    xor %ecx, %ecx
    cpuid
    bt $0, %ebx /* FSGSBASE with CR4 */
    jnc 1f
    EXPECT(UD, 0, rdfsbase %rax)
    CR4_SET(0x10000)
    EXPECT(NONE, 0, rdfsbase %rax)
    EXPECT(GP, 0, mov $0x8000000000000000, %rax; wrgsbase %rax)
    mov $0x0000334455667788, %rbx
    wrfsbase %rbx
    rdfsbase %rax
    CHECK(%rax, %rbx)
    wrfsbase %ebx
    mov %ebx, %ebx
    rdfsbase %rax
    CHECK(%rax, %rbx)
    lea lucky(%rip), %rbx
    wrfsbase %rbx
    mov %fs:0, %rax
    CHECK(%rax, $0x1234567)
    mov $0x1122334455667788, %rax /* 16 bits of a register leave the others */
    mov %fs, %ax
    shr $16, %rax
    mov $0x112233445566, %rbx
    CHECK(%rax, %rbx)
    CR4_CLEAR(0x10000)
1:
    /* CR4 bits that CPUID does not announce are reserved. */
    EXPECT(GP, 0, mov %cr4, %rax; bts $31, %rax; mov %rax, %cr4)
    EXPECT(GP, 0, mov %cr4, %rax; btr $5, %rax; mov %rax, %cr4) /* PAE in long mode */
    EXPECT(GP, 0, mov %cr0, %rax; bts $32, %rax; mov %rax, %cr0)
    EXPECT(GP, 0, mov %cr0, %rax; btr $0, %rax; mov %rax, %cr0) /* PG without PE */
    EXPECT(GP, 0, mov %cr0, %rax; bts $29, %rax; mov %rax, %cr0) /* NW without CD */
    EXPECT(UD, 0, .byte 0x0f, 0x20, 0xc8) /* CR1 */

    /* MSRs. */
    EXPECT(GP, 0, mov $0xdeadbeef, %ecx; rdmsr)
    EXPECT(GP, 0, mov $0xdeadbeef, %ecx; wrmsr)
    EXPECT(GP, 0, WRMSR64(MSR_LSTAR, $0, $0x80000000)) /* not canonical */
    EXPECT(GP, 0, WRMSR64(MSR_KERNEL_GS_BASE, $0, $0x80000000))
    EXPECT(GP, 0, mov $MSR_EFER, %ecx; rdmsr; bts $1, %eax; wrmsr) /* reserved */
    EXPECT(GP, 0, mov $MSR_EFER, %ecx; rdmsr; btr $8, %eax; wrmsr) /* LME with paging on */
    EXPECT(GP, 0, WRMSR64(0x277, $0x02, $0)) /* PAT: type 2 is reserved */
    EXPECT(NONE, 0, WRMSR64(0x277, $0x00070406, $0x00070406))
    mov $MSR_EFER, %ecx
    rdmsr
    and $0x500, %eax
    CHECK(%rax, $0x500)
    mov $MSR_APIC_BASE, %ecx
    rdmsr
    and $0xfffff900, %eax
    mov $0xfee00900, %ebx; CHECK(%rax, %rbx)
    USER(GP, 0, user_rdmsr)
    /* TSC and its friends. */
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, %rbx
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    cmp %rbx, %rax
    seta %al
    movzbl %al, %eax
    CHECK(%rax, $1)
    CR4_SET(4) /* TSD */
    USER(GP, 0, user_rdtsc)
    EXPECT(NONE, 0, rdtsc)
    CR4_CLEAR(4)
    USER(USER_DONE, 0, user_rdtsc)
    mov $0x80000001, %eax
    cpuid
    bt $27, %edx
    jnc 1f
    WRMSR64(0xc0000103, $0x1234, $0)
    rdtscp
    CHECK(%rcx, $0x1234)
1:  ret

    .section .rodata
lucky: .quad 0x1234567
    .section .bss
scratch: .skip 8
    .section .user, "ax"
user_rdmsr:
    mov $MSR_EFER, %ecx
    rdmsr
    DONE
user_rdtsc:
    rdtsc
    DONE
