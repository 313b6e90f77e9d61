/* flat_image.S - the flat image of the kernels as data of the bench program */
        .section .rodata
        .globl flat_image, flat_image_end
        .balign 16
flat_image:
        .incbin "flat.bin"
flat_image_end:
        .section .note.GNU-stack, "", @progbits
