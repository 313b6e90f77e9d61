/* i8042.c - keyboard controller (Intel 8042 as in the IBM PS/2) with a keyboard that has no keys */
#include "dev/i8042.h"

#include <errno.h>
#include <string.h>

/* Status: 5 output buffer is the mouse's | 4 not locked | 3 last write was a command | 2
 * self-test passed | 1 input buffer full (never: bytes are taken at once) | 0 output buffer full */
#define STATUS_OBF      0x01
#define STATUS_SYSTEM   0x04
#define STATUS_COMMAND  0x08
#define STATUS_UNLOCKED 0x10
#define STATUS_AUX      0x20

/* Command byte: 6 translate | 5 mouse off | 4 keyboard off | 2 self-test passed | 1 IRQ 12 | 0
 * IRQ 1 */
#define CB_KBD_IRQ   0x01
#define CB_AUX_IRQ   0x02
#define CB_SYSTEM    0x04
#define CB_KBD_OFF   0x10
#define CB_AUX_OFF   0x20
#define CB_TRANSLATE 0x40

/* Output port: 1 A20 | 0 reset line, active low */
#define OUT_RESET    0x01
#define OUT_A20      0x02
#define OUT_POWER_ON 0xcf
#define INPUT_PORT   0x80 /* keyboard not locked */

#define CMD_READ_RAM     0x20 /* ..3F */
#define CMD_WRITE_RAM    0x60 /* ..7F */
#define CMD_AUX_OFF      0xa7
#define CMD_AUX_ON       0xa8
#define CMD_AUX_TEST     0xa9
#define CMD_SELF_TEST    0xaa
#define CMD_KBD_TEST     0xab
#define CMD_KBD_OFF      0xad
#define CMD_KBD_ON       0xae
#define CMD_READ_INPUT   0xc0
#define CMD_READ_OUTPUT  0xd0
#define CMD_WRITE_OUTPUT 0xd1
#define CMD_LOOP_KBD     0xd2
#define CMD_LOOP_AUX     0xd3
#define CMD_WRITE_AUX    0xd4
#define CMD_A20_OFF      0xdd
#define CMD_A20_ON       0xdf
#define CMD_TEST_INPUTS  0xe0
#define CMD_PULSE        0xf0 /* ..FF: output port bits that are 0 in the low nibble */
#define SELF_TEST_PASSED 0x55
#define PORT_GOOD        0x00
#define PORT_CLOCK_LOW   0x01 /* no mouse: drivers give up at once instead of waiting for one */

#define KBD_ACK         0xfa
#define KBD_RESEND      0xfe
#define KBD_TEST_PASSED 0xaa

enum sender { FROM_CONTROLLER, FROM_KBD };

/* ---- output buffer ---- */

static void update(struct i8042 *k)
{
    /* The controller's own answers raise IRQ 1 as well: they sit in the same buffer. */
    irq_set(&k->kbd, k->full && (k->command & CB_KBD_IRQ));
    irq_set(&k->aux, false);
}

/* Moves the oldest waiting byte into the output buffer; a disabled keyboard's bytes wait. */
static void refill(struct i8042 *k)
{
    if (!k->full && k->count && !(k->from[k->head] == FROM_KBD && (k->command & CB_KBD_OFF))) {
        k->data = k->queue[k->head];
        k->data_from = k->from[k->head];
        k->head = (k->head + 1) % I8042_QUEUE;
        k->count--;
        k->full = true;
    }
    update(k);
}

static void send(struct i8042 *k, u8 byte, enum sender from)
{
    if (k->count == I8042_QUEUE)
        return; /* nobody reads: a real keyboard's buffer overruns too */
    unsigned at = (k->head + k->count) % I8042_QUEUE;
    k->queue[at] = byte;
    k->from[at] = (u8)from;
    k->count++;
    refill(k);
}

/* ---- the keyboard ---- */

