/* balloon.c - the machine's memory balloon, in bytes */
#include <errno.h>

#include "dev/virtio/balloon.h"
#include "machine/machine_priv.h"

int machine_balloon_set(struct machine *m, u64 ram_bytes)
{
    if (!m->balloon)
        return -ENODEV;
    if (ram_bytes > m->ram_bytes || (m->ram_bytes - ram_bytes) / BALLOON_PAGE > UINT32_MAX)
        return -EINVAL;
    virtio_balloon_set(m->balloon, (u32)((m->ram_bytes - ram_bytes) / BALLOON_PAGE));
    return 0;
}

int machine_balloon_get(struct machine *m, struct machine_balloon *out,
                        void (*emit)(void *arg, const char *name, u64 value), void *arg)
{
    struct virtio_balloon_stats s;
    u32 target, actual;

    if (!m->balloon)
        return -ENODEV;
    virtio_balloon_get(m->balloon, &target, &actual);
    virtio_balloon_stats(m->balloon, &s, &out->discarded);
    out->wanted = m->ram_bytes - MIN((u64)target * BALLOON_PAGE, m->ram_bytes);
    out->has = m->ram_bytes - MIN((u64)actual * BALLOON_PAGE, m->ram_bytes);
    for (unsigned i = 0; emit && i < BALLOON_STATS; i++)
        if (s.known & BIT(i))
            emit(arg, virtio_balloon_stat_name(i), s.value[i]);
    return 0;
}
