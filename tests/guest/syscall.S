/* syscall.S - SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS (SDM vol. 2)
 * expected: all checks passed */
#include "guest.inc"

    .code64
main:
    /* SYSRET: 1b + 8 data, + 16 64-bit code, itself 32-bit code */
    WRMSR64(MSR_STAR, $0, $0x001b0008)
    WRMSR64(MSR_LSTAR, $entry64, $0)
    WRMSR64(MSR_CSTAR, $entry32, $0)
    WRMSR64(MSR_SFMASK, $FLAG_IF + FLAG_TF + 1, $0)
    movq $0, seen
    USER(USER_DONE, 0, user_syscall)
    CHECK(seen, $64)
    mov exc_cs, %rax
    CHECK(%rax, $0x2b)
    mov exc_ss, %rax
    CHECK(%rax, $0x23)
    CHECK(%r15, $0x1234) /* came back behind the SYSCALL */
    CHECK(seen_cs, $8)
    CHECK(seen_ss, $0x10)
    CHECK(seen_rcx, $user_after)
    mov seen_flags, %rax /* CF was set, SFMASK cleared it */
    and $1, %eax
    CHECK(%rax, $0)
    mov seen_r11, %rax
    and $1, %eax
    CHECK(%rax, $1)
    CHECK(seen_rsp, $USER_STACK)

    /* From compatibility mode Intel processors know no SYSCALL, AMD ones use CSTAR. */
    xor %eax, %eax
    cpuid
    cmp $0x68747541, %ebx
    je 1f
    EXPECT(UD, 0, pushq $0x23; pushq $USER_STACK; pushq $2; pushq $0x1b; pushq $user_syscall32;
           iretq)
1:
    /* SYSRET to a non-canonical address: #GP at CPL 0 (Intel). */
    xor %eax, %eax
    cpuid
    cmp $0x68747541, %ebx
    je 1f
    mov $0x8000000000000000, %rcx
    EXPECT(GP, 0, mov $2, %r11; sysretq)
    mov exc_cs, %rax
    and $3, %eax
    CHECK(%rax, $0)
1:
    /* SYSRET without REX.W goes to compatibility mode. */
    EXPECT(USER_DONE, 0, mov $user_compat, %ecx; mov $2, %r11; sysretl)
    CHECK(exc_cs, $0x1b)
    CHECK(exc_ss, $0x23)
    CHECK(%rax, $0x7fffffff)
    /* Needs EFER.SCE, and CPL 0. */
    mov $MSR_EFER, %ecx
    rdmsr
    and $~EFER_SCE, %eax
    wrmsr
    EXPECT(UD, 0, syscall)
    EXPECT(UD, 0, sysretq)
    USER(UD, 0, user_syscall)
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_SCE, %eax
    wrmsr
    USER(GP, 0, user_sysret)

    /* SYSENTER. */
    mov $1, %eax
    cpuid
    bt $11, %edx
    jnc 1f
    WRMSR64(MSR_SYSENTER_CS, $0, $0)
    USER(GP, 0, user_sysenter)
    WRMSR64(MSR_SYSENTER_CS, $8, $0)
    WRMSR64(MSR_SYSENTER_ESP, $tss_stack_top, $0)
    WRMSR64(MSR_SYSENTER_EIP, $entry_fast, $0)
    EXPECT_BEGIN
    pushq $0x23
    pushq $USER_STACK
    pushq $2
    pushq $0x2b
    pushq $user_sysenter
    iretq
entry_fast:
    mov %rsp, seen_rsp
    mov %cs, seen_cs
    mov %ss, seen_ss
    /* SYSEXIT: CS base + 16 / + 32, so the selectors 18/20 (32-bit) and 28/30 (64-bit). */
    mov $user_after_exit, %edx
    mov $USER_STACK - 64, %ecx
    sysexitl
    EXPECT_END(USER_DONE, 0)
    CHECK(seen_cs, $8)
    CHECK(seen_ss, $0x10)
    mov $tss_stack_top, %eax
    CHECK(seen_rsp, %rax)
    CHECK(exc_cs, $0x1b)
    CHECK(exc_ss, $0x23)
    CHECK(exc_sp, $USER_STACK - 64)
    USER(GP, 0, user_sysexit)
1:
    /* SWAPGS exchanges the base with the MSR. */
    WRMSR64(MSR_GS_BASE, $0x11110000, $0)
    WRMSR64(MSR_KERNEL_GS_BASE, $0x22220000, $0x1)
    swapgs
    mov $MSR_GS_BASE, %ecx
    rdmsr
    shl $32, %rdx
    or %rdx, %rax
    mov $0x122220000, %rbx
    CHECK(%rax, %rbx)
    mov $MSR_KERNEL_GS_BASE, %ecx
    rdmsr
    CHECK(%rax, $0x11110000)
    USER(GP, 0, user_swapgs)
    ret

entry64:
    movq $64, seen
    mov %cs, seen_cs
    mov %ss, seen_ss
    mov %rcx, seen_rcx
    mov %r11, seen_r11
    mov %rsp, seen_rsp
    mov $tss_stack_top, %rsp
    pushfq
    popq seen_flags
    mov seen_rsp, %rsp
    sysretq
entry32:
    movq $32, seen
    ud2

    .section .bss
    .balign 8
seen: .skip 8
seen_cs: .skip 8
seen_ss: .skip 8
seen_rcx: .skip 8
seen_r11: .skip 8
seen_rsp: .skip 8
seen_flags: .skip 8

    .section .user, "ax"
    .code64
user_syscall:
    stc
    syscall
user_after:
    mov $0x1234, %r15d
    DONE
user_sysret:
    sysretq
user_sysenter:
    sysenter
user_sysexit:
    sysexitl
user_swapgs:
    swapgs
    .code32
user_after_exit:
    DONE
user_syscall32:
    syscall
user_compat:
    mov $0x7fffffff, %eax
    DONE
    .code64
