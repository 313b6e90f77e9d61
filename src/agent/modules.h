/* modules.h - kernel modules for the virtio devices that are there */
#pragma once

#include <stdbool.h>

/* Types of virtio devices (virtio 1.2, chapter 5), as far as the agent knows drivers. */
enum {
    DEVICE_NET = 1,
    DEVICE_BLK = 2,
    DEVICE_CONSOLE = 3,
    DEVICE_9P = 9,
};

/* Loads the driver of one type of device, when such a device is on the PCI bus; false when there is
 * none. Loading what is built in or there already is fine. */
bool modules_load(int type);

/* Loads the drivers of all other devices. Without `wait` a process of its own does. */
void modules_load_rest(bool wait);
