/* jobs.c - whole programs: Debian's xz, gzip and sqlite3 on input made here
 *
 * They run by the loader and libraries next to them, so that every side runs the same code.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"

#define TEXT_BYTES (4 * 1024 * 1024)

static int input = -1, output = -1; /* in memory */
static char loader[4096], libraries[4096];

static const char *find_program(const char *name)
{
    char path[4096];

    snprintf(libraries, sizeof(libraries), "%s/lib", programs_dir);
    snprintf(loader, sizeof(loader), "%s/lib/ld-linux-x86-64.so.2", programs_dir);
    snprintf(path, sizeof(path), "%s/bin/%s", programs_dir, name);
    if (access(loader, X_OK) < 0 || access(path, X_OK) < 0)
        return "program not there";
    input = memfd_create("input", 0);
    output = memfd_create("output", 0);
    return input < 0 || output < 0 ? "no memory files" : NULL;
}

static void put_input(const char *text, size_t n)
{
    while (n) {
        ssize_t done = write(input, text, n);
        if (done <= 0)
            fail("input");
        text += done;
        n -= (size_t)done;
    }
}

static u32 next_random(u32 *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* Lines of words out of 4096, common ones more often; it shrinks to about a third. */
static void make_text(size_t bytes)
{
    char *text = malloc(bytes + 16);
    u32 seed = 7;
    size_t at = 0;

    if (!text)
        fail("text");
    while (at < bytes) {
        u32 word = next_random(&seed) % 4096 * (next_random(&seed) % 4096) / 4096;
        u32 letters = word * 2654435761u, n = 2 + letters % 9;
        for (u32 i = 0; i < n; i++, letters = letters * 5 + word)
            text[at++] = (char)('a' + (letters >> 16) % 26);
        text[at++] = next_random(&seed) % 12 ? ' ' : '\n';
    }
    put_input(text, bytes);
    free(text);
}

/* Everything the program wrote, as a checksum. */
static u64 sum_output(void)
{
    off_t bytes = lseek(output, 0, SEEK_END);
    u64 sum = 0xcbf29ce484222325;

    if (bytes <= 0)
        fail("output");
    const u8 *p = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, output, 0);
    if (p == MAP_FAILED)
        fail("output");
    for (off_t i = 0; i < bytes; i++)
        sum = (sum ^ p[i]) * 0x100000001b3;
    munmap((void *)p, (size_t)bytes);
    return sum;
}

/* Runs DIR/bin/NAME with up to three arguments on the input. */
static u64 run_program(const char *name, const char *arg1, const char *arg2, const char *arg3)
{
    static char *const envp[] = {"LC_ALL=C", "HOME=/nonexistent", NULL};
    char path[4096];
    int status;
    pid_t pid;

    snprintf(path, sizeof(path), "%s/bin/%s", programs_dir, name);
    lseek(input, 0, SEEK_SET);
    if (ftruncate(output, 0) < 0)
        fail("output");
    lseek(output, 0, SEEK_SET);
    pid = fork();
    if (pid < 0)
        fail("fork");
    if (pid == 0) {
        const char *argv[] = {loader, "--library-path", libraries, path, arg1, arg2, arg3, NULL};
        dup2(input, STDIN_FILENO);
        dup2(output, STDOUT_FILENO);
        execve(loader, (char **)argv, envp);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        fail("program");
    return sum_output();
}

static const char *setup_xz(void)
{
    const char *why = find_program("xz");

    if (!why)
        make_text(TEXT_BYTES / 8);
    return why;
}

static u64 row_xz(u32 rounds)
{
    return run_program("xz", "-c", NULL, NULL);
}

static const char *setup_gzip(void)
{
    const char *why = find_program("gzip");

    if (!why)
        make_text(TEXT_BYTES);
    return why;
}

static u64 row_gzip(u32 rounds)
{
    return run_program("gzip", "-9nc", NULL, NULL);
}

/* ---- sqlite: a table in a file on tmpfs ---- */

#define ITEMS   8000
#define LOOKUPS 400

static char database[] = "/dev/shm/ringbench-XXXXXX";

static void put_line(const char *format, u32 a, u32 b, u32 c)
{
    char line[256];
    int n = snprintf(line, sizeof(line), format, a, b, c);

    put_input(line, (size_t)n);
}

static const char *setup_sqlite(void)
{
    const char *why = find_program("sqlite3");
    int fd = why ? -1 : mkstemp(database);
    u32 seed = 5;

    if (why || fd < 0)
        return why ? why : "no tmpfs";
    close(fd);
    put_line("create table item(id integer primary key, name text, qty int, price int);\nbegin;\n",
             0, 0, 0);
    for (u32 i = 1; i <= ITEMS; i++)
        put_line("insert into item values(%u, 'item-%u', %u, 100);\n", i, next_random(&seed) % 5000,
                 i % 97);
    put_line("commit;\nbegin;\n", 0, 0, 0);
    put_line("update item set price = price + id %% %u where qty < %u;\n", 13, 60, 0);
    put_line("create index by_name on item(name);\ncommit;\n", 0, 0, 0);
    for (u32 i = 0; i < LOOKUPS; i++)
        put_line("select id, qty, price from item where name = 'item-%u';\n",
                 next_random(&seed) % 5000, 0, 0);
    put_line("select qty, count(*), sum(price), group_concat(name) from item where id > %u "
             "group by qty order by 3, 1;\n",
             10, 0, 0);
    put_line("select count(*) from item a, item b where a.name = b.name and a.id < b.id;\n", 0, 0,
             0);
    put_line("delete from item where qty %% %u = 0;\nselect sum(id) from item;\n", 5, 0, 0);
    return NULL;
}

static u64 row_sqlite(u32 rounds)
{
    u64 sum = run_program("sqlite3", "-init", "/dev/null", database);

    unlink(database);
    return sum;
}

const struct row job_rows[] = {
    {"xz", row_xz, 0, setup_xz},
    {"gzip", row_gzip, 0, setup_gzip},
    {"sqlite", row_sqlite, 0, setup_sqlite},
    {NULL, NULL, 0, NULL},
};
