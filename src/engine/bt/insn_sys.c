/* insn_sys.c - system instructions that kernels execute all the time */
#include <Zydis/Zydis.h>

#include "engine/bt/gen.h"

bool gen_sys(struct gen *g)
{
    return false;
}
