/* proto.h - what the monitor and the guest agent say to each other
 *
 * A byte stream (a serial port, or the virtio console port PROTO_PORT) carries frames both ways:
 *
 *     0      1      2          4
 *     +------+------+----------+-----------------+
 *     | 0xA3 | type | len (LE) | payload[len]    |   len <= PROTO_PAYLOAD_MAX
 *     +------+------+----------+-----------------+
 *
 * All integers are little-endian. A frame with a wrong magic, an unknown type or a payload of the
 * wrong shape is an error that ends the conversation; the stream is never resynchronized.
 *
 * One conversation runs one command:
 *
 *     guest                                     host
 *       "\nR3AGENT1\n"                            discards everything before and including it
 *       READY, CREDIT{PROTO_WINDOW}
 *                                                 SPEC*  EXEC
 *       STDOUT* STDERR* CREDIT*                   STDIN* STDIN_EOF WINSIZE* SIGNAL*
 *       EXIT
 *
 * Flow control. The host may have no more payload bytes of SPEC and STDIN on the way than it was
 * credited: a serial port has no other brake, and a guest's tty drops what does not fit. Every
 * CREDIT adds to what may be sent; bytes nobody reads any more are credited back as well, so a
 * command that closes its stdin never stalls the host. Send large frames: headers are not credited,
 * and the window leaves room for the worst case. The other direction needs no credit, because the
 * agent stops reading its command's output while the stream does not take more.
 *
 * End. EXIT is the last frame. It follows the command's end and all that the command wrote. Should
 * descendants keep stdout or stderr open, the agent waits PROTO_LINGER_MS for them, forwards what
 * is in the pipes by then and closes them. Then the guest powers off.
 */
#pragma once

#include <stdint.h>

#define PROTO_SYNC        "\nR3AGENT1\n"
#define PROTO_PORT        "org.ring3.agent"
#define PROTO_VERSION     1u
#define PROTO_MAGIC       0xA3u
#define PROTO_HEADER_SIZE 4u
#define PROTO_PAYLOAD_MAX 4096u
#define PROTO_FRAME_MAX   (PROTO_HEADER_SIZE + PROTO_PAYLOAD_MAX)

/* The credit that is out at most. A guest's tty holds 64 KiB; one-byte frames are five bytes. */
#define PROTO_WINDOW 8192u

/* All SPEC payloads together. */
#define PROTO_SPEC_MAX (1024u * 1024u)

#define PROTO_LINGER_MS 200

enum proto_type {
    /* Host to guest. */
    PROTO_SPEC = 0x01,      /* the next piece of the command's strings, split anywhere */
    PROTO_EXEC = 0x02,      /* struct proto_exec: run it; once */
    PROTO_STDIN = 0x03,     /* bytes for stdin; after EXEC, before STDIN_EOF */
    PROTO_STDIN_EOF = 0x04, /* empty; on a pty it becomes the end-of-file character */
    PROTO_WINSIZE = 0x05,   /* u16 rows, u16 cols; ignored without a pty */
    PROTO_SIGNAL = 0x06,    /* u8 signo (1..64) to the command's process group */

    /* Guest to host. */
    PROTO_READY = 0x81,  /* u32 version, u32 features (none defined: 0) */
    PROTO_STDOUT = 0x82, /* bytes; everything a command on a pty writes */
    PROTO_STDERR = 0x83, /* bytes */
    PROTO_CREDIT = 0x84, /* u32 bytes the host may send in addition */
    PROTO_EXIT = 0x85,   /* u8 enum proto_exit, u32 value */
};

/*
 * PROTO_EXEC's payload: u32 flags, u16 rows, u16 cols, u16 argc, u16 envc. The SPEC payloads
 * before it, put together, are exactly 1 + argc + envc NUL-terminated strings: the working
 * directory (empty: the agent's own, which is / in a guest), the arguments, and "NAME=value"
 * strings that are laid over the agent's own environment. argc is at least 1.
 */
struct proto_exec {
    uint32_t flags;
    uint16_t rows, cols; /* of the pty; 0 keeps the default */
    uint16_t argc, envc;
};

#define PROTO_EXEC_SIZE  12u
#define PROTO_EXEC_TTY   (1u << 0) /* run it on a new pty, as leader of its session */
#define PROTO_EXEC_FLAGS PROTO_EXEC_TTY

enum proto_exit {
    PROTO_EXITED = 0,    /* value: status, 0..255 */
    PROTO_SIGNALED = 1,  /* value: signal number */
    PROTO_FAILED = 2,    /* value: errno of the execve; EPROTO: the agent refused a frame */
    PROTO_UNSTARTED = 3, /* value: errno of what comes before the execve: directory, pty, fork */
};

#define PROTO_READY_SIZE   8u
#define PROTO_CREDIT_SIZE  4u
#define PROTO_WINSIZE_SIZE 4u
#define PROTO_SIGNAL_SIZE  1u
#define PROTO_EXIT_SIZE    5u

