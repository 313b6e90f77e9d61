/* start32.h - from multiboot to flat 32-bit protected mode; exceptions, checks and output of 32-bit programs */

    mov $user_load, %esi
    mov $USER_PHYS, %edi
    mov $user_size, %ecx
    rep movsb
    lgdt gdt_ptr
    ljmp $8, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov $vector_stubs, %eax
    mov $idt, %edi
    mov $256, %ecx
1:  mov %ax, (%edi)
    movw $8, 2(%edi)
    movw $0x8e00, 4(%edi)
    mov %eax, %edx
    shr $16, %edx
    mov %dx, 6(%edi)
    add $16, %eax
    add $8, %edi
    loop 1b
    orb $0x60, idt + 3 * 8 + 5
    orb $0x60, idt + 4 * 8 + 5
    orb $0x60, idt + USER_DONE * 8 + 5
    lidt idt_ptr
    movl $tss_stack_top, tss + 4
    movl $0x10, tss + 8
    movw $0x68, tss + 102
    mov $0x38, %eax
    ltr %ax
    mov %cr4, %eax
    or $0x600, %eax
    mov %eax, %cr4
    movb $0xff, %al
    out %al, $0x21
    out %al, $0xa1
    fninit
    call main
finish:
    mov $msg_checks, %esi
    call print
    mov checks_passed, %edi
    call print_dec
    mov $msg_passed, %esi
    call print
    mov checks_failed, %edi
    call print_dec
    mov $msg_failed, %esi
    call print
    xor %eax, %eax
    cmpl $0, checks_failed
    setne %al
    cmpl $0, checks_passed
    jne 1f
    mov $2, %al
1:  mov $DEBUG_EXIT, %edx
    out %al, %dx
2:  cli
    hlt
    jmp 2b

/* --- exceptions and interrupts ---------------------------------------------------------------------- */

    .balign 16
vector_stubs:
    .set vec, 0
    .rept 256
    .balign 16
    .if vec != 8 && !(vec >= 10 && vec <= 14) && vec != 17 && vec != 21
    push $0
    .endif
    push $vec
    jmp vector_common
    .set vec, vec + 1
    .endr

/* SS:ESP is in the frame only when the privilege level changed, and ES, DS, FS, GS behind it after virtual-8086 mode. */
vector_common:
    cmpl $USER_DONE, (%esp)
    je 1f
    cmpl $0x20, (%esp)
    jae interrupt
1:  cld
    push %eax
    push %ds
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    popl exc_ds
    andl $0xffff, exc_ds
    pop %eax
    popl exc_vector
    popl exc_error
    popl exc_rip
    popl exc_cs
    popl exc_flags
    testl $FLAG_VM, exc_flags
    jnz 2f
    testl $3, exc_cs
    jz 3f
2:  popl exc_sp
    popl exc_ss
    testl $FLAG_VM, exc_flags
    jz 3f
    popl exc_v86_es
    popl exc_v86_ds
3:  mov %esp, exc_handler_sp
    push %eax
    mov %cr2, %eax
    mov %eax, exc_cr2
    mov %dr6, %eax
    mov %eax, exc_dr6
    pop %eax
    cmpl $0, resume_ip
    je unexpected
    mov save_sp, %esp
    jmp *resume_ip

unexpected:
    mov $msg_unexpected, %esi
    call print
    mov exc_vector, %edi
    call print_dec
    mov $msg_error, %esi
    call print
    mov exc_error, %edi
    call print_hex
    mov $msg_at, %esi
    call print
    mov exc_rip, %edi
    call print_hex
    mov $'\n', %al
    out %al, $DEBUGCON
    incl checks_failed
    jmp finish

interrupt:
    push %eax
    push %ds
    mov $0x10, %eax
    mov %eax, %ds
    mov 8(%esp), %eax
    incl irq_count(, %eax, 4)
    sub $0x20, %eax
    cmp $8, %eax
    mov $0x20, %al
    jb 2f
    out %al, $0xa0
2:  out %al, $0x20
    pop %ds
    pop %eax
    add $8, %esp
    iret

/* --- checks and output ------------------------------------------------------------------------------- */

check_eq:
    pushf
    push %eax
    mov 20(%esp), %eax
    cmp 16(%esp), %eax
    jne 1f
    incl checks_passed
    pop %eax
    popf
    ret $12
1:  push %edi
    push %esi
    push %edx
    push %ecx
    incl checks_failed
    mov $msg_fail, %esi
    call print
    mov 12 + 16(%esp), %edi
    call print_dec
    mov $msg_got, %esi
    call print
    mov 20 + 16(%esp), %edi
    call print_hex
    mov $msg_expected, %esi
    call print
    mov 16 + 16(%esp), %edi
    call print_hex
    mov $'\n', %al
    out %al, $DEBUGCON
    pop %ecx
    pop %edx
    pop %esi
    pop %edi
    pop %eax
    popf
    ret $12

print:
    lodsb
    test %al, %al
    jz 1f
    out %al, $DEBUGCON
    jmp print
1:  ret

print_hex:
    mov $8, %ecx
1:  rol $4, %edi
    mov %edi, %eax
    and $15, %eax
    mov hex_digits(%eax), %al
    out %al, $DEBUGCON
    loop 1b
    ret

print_dec:
    mov %edi, %eax
    xor %ecx, %ecx
    mov $10, %edi
1:  xor %edx, %edx
    div %edi
    push %edx
    inc %ecx
    test %eax, %eax
    jnz 1b
2:  pop %eax
    add $'0', %al
    out %al, $DEBUGCON
    loop 2b
    ret

    .data
hex_digits: .ascii "0123456789abcdef"
msg_checks: .asciz "checks: "
msg_passed: .asciz " passed, "
msg_failed: .asciz " failed\n"
msg_fail: .asciz "FAIL line "
msg_got: .asciz ": got "
msg_expected: .asciz " expected "
msg_unexpected: .asciz "FAIL unexpected exception "
msg_error: .asciz " error "
msg_at: .asciz " at "
    .balign 16
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00cffb000000ffff
    .quad 0x00cff3000000ffff
    .quad 0
    .quad 0x00009b000000ffff
    .word 0x67, tss_low
    .byte tss_mid, 0x89, 0, tss_high
    .quad 0
    .fill 24, 8, 0
gdt_end:
gdt_ptr:
    .word gdt_end - gdt - 1
    .long gdt
idt_ptr:
    .word 0x7ff
    .long idt

    .section .bss, "aw", @nobits
    .balign 4096
idt: .skip 4096
    .globl tss
tss: .skip 4096
    .skip 8192
stack_top:
    .skip 8192
tss_stack_top:
    .skip 4096
user_stack32:
checks_passed: .skip 4
checks_failed: .skip 4
resume_ip: .skip 4
save_sp: .skip 4
exc_vector: .skip 4
exc_error: .skip 4
exc_rip: .skip 4
exc_cs: .skip 4
exc_flags: .skip 4
exc_sp: .skip 4
exc_ss: .skip 4
exc_ds: .skip 4
exc_v86_es: .skip 4
exc_v86_ds: .skip 4
exc_cr2: .skip 4
exc_dr6: .skip 4
exc_handler_sp: .skip 4
irq_count: .skip 4 * 256
