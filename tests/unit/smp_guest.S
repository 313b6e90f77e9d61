/* smp_guest.S - what the vCPUs of test_smp.c execute, copied to CODE. r15d: number of the vCPU.
 * Each ends at a HLT, with r14 = 0 or the line where it found something wrong. */
#include "smp_guest.h"

    .intel_syntax noprefix
    .section .rodata
    .globl smp_guest, smp_reader, smp_writer, smp_walker, smp_guest_end

    /* A direct call out of the place where this will lie. */
    .macro call_at target
    .byte 0xe8
    .long \target - (CODE + (9f - smp_guest))
9:
    .endm

    .macro want condition line
    \condition 9f
    mov r14d, \line
    hlt
9:
    .endm

smp_guest:
smp_reader:
1:  mov ebp, [FLAG]
    mov r12d, [DMA_FLAG]
    xor eax, eax
    cpuid /* serializes: what was written before the flags is executed from here on */
    call_at OWN_FN
    cmp eax, ebp
    want jae __LINE__
    mov ecx, OWN_FN
    call rcx
    cmp eax, ebp
    want jae __LINE__
    call_at OTHER_FN
    cmp eax, ebp
    want jae __LINE__
    call_at DMA_FN
    cmp eax, r12d
    want jae __LINE__
    call window
    cmp ebp, REWRITES
    jne 1b
    cmp r12d, DMA_REWRITES
    jne 1b
    hlt

smp_writer:
    mov ebp, 1
1:  mov [OTHER_FN + 1], ebp
    mov [OWN_FN + 1], ebp
    mov [FLAG], ebp
    call_at OWN_FN
    cmp eax, ebp
    want je __LINE__
    call window
    inc ebp
    cmp ebp, REWRITES + 1
    jne 1b
    hlt

smp_walker:
    mov r13d, MANY_ROUNDS
1:  xor ebp, ebp
2:  mov eax, ebp
    imul eax, eax, MANY_STEP
    add eax, MANY
    call rax
    cmp eax, ebp
    want je __LINE__
    call window
    inc ebp
    cmp ebp, MANY_N
    jne 2b
    dec r13d
    jne 1b
    hlt

/* Shared code whose targets are each vCPU's own. */
window:
    call_at WINDOW
    cmp eax, r15d
    want je __LINE__
    mov eax, WINDOW + 0x1000
    call rax
    lea ecx, [r15 + 16]
    cmp eax, ecx
    want je __LINE__
    ret
smp_guest_end:

    .section .note.GNU-stack, "", @progbits
