/* ringbench.c - one program for every side of the bench: named rows of fixed work, timed inside
 *
 *   ringbench [--reps N] [--limit MS] [--programs DIR] [--disk FILE] [--rows NAME,NAME...]
 *   ringbench true
 *
 * A row is repeated N times (5), but not begun again after MS (1500); a job runs once. Output:
 * "begin", one line a row and "end NS" with the time between the two by this machine's clock. A
 * row's line is one of
 *
 *   NAME NS CHECKSUM      the median time of a repetition, and what it computed
 *   NAME skip REASON      this machine cannot
 *   NAME fail REASON
 *
 * Every row has a process of its own. As process 1 of a guest ringbench first mounts what it needs
 * and in the end powers off; the kernel hands it the words behind "--" of its command line.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init.h"
#include "rows.h"

#define REPS_MAX 1000

static const struct row *const lists[] = {kernels,      simd_rows, kernel_call_rows,
                                          process_rows, job_rows,  disk_rows};
static const char *current;
const char *programs_dir;

struct plan {
    u32 reps;
    u64 limit_ns;
    char *names; /* NULL: all */
};

_Noreturn void fail(const char *what)
{
    printf("%s fail %s: %s\n", current, what, strerror(errno));
    exit(0);
}

static u64 now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return (x > y) - (x < y);
}

static void measure(const struct row *row, const struct plan *plan)
{
    static u64 ns[REPS_MAX];
    const char *why = row->setup ? row->setup() : NULL;
    u64 begin = now_ns(), sum = 0;
    u32 n = 0;

    if (why) {
        printf("%s skip %s\n", row->name, why);
        return;
    }
    do {
        u64 start = now_ns(), before = sum;
        sum = row->run(row->rounds);
        ns[n] = now_ns() - start;
        if (n++ && sum != before) {
            printf("%s fail checksums %lx and %lx\n", row->name, before, sum);
            return;
        }
    } while (row->rounds && n < plan->reps && now_ns() - begin < plan->limit_ns);
    qsort(ns, n, sizeof(ns[0]), by_value);
    printf("%s %lu %lx\n", row->name, ns[(n - 1) / 2], sum);
}

static void run_row(const struct row *row, const struct plan *plan)
{
    int status;
    pid_t pid;

    current = row->name;
    pid = fork();
    if (pid == 0) {
        measure(row, plan);
        exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        printf("%s fail process: %s\n", row->name, strerror(errno));
    else if (WIFSIGNALED(status))
        printf("%s fail signal %d\n", row->name, WTERMSIG(status));
    while (waitpid(-1, NULL, 0) > 0) /* what the row left behind; it dies with it */
        ;
}

static const struct row *find_row(const char *name)
{
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct row *row = lists[i]; row->name; row++)
            if (strcmp(row->name, name) == 0)
                return row;
    return NULL;
}

static void run_all(const struct plan *plan)
{
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct row *row = lists[i]; row->name; row++)
            run_row(row, plan);
}

static void run_named(const struct plan *plan)
{
    char *rest = plan->names, *name;

    while ((name = strsep(&rest, ","))) {
        const struct row *row = find_row(name);
        if (row)
            run_row(row, plan);
        else
            printf("%s fail no such row\n", name);
    }
}

/* The directory of this program. */
static const char *own_dir(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    path[n > 0 ? n : 0] = 0;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
    return path;
}

static int parse(struct plan *plan, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value && strcmp(argv[i], "--reps") == 0)
            plan->reps = (u32)atoi(value);
        else if (value && strcmp(argv[i], "--limit") == 0)
            plan->limit_ns = (u64)atoi(value) * 1000000;
        else if (value && strcmp(argv[i], "--programs") == 0)
            programs_dir = value;
        else if (value && strcmp(argv[i], "--disk") == 0)
            disk_path = value;
        else if (value && strcmp(argv[i], "--rows") == 0)
            plan->names = value;
        else
            return -1;
    }
    return plan->reps >= 1 && plan->reps <= REPS_MAX ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct plan plan = {.reps = 5, .limit_ns = 1500 * 1000000ul};
    bool as_init = getpid() == 1;

    if (argc == 2 && strcmp(argv[1], "true") == 0)
        return 0;
    if (as_init)
        init_system();
    setvbuf(stdout, NULL, _IOLBF, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    programs_dir = own_dir();
    if (parse(&plan, argc, argv) < 0) {
        fprintf(stderr, "usage: ringbench [--reps N] [--limit MS] [--programs DIR] [--disk FILE] "
                        "[--rows A,B]\n");
        if (!as_init)
            return 2;
    } else {
        u64 begin = now_ns();
        printf("begin\n");
        if (plan.names)
            run_named(&plan);
        else
            run_all(&plan);
        printf("end %lu\n", now_ns() - begin);
    }
    if (as_init)
        init_power_off();
    return 0;
}
