/* exceptions.S - exception vectors, error codes and saved RIP in 64-bit mode (SDM vol. 3 6.15)
 * expected: 68 checks passed */
#include "guest.inc"

    .code64
main:
    EXPECT(DE, 0, xor %edx, %edx; xor %ecx, %ecx; div %ecx)
    EXPECT(DE, 0, mov $1, %edx; mov $1, %ecx; div %ecx)
    EXPECT(DE, 0, mov $0x80000000, %eax; cltd; mov $-1, %ecx; idiv %ecx)
    EXPECT(UD, 0, ud2)
    EXPECT(UD, 0, .byte 0x06)             /* PUSH ES does not exist in 64-bit mode */
    EXPECT(UD, 0, .byte 0xf0; nop)        /* LOCK without a memory destination */
    EXPECT(GP, 0, mov $0x8000000000000000, %rax; mov (%rax), %al)
    EXPECT(SS_FAULT, 0, mov $0x8000000000000000, %rbp; mov (%rbp), %al)
    EXPECT(GP, 0, mov $0x8000000000000000, %rax; jmp *%rax)
    EXPECT(GP, 0, xor %ecx, %ecx; not %ecx; rdmsr)
    EXPECT(GP, 0x48, mov $0x48, %eax; mov %eax, %ds) /* empty descriptor */
    EXPECT(GP, 0xf0, mov $0xf0, %eax; mov %eax, %es) /* beyond the limit */
    /* A trap saves the next RIP, a fault its own. */
    EXPECT(BP, 0, int3; 98:)
    CHECK(exc_rip, $98b)
    EXPECT(UD, 0, 97: ud2)
    CHECK(exc_rip, $97b)
    /* A gate that is not present: #NP with the vector and the IDT bit. */
    andb $0x7f, idt + 0x51 * 16 + 5
    EXPECT(NP, 0x51 * 8 + 2, int $0x51)
    /* INT n to a gate of DPL 0 from CPL 3. */
    USER(GP, 0x50 * 8 + 2, user_int50)
    USER(USER_DONE, 0, user_done)
    USER(GP, 0, user_hlt)
    USER(PF, PF_U | PF_P, user_kernel_read)
    mov $0x200000, %eax
    CHECK(exc_cr2, %rax)
    /* A fault saves the flags that it found, also where code begins that overwrites them. */
    movl $3, rounds
1:  call flags_at_faults
    decl rounds
    jnz 1b
    ret

/* CF PF AF SF, then to the instruction by way of a register. */
#define WITH_FLAGS(insn...) \
    lea 96f(%rip), %rbx; xor %esi, %esi; cmp $1, %esi; jmp *%rbx; 96: insn; xor %esi, %esi
#define CHECK_FLAGS mov exc_flags, %rax; and $0x8d5, %eax; CHECK(%rax, $0x95)
flags_at_faults:
    mov $0x8000000000000000, %rdi
    mov $1, %ecx
    EXPECT(GP, 0, WITH_FLAGS(rep stosb))
    CHECK_FLAGS
    mov $-1, %ecx
    EXPECT(GP, 0, WITH_FLAGS(rdmsr))
    CHECK_FLAGS
    xor %ecx, %ecx
    EXPECT(DE, 0, WITH_FLAGS(div %ecx))
    CHECK_FLAGS
    ret

    .section .bss
rounds: .skip 4

    .section .user, "ax"
user_int50:
    int $0x50
user_done:
    DONE
user_hlt:
    hlt
user_kernel_read:
    mov $0x200000, %eax
    mov (%rax), %eax
    DONE
