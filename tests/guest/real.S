/* real.S - real mode: vectors, limits, stack, "unreal" segments, 32-bit operands, the way in and
 * out (SDM vol. 3 9.9, 20.1) expected: all checks passed */
#define GUEST32
#include "guest.inc"

/* The 16-bit part is copied to 0800:0. Results go to words at 0:7000. */
#define RSEG 0x800
#define RESULT(n) 0x7000 + 2 * (n)
#define R(label) (label) - real_code
#define CODE16 0x48 /* base 8000 */
#define DATA16 0x50
#define BIG 0x58

    .code32
main:
    mov $real_code, %esi
    mov $RSEG * 16, %edi
    mov $real_end - real_code, %ecx
    rep movsb
    mov $RESULT(0), %edi
    mov $64, %ecx
    mov $-1, %eax
    rep stosw
    SET_GDT(CODE16, 0x8000ffff, 0x00009b00)
    SET_GDT(DATA16, 0x0000ffff, 0x00009300)
    SET_GDT(BIG, 0x0000ffff, 0x00cf9300)
    mov %esp, real_esp
    ljmp $CODE16, $0
back32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov real_esp, %esp
    lidt idt_ptr
    mov %cr4, %eax
    /* 0: INT and IRET with registers kept; 1: FLAGS as pushed have IF, 2: as seen by the handler
     * not */
    movzwl RESULT(0), %eax
    CHECK(%eax, $0x1234)
    movzwl RESULT(1), %eax
    and $FLAG_IF, %eax
    CHECK(%eax, $FLAG_IF)
    movzwl RESULT(2), %eax
    and $FLAG_IF, %eax
    CHECK(%eax, $0)
    /* 3: a word at FFFF raised vector 13, 4: with IP of the instruction; 5: by way of SS vector
     * 12 */
    movzwl RESULT(3), %eax
    CHECK(%eax, $13)
    movzwl RESULT(4), %eax
    CHECK(%eax, $R(fault1))
    movzwl RESULT(5), %eax
    CHECK(%eax, $12)
    /* 6: a 32-bit offset beyond 64 KiB: vector 13; 7, 8: the same through a segment loaded with
     * a limit of 4 GiB works */
    movzwl RESULT(6), %eax
    CHECK(%eax, $13)
    movzwl RESULT(7), %eax
    CHECK(%eax, $0xffff)
    movzwl RESULT(8), %eax
    CHECK(%eax, $0xbeef)
    /* 9: PUSH SP stores the old value; 10: SP wraps from 0 to FFFE */
    movzwl RESULT(9), %eax
    CHECK(%eax, $0x6000)
    movzwl RESULT(10), %eax
    CHECK(%eax, $0xfffe)
    /* 11: far call and return, 12: IP of a far call's return address */
    movzwl RESULT(11), %eax
    CHECK(%eax, $0x77)
    /* 13: divide error returns to the instruction itself */
    movzwl RESULT(13), %eax
    CHECK(%eax, $R(fault3))
    /* 14: protected-mode instructions are undefined */
    movzwl RESULT(14), %eax
    CHECK(%eax, $6)
    /* 15: IVT limit: vector beyond it is #GP, then delivered as vector 13; 16: the IDT can move */
    movzwl RESULT(15), %eax
    CHECK(%eax, $13)
    movzwl RESULT(16), %eax
    CHECK(%eax, $0x1616)
    /* 17: single-step trap */
    movzwl RESULT(17), %eax
    CHECK(%eax, $1)
    /* 18: REP MOVSB across the end of a segment: vector 13 with the finished part done */
    movzwl RESULT(18), %eax
    CHECK(%eax, $13)
    movzwl RESULT(19), %eax
    CHECK(%eax, $1)
    /* 20: LOOP counts CX, with an address prefix ECX */
    movzwl RESULT(20), %eax
    CHECK(%eax, $3)
    /* 21: SMSW reads PE clear; 22: base kept after MOV CR0 until CS is reloaded */
    movzwl RESULT(21), %eax
    and $1, %eax
    CHECK(%eax, $0)
    /* 23: POPF may set IOPL and NT at will */
    movzwl RESULT(23), %eax
    and $0x7000, %eax
    CHECK(%eax, $0x7000)
    ret

    .section .bss
real_esp: .skip 4

    .data
    .code16
real_code:
    mov $DATA16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    mov %cr0, %eax
    and $~1, %al
    mov %eax, %cr0
    ljmp $RSEG, $R(in_real)
in_real:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    mov $0x6000, %sp
    lidtl %cs:R(ivt_ptr)
    smsw %ax
    mov %ax, RESULT(21)
    /* Handlers 0, 1, 6, 12, 13 note vector and IP and go where DI says; 60 counts. */
    movw $R(h0), 0 * 4
    movw $RSEG, 0 * 4 + 2
    movw $R(h1), 1 * 4
    movw $RSEG, 1 * 4 + 2
    movw $R(h6), 6 * 4
    movw $RSEG, 6 * 4 + 2
    movw $R(h12), 12 * 4
    movw $RSEG, 12 * 4 + 2
    movw $R(h13), 13 * 4
    movw $RSEG, 13 * 4 + 2
    movw $R(h60), 0x60 * 4
    movw $RSEG, 0x60 * 4 + 2
    mov $0x1234, %bx
    sti
    int $0x60
    cli
    mov %bx, RESULT(0)
    /* Limits. */
    mov $R(next1), %di
    mov $0xffff, %bx
