/* task.S - hardware tasks: CALL, JMP, IRET, task gates, nesting, busy bits, bad TSSs (SDM vol. 3
 * chapter 7) expected: all checks passed */
#define GUEST32
#include "guest.inc"

#define T_A 0x48
#define T_B 0x50
#define T_GATE 0x58
#define T_SHORT 0x60
#define T_ABSENT 0x68
#define T_LDT 0x70

#define TSS_DESC(sel, tss)                                                                         \
    mov $tss, %eax; movw $0x67, gdt + (sel); mov %ax, gdt + (sel) + 2; shr $16, %eax;              \
    mov %al, gdt + (sel) + 4; movb $0x89, gdt + (sel) + 5; movb $0, gdt + (sel) + 6;               \
    mov %ah, gdt + (sel) + 7
#define TSS_FILL(tss, ip, stack)                                                                   \
    movl $(ip), tss + 32; movl $2, tss + 36; movl $(stack), tss + 56; movl $0x10, tss + 72;        \
    movl $8, tss + 76; movl $0x10, tss + 80; movl $0x10, tss + 84; movl $0x10, tss + 88;           \
    movl $0x10, tss + 92
#define BUSY(sel) movzbl gdt + (sel) + 5, %eax; shr $1, %eax; and $1, %eax

    .code32
main:
    TSS_DESC(T_A, tss_a)
    TSS_DESC(T_B, tss_b)
    TSS_DESC(T_SHORT, tss_a)
    TSS_DESC(T_ABSENT, tss_a)
    movw $0x66, gdt + T_SHORT
    movb $0x09, gdt + T_ABSENT + 5
    movw $T_A, gdt + T_GATE + 2
    movb $0x85, gdt + T_GATE + 5
    TSS_FILL(tss_a, task_a, stack_a)
    /* CALL: nested, back by IRET. */
    mov $0x1234, %ebx
    EXPECT(NONE, 0, lcall $T_A, $0)
    CHECK(%ebx, $0x1234) /* registers came back from our TSS */
    CHECK(a_runs, $1)
    mov a_flags, %eax
    and $FLAG_NT, %eax
    CHECK(%eax, $FLAG_NT)
    CHECK(a_link, $0x38)
    CHECK(a_tr, $T_A)
    CHECK(a_busy, $1)
    CHECK(a_busy_main, $1) /* the caller stays busy */
    BUSY(T_A)
    CHECK(%eax, $0)
    pushf
    pop %eax
    and $FLAG_NT, %eax
    CHECK(%eax, $0)
    /* CR0.TS is set by every switch. */
    mov %cr0, %eax
    shr $3, %eax
    and $1, %eax
    CHECK(%eax, $1)
    clts
    /* A saved what it was: EIP is behind its IRET. */
    CHECK(tss_a + 32, $task_a_again)
    /* The second time it goes on there. */
    EXPECT(NONE, 0, lcall $T_A, $0)
    CHECK(a_runs, $2)
    /* By a task gate, by INT. */
    EXPECT(NONE, 0, lcall $T_GATE, $0)
    CHECK(a_runs, $3)
    movw $T_A, idt + 0x50 * 8 + 2
    movb $0x85, idt + 0x50 * 8 + 5
    EXPECT(NONE, 0, int $0x50)
    CHECK(a_runs, $4)
    /* JMP: the old task is no longer busy, no nesting; B jumps back. */
    TSS_FILL(tss_b, task_b, stack_b)
    EXPECT(NONE, 0, ljmp $T_B, $0)
    CHECK(b_runs, $1)
    mov b_flags, %eax
    and $FLAG_NT, %eax
    CHECK(%eax, $0)
    CHECK(b_busy_main, $0)
    BUSY(0x38)
    CHECK(%eax, $1)
    BUSY(T_B)
    CHECK(%eax, $0)
    /* An exception by task gate: the error code is on the new stack. */
    movw $T_B, idt + GP * 8 + 2
    movb $0x85, idt + GP * 8 + 5
    TSS_FILL(tss_b, task_error, stack_b)
    movl $0, b_error
    mov $0x1f8, %eax
    mov %eax, %fs /* #GP(1f8): task_error mends EAX in our TSS and returns to the instruction */
    CHECK(b_error, $0x1f8)
    CHECK(%eax, $0x10)
    movw $8, idt + GP * 8 + 2
    movb $0x8e, idt + GP * 8 + 5
    /* Bad targets. */
    EXPECT(TS, T_SHORT, lcall $T_SHORT, $0)
    EXPECT(NP, T_ABSENT, lcall $T_ABSENT, $0)
    EXPECT(GP, 0x38, lcall $0x38, $0) /* busy: ourselves */
    EXPECT(GP, 0x38, ljmp $0x38, $0)
    /* IRET with NT and a link that is no busy TSS. */
    movl $T_A, tss
    EXPECT(TS, T_A, pushf; orl $FLAG_NT, (%esp); popf; iret)
    pushf
    andl $~FLAG_NT, (%esp)
    popf
    movl $0, tss
    /* Faults while the segments of the new task are loaded are the new task's, before its first
     * instruction. */
    TSS_FILL(tss_b, task_b, stack_b)
    movl $0x1f8, tss_b + 84 /* DS */
    EXPECT(TS, 0x1f8, ljmp $T_B, $0)
    CHECK(exc_rip, $task_b)
    str %ax
    movzwl %ax, %eax
    CHECK(%eax, $T_B)
    movb $0x89, gdt + 0x38 + 5
    mov $0x38, %eax
    ltr %ax
    TSS_DESC(T_B, tss_b)
    TSS_FILL(tss_b, task_b, stack_b)
    /* The T bit: a debug trap before the first instruction of the task. */
    movw $1, tss_b + 100
    EXPECT(DB, 0, ljmp $T_B, $0)
    CHECK(exc_rip, $task_b)
    mov exc_dr6, %eax
    and $0x8000, %eax
    CHECK(%eax, $0x8000)
    movb $0x89, gdt + 0x38 + 5
    mov $0x38, %eax
    ltr %ax
    /* CPL 3 by JMP, EFLAGS, FS and the LDT from the TSS. */
    TSS_DESC(T_B, tss_b)
    TSS_FILL(tss_b, user_task, user_stack32)
    movl $tss_stack_top, tss_b + 4
    movl $0x10, tss_b + 8
    movw $0, tss_b + 100
    movl $0x23, tss_b + 72
    movl $0x1b, tss_b + 76
    movl $0x23, tss_b + 80
    movl $0x23, tss_b + 84
    mov $ldt, %eax
    movw $15, gdt + T_LDT
    mov %ax, gdt + T_LDT + 2
    shr $16, %eax
    mov %al, gdt + T_LDT + 4
    movb $0x82, gdt + T_LDT + 5
    mov %ah, gdt + T_LDT + 7
    movl $T_LDT, tss_b + 96
    movl $0xf, tss_b + 88 /* FS from the LDT */
    movl $0, tss_b + 92
    movl $0x77, tss_b + 40 /* EAX */
    EXPECT(USER_DONE, 0, ljmp $T_B, $0)
    CHECK(exc_cs, $0x1b)
    CHECK(%eax, $0x77)
    CHECK(%ebx, $0xf)
    sldt %ax
    movzwl %ax, %eax
    CHECK(%eax, $T_LDT)
    ret

