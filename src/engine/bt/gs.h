/* gs.h - the GS base of this thread, which programs of this ABI leave alone */
#pragma once

void gs_set(const void *base);