static void kbd_command(struct i8042 *k, u8 val)
{
    if (k->kbd_expect) { /* the argument of LEDs, scan code set or typematic rate */
        bool query = k->kbd_expect == 0xf0 && val == 0;
        k->kbd_expect = 0;
        send(k, KBD_ACK, FROM_KBD);
        if (query) /* set 2, as set 1 numbers it when translated */
            send(k, k->command & CB_TRANSLATE ? 0x41 : 0x02, FROM_KBD);
        return;
    }
    switch (val) {
    case 0xed: /* LEDs */
    case 0xf0: /* scan code set */
    case 0xf3: /* typematic rate */
        k->kbd_expect = val;
        send(k, KBD_ACK, FROM_KBD);
        break;
    case 0xee: send(k, 0xee, FROM_KBD); break; /* echo */
    case 0xf2: /* identify: AB 83, of which translation makes AB 41 */
        send(k, KBD_ACK, FROM_KBD);
        send(k, 0xab, FROM_KBD);
        send(k, k->command & CB_TRANSLATE ? 0x41 : 0x83, FROM_KBD);
        break;
    case 0xf4: /* enable, disable, defaults, key types */
    case 0xf5:
    case 0xf6:
    case 0xf7:
    case 0xf8:
    case 0xf9:
    case 0xfa: send(k, KBD_ACK, FROM_KBD); break;
    case 0xff:
        send(k, KBD_ACK, FROM_KBD);
        send(k, KBD_TEST_PASSED, FROM_KBD);
        break;
    default: send(k, KBD_RESEND, FROM_KBD); break;
    }
}

/* ---- the controller ---- */

static void write_output_port(struct i8042 *k, u8 val)
{
    k->output_port = val;
    if (k->host.a20)
        k->host.a20(k->host.ctx, val & OUT_A20);
    if (!(val & OUT_RESET) && k->host.reset)
        k->host.reset(k->host.ctx);
}

static void set_command_byte(struct i8042 *k, u8 val)
{
    k->command = val;
    refill(k);
}

static void command(struct i8042 *k, u8 cmd)
{
    k->expect = 0;
    if (cmd >= CMD_READ_RAM && cmd < CMD_READ_RAM + 32) {
        unsigned at = cmd - CMD_READ_RAM;
        send(k, at ? k->ram[at] : k->command, FROM_CONTROLLER);
        return;
    }
    if (cmd >= CMD_PULSE) {
        if (!(cmd & OUT_RESET) && k->host.reset)
            k->host.reset(k->host.ctx);
        return;
    }
    switch (cmd) {
    case CMD_AUX_OFF: set_command_byte(k, k->command | CB_AUX_OFF); break;
    case CMD_AUX_ON: set_command_byte(k, k->command & (u8)~CB_AUX_OFF); break;
    case CMD_AUX_TEST: send(k, PORT_CLOCK_LOW, FROM_CONTROLLER); break;
    case CMD_SELF_TEST:
        k->count = 0;
        k->full = false;
        k->command |= CB_SYSTEM;
        send(k, SELF_TEST_PASSED, FROM_CONTROLLER);
        break;
    case CMD_KBD_TEST: send(k, PORT_GOOD, FROM_CONTROLLER); break;
    case CMD_KBD_OFF: set_command_byte(k, k->command | CB_KBD_OFF); break;
    case CMD_KBD_ON: set_command_byte(k, k->command & (u8)~CB_KBD_OFF); break;
    case CMD_READ_INPUT: send(k, INPUT_PORT, FROM_CONTROLLER); break;
    case CMD_READ_OUTPUT: send(k, k->output_port, FROM_CONTROLLER); break;
    case CMD_A20_OFF: write_output_port(k, k->output_port & (u8)~OUT_A20); break;
    case CMD_A20_ON: write_output_port(k, k->output_port | OUT_A20); break;
    case CMD_TEST_INPUTS: send(k, 0, FROM_CONTROLLER); break;
    default:
        if ((cmd >= CMD_WRITE_RAM && cmd < CMD_WRITE_RAM + 32) ||
            (cmd >= CMD_WRITE_OUTPUT && cmd <= CMD_WRITE_AUX))
            k->expect = cmd;
        break; /* others are unknown to the chip as well */
    }
}