task_a:
    incl a_runs
    pushf
    popl a_flags
    mov tss_a, %eax
    mov %eax, a_link
    str %ax
    movzwl %ax, %eax
    mov %eax, a_tr
    BUSY(T_A)
    mov %eax, a_busy
    BUSY(0x38)
    mov %eax, a_busy_main
    mov $0xdead, %ebx
    iret
task_a_again:
    jmp task_a
task_b:
    incl b_runs
    pushf
    popl b_flags
    BUSY(0x38)
    mov %eax, b_busy_main
    ljmp $0x38, $0
task_error:
    popl b_error
    movl $0x10, tss + 40 /* EAX */
    iret

    .data
    .balign 8
ldt: .quad 0, 0x00cff3000000ffff

    .section .bss
    .balign 128
tss_a: .skip 128
tss_b: .skip 128
    .skip 1024
stack_a:
    .skip 1024
stack_b:
a_runs: .skip 4
a_flags: .skip 4
a_link: .skip 4
a_tr: .skip 4
a_busy: .skip 4
a_busy_main: .skip 4
b_runs: .skip 4
b_flags: .skip 4
b_busy_main: .skip 4
b_error: .skip 4

    .section .user, "ax"
    .code32
user_task:
    mov %fs, %ebx
    mov %fs:user_task, %ecx
    DONE
