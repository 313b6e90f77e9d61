/* monitor.c - a few commands for the person at the console (Ctrl-a c) */
#include "cli/monitor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/report.h"
#include "cli/session.h"

#define PROMPT "(ring3) "

static const char *const flag_letters = "C.P.AZS.TIDO";

static void show_registers(struct machine *m)
{
    static const char *const name[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                         "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const sreg[X86_SREGS] = {"es", "cs", "ss", "ds", "fs", "gs"};
    char flags[16] = "";
    struct x86_state s;

    machine_pause(m);
    if (machine_cpu_state(m, 0, &s)) {
        machine_resume(m);
        return;
    }
    machine_resume(m);
    for (unsigned i = 0; i < 16; i++)
        report_text("%s %016llx%s", name[i], (unsigned long long)s.gpr[i],
                    i % 4 == 3 ? "\n" : "  ");
    for (unsigned i = 0; flag_letters[i]; i++)
        flags[i] = s.rflags >> i & 1 && flag_letters[i] != '.' ? flag_letters[i] : '-';
    report_text("rip %016llx  rflags %08llx %s  cpl %u%s\n", (unsigned long long)s.rip,
                (unsigned long long)s.rflags, flags, s.cpl,
                s.activity == X86_HALTED ? "  halted" : "");
    for (unsigned i = 0; i < X86_SREGS; i++)
        report_text("%s %04x base %016llx limit %08x attr %04x\n", sreg[i], s.seg[i].sel,
                    (unsigned long long)s.seg[i].base, s.seg[i].limit, s.seg[i].attr);
    report_text("cr0 %llx  cr2 %llx  cr3 %llx  cr4 %llx  efer %llx\n", (unsigned long long)s.cr0,
                (unsigned long long)s.cr2, (unsigned long long)s.cr3, (unsigned long long)s.cr4,
                (unsigned long long)s.efer);
}

static void show_counter(void *arg, const char *name, u64 value)
{
    report_text("%-24s%llu\n", name, (unsigned long long)value);
}

static void show_balloon(struct machine *m)
{
    struct machine_balloon b;

    if (machine_balloon_get(m, &b, NULL, NULL)) {
        report_text("this machine has no balloon\n");
        return;
    }
    report_text("the guest has %llu MiB, wanted %llu MiB; %llu MiB were given back so far\n",
                (unsigned long long)b.has >> 20, (unsigned long long)b.wanted >> 20,
                (unsigned long long)b.discarded >> 20);
    (void)!machine_balloon_get(m, &b, show_counter, NULL);
}

static void set_balloon(struct machine *m, const char *size)
{
    u64 bytes;
    int rc = parse_size(size, &bytes) ? machine_balloon_set(m, bytes) : -EINVAL;

    if (rc == -ENODEV)
        report_text("this machine has no balloon\n");
    else if (rc)
        report_text("'%s' is no size up to the memory of this machine (512M, 1G)\n", size);
}

static void run_command(struct monitor *mon, struct machine *m)
{
    const char *line = mon->line;

    if (!strcmp(line, "info registers"))
        show_registers(m);
    else if (!strcmp(line, "info stats"))
        machine_stats(m, show_counter, NULL);
    else if (!strcmp(line, "info status"))
        report_text("running, processor model %s\n", machine_cpu_model(m));
    else if (!strcmp(line, "balloon"))
        show_balloon(m);
    else if (!strncmp(line, "balloon ", 8))
        set_balloon(m, line + 8);
    else if (!strcmp(line, "powerdown"))
        report_text("%s", machine_power_button(m) ? "pressed\n" : "the guest does not listen\n");
    else if (!strcmp(line, "quit"))
        machine_stop(m, STOP_QUIT);
    else if (!strcmp(line, "cont"))
        mon->active = false;
    else if (*line)
        report_text(
            "commands: info registers, info status, info stats, balloon [SIZE], powerdown, quit, "
            "cont\n");
}

void monitor_toggle(struct monitor *mon)
{
    mon->active = !mon->active;
    mon->len = 0;
    report_text("%s", mon->active ? "\nmonitor; Ctrl-a c or cont goes back\n" PROMPT : "\n");
}

void monitor_key(struct monitor *mon, struct machine *m, u8 key)
{
    if (key == '\r' || key == '\n') {
        mon->line[mon->len] = '\0';
        mon->len = 0;
        report_text("\n");
        run_command(mon, m);
        if (mon->active)
            report_text(PROMPT);
    } else if ((key == '\b' || key == 0x7f) && mon->len > 0) {
        mon->len--;
        report_text("\b \b");
    } else if (key >= ' ' && key < 0x7f && mon->len < MONITOR_LINE - 1) {
        mon->line[mon->len++] = (char)key;
        report_text("%c", key);
    }
}
