/* monitor.c - a few commands for the person at the console (Ctrl-a c) */
#include "cli/monitor.h"

#include <stdio.h>
#include <string.h>

#include "cli/session.h"

#define PROMPT "(ring3) "

static const char *const flag_letters = "C.P.AZS.TIDO";

static void show_registers(struct machine *m)
{
    static const char *const name[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                         "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const sreg[X86_SREGS] = {"es", "cs", "ss", "ds", "fs", "gs"};
    struct x86_state s;

    machine_pause(m);
    if (machine_cpu_state(m, 0, &s)) {
        machine_resume(m);
        return;
    }
    machine_resume(m);
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, "%s %016llx%s", name[i], (unsigned long long)s.gpr[i],
                i % 4 == 3 ? "\n" : "  ");
    fprintf(stderr, "rip %016llx  rflags %08llx ", (unsigned long long)s.rip,
            (unsigned long long)s.rflags);
    for (unsigned i = 0; flag_letters[i]; i++)
        fputc(s.rflags >> i & 1 && flag_letters[i] != '.' ? flag_letters[i] : '-', stderr);
    fprintf(stderr, "  cpl %u%s\n", s.cpl, s.activity == X86_HALTED ? "  halted" : "");
    for (unsigned i = 0; i < X86_SREGS; i++)
        fprintf(stderr, "%s %04x base %016llx limit %08x attr %04x\n", sreg[i], s.seg[i].sel,
                (unsigned long long)s.seg[i].base, s.seg[i].limit, s.seg[i].attr);
    fprintf(stderr, "cr0 %llx  cr2 %llx  cr3 %llx  cr4 %llx  efer %llx\n",
            (unsigned long long)s.cr0, (unsigned long long)s.cr2, (unsigned long long)s.cr3,
            (unsigned long long)s.cr4, (unsigned long long)s.efer);
}

static void show_counter(void *arg, const char *name, u64 value)
{
    fprintf(stderr, "%-24s%llu\n", name, (unsigned long long)value);
}

static void run_command(struct monitor *mon, struct machine *m)
{
    const char *line = mon->line;

    if (!strcmp(line, "info registers"))
        show_registers(m);
    else if (!strcmp(line, "info stats"))
        machine_stats(m, show_counter, NULL);
    else if (!strcmp(line, "info status"))
        fprintf(stderr, "running, processor model %s\n", machine_cpu_model(m));
    else if (!strcmp(line, "powerdown"))
        fputs(machine_power_button(m) ? "pressed\n" : "the guest does not listen\n", stderr);
    else if (!strcmp(line, "quit"))
        machine_stop(m, STOP_QUIT);
    else if (!strcmp(line, "cont"))
        mon->active = false;
    else if (*line)
        fputs("commands: info registers, info status, info stats, powerdown, quit, cont\n", stderr);
}

void monitor_toggle(struct monitor *mon)
{
    mon->active = !mon->active;
    mon->len = 0;
    fputs(mon->active ? "\nmonitor; Ctrl-a c or cont goes back\n" PROMPT : "\n", stderr);
}

void monitor_key(struct monitor *mon, struct machine *m, u8 key)
{
    if (key == '\r' || key == '\n') {
        mon->line[mon->len] = '\0';
        mon->len = 0;
        fputc('\n', stderr);
        run_command(mon, m);
        if (mon->active)
            fputs(PROMPT, stderr);
    } else if ((key == '\b' || key == 0x7f) && mon->len > 0) {
        mon->len--;
        fputs("\b \b", stderr);
    } else if (key >= ' ' && key < 0x7f && mon->len < MONITOR_LINE - 1) {
        mon->line[mon->len++] = (char)key;
        fputc(key, stderr);
    }
}
