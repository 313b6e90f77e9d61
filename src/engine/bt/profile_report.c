/* profile_report.c - the text of --profile, and the map of the code for perf */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/symbols.h"
#include "engine/bt/cache.h"
#include "engine/bt/profile.h"

/* --- report ----------------------------------------------------------------------------------- */

static const char *const names[] = {
#define DOING(id, name, text) name,
#include "engine/bt/profile.def"
#undef DOING
};

static const char *const texts[] = {
#define DOING(id, name, text) text,
#include "engine/bt/profile.def"
#undef DOING
};

struct out {
    void (*emit)(void *arg, const char *line);
    void *arg;
};

static __attribute__((format(printf, 2, 3))) void say(const struct out *o, const char *fmt, ...)
{
    char line[320];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    o->emit(o->arg, line);
}

static int by_place(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;

    if (x->ring != y->ring)
        return x->ring < y->ring ? -1 : 1;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (int)x->doing - (int)y->doing;
}

static int by_count(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;

    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return by_place(a, b);
}

/* The samples of all vCPUs, or of those the host part; equal ones are one. */
static struct sample *gather(const struct engine_vm *vm, bool host, size_t *n)
{
    size_t all = 0, k = 0;

    for (const struct profile *p = vm->profiles; p; p = p->next)
        all++;
    struct sample *s = malloc(MAX(all, 1ul) * SAMPLE_SLOTS * sizeof(*s));
    if (!s)
        return NULL;
    for (const struct profile *p = vm->profiles; p; p = p->next)
        for (unsigned i = 0; i < SAMPLE_SLOTS; i++)
            if (p->slot[i].count && (p->slot[i].ring == SAMPLE_HOST) == host)
                s[k++] = p->slot[i];
    qsort(s, k, sizeof(*s), by_place);
    all = k;
    k = 0;
    for (size_t i = 0; i < all; i++) {
        if (k && !by_place(&s[k - 1], &s[i]))
            s[k - 1].count += s[i].count;
        else
            s[k++] = s[i];
    }
    *n = k;
    return s;
}

static void report_totals(const struct out *o, const struct engine_vm *vm, const struct sample *s,
                          size_t n)
{
    u64 total[DOINGS] = {0}, all = 0, lost = 0;

    for (const struct profile *p = vm->profiles; p; p = p->next) {
        all += p->samples;
        lost += p->lost;
        if (p->failed)
            say(o, "# a vCPU was not sampled: %s", strerror(-p->failed));
    }
    for (size_t i = 0; i < n; i++)
        total[s[i].doing] += s[i].count;
    say(o, "# %llu samples, one each millisecond; %llu of them not counted below",
        (unsigned long long)all, (unsigned long long)lost);
    for (unsigned i = 0; i < DOINGS; i++)
        say(o, "# %8llu  %-10s %s", (unsigned long long)total[i], names[i], texts[i]);
}

static void report_guest(const struct out *o, const struct sample *s, size_t n)
{
    say(o, "# samples ring doing, and the guest RIP: of the block, or of the instruction that C "
           "executes");
    for (size_t i = 0; i < n; i++)
        say(o, "%8u %u %-10s %016llx", s[i].count, s[i].ring, names[s[i].doing],
            (unsigned long long)s[i].at);
}

struct function {
    char name[96];
    u32 count;
    u8 doing;
};

static int by_name(const void *a, const void *b)
{
    const struct function *x = a, *y = b;
    int c = strcmp(x->name, y->name);

    return c ? c : (int)x->doing - (int)y->doing;
}

static int most_first(const void *a, const void *b)
{
    const struct function *x = a, *y = b;

    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return by_name(a, b);
}

static void report_host(const struct out *o, const struct sample *s, size_t n)
{
    struct symbols *symbols = symbols_read();
    struct function *f = calloc(MAX(n, 1ul), sizeof(*f));
    char buf[96];
    size_t k = 0;

    for (size_t i = 0; f && i < n; i++) {
        snprintf(f[i].name, sizeof(f[i].name), "%s",
                 symbols_find(symbols, s[i].at, buf, sizeof(buf)));
        f[i].count = s[i].count;
        f[i].doing = s[i].doing;
    }
    symbols_free(symbols);
    if (!f)
        return;
    qsort(f, n, sizeof(*f), by_name);
    for (size_t i = 0; i < n; i++) {
        if (k && !by_name(&f[k - 1], &f[i]))
            f[k - 1].count += f[i].count;
        else
            f[k++] = f[i];
    }
    qsort(f, k, sizeof(*f), most_first);
    say(o, "# samples doing, and the function of the monitor");
    for (size_t i = 0; i < k; i++)
        say(o, "%8u - %-10s %s", f[i].count, names[f[i].doing], f[i].name);
    free(f);
}

void profile_report(struct engine_vm *vm, void (*emit)(void *arg, const char *line), void *arg)
{
    const struct out o = {emit, arg};
    size_t n, nhost;
    struct sample *guest = gather(vm, false, &n), *host = gather(vm, true, &nhost);

    if (guest && host) {
        report_totals(&o, vm, guest, n);
        qsort(guest, n, sizeof(*guest), by_count);
        report_guest(&o, guest, n);
        report_host(&o, host, nhost);
    } else {
        say(&o, "# no memory for a report");
    }
    free(guest);
    free(host);
}

/* --- perf ------------------------------------------------------------------------------------- */

/* A file of that name may be anybody's, or of an earlier process: a new one takes its place. */
int perfmap_create(struct engine_vm *vm, struct err *e)
{
    char path[64];

    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd >= 0)
        vm->perfmap = fdopen(fd, "w");
    if (vm->perfmap) {
        fprintf(vm->perfmap, "%llx %x stubs\n", (unsigned long long)(uintptr_t)vm->cache->buf.x,
                (unsigned)CACHE_STUBS);
        return 0;
    }
    int rc = errno;
    if (fd >= 0)
        close(fd);
    return err_set(e, rc, "option --bt: perfmap: cannot write %s: %s", path, strerror(rc));
}

void perfmap_add(struct engine_vcpu *v, const struct tb *tb, u32 start, u32 end)
{
    u64 rip = (v->cpu.s.rip & ~PAGE_MASK) | (tb->gpa & PAGE_MASK);

    fprintf(v->vm->perfmap, "%llx %x guest%c_%llx\n",
            (unsigned long long)(uintptr_t)cache_x(v->vm->cache, start), end - start,
            tb->mode & MODE_USER ? '3' : '0', (unsigned long long)rip);
}

void perfmap_destroy(struct engine_vm *vm)
{
    if (vm->perfmap)
        fclose(vm->perfmap);
}
