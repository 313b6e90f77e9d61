/* smp_guest.h - where things lie in the guest of test_smp.c; also for the assembler */
#pragma once

#define CODE     0x10000 /* smp_guest.S */
#define TABLES   0x20000 /* page tables, 0x6000 for each vCPU */
#define FLAG     0x40000 /* number of the last rewriting by a vCPU */
#define DMA_FLAG 0x40040 /* the same, by a device */
/* Functions "mov eax, n; ret" that are rewritten while they run: by a vCPU that calls them too, by
 * one that never does, by a device. The number is at an address divisible by 4. */
#define OWN_FN   0x50003
#define OTHER_FN 0x51003
#define DMA_FN   0x52003
#define STACKS   0x60000  /* 0x1000 for each vCPU */
#define PRIVATE  0x80000  /* pages that WINDOW shows, 0x2000 for each vCPU */
#define MANY     0x100000 /* many functions, more than the code cache holds */
#define MANY_N   1024
#define MANY_STEP 256
#define WINDOW   0x40000000 /* linear; in each vCPU's address space at other memory */

#define REWRITES     1500
#define DMA_REWRITES 300
#define MANY_ROUNDS  6
