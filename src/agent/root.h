/* root.h - shared folders, and a disk as the new root */
#pragma once

/* Mounts `text`, TAG:PATH[:ro], by 9p below `root` ("" for /); makes the folder. What fails is told
 * on the console. */
void root_share(const char *text, const char *root);

/* Mounts the block device at ROOT_MOUNT. 0 or -errno; told on the console. */
int root_mount(const char *device);

#define ROOT_MOUNT "/mnt/root"

/* Makes what is mounted at ROOT_MOUNT the root and runs its init in place of this program. Returns
 * only when that fails, told on the console. */
void root_enter(void);
