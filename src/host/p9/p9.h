/* p9.h - a 9P2000.L server of one host directory, without a transport */
#pragma once

#include <sys/uio.h>

#include "base/err.h"
#include "base/types.h"

/* The client is hostile. Whatever it sends, nothing outside the directory is read, made or changed:
 * - paths are walked one component at a time and no symbolic link is followed (the client resolves
 *   them by itself); a directory that the host moved out of the tree meanwhile is left alone;
 * - only regular files and directories are opened, so that nothing blocks or acts on devices;
 *   device nodes are not made; the kernel's own file systems (proc, sysfs, ...) are not entered;
 * - set-user-ID bits, and set-group-ID bits of files, are never set;
 * - files, descriptors and memory are counted against limits.h.
 * Beyond that the host's rights are those of this process ("passthrough" in the words of others):
 * owners are the host's, and a change that the host refuses is refused to the client. As root, new
 * files belong to the user who made them in the guest.
 *
 * One thread at a time. Calls block in the host's file I/O. */
struct p9;

struct p9_config {
    const char *dir; /* relative to the working directory, or absolute */
    bool read_only;
    unsigned fds_max; /* descriptors it may hold */
};

/* The descriptors that each of `shares` servers may hold: raises the process's soft limit to the
 * hard one and leaves some for everything else. */
unsigned p9_fds_for(unsigned shares);

/* Opens the directory, which must be there. 0 or -errno; needs /proc. */
must_check int p9_open(struct p9 **out, const struct p9_config *cfg, struct err *e);
void p9_close(struct p9 *s);

/* Forgets the session: all fids are clunked, and the client must begin with Tversion. */
void p9_reset(struct p9 *s);

/* One request in the memory of the client, which may change at any time: what is interpreted is
 * copied first. The reply goes to `in`; the two may overlap. At most IOV_MAX vectors each. */
struct p9_message {
    const struct iovec *out; /* what the client says */
    int out_n;
    const struct iovec *in; /* where the answer goes */
    int in_n;
};

/* Does it and returns the bytes of the reply, 0 when there is no room even for an error. */
u32 p9_request(struct p9 *s, const struct p9_message *m);
