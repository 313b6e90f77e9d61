/* boot.h - what process 1 does before and after the one command */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Mounts the kernel's file systems, sets the host name and the environment, brings up `lo`. What
 * fails is told on the console and left. */
void boot_system(void);

/* Copies the value of `name=` from the kernel command line; false when it is not there. */
bool boot_param(const char *name, char *value, size_t size);

/* Calls fn with the value of each `name=` there, in order. */
void boot_each_param(const char *name, void (*fn)(const char *value, const char *root),
                     const char *root);

/* Ends all processes, syncs, unmounts, and reboots with a command of reboot(2). Does not return. */
_Noreturn void boot_down(int reboot_command);
