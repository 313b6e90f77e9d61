/* paging32.S - 32-bit paging with PSE, and PAE paging with its four registers (SDM vol. 3 4.3, 4.4)
 * expected: all checks passed */
#define GUEST32
#include "guest.inc"

#define CR4_PSE 0x10
#define CR4_PAE 0x20
#define CR0_PG 0x80000000
#define CR0_WP 0x10000
#define V 0x80000000 /* where tests map things */
#define RELOAD mov %cr3, %eax; mov %eax, %cr3

    .code32
main:
    /* 32-bit: identity by 4 MiB pages, V by a page table. */
    mov $0x83, %eax
    mov $dir, %edi
    mov $1024, %ecx
1:  stosl
    add $0x400000, %eax
    loop 1b
    movl $table + 7, dir + (V >> 22) * 4
    movl $0x480000 + 7, table
    movl $0x481000 + 5, table + 4
    movl $0, table + 8
    movl $0x482000 + 3, table + 12
    CR4_SET(CR4_PSE)
    mov $dir, %eax
    mov %eax, %cr3
    CR0_SET(CR0_PG | CR0_WP)
    movl $0x11, V
    mov 0x480000, %eax
    CHECK(%eax, $0x11)
    EXPECT(PF, PF_P | PF_W, mov %eax, V + 0x1000)
    EXPECT(PF, 0, mov V + 0x2000, %eax)
    CHECK(exc_cr2, $V + 0x2000)
    /* CPL 3 in the identity map faults: its entries have no U. */
    USER(PF, PF_P | PF_U, user_code)
    orb $4, dir + (USER_PHYS >> 22) * 4
    RELOAD
    USER(PF, PF_P | PF_U, user_read_super)
    USER(USER_DONE, 0, user_read)
    USER(PF, PF_P | PF_W | PF_U, user_write_ro)
    /* A and D. */
    movl $0x483000 + 7, table + 16
    mov V + 0x4000, %eax
    mov table + 16, %eax
    and $0x60, %eax
    CHECK(%eax, $0x20)
    mov %eax, V + 0x4000
    mov table + 16, %eax
    and $0x60, %eax
    CHECK(%eax, $0x60)
    /* Large pages have a dirty bit, too; reserved bits 21-13 beyond PSE-36 fault. */
    mov dir + (0xc0000000 >> 22) * 4, %ebx
    orl $0x200000, dir + (0xc0000000 >> 22) * 4
    EXPECT(PF, PF_P | PF_RSVD, mov 0xc0000000, %eax)
    mov %ebx, dir + (0xc0000000 >> 22) * 4
    RELOAD
    /* Without PSE the bit is ignored: the entry names a table. */
    CR0_CLEAR(CR0_PG)
    CR4_CLEAR(CR4_PSE)

    /* PAE. */
    mov $pae_dirs + 1, %eax
    mov $pdpt, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 1b
    mov $0x83, %eax
    mov $pae_dirs, %edi
    mov $2048, %ecx
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    movl $pae_table + 7, pae_dirs + (V >> 21) * 8
    movl $0x480000 + 7, pae_table
    movl $0x481000 + 5, pae_table + 8
    CR4_SET(CR4_PAE)
    mov $pdpt, %eax
    mov %eax, %cr3
    CR0_SET(CR0_PG)
    mov V, %eax
    CHECK(%eax, $0x11)
    EXPECT(PF, PF_P | PF_W, mov %eax, V + 0x1000)
    EXPECT(PF, PF_W, mov %eax, V + 0x2000)
    /* The four entries are registers, loaded with CR3: a change in memory is not seen before. */
    mov pdpt + 24, %ebx
    movl $0, pdpt + 24
    invlpg 0xd0000000
    EXPECT(NONE, 0, mov 0xd0000000, %eax)
    RELOAD
    EXPECT(PF, 0, mov 0xd0000000, %eax)
    mov %ebx, pdpt + 24
    RELOAD
    EXPECT(NONE, 0, mov 0xd0000000, %eax)
    /* Reserved bits in a present one: #GP at the load, the old ones stay. */
    orl $2, pdpt + 24
    EXPECT(GP, 0, RELOAD)
    andl $~2, pdpt + 24
    EXPECT(NONE, 0, mov 0xd0000000, %eax)
    /* NX, where there is EFER. */
    mov $0x80000001, %eax
    cpuid
    bt $20, %edx
    jnc 1f
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_NXE, %eax
    wrmsr
    movb $0xc3, V + 0x10
    EXPECT(NONE, 0, mov $V + 0x10, %eax; call *%eax)
    movl $0x80000000, pae_table + 4
    invlpg V
    EXPECT(PF, PF_P | PF_I, mov $V + 0x10, %eax; call *%eax)
    mov $MSR_EFER, %ecx
    rdmsr
    and $~EFER_NXE, %eax
    wrmsr
    invlpg V
    EXPECT(PF, PF_P | PF_RSVD, mov V, %eax)
    movl $0, pae_table + 4
1:  /* A bit above the physical address. */
    movl $0x40000000, pae_table + 4
    invlpg V
    EXPECT(PF, PF_P | PF_RSVD, mov V, %eax)
    movl $0, pae_table + 4
    /* LME needs paging off. */
    mov $MSR_EFER, %ecx
    EXPECT(GP, 0, mov $MSR_EFER, %ecx; rdmsr; or $0x100, %eax; wrmsr)
    CR0_CLEAR(CR0_PG)
    /* PG without PE is #GP. */
    EXPECT(GP, 0, mov %cr0, %eax; or $CR0_PG, %eax; and $~1, %eax; mov %eax, %cr0)
    ret

    .section .bss
    .balign 4096
dir: .skip 4096
table: .skip 4096
pae_dirs: .skip 4 * 4096
pae_table: .skip 4096
pdpt: .skip 32

    .section .user, "ax"
    .code32
user_code:
    nop
    DONE
user_read_super:
    mov $0x23, %eax
    mov %eax, %ds
    mov 0x200000, %eax
    DONE
user_read:
    mov $0x23, %eax
    mov %eax, %ds
    mov V, %eax
    DONE
user_write_ro:
    mov $0x23, %eax
    mov %eax, %ds
    mov %eax, V + 0x1000
    DONE
