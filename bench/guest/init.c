/* init.c - ringbench as process 1 of a guest: mounts, and the way down */
#include "init.h"

#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "modules.h"

static const char *const mounts[][2] = {{"proc", "/proc"},
                                        {"sysfs", "/sys"},
                                        {"devtmpfs", "/dev"},
                                        {"tmpfs", "/dev/shm"},
                                        {"tmpfs", "/tmp"}};

void init_system(void)
{
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        mkdir(mounts[i][1], 0755);
        if (mount(mounts[i][0], mounts[i][1], mounts[i][0], 0, NULL) < 0)
            perror(mounts[i][1]);
    }
    modules_load(DEVICE_BLK);
}

_Noreturn void init_power_off(void)
{
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    sync();
    reboot(RB_POWER_OFF);
    perror("power off");
    for (;;)
        pause();
}
