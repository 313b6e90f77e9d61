/* probe_guest.S - what a kernel does in ring 0, for probe.c: 64-bit code at any address */

/* Port 0xf4 hears of each step: its number when it went well, with bit 7 when it went wrong. In
 * order: SSE, INT n and IRETQ, a page fault, SYSCALL, CPUID; then 6 and 7 around each of three
 * loops to be timed. */
    .set PORT, 0xf4
    .set ROUNDS, 5000
    .set NOWHERE, 0x40000000
    .set LEAF, 0x40000000
    .set MARK, 0x336e6972

    .macro step number, condition
    mov $\number, %al
    j\condition 9f
    or $0x80, %al
9:  out %al, $PORT
    .endm

    .section .rodata
    .globl kvm_probe_code, kvm_probe_soft, kvm_probe_fault, kvm_probe_call, kvm_probe_end
    .balign 16
kvm_probe_code:
    mov $5, %eax
    movd %eax, %xmm0
    paddd %xmm0, %xmm0
    movd %xmm0, %eax
    cmp $10, %eax
    step 1, e

    xor %esi, %esi
    int $0x40
    cmp $1, %esi
    step 2, e

    lea 3f(%rip), %r8
    mov $NOWHERE, %edi
    mov (%rdi), %eax
3:  cmp %rdi, %r9
    step 3, e

    lea 4f(%rip), %r10
    syscall
4:  xor %ecx, %ecx
kvm_probe_call:
    cmp %r10, %rcx
    step 4, e

    mov $LEAF, %eax
    cpuid
    cmp $MARK, %ebx
    step 5, e

    mov $3, %ebx
1:  mov $6, %al
    out %al, $PORT
    mov $ROUNDS, %ecx
2:  lea 1(%rdx), %rdx
    xor %rcx, %rdx
    dec %ecx
    jnz 2b
    mov $7, %al
    out %al, $PORT
    dec %ebx
    jnz 1b
    hlt

kvm_probe_soft:
    inc %esi
    iretq

kvm_probe_fault:
    mov %cr2, %r9
    add $8, %rsp
    mov %r8, (%rsp)
    iretq
kvm_probe_end:

    .section .note.GNU-stack, "", @progbits
