/* init.h - ringbench as process 1 of a guest */
#pragma once

/* Mounts /proc, /dev and two tmpfs. */
void init_system(void);

/* When all output is out. */
_Noreturn void init_power_off(void);
