/* lockstep_report.c - a block in which translated code and the interpreter differ, on stderr */
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "engine/bt/cache.h"
#include "engine/bt/lockstep_priv.h"

static void disassemble(const u8 *code, unsigned bytes, u64 address, unsigned bits)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    char text[160];

    ZydisDecoderInit(&decoder,
                     bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
                     : bits == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                  : ZYDIS_MACHINE_MODE_LEGACY_16,
                     bits == 64   ? ZYDIS_STACK_WIDTH_64
                     : bits == 32 ? ZYDIS_STACK_WIDTH_32
                                  : ZYDIS_STACK_WIDTH_16);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned at = 0; at < bytes; at += z.length) {
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code + at, bytes - at, &z, ops)) ||
            !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &z, ops,
                                                          z.operand_count_visible, text,
                                                          sizeof(text), address + at, NULL))) {
            z.length = 1;
            snprintf(text, sizeof(text), "(byte %02x)", code[at]);
        }
        fprintf(stderr, "  %12llx  %s\n", (unsigned long long)(address + at), text);
    }
}

static void print_state(const char *name, const struct x86_state *s, const struct x86_state *other)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    fprintf(stderr, "%s: rip=%016llx rflags=%08llx cpl=%u cr2=%llx mxcsr=%x", name,
            (unsigned long long)s->rip, (unsigned long long)s->rflags, s->cpl,
            (unsigned long long)s->cr2, s->fpu.mxcsr);
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, "%s%3s=%016llx%c", i % 4 ? " " : "\n  ", names[i],
                (unsigned long long)s->gpr[i], s->gpr[i] != other->gpr[i] ? '*' : ' ');
    fputc('\n', stderr);
    for (unsigned i = 0; i < 16; i++) {
        if (!memcmp(s->fpu.vec[i], other->fpu.vec[i], sizeof(s->fpu.vec[i])))
            continue;
        fprintf(stderr, "  ymm%u=", i);
        for (unsigned k = 32; k-- > 0;)
            fprintf(stderr, "%02x", s->fpu.vec[i][k]);
        fputc('\n', stderr);
    }
}

static void print_memory(const struct ls_page *p)
{
    for (unsigned at = 0; at < sizeof(p->after); at += 8) {
        u64 before, after, now;
        memcpy(&before, p->before + at, 8);
        memcpy(&after, p->after + at, 8);
        memcpy(&now, p->hva + at, 8);
        if (after != now)
            fprintf(stderr, "memory %llx: was %016llx, interpreter %016llx, translated %016llx\n",
                    (unsigned long long)(p->gpa + at), (unsigned long long)before,
                    (unsigned long long)after, (unsigned long long)now);
    }
}

void lockstep_report(struct engine_vcpu *v, const struct tb *tb)
{
    const struct lockstep *ls = v->lockstep;
    const struct cache *c = v->vm->cache;
    unsigned flags, at = tb->gpa & PAGE_MASK;
    const u8 *page = mem_page(v->vm->cfg.mem, tb->gpa & ~PAGE_MASK, false, &flags);

    fprintf(stderr, "lockstep: %s; %llu blocks were equal\nguest code at %llx (physical %llx):\n",
            ls->what, (unsigned long long)ls->checked - 1, (unsigned long long)ls->start,
            (unsigned long long)tb->gpa);
    if (page)
        disassemble(page + at, MIN(tb->bytes, PAGE_BYTES - at), ls->start,
                    v->mode & MODE_64 ? 64 : 32);
    fprintf(stderr, "host code:\n");
    disassemble(c->buf.w + tb->entry_saved, tb->host_end - tb->entry_saved,
                (u64)(uintptr_t)cache_x(c, tb->entry_saved), 64);
    print_state("before", &ls->before, &ls->before);
    print_state("interpreter", &ls->shadow.s, &v->cpu.s);
    print_state("translated", &v->cpu.s, &ls->shadow.s);
    for (unsigned i = 0; i < ls->npages; i++)
        print_memory(&ls->page[i]);
}
