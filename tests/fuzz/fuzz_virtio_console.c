/* fuzz_virtio_console.c - a console and its ports between a hostile driver and a moody host */
#include <stdlib.h>

#include "virtio_input.h"

#include "dev/virtio/console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct virtio_fuzz *fuzz;
static struct virtio_console *con;

/* The host's side does things whenever it is called: it takes some, sends some, comes and goes. */
static void host_acts(void)
{
    u64 what = vf_take(fuzz, 1);
    unsigned port = (unsigned)(what >> 4) % 3;
    u8 bytes[300] = {1, 2, 3};

    switch (what & 15) {
    case 0: virtio_console_open(con, port, false); break;
    case 1:
    case 2:
    case 3: virtio_console_open(con, port, true); break;
    case 4: virtio_console_resume(con); break;
    case 5: virtio_console_resize(con, (u16)what, 25); break;
    case 6: virtio_console_room(con, port); break;
    default: (void)virtio_console_input(con, port, bytes, vf_take(fuzz, 1)); break;
    }
}

static size_t host_output(void *ctx, const u8 *data, size_t len)
{
    size_t n = (size_t)vf_take(fuzz, 2);

    host_acts();
    return fuzz->left ? MIN(n, len) : len;
}

static void host_room(void *ctx)
{
    host_acts();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtio_console_config cfg = {.ports = 3};
    struct virtio_fuzz *f = malloc(sizeof(*f));
    int rc;

    ASSERT(f);
    fuzz = f;
    vf_open(f, data, size);
    for (unsigned i = 0; i < cfg.ports; i++)
        cfg.port[i] = (struct virtio_console_port){i ? "port" : NULL, host_output, host_room, NULL};
    rc = virtio_console_create(&cfg, f->mem, f->loop, &con, NULL);
    ASSERT(rc == 0);
    for (unsigned i = 0; i < cfg.ports; i++)
        host_acts();
    vf_run(f, &con->dev);
    virtio_console_destroy(&con->dev);
    vf_close(f);
    free(f);
    return 0;
}
