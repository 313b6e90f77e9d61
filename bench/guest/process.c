/* process.c - rows of several processes: fork, exec, pipes
 *
 * No row asks for a processor: where there are two, the kernel may use both.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"

static u64 reap(pid_t pid)
{
    int status;

    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        fail("wait");
    return (u64)WEXITSTATUS(status);
}

static u64 row_fork_exit(u32 rounds)
{
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++) {
        pid_t pid = fork();
        if (pid < 0)
            fail("fork");
        if (pid == 0)
            _exit((int)(r & 0x7f));
        sum += reap(pid);
    }
    return sum;
}

static u64 row_fork_exec(u32 rounds)
{
    static char *const argv[] = {"ringbench", "true", NULL}, *const envp[] = {NULL};
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++) {
        pid_t pid = fork();
        if (pid < 0)
            fail("fork");
        if (pid == 0) {
            execve("/proc/self/exe", argv, envp);
            _exit(127);
        }
        sum += 1 + reap(pid);
    }
    return sum;
}

/* ---- pipe and ring: one byte goes round through 2 or 8 processes ---- */

#define RING_MAX 8

static int token_in, token_out; /* of this process */

/* Hands the byte on, one higher, until its pipe ends. */
static _Noreturn void hand_on(int in, int out)
{
    u8 byte;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(in, &byte, 1) == 1) {
        byte++;
        if (write(out, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static const char *make_ring(int members)
{
    int pipes[RING_MAX][2];

    for (int i = 0; i < members; i++)
        if (pipe(pipes[i]) < 0)
            return "no pipe";
    for (int i = 1; i < members; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return "no process";
        if (pid == 0)
            hand_on(pipes[i - 1][0], pipes[i][1]);
    }
    token_out = pipes[0][1];
    token_in = pipes[members - 1][0];
    return NULL;
}

static const char *make_pair(void)
{
    return make_ring(2);
}

static const char *make_eight(void)
{
    return make_ring(RING_MAX);
}

static u64 row_ring(u32 rounds)
{
    u64 sum = 0;
    u8 byte = 0;

    for (u32 r = 0; r < rounds; r++) {
        byte = (u8)r;
        if (write(token_out, &byte, 1) != 1 || read(token_in, &byte, 1) != 1)
            fail("pipe");
        sum += byte;
    }
    return sum;
}

const struct row process_rows[] = {
    {"fork-exit", row_fork_exit, 80, NULL},
    {"fork-exec", row_fork_exec, 20, NULL},
    {"pipe", row_ring, 1000, make_pair},
    {"ring", row_ring, 250, make_eight},
    {NULL, NULL, 0, NULL},
};
