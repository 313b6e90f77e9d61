/* shares.c - folders of the host as virtio 9p devices of the machine */
#include <stdio.h>

#include "dev/virtio/p9.h"
#include "host/iothread.h"
#include "machine/machine_priv.h"

static int make_share(struct machine *m, unsigned i, const struct p9_config *cfg, struct err *e)
{
    char tag[P9_TAG_MAX + 1], thread[16];
    struct virtio_p9_config p9 = {.tag = tag};
    struct virtio_p9 *dev;
    struct device *d = NULL;
    int rc;

    snprintf(tag, sizeof(tag), MACHINE_SHARE_TAG, i);
    snprintf(thread, sizeof(thread), "share%u", i);
    rc = device_new(m, thread, &d, e);
    if (!rc)
        rc = p9_open(&p9.server, cfg, e);
    if (!rc)
        rc = virtio_p9_create(&p9, m->mem, iothread_loop(d->io), &dev, e);
    if (rc)
        return rc;
    d->unsaved = "a shared folder (the files that the guest has open there are the host's)";
    return device_plug(m, d, &dev->dev, virtio_p9_destroy, NULL, e);
}

int shares_create(struct machine *m, const struct machine_config *cfg, struct err *e)
{
    struct p9_config p9 = {.fds_max = cfg->shares ? p9_fds_for(cfg->shares) : 0};
    int rc = 0;

    for (unsigned i = 0; i < cfg->shares && !rc; i++) {
        p9.dir = cfg->share[i].dir;
        p9.read_only = cfg->share[i].read_only;
        rc = make_share(m, i, &p9, e);
    }
    return rc;
}
