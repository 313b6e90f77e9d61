/* fpu.S - #NM, #MF, #XM and #UD of floating point; what control registers forbid; FXSAVE, XSAVE
 * (SDM vol. 3 2.5, 13) expected: all checks passed */
#include "guest.inc"

#define CR0_MP 2
#define CR0_EM 4
#define CR0_TS 8
#define CR0_NE 0x20
#define CR4_OSFXSR 0x200
#define CR4_OSXMMEXCPT 0x400
#define CR4_OSXSAVE 0x40000

    .code64
main:
    /* TS: #NM for everything but FWAIT without MP. */
    CR0_SET(CR0_TS)
    EXPECT(NM, 0, fld1)
    EXPECT(NM, 0, addps %xmm0, %xmm0)
    EXPECT(NM, 0, movq %mm0, %mm1)
    EXPECT(NM, 0, fxsave area)
    EXPECT(NM, 0, fwait)
    CR0_CLEAR(CR0_MP)
    EXPECT(NONE, 0, fwait)
    CR0_SET(CR0_MP)
    EXPECT(NONE, 0, prefetcht0 area; sfence; clts)
    EXPECT(NONE, 0, fld1; fstp %st(0))
    /* EM: #NM for x87, #UD for MMX and SSE. */
    CR0_SET(CR0_EM)
    EXPECT(NM, 0, fld1)
    EXPECT(UD, 0, addps %xmm0, %xmm0)
    EXPECT(UD, 0, movq %mm0, %mm1)
    EXPECT(NONE, 0, fwait)
    CR0_CLEAR(CR0_EM)
    CR4_CLEAR(CR4_OSFXSR)
    EXPECT(UD, 0, addps %xmm0, %xmm0)
    EXPECT(UD, 0, ldmxcsr mxcsr_default)
    EXPECT(NONE, 0, movq %mm0, %mm1; emms)
    CR4_SET(CR4_OSFXSR)

    /* An unmasked x87 exception shows at the next waiting instruction. */
    fninit
    fldcw fcw_zm
    fld1
    fldz
    EXPECT(NONE, 0, fdivrp)
    EXPECT(MF, 0, 97: fld1)
    CHECK(exc_rip, $97b)
    EXPECT(MF, 0, fwait)
    EXPECT(MF, 0, movq %mm0, %mm1)
    EXPECT(NONE, 0, fnstsw %ax)
    and $0x8084, %eax
    CHECK(%rax, $0x8084)
    EXPECT(NONE, 0, fnclex; fwait)
    fninit

    /* SSE exceptions are raised at once; without OSXMMEXCPT as #UD. */
    ldmxcsr mxcsr_zm
    movss one, %xmm0
    xorps %xmm1, %xmm1
    EXPECT(XM, 0, 97: divss %xmm1, %xmm0)
    CHECK(exc_rip, $97b)
    stmxcsr scratch
    mov scratch, %eax
    and $4, %eax
    CHECK(%rax, $4)
    movd %xmm0, %eax
    CHECK(%rax, $0x3f800000)
    CR4_CLEAR(CR4_OSXMMEXCPT)
    EXPECT(UD, 0, divss %xmm1, %xmm0)
    CR4_SET(CR4_OSXMMEXCPT)
    ldmxcsr mxcsr_default
    EXPECT(NONE, 0, divss %xmm1, %xmm0)
    EXPECT(GP, 0, ldmxcsr mxcsr_bad)
    EXPECT(GP, 0, movaps area + 8, %xmm0)
    EXPECT(GP, 0, fxsave area + 8)

    /* XSAVE needs OSXSAVE; XCR0 keeps its rules. */
    mov $1, %eax
    cpuid
    bt $26, %ecx
    jnc 1f
    CR4_CLEAR(CR4_OSXSAVE)
    EXPECT(UD, 0, xor %ecx, %ecx; xgetbv)
    EXPECT(UD, 0, xsave area)
    mov $1, %eax
    cpuid
    shr $27, %ecx
    and $1, %ecx
    CHECK(%rcx, $0)
    CR4_SET(CR4_OSXSAVE)
    mov $1, %eax
    cpuid
    shr $27, %ecx
    and $1, %ecx
    CHECK(%rcx, $1)
    EXPECT(NONE, 0, xor %ecx, %ecx; xgetbv)
    EXPECT(GP, 0, xor %ecx, %ecx; xor %edx, %edx; mov $2, %eax; xsetbv) /* x87 must stay */
    EXPECT(GP, 0, xor %ecx, %ecx; xor %edx, %edx; mov $5, %eax; xsetbv) /* AVX needs SSE */
    EXPECT(GP, 0, mov $1, %ecx; xor %edx, %edx; mov $1, %eax; xsetbv)
    EXPECT(NONE, 0, xor %ecx, %ecx; xor %edx, %edx; mov $3, %eax; xsetbv)
    USER(GP, 0, user_xsetbv)
    /* Save, disturb, restore. */
    fninit
    fldpi
    movss one, %xmm3
    mov $3, %eax
    xor %edx, %edx
    EXPECT(NONE, 0, xsave area)
    fninit
    xorps %xmm3, %xmm3
    mov $3, %eax
    xor %edx, %edx
    EXPECT(NONE, 0, xrstor area)
    movd %xmm3, %eax
    CHECK(%rax, $0x3f800000)
    fnstsw %ax
    movzwl %ax, %eax
    CHECK(%rax, $0x3800)
    /* A header that asks for what XCR0 lacks, or with its reserved bytes set. */
    orb $4, area + 512
    EXPECT(GP, 0, mov $3, %eax; xor %edx, %edx; xrstor area)
    andb $3, area + 512
    movb $1, area + 512 + 16
    EXPECT(GP, 0, mov $3, %eax; xor %edx, %edx; xrstor area)
    movb $0, area + 512 + 16
    EXPECT(GP, 0, mov $3, %eax; xor %edx, %edx; xrstor area + 16)
    mov $1, %eax
    cpuid
    bt $28, %ecx
    jnc 1f
    EXPECT(UD, 0, vaddps %xmm0, %xmm0, %xmm0) /* XCR0.AVX is clear */
    EXPECT(NONE, 0, xor %ecx, %ecx; xor %edx, %edx; mov $7, %eax; xsetbv;
           vaddps %xmm0, %xmm0, %xmm0)
1:  ret

    .data
    .balign 4
fcw_zm: .word 0x37b
    .balign 4
mxcsr_default: .long 0x1f80
mxcsr_zm: .long 0x1d80
mxcsr_bad: .long 0x11f80
one: .float 1.0
scratch: .long 0
    .section .bss
    .balign 64
area: .skip 1024

    .section .user, "ax"
user_xsetbv:
    xor %ecx, %ecx
    xor %edx, %edx
    mov $3, %eax
    xsetbv
    DONE
