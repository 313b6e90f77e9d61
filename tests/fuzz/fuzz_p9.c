/* fuzz_p9.c - 9P messages on a scratch directory, beside which nothing may change
 *
 * Input: records of {u8 type, u8 length, bytes}; type and size of each message are made right, the
 * rest is the input's. Types 0 to 7 are doings of the host. Names in the input are mostly short: a
 * byte below 16 where a string begins stands for a name that exists.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/types.h"
#include "host/p9/p9.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGES_MAX 200

static char top[64], share[80], outside[96];
static int top_fd = -1;

static void remove_scratch(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", top);
    if (system(command))
        fprintf(stderr, "fuzz_p9: %s is left\n", top);
}

static void put_file(int dir, const char *name, const char *text)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);

    if (fd >= 0) {
        ASSERT(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
        close(fd);
    }
}

static void make_scratch(void)
{
    strcpy(top, "/tmp/ring3-fuzz-p9-XXXXXX");
    ASSERT(mkdtemp(top));
    snprintf(share, sizeof(share), "%s/share", top);
    snprintf(outside, sizeof(outside), "%s/outside", top);
    ASSERT(mkdir(share, 0755) == 0 && mkdir(outside, 0755) == 0);
    top_fd = open(top, O_RDONLY | O_DIRECTORY);
    ASSERT(top_fd >= 0);
    put_file(top_fd, "outside/secret", "secret");
    atexit(remove_scratch);
}

/* What inputs may count on; more may be there from earlier ones. */
static void refresh(void)
{
    (void)!chmod(share, 0755);
    put_file(top_fd, "share/a", "content");
    (void)!mkdirat(top_fd, "share/d", 0755);
    put_file(top_fd, "share/d/b", "inner");
    (void)!symlinkat("../outside", top_fd, "share/l");
    (void)!symlinkat(outside, top_fd, "share/k");
    (void)!mkfifoat(top_fd, "share/p", 0644);
}

static void check_outside(void)
{
    char text[16] = "";
    struct stat st;
    int fd = openat(top_fd, "outside/secret", O_RDONLY);

    ASSERT(fd >= 0 && read(fd, text, sizeof(text)) == 6 && !memcmp(text, "secret", 6));
    close(fd);
    ASSERT(fstatat(top_fd, "outside", &st, 0) == 0 && st.st_nlink == 2 &&
           (st.st_mode & 07777) == 0755);
}

static void host_acts(unsigned what)
{
    switch (what) {
    case 0: (void)!renameat(top_fd, "share/d", top_fd, "share/e"); break;
    case 1: (void)!renameat(top_fd, "share/e", top_fd, "share/d"); break;
    case 2: (void)!unlinkat(top_fd, "share/a", 0); break;
    case 3: (void)!unlinkat(top_fd, "share/l", 0); break;
    default: refresh(); break;
    }
}

/* Appends the record's bytes; a byte below 16 becomes a name of the scratch directory. */
static u32 fill(u8 *to, const uint8_t *from, u32 len)
{
    static const char *const name[16] = {"a", "b", "d", "l",  "k",      "p",      "new", "..",
                                         ".", "",  "e", "n2", "secret", "user.x", "/a",  "outside"};
    u32 n = 0;

    for (u32 i = 0; i < len; i++) {
        if (from[i] == 0xfe && i + 1 < len) {
            const char *text = name[from[++i] & 15];

            to[n++] = (u8)strlen(text);
            to[n++] = 0;
            memcpy(to + n, text, strlen(text));
            n += (u32)strlen(text);
        } else if (from[i] == 0xfd && i + 1 < len) {
            memset(to + n, 0, 8);
            to[n] = from[++i];
            n += 4;
        } else {
            to[n++] = from[i];
        }
    }
    return n;
}

static void send_message(struct p9 *s, u8 type, const uint8_t *data, u32 len)
{
    static u8 out[4096], in[9000];
    struct iovec from[2], to[3] = {{in, 5}, {in + 5, 7}, {in + 12, sizeof(in) - 12}};
    struct p9_message m = {from, 2, to, 3};
    u32 n = 7 + fill(out + 7, data, len), got;

    memcpy(out, &n, 4);
    out[4] = type;
    from[0] = (struct iovec){out, n / 2};
    from[1] = (struct iovec){out + n / 2, n - n / 2};
    if (type & 1) { /* odd types are replies, which nobody sends: lies about the size instead */
        memcpy(out, data, MIN(len, 4u));
        out[4] = type - 1;
    }
    got = p9_request(s, &m);
    ASSERT(got >= 7 && got <= sizeof(in) && !memcmp(in, &got, 4));
}

static void version(struct p9 *s)
{
    send_message(s, 100, (const uint8_t *)"\0\x20\0\0\10\0009P2000.L", 14);
    send_message(s, 104, (const uint8_t *)"\1\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct p9_config cfg = {share, size && data[0] & 1, 64};
    struct p9 *s;
    int rc;

    if (top_fd < 0)
        make_scratch();
    refresh();
    cfg.dir = share;
    rc = p9_open(&s, &cfg, NULL);
    ASSERT(rc == 0);
    version(s);
    for (unsigned i = 0; i < MESSAGES_MAX && size > 2; i++) {
        u32 len = (u32)MIN((size_t)data[1], size - 2);

        if (data[0] < 8)
            host_acts(data[0]);
        else
            send_message(s, data[0], data + 2, len);
        data += 2 + len;
        size -= 2 + len;
    }
    p9_close(s);
    check_outside();
    return 0;
}
