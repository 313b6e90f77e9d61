/* rtc_time.c - calendar arithmetic of the MC146818 (BCD and binary, 12 and 24 hours) */
#include "dev/rtc_time.h"

#define SECONDS       0x00
#define SECONDS_ALARM 0x01
#define MINUTES       0x02
#define MINUTES_ALARM 0x03
#define HOURS         0x04
#define HOURS_ALARM   0x05
#define WEEKDAY       0x06
#define MONTHDAY      0x07
#define MONTH         0x08
#define YEAR          0x09
#define REG_B         0x0b
#define CENTURY       0x32

#define HOURS_PM       0x80
#define ALARM_ANY      0xc0 /* both top bits set: don't care */
#define DAY_SECONDS    86400ull
#define DAYS_TO_1970   719468ull /* from 0000-03-01 */
#define DAYS_400_YEARS 146097ull

static u8 encode(const u8 *regs, unsigned n)
{
    return (u8)(regs[REG_B] & RTC_B_BINARY ? n : n / 10 << 4 | n % 10);
}

static unsigned decode(const u8 *regs, u8 val)
{
    return regs[REG_B] & RTC_B_BINARY ? val : (val >> 4) * 10u + (val & 15);
}

static u8 encode_hour(const u8 *regs, unsigned hour)
{
    if (regs[REG_B] & RTC_B_24H)
        return encode(regs, hour);
    return encode(regs, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOURS_PM : 0);
}

static unsigned decode_hour(const u8 *regs, u8 val)
{
    if (regs[REG_B] & RTC_B_24H)
        return decode(regs, val);
    return decode(regs, val & (u8)~HOURS_PM) % 12 + (val & HOURS_PM ? 12 : 0);
}

/* The calendar counts years from March, so that the leap day is a year's last: month m (0 =
 * March) begins on day (153 m + 2) / 5 of the year. */
static u64 days_from_date(unsigned year, unsigned month, unsigned day)
{
    unsigned shifted = month > 2 ? month - 3 : month + 9;
    u64 y = month > 2 ? year : year - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 + (153 * shifted + 2) / 5 + day - 1 - DAYS_TO_1970;
}

static void date_from_days(u64 days, unsigned *year, unsigned *month, unsigned *day)
{
    days += DAYS_TO_1970;
    u64 era = days / DAYS_400_YEARS, d = days % DAYS_400_YEARS;
    u64 y = (d - d / 1460 + d / 36524 - d / 146096) / 365;
    u64 of_year = d - (365 * y + y / 4 - y / 100);
    u64 shifted = (5 * of_year + 2) / 153;
    *day = (unsigned)(of_year - (153 * shifted + 2) / 5 + 1);
    *month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = (unsigned)(era * 400 + y + (*month <= 2));
}

void rtc_time_to_registers(u64 unix_sec, u8 *regs)
{
    u64 days = unix_sec / DAY_SECONDS, sec = unix_sec % DAY_SECONDS;
    unsigned year, month, day;
    date_from_days(days, &year, &month, &day);
    regs[SECONDS] = encode(regs, (unsigned)(sec % 60));
    regs[MINUTES] = encode(regs, (unsigned)(sec / 60 % 60));
    regs[HOURS] = encode_hour(regs, (unsigned)(sec / 3600));
    regs[WEEKDAY] = encode(regs, (unsigned)((days + 4) % 7 + 1)); /* 1970 began on day 5 of 1..7 */
    regs[MONTHDAY] = encode(regs, day);
    regs[MONTH] = encode(regs, month);
    regs[YEAR] = encode(regs, year % 100);
    regs[CENTURY] = encode(regs, year / 100 % 100);
}

u64 rtc_registers_to_time(const u8 *regs)
{
    unsigned century = decode(regs, regs[CENTURY]);
    unsigned year = decode(regs, regs[YEAR]);
    unsigned month = decode(regs, regs[MONTH]), day = decode(regs, regs[MONTHDAY]);
    year += 100 * (century >= 19 && century <= 99 ? century : 20);
    month = month < 1 ? 1 : month > 12 ? 12 : month;
    day = day < 1 ? 1 : day;
    year = year < 1970 ? 1970 : year;
    return days_from_date(year, month, day) * DAY_SECONDS +
           decode_hour(regs, regs[HOURS]) * 3600ull + decode(regs, regs[MINUTES]) * 60ull +
           decode(regs, regs[SECONDS]);
}

static bool any(u8 val)
{
    return (val & ALARM_ANY) == ALARM_ANY;
}

/* Walks field by field instead of second by second: at most 24 hours, 60 minutes and 60 seconds. */
u64 rtc_next_alarm(const u8 *regs, u64 after)
{
    u8 s = regs[SECONDS_ALARM], m = regs[MINUTES_ALARM], h = regs[HOURS_ALARM];
    unsigned sec = decode(regs, s), min = decode(regs, m), hour = decode_hour(regs, h);
    if ((!any(s) && sec > 59) || (!any(m) && min > 59) || (!any(h) && hour > 23))
        return UINT64_MAX;
    u64 t = after + 1, end = t + DAY_SECONDS + 3600;
    while (t < end) {
        if (!any(h) && t / 3600 % 24 != hour)
            t = (t / 3600 + 1) * 3600;
        else if (!any(m) && t / 60 % 60 != min)
            t = (t / 60 + 1) * 60;
        else if (!any(s) && t % 60 != sec)
            t++;
        else
            return t;
    }
    return UINT64_MAX;
}
