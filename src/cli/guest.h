/* guest.h - the default guest, and the files a run starts from */
#pragma once

#include "base/err.h"
#include "cli/disks.h"
#include "cli/options.h"
#include "machine/machine.h"

#define GUEST_PATH_MAX 4096

struct guest_files {
    char kernel[GUEST_PATH_MAX], initrd[GUEST_PATH_MAX];
};

/* Looks for guest/vmlinuz and guest/initrd.img next to the program, then in the data directories;
 * `full`: for guest/full/vmlinux and its initrd.img, whose kernel has drivers for more, 9p among
 * them. -ENOENT says how to make them. */
must_check int guest_find(struct guest_files *g, bool full, struct err *e);

#define GUEST_MODULES_MAX 64

/* Everything read for one run; zero-initialise, free with guest_unload also after a failure. */
struct guest_image {
    struct boot_file kernel, bios;
    struct boot_file module[GUEST_MODULES_MAX];
    size_t modules;
    char *names[GUEST_MODULES_MAX]; /* what module names point into */
    struct guest_files standard;
    char cmdline[CMDLINE_MAX];
    char *script;
};

/* Reads kernel, modules, ROM or script as the options say, the default guest where they say
 * nothing, and composes the command line. `agent` holds words for the guest's agent, a blank before
 * each; guests without one do not get them. */
must_check int guest_load(struct guest_image *g, const struct options *o, const char *agent,
                          struct err *e);
void guest_unload(struct guest_image *g);
