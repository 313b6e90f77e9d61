/* gates.S - call gates, interrupt and trap gates, RETF to outer levels, IOPL and the I/O bitmap
 * (SDM vol. 3 5.8, 6.12; vol. 1 19.5)
 * expected: all checks passed */
#define GUEST32
#include "guest.inc"

#define G_SAME 0x48
#define G_INNER 0x50
#define G_PARAMS 0x58
#define G_DPL0 0x60
#define G_ABSENT 0x70
#define G_DATA 0x78
#define G_RING1 0x80
#define S_BASED 0x98
#define S_CODE1 0x88
#define S_STACK1 0x90
#define CALL_GATE(sel, target, code, attr)                                                         \
    mov $target, %eax; mov %ax, gdt + (sel); movw $(code), gdt + (sel) + 2;                        \
    movw $(attr), gdt + (sel) + 4; shr $16, %eax; mov %ax, gdt + (sel) + 6

    .code32
main:
    CALL_GATE(G_SAME, same_level, 8, 0x8c00)
    CALL_GATE(G_INNER, inner, 8, 0xec00)
    CALL_GATE(G_PARAMS, inner_params, 8, 0xec02)
    CALL_GATE(G_DPL0, inner, 8, 0x8c00)
    CALL_GATE(G_ABSENT, inner, 8, 0x6c00)
    CALL_GATE(G_DATA, inner, 0x10, 0xec00)
    /* At the same level: the offset in the instruction is ignored. */
    mov %esp, %ebx
    EXPECT(NONE, 0, lcall $G_SAME, $0x12345678)
    mov %esp, %eax
    CHECK(%ebx, %eax)
    CHECK(%ecx, $0x77)
    EXPECT(GP, 0x10, lcall $G_DATA, $0) /* names the segment, not the gate */
    EXPECT(NP, G_ABSENT, lcall $G_ABSENT, $0)
    EXPECT(GP, G_SAME, lcall $G_SAME + 3, $0) /* RPL above the gate's DPL */

    /* From CPL 3 to CPL 0 and back. */
    USER(USER_DONE, 0, user_call)
    mov exc_cs, %eax
    CHECK(%eax, $0x1b)
    CHECK(seen_cs, $8)
    CHECK(seen_ss, $0x10)
    CHECK(seen_ret_cs, $0x1b)
    CHECK(seen_old_ss, $0x23)
    CHECK(seen_old_sp, $user_stack32)
    CHECK(seen_sp, $tss_stack_top - 16)
    USER(USER_DONE, 0, user_call_params)
    CHECK(seen_param1, $0x1111)
    CHECK(seen_param2, $0x2222)
    CHECK(exc_sp, $user_stack32 - 0) /* both stacks were cleaned */
    USER(GP, G_DPL0, user_call_dpl0)
    /* JMP may use a gate, but not change level. */
    USER(GP, 8, user_jmp_gate)
    /* Bad inner stacks, of level 1 (level 0's must be good for the exception itself): #TS, #NP
     * is #SS. */
    SET_GDT(S_CODE1, 0x0000ffff, 0x00cfbb00)
    SET_GDT(S_STACK1, 0x0000ffff, 0x00cfb300)
    CALL_GATE(G_RING1, inner1, S_CODE1 + 1, 0xec00)
    movl $stack1_top, tss + 12
    movl $0, tss + 16
    USER(TS, 0, user_call1)
    movl $0x23, tss + 16 /* level 3 */
    USER(TS, 0x20, user_call1)
    movl $S_CODE1 + 1, tss + 16
    USER(TS, S_CODE1, user_call1)
    movl $0x1f9, tss + 16 /* beyond the GDT */
    USER(TS, 0x1f8, user_call1)
    movl $S_STACK1 + 1, tss + 16
    andb $0x7f, gdt + S_STACK1 + 5
    USER(SS_FAULT, S_STACK1, user_call1)
    orb $0x80, gdt + S_STACK1 + 5
    USER(USER_DONE, 0, user_call1)
    CHECK(exc_cs, $S_CODE1 + 1)

    /* RETF to CPL 3 releases parameters there, too, and nulls DS that is not for CPL 3. */
    EXPECT(USER_DONE, 0, pushl $0x23; pushl $user_stack32 - 32; pushl $0x1b;
           pushl $user_after_retf; lret)
    CHECK(exc_sp, $user_stack32 - 32)
    CHECK(exc_ds, $0)
    EXPECT(GP, 0x20, pushl $0x20; pushl $user_stack32; pushl $0x1b; pushl $user_done; lret)
    /* RPL below DPL: code of level 3 as level 0 */
    EXPECT(GP, 0x18, pushl $0x18; pushl $user_done; lret)

    /* Interrupt gates clear IF, trap gates do not. */
    mov $trap_handler, %eax
    mov %ax, idt + 0x50 * 8
    mov %ax, idt + 0x51 * 8
    shr $16, %eax
    mov %ax, idt + 0x50 * 8 + 6
    mov %ax, idt + 0x51 * 8 + 6
    movb $0x8f, idt + 0x51 * 8 + 5
    sti
    int $0x50
    and $FLAG_IF, %ebx
    CHECK(%ebx, $0)
    int $0x51
    cli
    and $FLAG_IF, %ebx
    CHECK(%ebx, $FLAG_IF)
    /* A 16-bit gate has 16-bit offsets and pushes 16-bit words: from a segment based at 1 MiB. */
    SET_GDT(S_BASED, 0x0000ffff, 0x00cf9b10)
    movw $trap_handler16 - 0x100000, idt + 0x52 * 8
    movw $S_BASED, idt + 0x52 * 8 + 2
    movw $0, idt + 0x52 * 8 + 6
    movb $0x86, idt + 0x52 * 8 + 5
    mov %esp, %ebx
    xor %ecx, %ecx
    ljmp $S_BASED, $1f - 0x100000
