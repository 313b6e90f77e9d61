/* stir.h - turns bytes into accesses to every corner of a board, for fuzzing and snapshot tests */
#pragma once

#include "board.h"

#define STIR_BYTES 12 /* of input for one action */

/* One action: a port, MMIO or MSR access, an interrupt acknowledged, a line moved, serial input,
 * or a step of at most 134 ms. */
void board_stir(struct board *b, const u8 act[STIR_BYTES]);
/* n actions from a seed. */
void board_stir_seed(struct board *b, u64 seed, unsigned n);
