/* freq.h - the frequencies of the virtual board; every chip derives its time from one clock */
#pragma once

/* The guest's TSC counts ns of guest time: TSC (before offsets) == clock_now_ns(). */
#define TSC_HZ 1000000000ull
/* Input clock of the local APIC timers before the divide configuration register; CPUID leaf 15h and
 * the pv timing leaf report the same number. */
#define LAPIC_BUS_HZ   1000000000ull
#define PIT_HZ         1193182ull  /* 8254 input, also the refresh and speaker base */
#define PM_TIMER_HZ    3579545ull  /* ACPI PM timer (ACPI 6.4, 4.8.3.3) */
#define HPET_PERIOD_FS 10000000ull /* 10 ns per HPET tick: 100 MHz */
#define RTC_HZ         32768ull    /* MC146818 time base */
#define NS_PER_SEC     1000000000ull