1:  int $0x52
    ljmp $8, $1f
1:  CHECK(%ecx, $6)

    /* IOPL decides about CLI, STI, IN; the bitmap about single ports. */
    USER(GP, 0, user_cli)
    USER(GP, 0, user_in)
    movw $0x68, tss + 102
    /* TSS limit 0x68 + 0x21 bytes of map: ports 0-0xff and the byte of ones. */
    movw $0x68 + 0x20, gdt + 0x38
    andb $0xfd, gdt + 0x38 + 5
    mov $0x38, %eax
    ltr %ax
    mov $tss + 0x68, %edi
    mov $0x21, %ecx
    mov $0xff, %al
    rep stosb
    andb $~(1 << 1), tss + 0x68 + 0x61 / 8 /* port 61 */
    USER(USER_DONE, 0, user_in)
    USER(GP, 0, user_in60)
    USER(GP, 0, user_inw61) /* 61 and 62 */
    USER(GP, 0, user_in_far) /* beyond the map */
    EXPECT(USER_DONE, 0, pushl $0x23; pushl $user_stack32; pushl $0x3002; pushl $0x1b;
           pushl $user_cli; iret)
    EXPECT(USER_DONE, 0, pushl $0x23; pushl $user_stack32; pushl $0x3002; pushl $0x1b;
           pushl $user_in60; iret)
    /* BOUND, INTO. */
    movl $1, bounds
    movl $5, bounds + 4
    EXPECT(NONE, 0, mov $5, %eax; bound %eax, bounds)
    EXPECT(BR, 0, mov $6, %eax; bound %eax, bounds)
    EXPECT(BR, 0, mov $0, %eax; 97: bound %eax, bounds)
    CHECK(exc_rip, $97b)
    EXPECT(OF, 0, mov $0x7fffffff, %eax; inc %eax; into; 98:)
    CHECK(exc_rip, $98b)
    EXPECT(NONE, 0, xor %eax, %eax; into)
    /* AAM by zero. */
    EXPECT(DE, 0, .byte 0xd4, 0)
    ret

same_level:
    mov $0x77, %ecx
    lret
trap_handler:
    pushf
    pop %ebx
    iret
trap_handler16:
    mov %ebx, %ecx
    sub %esp, %ecx
    iretw
inner:
    push %ds
    push $0x10
    pop %ds
    mov %cs, seen_cs
    mov %ss, seen_ss
    mov %esp, seen_sp
    addl $4, seen_sp
    mov 8(%esp), %eax
    mov %eax, seen_ret_cs
    mov 12(%esp), %eax
    mov %eax, seen_old_sp
    mov 16(%esp), %eax
    mov %eax, seen_old_ss
    pop %ds
    lret
inner1:
    DONE
inner_params:
    push %ds
    push $0x10
    pop %ds
    mov 12(%esp), %eax
    mov %eax, seen_param2
    mov 16(%esp), %eax
    mov %eax, seen_param1
    pop %ds
    lret $8
    .section .bss
    .balign 4
seen_cs: .skip 4
seen_ss: .skip 4
seen_sp: .skip 4
seen_ret_cs: .skip 4
seen_old_sp: .skip 4
seen_old_ss: .skip 4
seen_param1: .skip 4
seen_param2: .skip 4
bounds: .skip 8
    .skip 1024
stack1_top:

    .section .user, "ax"
    .code32
user_done:
    DONE
user_after_retf:
    DONE
user_call:
    lcall $G_INNER + 3, $0
    DONE
user_call1:
    lcall $G_RING1 + 3, $0
    DONE
user_call_params:
    push $0x1111
    push $0x2222
    lcall $G_PARAMS + 3, $0
    DONE
user_call_dpl0:
    lcall $G_DPL0 + 3, $0
user_jmp_gate:
    ljmp $G_INNER + 3, $0
user_cli:
    cli
    sti
    cli
    DONE
user_in:
    in $0x61, %al
    DONE
user_in60:
    in $0x64, %al
    DONE
user_inw61:
    in $0x61, %ax
    DONE
user_in_far:
    mov $0x3f8, %edx
    in %dx, %al
    DONE
