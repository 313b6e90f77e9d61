/* start64.h - from multiboot into long mode; exceptions, checks and output of 64-bit programs */

    /* Identity map of 4 GiB by 2 MiB pages, supervisor; the 2 MiB at USER_BASE by 4 KiB pages, user. */
    mov $pdpt + 7, %eax
    mov %eax, pml4
    mov $pd + 7, %eax
    mov $pdpt, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 1b
    mov $0x83, %eax
    mov $pd, %edi
    mov $2048, %ecx
1:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    movl $user_pt + 7, pd + (USER_BASE >> 21) * 8
    mov $USER_PHYS + 7, %eax
    mov $user_pt, %edi
    mov $512, %ecx
1:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 1b
    /* The code of CPL 3 goes where it was linked to run. */
    mov $user_load, %esi
    mov $USER_PHYS, %edi
    mov $user_size, %ecx
    rep movsb

    mov %cr4, %eax
    or $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $0x901, %eax /* LME, NXE, SCE */
    wrmsr
    mov $0x80010033, %eax /* PG, WP, NE, ET, MP, PE */
    mov %eax, %cr0
    lgdt gdt_ptr
    ljmp $8, $start64
    .code64
start64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $stack_top, %rsp
    /* 256 interrupt gates; breakpoint, overflow and the end of user code may be called from CPL 3. */
    mov $vector_stubs, %rax
    mov $idt, %rdi
    mov $256, %ecx
1:  mov %ax, (%rdi)
    movw $8, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    mov %rax, %rdx
    shr $16, %rdx
    mov %dx, 6(%rdi)
    add $16, %rax
    add $16, %rdi
    dec %ecx
    jnz 1b
    orb $0x60, idt + 3 * 16 + 5
    orb $0x60, idt + 4 * 16 + 5
    orb $0x60, idt + USER_DONE * 16 + 5
    lidt idt_ptr
    movq $tss_stack_top, tss + 4
    movq $ist_stack_top, tss + 36
    movw $0x68, tss + 102
    mov $0x38, %eax
    ltr %ax
    movb $0xff, %al /* the 8259s stay quiet unless a program wants them */
    out %al, $0x21
    out %al, $0xa1
    fninit
    call main
finish:
    mov $msg_checks, %rsi
    call print
    mov checks_passed, %rdi
    call print_dec
    mov $msg_passed, %rsi
    call print
    mov checks_failed, %rdi
    call print_dec
    mov $msg_failed, %rsi
    call print
    xor %eax, %eax
    cmpq $0, checks_failed
    setne %al
    cmpq $0, checks_passed
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

vector_common:
    cmpq $USER_DONE, (%rsp)
    je 1f
    cmpq $0x20, (%rsp)
    jae interrupt
1:  popq exc_vector
    popq exc_error
    popq exc_rip
    popq exc_cs
    popq exc_flags
    popq exc_sp
    popq exc_ss
    mov %rsp, exc_handler_sp
    push %rax
    mov %cr2, %rax
    mov %rax, exc_cr2
    mov %dr6, %rax
    mov %rax, exc_dr6
    pop %rax
    cmpq $0, resume_ip
    je unexpected
    mov save_sp, %rsp
    jmp *resume_ip

unexpected:
    mov $msg_unexpected, %rsi
    call print
    mov exc_vector, %rdi
    call print_dec
    mov $msg_error, %rsi
    call print
    mov exc_error, %rdi
    call print_hex
    mov $msg_at, %rsi
    call print
    mov exc_rip, %rdi
    call print_hex
    mov $msg_cr2, %rsi
    call print
    mov exc_cr2, %rdi
    call print_hex
    mov $'\n', %al
    out %al, $DEBUGCON
    incq checks_failed
    jmp finish

/* Counts it, tells the controllers, and returns. */
interrupt:
    push %rax
    mov 8(%rsp), %rax
    incl irq_count(, %rax, 4)
    mov %rsp, irq_sp
    sub $0x20, %eax
    cmp $16, %eax
    jae 1f
    cmp $8, %eax
    mov $0x20, %al
    jb 2f
    out %al, $0xa0
2:  out %al, $0x20
    jmp 3f
1:  mov $0xfee000b0, %eax
    movl $0, (%rax)
3:  mov 24(%rsp), %rax
    mov %rax, irq_rip
    pop %rax
    add $16, %rsp
    iretq

/* --- checks and output ------------------------------------------------------------------------------- */

/* (got, expected, line) on the stack, which it takes away; keeps all registers and flags. */
check_eq:
    pushfq
    push %rax
    mov 40(%rsp), %rax
    cmp 32(%rsp), %rax
    jne 1f
    incq checks_passed
    pop %rax
    popfq
    ret $24
1:  push %rdi
    push %rsi
    push %rdx
    push %rcx
    incq checks_failed
    mov $msg_fail, %rsi
    call print
    mov 24 + 32(%rsp), %rdi
    call print_dec
    mov $msg_got, %rsi
    call print
    mov 40 + 32(%rsp), %rdi
    call print_hex
    mov $msg_expected, %rsi
    call print
    mov 32 + 32(%rsp), %rdi
    call print_hex
    mov $'\n', %al
    out %al, $DEBUGCON
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
    pop %rax
    popfq
    ret $24

print:
    lodsb
    test %al, %al
    jz 1f
    out %al, $DEBUGCON
    jmp print
1:  ret

print_hex:
    mov $16, %ecx
1:  rol $4, %rdi
    mov %edi, %eax
    and $15, %eax
    mov hex_digits(%rax), %al
    out %al, $DEBUGCON
    loop 1b
    ret

print_dec:
    mov %rdi, %rax
    xor %ecx, %ecx
    mov $10, %edi
1:  xor %edx, %edx
    div %rdi
    push %rdx
    inc %ecx
    test %rax, %rax
    jnz 1b
2:  pop %rax
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
msg_cr2: .asciz " cr2 "
    .balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00cffb000000ffff
    .quad 0x00cff3000000ffff
    .quad 0x00affb000000ffff
    .quad 0x00cf9b000000ffff
    .word 0x67, tss_low
    .byte tss_mid, 0x89, 0, tss_high
    .quad 0
    .fill 16, 8, 0
gdt_end:
gdt_ptr:
    .word gdt_end - gdt - 1
    .quad gdt
idt_ptr:
    .word 0xfff
    .quad idt

    .section .bss, "aw", @nobits
    .balign 4096
pml4: .skip 4096
pdpt: .skip 4096
pd: .skip 4 * 4096
user_pt: .skip 4096
idt: .skip 4096
    .globl tss
tss: .skip 4096
    .skip 8192
stack_top:
    .skip 8192
tss_stack_top:
    .skip 8192
ist_stack_top:
checks_passed: .skip 8
checks_failed: .skip 8
resume_ip: .skip 8
save_sp: .skip 8
exc_vector: .skip 8
exc_error: .skip 8
exc_rip: .skip 8
exc_cs: .skip 8
exc_flags: .skip 8
exc_sp: .skip 8
exc_ss: .skip 8
exc_cr2: .skip 8
exc_dr6: .skip 8
exc_handler_sp: .skip 8
irq_rip: .skip 8
irq_sp: .skip 8
irq_count: .skip 4 * 256
