/* tlb.S - what stays cached and what is flushed: INVLPG, CR3, global pages, PCID, INVPCID, large
 * pages (SDM vol. 3 4.10) expected: all checks passed */
#include "guest.inc"

#define CR4_PGE 0x80
#define CR4_PCIDE 0x20000

/* Frames 72 and 73 hold 1 and 2; page 64 shows one of them. */
#define SHOW(frame, bits) movq $(USER_PHYS + (frame) * 0x1000 + (bits)), USER_PTE(64)
#define CHECK_SEES(n) mov PAGE(64), %eax; CHECK(%rax, $n)

/* Loads CR3 with a PCID and bit 63. */
#define CR3_PCID(pcid, keep)                  \
    mov %cr3, %rax; and $~0xfff, %rax;        \
    or $(pcid), %rax; mov $(keep), %ecx;      \
    shl $63, %rcx; or %rcx, %rax; mov %rax, %cr3

    .code64
main:
    movl $1, PAGE(72)
    movl $2, PAGE(73)
    /* After INVLPG and after a CR3 write the new mapping must be seen. */
    SHOW(72, 7)
    invlpg PAGE(64)
    CHECK_SEES(1)
    SHOW(73, 7)
    invlpg PAGE(64)
    CHECK_SEES(2)
    SHOW(72, 7)
    RELOAD_CR3
    CHECK_SEES(1)
    /* A change of CR4.PGE flushes all, global entries too. */
    CR4_SET(CR4_PGE)
    SHOW(73, 0x107)
    invlpg PAGE(64)
    CHECK_SEES(2)
    SHOW(72, 0x107)
    CR4_CLEAR(CR4_PGE)
    CR4_SET(CR4_PGE)
    CHECK_SEES(1)
    /* INVLPG drops global entries. */
    SHOW(73, 0x107)
    invlpg PAGE(64)
    CHECK_SEES(2)
    CR4_CLEAR(CR4_PGE)

    /* A large page split into small ones: INVLPG of any address in it drops it. */
    mov $0x40200000, %ebx
    mov (%rbx), %eax
    movq $small_pt + 7, pd + (0x40200000 >> 21) * 8
    mov $USER_PHYS + 72 * 0x1000 + 7, %eax
    mov %rax, small_pt
    mov $USER_PHYS + 73 * 0x1000 + 7, %eax
    mov %rax, small_pt + 8
    invlpg 0x1000(%rbx)
    mov 0x1000(%rbx), %eax
    CHECK(%rax, $2)
    mov (%rbx), %eax
    CHECK(%rax, $1)

    /* PCID. */
    mov $1, %eax
    cpuid
    bt $17, %ecx
    jnc 1f
    EXPECT(NONE, 0, CR4_SET(CR4_PCIDE))
    SHOW(72, 7)
    invlpg PAGE(64)
    CHECK_SEES(1)
    /* Without bit 63 a CR3 write flushes the context it names. */
    SHOW(73, 7)
    mov %cr3, %rax
    mov %rax, %cr3
    CHECK_SEES(2)
    /* Another context starts from the tables. */
    mov %cr3, %rax
    or $5, %rax
    mov %rax, %cr3
    CHECK_SEES(2)
    mov %cr3, %rax
    and $0xfff, %eax
    CHECK(%rax, $5)
    /* Bit 63 is not stored. */
    mov %cr3, %rax
    bts $63, %rax
    mov %rax, %cr3
    mov %cr3, %rax
    shr $63, %rax
    CHECK(%rax, $0)
    /* CR4.PCIDE and CR0.PG cannot go while the PCID is not 0, and cannot come either. */
    EXPECT(GP, 0, CR4_CLEAR(0x20); )
    mov %cr3, %rax
    and $~0xfff, %rax
    mov %rax, %cr3

    mov $7, %eax
    xor %ecx, %ecx
    cpuid
    bt $10, %ebx
    jnc 2f
    /* INVPCID: one address, one context, all but global ones, all. */
    SHOW(72, 7)
    movq $0, desc
    movq $PAGE(64), desc + 8
    xor %eax, %eax
    invpcid desc, %rax
    CHECK_SEES(1)
    SHOW(73, 7)
    mov $1, %eax
    invpcid desc, %rax
    CHECK_SEES(2)
    SHOW(72, 7)
    mov $3, %eax
    invpcid desc, %rax
    CHECK_SEES(1)
    CR4_SET(CR4_PGE)
    SHOW(73, 0x107)
    invlpg PAGE(64)
    CHECK_SEES(2)
    SHOW(72, 0x107)
    mov $2, %eax
    invpcid desc, %rax
    CHECK_SEES(1)
    CR4_CLEAR(CR4_PGE)
    /* Of PCID 5 from PCID 0: one address, all of it. Bit 63 alone would allow the old entries. */
    SHOW(72, 7)
    CR3_PCID(5, 0)
    CHECK_SEES(1)
    CR3_PCID(0, 1)
    SHOW(73, 7)
    movq $5, desc
    movq $PAGE(64), desc + 8
    xor %eax, %eax
    invpcid desc, %rax
    CR3_PCID(5, 1)
    CHECK_SEES(2)
    CR3_PCID(0, 1)
    SHOW(72, 7)
    mov $1, %eax
    invpcid desc, %rax
    CR3_PCID(5, 1)
    CHECK_SEES(1)
    /* INVLPG drops a global page of every PCID. */
    CR4_SET(CR4_PGE)
    SHOW(73, 0x107)
    invlpg PAGE(64)
    CHECK_SEES(2)
    CR3_PCID(0, 1)
    invlpg PAGE(64)
    CHECK_SEES(2)
    SHOW(72, 0x107)
    invlpg PAGE(64)
    CR3_PCID(5, 1)
    CHECK_SEES(1)
    /* What PCID 0 leaves behind is dropped by a CR3 write without bit 63. */
    CR4_CLEAR(CR4_PGE)
    CR3_PCID(0, 0)
    SHOW(73, 7)
    CR3_PCID(5, 0)
    CHECK_SEES(2)
    CR3_PCID(0, 0)
    CHECK_SEES(2)
    EXPECT(GP, 0, mov $4, %eax; invpcid desc, %rax)
    movq $0x1000, desc /* reserved bits of the descriptor */
    EXPECT(GP, 0, mov $1, %eax; invpcid desc, %rax)
    USER(GP, 0, user_invpcid)
2:  CR4_CLEAR(CR4_PCIDE)
    EXPECT(GP, 0, mov %cr3, %rax; or $0, %rax; bts $62, %rax; mov %rax, %cr3)
1:  USER(GP, 0, user_invlpg)
    ret

    .data
    .balign 16
desc: .quad 0, 0
    .section .bss
    .balign 4096
small_pt: .skip 4096

    .section .user, "ax"
user_invlpg:
    invlpg PAGE(64)
    DONE
user_invpcid:
    xor %eax, %eax
    invpcid PAGE(64), %rax
    DONE
