/* rip1.S - a jump to RIP 1 must not match an empty slot of a jump cache
 * expected: all checks passed */
#include "guest.inc"
    .code64
main:
    movw $0x0b0f, 1 /* ud2 */
    mov $3, %ebx
1:  mov $1, %eax
    EXPECT(UD, 0, call *%rax)
    CHECK(exc_rip, $1)
    dec %ebx
    jnz 1b
    FINISH
