/* native_stub.S - into the instructions under test and out again; copied to STUB_ADDR, runs
 * there only */
#include "layout.h"

#define CTX(off) CTX_ADDR + (off)
#define IN(i) CTX(C_IN_GPR + 8 * (i))
#define OUT(i) CTX(C_OUT_GPR + 8 * (i))

    .section .note.GNU-stack, "", @progbits
    .text
    .globl native_stub_begin, native_stub_tail64, native_stub_tail32
    .globl native_stub_exit, native_stub_end

/* A C function without arguments: loads everything from the context and jumps. */
native_stub_begin:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, CTX(C_SAVED_RSP)
    cmpl $0, CTX(C_FSGSBASE)
    je 1f
    rdfsbase %rax
    mov %rax, CTX(C_SAVED_FS)
    rdgsbase %rax
    mov %rax, CTX(C_SAVED_GS)
    cmpl $0, CTX(C_LOAD_FSGS)
    je 2f
    mov CTX(C_IN_SEL + 8), %fs
    mov CTX(C_IN_SEL + 10), %gs
    jmp 1f
2:  mov CTX(C_IN_FS), %rax
    wrfsbase %rax
    mov CTX(C_IN_GS), %rax
    wrgsbase %rax
1:  cmpl $0, CTX(C_LOAD_SEGS)
    je 1f
    mov CTX(C_IN_SEL + 0), %es
    mov CTX(C_IN_SEL + 6), %ds
    mov CTX(C_IN_SEL + 4), %ss
1:  cmpl $0, CTX(C_XSAVE)
    je 1f
    mov $7, %eax
    xor %edx, %edx
    xrstor64 CTX(C_IN_FP)
    jmp 2f
1:  fxrstor64 CTX(C_IN_FP)
2:  mov $CTX(C_IN_FLAGS), %esp
    popfq
    mov IN(0), %rax
    mov IN(1), %rcx
    mov IN(2), %rdx
    mov IN(3), %rbx
    mov IN(4), %rsp
    mov IN(5), %rbp
    mov IN(6), %rsi
    mov IN(7), %rdi
    mov IN(8), %r8
    mov IN(9), %r9
    mov IN(10), %r10
    mov IN(11), %r11
    mov IN(12), %r12
    mov IN(13), %r13
    mov IN(14), %r14
    mov IN(15), %r15
    jmp *CTX(C_TAIL)
native_stub_tail64:
    jmp *CTX(C_IN_RIP)
native_stub_tail32:
    ljmpl *CTX(C_FARPTR)

/* In 64-bit mode with everything as the instructions left it. */
native_stub_exit:
    mov %rax, OUT(0)
    mov %rcx, OUT(1)
    mov %rdx, OUT(2)
    mov %rbx, OUT(3)
    mov %rsp, OUT(4)
    mov %rbp, OUT(5)
    mov %rsi, OUT(6)
    mov %rdi, OUT(7)
    mov %r8, OUT(8)
    mov %r9, OUT(9)
    mov %r10, OUT(10)
    mov %r11, OUT(11)
    mov %r12, OUT(12)
    mov %r13, OUT(13)
    mov %r14, OUT(14)
    mov %r15, OUT(15)
    mov $CTX(C_SCRATCH_TOP), %esp
    pushfq
    pop %rax
    mov %rax, CTX(C_OUT_FLAGS)
    push $0x202
    popfq
    mov %es, CTX(C_OUT_SEL + 0)
    mov %ss, CTX(C_OUT_SEL + 4)
    mov %ds, CTX(C_OUT_SEL + 6)
    mov %fs, CTX(C_OUT_SEL + 8)
    mov %gs, CTX(C_OUT_SEL + 10)
    cmpl $0, CTX(C_XSAVE)
    je 1f
    mov $7, %eax
    xor %edx, %edx
    xsave64 CTX(C_OUT_FP)
    jmp 2f
1:  fxsave64 CTX(C_OUT_FP)
2:  fnstenv CTX(C_OUT_ENV)
    fninit
    ldmxcsr CTX(C_MXCSR)
    cmpl $0, CTX(C_AVX)
    je 1f
    vzeroupper
1:  cmpl $0, CTX(C_FSGSBASE)
    je 1f
    rdfsbase %rax
    mov %rax, CTX(C_OUT_FS)
    rdgsbase %rax
    mov %rax, CTX(C_OUT_GS)
    xor %eax, %eax
    mov CTX(C_OUT_SEL + 8), %cx
    or CTX(C_OUT_SEL + 10), %cx
    jz 2f
    mov %eax, %fs
    mov %eax, %gs
2:  mov CTX(C_SAVED_FS), %rax
    wrfsbase %rax
    mov CTX(C_SAVED_GS), %rax
    wrgsbase %rax
1:  mov CTX(C_OUT_SEL + 0), %cx
    or CTX(C_OUT_SEL + 6), %cx
    jz 1f
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
1:  cmpw $SEL_DATA, CTX(C_OUT_SEL + 4)
    je 1f
    mov $SEL_DATA, %eax
    mov %eax, %ss
1:  mov CTX(C_SAVED_RSP), %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
native_stub_end:
