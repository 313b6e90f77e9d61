/* kernel_calls.c - rows of one process and its kernel: system call, signal, page fault, file */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rows.h"

static u64 row_getppid(u32 rounds)
{
    u64 alike = 0;
    long first = syscall(SYS_getppid);

    for (u32 r = 0; r < rounds; r++)
        alike += syscall(SYS_getppid) == first;
    return alike;
}

/* ---- signal: sent to oneself, handled before kill() returns ---- */

static volatile u64 handled;

static void on_signal(int signo)
{
    handled += (u64)signo;
}

static const char *catch_signal(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    return sigaction(SIGUSR1, &action, NULL) < 0 ? "no signal handler" : NULL;
}

static u64 row_signal(u32 rounds)
{
    pid_t self = getpid();

    handled = 0;
    for (u32 r = 0; r < rounds; r++)
        kill(self, SIGUSR1);
    return handled;
}

/* ---- pagefault: 1 MiB of fresh pages, too small for a huge one ---- */

#define FAULT_BYTES (1024 * 1024)

static u64 row_pagefault(u32 rounds)
{
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++) {
        u8 *p = mmap(NULL, FAULT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            fail("mmap");
        for (size_t at = 0; at < FAULT_BYTES; at += 4096)
            p[at] = (u8)(at >> 12 | 1);
        for (size_t at = 0; at < FAULT_BYTES; at += 65536)
            sum += p[at];
        munmap(p, FAULT_BYTES);
    }
    return sum;
}

/* ---- file4k: blocks of a 256 KiB file on tmpfs ---- */

#define BLOCK  4096
#define BLOCKS 64

static int file;

static const char *open_file(void)
{
    static const u8 zero[BLOCK];
    char name[] = "/dev/shm/ringbench-XXXXXX";

    file = mkstemp(name);
    if (file >= 0)
        unlink(name);
    else
        file = memfd_create("ringbench", 0);
    for (int i = 0; i < BLOCKS; i++)
        if (pwrite(file, zero, BLOCK, (off_t)i * BLOCK) != BLOCK)
            return "no file on tmpfs";
    return NULL;
}

static u64 row_file4k(u32 rounds)
{
    static u64 block[BLOCK / 8];
    u64 sum = 0;

    for (u32 r = 0; r < rounds; r++) {
        block[r % 512] = r;
        if (pwrite(file, block, BLOCK, (off_t)(r % BLOCKS) * BLOCK) != BLOCK)
            fail("pwrite");
        if (pread(file, block, BLOCK, (off_t)(r * 7 % BLOCKS) * BLOCK) != BLOCK)
            fail("pread");
        sum += block[r % 512];
    }
    if (ftruncate(file, 0) < 0 || ftruncate(file, (off_t)BLOCKS * BLOCK) < 0) /* same start again */
        fail("ftruncate");
    for (u32 i = 0; i < BLOCK / 8; i++)
        block[i] = 0;
    return sum;
}

const struct row kernel_call_rows[] = {
    {"getppid", row_getppid, 60000, NULL},
    {"signal", row_signal, 4000, catch_signal},
    {"pagefault", row_pagefault, 25, NULL},
    {"file4k", row_file4k, 8000, open_file},
    {NULL, NULL, 0, NULL},
};
