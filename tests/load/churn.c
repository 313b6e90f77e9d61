/* churn.c - one round of what wears a guest's memory management: runs in the guest, checks itself
 *
 * Mappings come, change their rights and go; children write to pages they share with their parent;
 * pipes, signals, faults and code written at run time. Ends with status 0 or says what was wrong.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE  4096u
#define PAGES 96u

static sigjmp_buf back;
static volatile sig_atomic_t signals;

static void fail(const char *what)
{
    fprintf(stderr, "churn: %s\n", what);
    _exit(1);
}

static void on_fault(int sig)
{
    siglongjmp(back, sig);
}

static void on_signal(int sig)
{
    signals++;
}

static uint8_t *map(size_t pages, int prot)
{
    uint8_t *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        fail("mmap");
    return p;
}

/* A store that must fault, or must not. */
static int store_faults(volatile uint8_t *p, uint8_t v)
{
    if (sigsetjmp(back, 1))
        return 1;
    *p = v;
    return 0;
}

static void mappings(unsigned round)
{
    uint8_t *p = map(PAGES, PROT_READ | PROT_WRITE);

    for (unsigned i = 0; i < PAGES; i++)
        memset(p + i * PAGE, (int)(i + round), PAGE);
    for (unsigned i = 0; i < PAGES; i += 3)
        if (mprotect(p + i * PAGE, PAGE, PROT_READ))
            fail("mprotect");
    for (unsigned i = 0; i < PAGES; i++)
        if (store_faults(p + i * PAGE + 7, 99) != (i % 3 == 0))
            fail("rights of a page");
    for (unsigned i = 1; i < PAGES; i += 3)
        if (munmap(p + i * PAGE, PAGE))
            fail("munmap");
    for (unsigned i = 0; i < PAGES; i++) {
        if (i % 3 == 1) {
            if (!store_faults(p + i * PAGE, 1))
                fail("a page that is gone");
        } else if (p[i * PAGE + PAGE - 1] != (uint8_t)(i + round)) {
            fail("contents of a page");
        }
    }
    munmap(p, PAGES * PAGE);
}

static void copies_on_write(unsigned round)
{
    uint8_t *p = map(16, PROT_READ | PROT_WRITE);
    int status;

    memset(p, (int)round, 16 * PAGE);
    pid_t child = fork();
    if (child == 0) {
        memset(p, 0x55, 16 * PAGE);
        _exit(p[5 * PAGE] == 0x55 ? 7 : 1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 7)
        fail("a child");
    for (unsigned i = 0; i < 16 * PAGE; i += 511)
        if (p[i] != (uint8_t)round)
            fail("a page shared before fork");
    munmap(p, 16 * PAGE);
}

static void pipes_and_signals(unsigned round)
{
    int fd[2];
    uint32_t sum = 0, got = 0, v;

    if (pipe(fd))
        fail("pipe");
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        close(fd[0]);
        for (uint32_t i = 0; i < 200; i++) {
            v = i * 2654435761u ^ round;
            if (write(fd[1], &v, sizeof(v)) != sizeof(v))
                _exit(1);
            if (i % 50 == 0)
                kill(parent, SIGUSR1);
        }
        _exit(0);
    }
    close(fd[1]);
    while (read(fd[0], &v, sizeof(v)) == sizeof(v))
        got += v;
    for (uint32_t i = 0; i < 200; i++)
        sum += i * 2654435761u ^ round;
    close(fd[0]);
    waitpid(child, NULL, 0);
    if (sum != got || !signals)
        fail("a pipe or its signals");
}

/* mov eax, imm32; ret */
static void fresh_code(unsigned round)
{
    uint8_t *p = map(1, PROT_READ | PROT_WRITE | PROT_EXEC);

    for (uint32_t i = 0; i < 20; i++) {
        uint32_t v = i * 77 + round;
        unsigned at = i % 4 * 64;
        p[at] = 0xb8;
        memcpy(p + at + 1, &v, 4);
        p[at + 5] = 0xc3;
        union {
            uint8_t *data;
            uint32_t (*fn)(void);
        } code = {.data = p + at};
        for (unsigned k = 0; k < 5; k++)
            if (code.fn() != v)
                fail("code written at run time");
    }
    munmap(p, PAGE);
}

static void numbers(unsigned round)
{
    volatile double x = 1 + round % 7, sum = 0;

    for (unsigned i = 1; i < 2000; i++)
        sum += x / i * i;
    if (sum < x * 1998.9 || sum > x * 1999.1)
        fail("floating point");
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 10;
    struct sigaction fault = {.sa_handler = on_fault},
                     count = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGUSR1, &count, NULL);
    for (unsigned i = 0; i < rounds; i++) {
        mappings(i);
        copies_on_write(i);
        pipes_and_signals(i);
        fresh_code(i);
        numbers(i);
    }
    return 0;
}
