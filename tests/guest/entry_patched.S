/* entry_patched.S - a TLB miss marks a table entry inside the block that runs
 * expected: all checks passed */
#include "guest.inc"
    .code64
main:
    mov $code, %esi
    mov $USER_PTE(70), %edi
    mov $code_end - code, %ecx
    cld
    rep movsb
    movq $USER_PHYS + 80 * 0x1000 + 7, USER_PTE(80)
    movq $77, USER_PHYS + 80 * 0x1000
    invlpg PAGE(80)
    mov $PAGE(80), %edi
    mov $5, %edx
    mov $USER_PTE(70), %eax
    call *%rax
    CHECK(%rax, $77)
    CHECK(%rcx, $5)
    FINISH
code:
    mov %edx, %ecx
    mov (%rdi), %rax
    jmp 1f
    .fill 88, 1, 0x90
1:
    .fill 8, 1, 0x90
    ret
code_end:
