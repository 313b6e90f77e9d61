/* symbols.c - names of functions: this program's symbol table, and its libraries' */
#include "base/symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct function {
    u64 at;
    const char *name;
};

struct symbols {
    const u8 *file; /* mapped: names point into it */
    size_t size;
    struct function *f; /* by address */
    size_t n;
};

static int by_address(const void *a, const void *b)
{
    const struct function *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

/* The first object is the program itself: where it was loaded. */
static int first_base(struct dl_phdr_info *info, size_t size, void *base)
{
    *(u64 *)base = info->dlpi_addr;
    return 1;
}

static bool inside(const struct symbols *s, u64 off, u64 len)
{
    return off <= s->size && len <= s->size - off;
}

static void read_table(struct symbols *s, const Elf64_Shdr *tab, const Elf64_Shdr *str)
{
    const Elf64_Sym *sym = (const void *)(s->file + tab->sh_offset);
    const char *strings = (const char *)s->file + str->sh_offset;
    size_t n = tab->sh_size / sizeof(*sym);
    u64 base = 0;

    if (!str->sh_size || strings[str->sh_size - 1])
        return;
    s->f = calloc(n + 1, sizeof(*s->f));
    dl_iterate_phdr(first_base, &base);
    for (size_t i = 0; s->f && i < n; i++)
        if (ELF64_ST_TYPE(sym[i].st_info) == STT_FUNC && sym[i].st_shndx != SHN_UNDEF &&
            sym[i].st_name < str->sh_size)
            s->f[s->n++] = (struct function){base + sym[i].st_value, strings + sym[i].st_name};
    if (s->f)
        qsort(s->f, s->n, sizeof(*s->f), by_address);
}

static void read_sections(struct symbols *s)
{
    const Elf64_Ehdr *h = (const void *)s->file;

    if (s->size < sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG) ||
        !inside(s, h->e_shoff, h->e_shnum * sizeof(Elf64_Shdr)))
        return;
    const Elf64_Shdr *sh = (const void *)(s->file + h->e_shoff);
    for (unsigned i = 0; i < h->e_shnum; i++) {
        if (sh[i].sh_type != SHT_SYMTAB || sh[i].sh_link >= h->e_shnum)
            continue;
        const Elf64_Shdr *str = &sh[sh[i].sh_link];
        if (inside(s, sh[i].sh_offset, sh[i].sh_size) && inside(s, str->sh_offset, str->sh_size))
            read_table(s, &sh[i], str);
        return;
    }
}

struct symbols *symbols_read(void)
{
    struct symbols *s = calloc(1, sizeof(*s));
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (s && fd >= 0 && !fstat(fd, &st) && st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p != MAP_FAILED) {
            s->file = p;
            s->size = (size_t)st.st_size;
            read_sections(s);
        }
    }
    if (fd >= 0)
        close(fd);
    return s;
}

const char *symbols_find(const struct symbols *s, u64 pc, char *buf, size_t len)
{
    Dl_info info, self;
    void *at = (void *)(uintptr_t)pc;
    size_t lo = 0, hi = s ? s->n : 0;

    if (!dladdr(at, &info) || !info.dli_fname) {
        snprintf(buf, len, "0x%llx", (unsigned long long)pc);
        return buf;
    }
    bool own = dladdr((void *)(uintptr_t)symbols_find, &self) && self.dli_fbase == info.dli_fbase;
    while (own && lo < hi) { /* the first one behind pc */
        size_t mid = lo + (hi - lo) / 2;
        if (s->f[mid].at > pc)
            hi = mid;
        else
            lo = mid + 1;
    }
    if (own && lo)
        return s->f[lo - 1].name;
    const char *slash = strrchr(info.dli_fname, '/');
    const char *object = slash ? slash + 1 : info.dli_fname;
    if (info.dli_sname)
        snprintf(buf, len, "%s (%s)", info.dli_sname, object);
    else
        snprintf(buf, len, "%s+0x%llx", object,
                 (unsigned long long)(pc - (u64)(uintptr_t)info.dli_fbase));
    return buf;
}

void symbols_free(struct symbols *s)
{
    if (!s)
        return;
    if (s->file)
        munmap((void *)s->file, s->size);
    free(s->f);
    free(s);
}
