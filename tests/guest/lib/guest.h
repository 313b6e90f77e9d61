/* guest.h - what a guest test program is written with; assembler, through the C preprocessor
 *
 * A program includes this file and defines `main`. It is entered in 64-bit mode (or, with GUEST32 defined, in
 * 32-bit protected mode without paging) at CPL 0, with interrupts off, a GDT, an IDT, a TSS and a stack. It ends with
 * FINISH, which prints the number of checks and leaves through the debug-exit port: status 0 = all passed.
 *
 * CHECK(a, b)               a and b (registers, $immediates or memory, word size of the mode) are equal
 * EXPECT(vec, err, insn)    insn raises this exception with this error code; NONE: no exception
 * USER(vec, err, label)     code at label (section .user) runs at CPL 3 until this exception; DONE there: vector 0x40
 * exc_vector exc_error exc_rip exc_cs exc_flags exc_sp exc_ss exc_cr2 exc_dr6: of the last exception
 * irq_count[vector]         interrupts 0x20-0xff taken (0x40 apart); they return */
#pragma once

#define DEBUG_EXIT 0xf4
#define DEBUGCON 0xe9

#define DE 0
#define DB 1
#define NMI 2
#define BP 3
#define OF 4
#define BR 5
#define UD 6
#define NM 7
#define DF 8
#define TS 10
#define NP 11
#define SS_FAULT 12
#define GP 13
#define PF 14
#define MF 16
#define AC 17
#define XM 19
#define USER_DONE 0x40
#define NONE -1

#define PF_P 1
#define PF_W 2
#define PF_U 4
#define PF_RSVD 8
#define PF_I 16

#define MSR_APIC_BASE 0x1b
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

#define EFER_SCE 1
#define EFER_NXE 0x800

#define FLAG_CF 1
#define FLAG_ZF 0x40
#define FLAG_TF 0x100
#define FLAG_IF 0x200
#define FLAG_NT 0x4000
#define FLAG_RF 0x10000
#define FLAG_VM 0x20000
#define FLAG_AC 0x40000
#define FLAG_VIF 0x80000
#define FLAG_VIP 0x100000

/* Linear addresses of section .user, in 64-bit programs a 2 MiB range of 4 KiB pages, user and writable. Page
 * USER_PTE(n) is entry n of their page table. The first pages hold the code; the last one is the stack. */
#define USER_BASE 0x40000000
#define USER_STACK (USER_BASE + 0x200000)
#define USER_PHYS 0x400000
#define PAGE(n) (USER_BASE + (n) * 0x1000)
#define USER_PTE(n) user_pt + 8 * (n)
/* Pages tests may use as they like: 64 and up. */

#ifndef GUEST32

#define WORD .quad
#define CHECK(a, b) pushq a; pushq b; pushq $__LINE__; call check_eq
#define EXPECT_BEGIN movq $99f, resume_ip; movq $-1, exc_vector; movq $0, exc_error; mov %rsp, save_sp
#define EXPECT_END(vec, err) 99: movq $0, resume_ip; CHECK(exc_vector, $vec); CHECK(exc_error, $err)
#define EXPECT(vec, err, insn...) EXPECT_BEGIN; insn; EXPECT_END(vec, err)
#define USER(vec, err, label)                                                                      \
    EXPECT_BEGIN; pushq $0x23; pushq $USER_STACK; pushq $2; pushq $0x2b; pushq $label; iretq;      \
    EXPECT_END(vec, err)
#define WRMSR64(msr, lo, hi) mov $msr, %ecx; mov lo, %eax; mov hi, %edx; wrmsr
#define RELOAD_CR3 mov %cr3, %rax; mov %rax, %cr3
#define CR4_SET(bits) mov %cr4, %rax; or $(bits), %rax; mov %rax, %cr4
#define CR4_CLEAR(bits) mov %cr4, %rax; and $~(bits), %rax; mov %rax, %cr4
#define CR0_SET(bits) mov %cr0, %rax; or $(bits), %eax; mov %rax, %cr0
#define CR0_CLEAR(bits) mov %cr0, %rax; and $~(bits), %eax; mov %rax, %cr0

#else

#define WORD .long
#define CHECK(a, b) pushl a; pushl b; pushl $__LINE__; call check_eq
#define EXPECT_BEGIN movl $99f, resume_ip; movl $-1, exc_vector; movl $0, exc_error; mov %esp, save_sp
#define EXPECT_END(vec, err) 99: movl $0, resume_ip; CHECK(exc_vector, $vec); CHECK(exc_error, $err)
#define EXPECT(vec, err, insn...) EXPECT_BEGIN; insn; EXPECT_END(vec, err)
#define USER(vec, err, label)                                                                      \
    EXPECT_BEGIN; pushl $0x23; pushl $user_stack32; pushl $2; pushl $0x1b; pushl $label; iretl;    \
    EXPECT_END(vec, err)
#define CR4_SET(bits) mov %cr4, %eax; or $(bits), %eax; mov %eax, %cr4
#define CR4_CLEAR(bits) mov %cr4, %eax; and $~(bits), %eax; mov %eax, %cr4
#define CR0_SET(bits) mov %cr0, %eax; or $(bits), %eax; mov %eax, %cr0
#define CR0_CLEAR(bits) mov %cr0, %eax; and $~(bits), %eax; mov %eax, %cr0
#define SET_GDT(sel, low, high) movl $low, gdt + (sel); movl $high, gdt + (sel) + 4

#endif

/* Sleeps until interrupt `vec` has come n times; leaves IF set. */
#define WAIT_IRQ(vec, n) 91: cli; cmpl $(n), irq_count + 4 * (vec); jae 92f; sti; hlt; jmp 91b; 92: sti
#define DONE int $USER_DONE
#define FINISH jmp finish

/* Selectors (both modes): 08 code of the mode, 10 data, 1b user 32-bit code, 23 user data, 2b user 64-bit code,
 * 30 32-bit code at CPL 0 (64-bit programs) or 16-bit code (32-bit programs), 38 TSS; free from 48 on. */
#define SEL_FREE 0x48

    .section .boot, "ax"
    .code32
multiboot_header:
    .long 0x1badb002
    .long 0x00010003
    .long -(0x1badb002 + 0x00010003)
    .long multiboot_header, 0x100000, 0, bss_end, start32

start32:
    cli
    mov $stack_top, %esp
    cld
    mov $bss_begin, %edi
    mov $bss_end, %ecx
    sub %edi, %ecx
    xor %eax, %eax
    rep stosb
#ifndef GUEST32
#include "start64.h"
#else
#include "start32.h"
#endif
    .text
