/* rtc_time.h - between seconds since 1970 and the clock registers of an MC146818 */
#pragma once

#include "base/types.h"

#define RTC_B_BINARY 0x04 /* register B: binary, otherwise BCD */
#define RTC_B_24H    0x02 /* 24 hours, otherwise 12 with bit 7 = PM */

/* `regs` is the CMOS array: registers 0..9, B (for the format) and the century byte 32h. Pure. */
void rtc_time_to_registers(u64 unix_sec, u8 *regs);
/* The reverse; the day of the week is ignored, impossible values are clamped or carried over. */
u64 rtc_registers_to_time(const u8 *regs);

/* The first second after `after` that matches the alarm registers; C0h..FFh match anything.
 * UINT64_MAX when nothing ever does (an impossible time). */
u64 rtc_next_alarm(const u8 *regs, u64 after);
