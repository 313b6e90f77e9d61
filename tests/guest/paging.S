/* paging.S - rights, reserved bits, accessed and dirty bits of 4-level paging (SDM vol. 3 4.5-4.8)
 * expected: all checks passed */
#include "guest.inc"

#define PTE_NX_HIGH 0x80000000

/* Sets entry n to `bits` on its usual frame and flushes it. */
#define SET_PTE(n, bits) movq $(USER_PHYS + (n) * 0x1000 + (bits)), USER_PTE(n); invlpg PAGE(n)
#define SET_NX(n) movb $0x80, 7 + USER_PTE(n); invlpg PAGE(n)

    .code64
main:
    /* Not present, read and write. */
    SET_PTE(64, 6)
    EXPECT(PF, 0, mov PAGE(64), %eax)
    mov $PAGE(64), %eax
    CHECK(exc_cr2, %rax)
    EXPECT(PF, PF_W, mov %eax, PAGE(64) + 8)
    mov $PAGE(64) + 8, %eax
    CHECK(exc_cr2, %rax)
    EXPECT(PF, PF_W, lock incl PAGE(64)) /* read-modify-write counts as a write */
    /* only the second page is missing */
    EXPECT(PF, PF_W, mov $PAGE(63) + 0xffe, %ebx; mov %eax, (%rbx))
    mov $PAGE(64), %eax
    CHECK(exc_cr2, %rax)

    /* Read-only: CR0.WP decides for the supervisor. */
    SET_PTE(64, 5)
    EXPECT(PF, PF_P | PF_W, mov %eax, PAGE(64))
    CR0_CLEAR(0x10000)
    EXPECT(NONE, 0, mov %eax, PAGE(64))
    USER(PF, PF_P | PF_W | PF_U, user_write) /* WP or not, CPL 3 may not */
    CR0_SET(0x10000)
    USER(PF, PF_P | PF_W | PF_U, user_write)
    USER(USER_DONE, 0, user_read)
    /* Supervisor pages. */
    SET_PTE(64, 3)
    USER(PF, PF_P | PF_U, user_read)
    USER(PF, PF_P | PF_W | PF_U, user_write)
    EXPECT(NONE, 0, mov %eax, PAGE(64))

    /* Accessed and dirty bits. */
    SET_PTE(65, 7)
    mov PAGE(65), %eax
    mov USER_PTE(65), %rax
    and $0x60, %eax
    CHECK(%rax, $0x20)
    mov %eax, PAGE(65)
    mov USER_PTE(65), %rax
    and $0x60, %eax
    CHECK(%rax, $0x60)
    /* The upper levels get the accessed bit only. */
    mov pml4, %rax
    and $0x60, %eax
    CHECK(%rax, $0x20)

    /* NX. */
    SET_PTE(64, 7)
    movb $0xc3, PAGE(64) /* ret */
    EXPECT(NONE, 0, call 96f; jmp 95f; 96: jmp *%cs:ptr64; 95:)
    SET_NX(64)
    EXPECT(PF, PF_P | PF_I, jmp *%cs:ptr64)
    mov $PAGE(64), %eax
    CHECK(exc_cr2, %rax)
    CHECK(exc_rip, %rax)
    USER(PF, PF_P | PF_I | PF_U, PAGE(64))
    /* With EFER.NXE clear the bit is reserved. */
    mov $MSR_EFER, %ecx
    rdmsr
    and $~EFER_NXE, %eax
    wrmsr
    invlpg PAGE(64)
    EXPECT(PF, PF_P | PF_RSVD, mov PAGE(64), %eax)
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_NXE, %eax
    wrmsr

    /* Reserved bits: physical address bits that do not exist (51), PS in a PML4 entry. */
    movl $0x00080000, 4 + USER_PTE(64)
    invlpg PAGE(64)
    EXPECT(PF, PF_P | PF_RSVD, mov PAGE(64), %eax)
    EXPECT(PF, PF_P | PF_RSVD | PF_W, mov %eax, PAGE(64))
    SET_PTE(64, 7)
    movq $pdpt + 0x87, pml4 + 8
    mov $0x8000000000, %rbx
    EXPECT(PF, PF_P | PF_RSVD, mov (%rbx), %eax)
    movq $0, pml4 + 8
    /* Bits 13-20 of a 2 MiB page. */
    mov $0x80000000 + 0x83 + 0x2000, %eax
    mov %rax, pd + (0x80000000 >> 21) * 8
    mov $0x80000000, %ebx
    invlpg (%rbx)
    EXPECT(PF, PF_P | PF_RSVD, mov (%rbx), %eax)
    mov $0x80000083, %eax
    mov %rax, pd + (0x80000000 >> 21) * 8

    /* A present entry needs no INVLPG when it was not present before. */
    SET_PTE(68, 6)
    EXPECT(PF, 0, mov PAGE(68), %eax)
    orb $1, USER_PTE(68)
    EXPECT(NONE, 0, mov PAGE(68), %eax)
    /* Two pages, one frame. */
    movq $USER_PHYS + 70 * 0x1000 + 7, USER_PTE(69)
    invlpg PAGE(69)
    movl $0x12345678, PAGE(69) + 0x10
    mov PAGE(70) + 0x10, %eax
    CHECK(%rax, $0x12345678)
    ret

    .data
ptr64: .quad PAGE(64)

    .section .user, "ax"
user_read:
    mov PAGE(64), %eax
    DONE
user_write:
    mov %eax, PAGE(64)
    DONE