/* The byte that a two-byte controller command waits for. */
static void argument(struct i8042 *k, u8 cmd, u8 val)
{
    switch (cmd) {
    case CMD_WRITE_RAM: set_command_byte(k, val); break;
    case CMD_WRITE_OUTPUT: write_output_port(k, val); break;
    case CMD_LOOP_KBD: send(k, val, FROM_KBD); break;
    case CMD_LOOP_AUX: send(k, val, FROM_CONTROLLER); break; /* not as a mouse's: no such port */
    case CMD_WRITE_AUX: send(k, KBD_RESEND, FROM_CONTROLLER); break; /* nobody is there */
    default: k->ram[cmd - CMD_WRITE_RAM] = val; break;
    }
}

static u64 data_read(void *dev, u64 off, unsigned size)
{
    struct i8042 *k = dev;
    u8 val = k->data;
    k->full = false;
    update(k); /* the line falls between two bytes, so that each makes an edge */
    refill(k);
    return val;
}

static void data_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct i8042 *k = dev;
    u8 cmd = k->expect;
    k->last_command = false;
    k->expect = 0;
    if (cmd) {
        argument(k, cmd, (u8)val);
    } else {
        k->command &= (u8)~CB_KBD_OFF; /* a byte for the keyboard switches its clock on */
        kbd_command(k, (u8)val);
        refill(k);
    }
}

static u64 status_read(void *dev, u64 off, unsigned size)
{
    const struct i8042 *k = dev;
    return (k->full ? STATUS_OBF : 0) | (k->command & CB_SYSTEM ? STATUS_SYSTEM : 0) |
           (k->last_command ? STATUS_COMMAND : 0) | STATUS_UNLOCKED;
}

static void command_write(void *dev, u64 off, unsigned size, u64 val)
{
    struct i8042 *k = dev;
    k->last_command = true;
    command(k, (u8)val);
}

const struct region_ops i8042_data_ops = {data_read, data_write, 1, 4, 1, 1, true};
const struct region_ops i8042_command_ops = {status_read, command_write, 1, 4, 1, 1, true};

/* ---- state ---- */

static const struct snap_field i8042_fields[] = {
    SNAP_U8(struct i8042, command),     SNAP_U8(struct i8042, ram),
    SNAP_U8(struct i8042, output_port), SNAP_U8(struct i8042, expect),
    SNAP_U8(struct i8042, kbd_expect),  SNAP_BOOL(struct i8042, last_command),
    SNAP_U8(struct i8042, head),        SNAP_U8(struct i8042, count),
    SNAP_U8(struct i8042, queue),       SNAP_U8(struct i8042, from),
    SNAP_U8(struct i8042, data),        SNAP_U8(struct i8042, data_from),
    SNAP_BOOL(struct i8042, full),      SNAP_END};

static int i8042_check(const void *scratch, struct err *e)
{
    const struct i8042 *k = scratch;
    if (k->head >= I8042_QUEUE || k->count > I8042_QUEUE)
        return err_set(e, EINVAL, "i8042: queue head %u, count %u", k->head, k->count);
    if (k->expect && !(k->expect >= CMD_WRITE_RAM && k->expect < CMD_WRITE_RAM + 32) &&
        !(k->expect >= CMD_WRITE_OUTPUT && k->expect <= CMD_WRITE_AUX))
        return err_set(e, EINVAL, "i8042: waits for the byte of command %#x", k->expect);
    return 0;
}

static void i8042_loaded(void *obj)
{
    struct i8042 *k = obj;
    if (k->host.a20)
        k->host.a20(k->host.ctx, k->output_port & OUT_A20);
    update(k);
}

const struct snap_desc i8042_snap = {
    "i8042", 1, sizeof(struct i8042), i8042_fields, i8042_check, i8042_loaded, NULL};

void i8042_reset(struct i8042 *k)
{
    struct irq_line kbd = k->kbd, aux = k->aux;
    struct i8042_host host = k->host;
    memset(k, 0, sizeof(*k));
    k->kbd = kbd;
    k->aux = aux;
    k->host = host;
    k->command = CB_TRANSLATE | CB_KBD_OFF | CB_AUX_OFF; /* translating, as firmware leaves it */
    k->output_port = OUT_POWER_ON;
    update(k);
}

void i8042_init(struct i8042 *k, const struct irq_line *kbd, const struct irq_line *aux,
                const struct i8042_host *host)
{
    memset(k, 0, sizeof(*k));
    k->kbd = *kbd;
    k->aux = *aux;
    k->host = *host;
    i8042_reset(k);
}
