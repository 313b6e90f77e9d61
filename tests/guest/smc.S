/* smc.S - code that changes: in the same page, across pages, through another mapping, just ahead
 * (SDM vol. 3 8.1.3) expected: all checks passed */
#include "guest.inc"

/* At PAGE(64): mov $imm32, %eax; ret. */
#define PUT(at, imm) movb $0xb8, at; movl $(imm), 1 + (at); movb $0xc3, 5 + (at)
#define RUN(at) mov $at, %edx; call *%rdx

    .code64
main:
    PUT(PAGE(64), 1)
    RUN(PAGE(64))
    CHECK(%rax, $1)
    /* Rewritten many times. */
    xor %ebx, %ebx
1:  mov %ebx, PAGE(64) + 1
    RUN(PAGE(64))
    cmp %eax, %ebx
    jne 2f
    inc %ebx
    cmp $1000, %ebx
    jne 1b
2:  CHECK(%rbx, $1000)
    /* One byte of it, a string store, a store that crosses into the page, and one that ends
     * before the code. */
    movb $7, PAGE(64) + 2
    RUN(PAGE(64))
    CHECK(%rax, $0x7e7)
    mov $PAGE(64) + 1, %edi
    mov $4, %ecx
    mov $0x22, %al
    rep stosb
    RUN(PAGE(64))
    CHECK(%rax, $0x22222222)
    mov $0x3333b8, %eax
    shl $24, %rax
    mov %rax, PAGE(64) - 3
    RUN(PAGE(64))
    CHECK(%rax, $0x3333)
    /* An instruction that crosses two pages; each half changed. */
    PUT(PAGE(66) - 3, 0x01020304)
    RUN(PAGE(66) - 3)
    CHECK(%rax, $0x01020304)
    movb $9, PAGE(66) - 2
    RUN(PAGE(66) - 3)
    CHECK(%rax, $0x01020309)
    movb $8, PAGE(66) + 1
    RUN(PAGE(66) - 3)
    CHECK(%rax, $0x08020309)
    /* The second page mapped elsewhere: frame 67 has another tail. */
    movb $5, PAGE(67)
    movb $6, PAGE(67) + 1
    movb $0xc3, PAGE(67) + 2
    movq $USER_PHYS + 67 * 0x1000 + 7, USER_PTE(66)
    invlpg PAGE(66)
    RUN(PAGE(66) - 3)
    CHECK(%rax, $0x06050309)
    /* Through another linear address, and through the supervisor's view of the frame. */
    movq $USER_PHYS + 64 * 0x1000 + 7, USER_PTE(68)
    invlpg PAGE(68)
    movl $0x44, PAGE(68) + 1
    RUN(PAGE(64))
    CHECK(%rax, $0x44)
    movl $0x55, USER_PHYS + 64 * 0x1000 + 1
    RUN(PAGE(64))
    CHECK(%rax, $0x55)
    /* The same frame executed at two addresses. */
    RUN(PAGE(68))
    CHECK(%rax, $0x55)
    movl $0x66, PAGE(64) + 1
    RUN(PAGE(68))
    CHECK(%rax, $0x66)
    /* The next instruction changed by the one before it. */
    mov $1, %ecx
    movb $0x90, ahead
    movb $0x90, ahead + 1
    jmp 1f /* serialize as the manual wants */
1:
ahead:
    inc %ecx /* two bytes: now two NOPs */
    CHECK(%rcx, $1)
    /* In a loop, without any jump between the store and the code. */
    mov $3, %ebx
    xor %ecx, %ecx
1:  movb $0x90, patch
    movb $0x90, patch + 1
patch:
    inc %ecx
    movb $0xff, patch
    movb $0xc1, patch + 1
    dec %ebx
    jnz 1b
    CHECK(%rcx, $0)
    /* Data in the cache line of the loop that counts in it. */
    xor %ebx, %ebx
    mov $500, %ecx
1:  incl beside
    add beside, %ebx
    dec %ecx
    jnz 1b
    jmp 2f
    .balign 4
beside:
    .long 0
2:  CHECK(%rbx, $125250)
    /* The operand of the next instruction is the counter. */
    xor %ebx, %ebx
    mov $300, %ecx
1:  incl counts + 1
counts:
    mov $0, %eax
    add %eax, %ebx
    dec %ecx
    jnz 1b
    CHECK(%rbx, $45150)
    /* Data in the page of code, written often, by its address and by another; the code changes
     * now and then, through the one and the other. */
    xor %ebx, %ebx
    mov $400, %ecx
1:  mov %ecx, PAGE(64) + 512
    incl PAGE(68) + 512
    test $31, %cl
    jnz 2f
    mov %ecx, PAGE(64) + 1
    test $32, %cl
    jz 2f
    incl PAGE(68) + 1
2:  RUN(PAGE(64))
    add %rax, %rbx
    RUN(PAGE(68))
    sub %rax, %rbx
    jne 3f
    dec %ecx
    jnz 1b
3:  CHECK(%rbx, $0)
    RUN(PAGE(64))
    CHECK(%rax, $33)
    mov PAGE(68) + 512, %eax
    CHECK(%rax, $2)
    movl $0x66, PAGE(64) + 1
    /* By LOCK CMPXCHG and XCHG. */
    mov $0x66b8, %eax
    mov $0x77b8, %edx
    lock cmpxchg %dx, PAGE(64)
    RUN(PAGE(64))
    CHECK(%rax, $0x77)
    mov $0x88, %al
    xchg %al, PAGE(64) + 1
    RUN(PAGE(64))
    CHECK(%rax, $0x88)
    /* By a vector store. */
    movdqu PAGE(64), %xmm0
    movl $0x99, PAGE(64) + 1
    movdqu %xmm0, PAGE(64)
    RUN(PAGE(64))
    CHECK(%rax, $0x88)
    ret