fault1:
    mov (%bx), %ax
next1:
    mov %dx, RESULT(3)
    mov %cx, RESULT(4)
    mov $R(next2), %di
    mov $0xffff, %bp
    mov (%bp), %ax
next2:
    mov %dx, RESULT(5)
    mov $R(next3), %di
    mov $0x10000, %ebx
    mov %fs:(%ebx), %ax
next3:
    mov %dx, RESULT(6)
    /* Unreal: a data segment keeps the limit it had in protected mode. */
    lgdtl %cs:R(gdt16_ptr)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    mov $BIG, %cx
    mov %cx, %fs
    and $~1, %al
    mov %eax, %cr0
    mov $-1, %dx
    mov $R(next4), %di
    mov $0x480000, %ebx
    movw $0xbeef, %fs:(%ebx)
    mov %fs:(%ebx), %ax
    mov %ax, RESULT(8)
next4:
    mov %dx, RESULT(7)
    /* Loading the selector again changes the base, not the limit; then back to a small one. */
    mov $0x6000, %sp
    push %sp
    pop %ax
    mov %ax, RESULT(9)
    mov %sp, %bp
    mov $0x5000, %cx
    mov %cx, %ss
    xor %sp, %sp
    push %ax
    mov %sp, RESULT(10)
    xor %cx, %cx
    mov %cx, %ss
    mov %bp, %sp
    lcall $RSEG, $R(far_proc)
    mov %ax, RESULT(11)
    /* Divide error. */
    mov $R(next5), %di
    xor %bx, %bx
fault3:
    div %bx
next5:
    mov %cx, RESULT(13)
    mov $R(next6), %di
    sldt %ax
next6:
    mov %dx, RESULT(14)
    /* IDT with room for 16 vectors only, then one elsewhere. */
    mov $R(next7), %di
    lidtl %cs:R(ivt_short)
    int $0x60
next7:
    mov %dx, RESULT(15)
    movw $R(h_moved), 0x7800 + 2 * 4
    movw $RSEG, 0x7800 + 2 * 4 + 2
    lidtl %cs:R(ivt_moved)
    int $2
    lidtl %cs:R(ivt_ptr)
    /* TF. */
    mov $R(next8), %di
    pushf
    pop %ax
    or $FLAG_TF, %ax
    push %ax
    popf
    nop
    nop
next8:
    mov %dx, RESULT(17)
    /* REP MOVSB over the end: the word at FFFD is the last. */
    mov $R(next9), %di
    mov $0xfffd, %si
    mov $0x4000, %di
    mov $3, %cx
    cld
    mov $R(next9), %bp
    mov %bp, %cs:R(resume)
    rep movsw
    jmp next9
next9:
    mov %dx, RESULT(18)
    mov %cs:R(fault_cx), %ax
    sub $1, %ax
    mov %ax, RESULT(19)
    movw $0, %cs:R(resume)
    xor %ax, %ax
    mov $0x10003, %ecx
1:  inc %ax
    loop 1b
    mov %ax, RESULT(20)
    mov $0x7002, %ax
    push %ax
    popf
    pushf
    pop %ax
    mov %ax, RESULT(23)
    push $2
    popf
    /* Back to protected mode. */
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $back32
far_proc:
    mov $0x77, %ax
    lret
h60:
    push %bp
    mov %sp, %bp
    push %ax
    mov 6(%bp), %ax
    mov %ax, RESULT(1)
    pushf
    pop %ax
    mov %ax, RESULT(2)
    pop %ax
    pop %bp
    iret
h_moved:
    movw $0x1616, RESULT(16)
    iret
h0: mov $0, %dx
    jmp fault
h1: mov $1, %dx
    jmp fault
h6: mov $6, %dx
    jmp fault
h12:
    mov $12, %dx
    jmp fault
h13:
    mov $13, %dx
fault: /* DX: vector, CX: IP; continues at DI (or `resume`), flags clean */
    mov %cx, %cs:R(fault_cx)
    pop %cx
    add $4, %sp
    cmpw $0, %cs:R(resume)
    je 1f
    mov %cs:R(resume), %di
1:  jmp *%di
    .balign 4
resume: .word 0
fault_cx: .word 0
ivt_ptr:
    .word 0x3ff
    .long 0
ivt_short:
    .word 16 * 4 - 1
    .long 0
ivt_moved:
    .word 0x3ff
    .long 0x7800
gdt16_ptr:
    .word 0xff
    .long gdt
real_end:
    .code32
