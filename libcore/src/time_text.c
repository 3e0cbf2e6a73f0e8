/* Dates and times between wire integers, ISO text and column units. */
#include "time_text.h"

#include <stdio.h>

#include "libcore/envelope.h"
#include "scan.h"

/* pgjdbc's sentinels for infinity, which Debezium passes on (org.postgresql.PGStatement).  They are milliseconds; until
 * 2026 Debezium took them for microseconds, and wrote a thousandth of them where a column counts milliseconds. */
#define PGJDBC_INFINITY 9223372036825200000ll
#define PGJDBC_MINUS_INFINITY (-9223372036832400000ll)
#define DAY_SECONDS 86400ll

/* A moment in microseconds, or the infinity that it stands for. */
static __int128 settled(__int128 us) {
  if (us == PGJDBC_INFINITY || us == (__int128)PGJDBC_INFINITY * 1000) return LC_INFINITY_US;
  return us == PGJDBC_MINUS_INFINITY || us == (__int128)PGJDBC_MINUS_INFINITY * 1000 ? LC_MINUS_INFINITY_US : us;
}

static int to_unit(int64_t *value, int32_t from_digits, int32_t digits) {
  if (from_digits > digits) { /* ns -> us */
    if (*value % 1000 != 0) return LC_ROW_SCALE;
    *value /= 1000;
    return 0;
  }
  int64_t factor = (int64_t)lc_pow10((unsigned)(digits - from_digits));
  return __builtin_mul_overflow(*value, factor, value) ? LC_ROW_RANGE : 0;
}

int lc_clock_convert(int32_t encoding, int32_t digits, int64_t *value) {
  bool is_time = encoding <= LC_ENCODING_TIME_NS;
  int32_t from = 3 * (encoding - (is_time ? LC_ENCODING_TIME_MS : LC_ENCODING_TIMESTAMP_MS)) + 3;
  if (is_time) {
    if (*value < 0 || *value > DAY_SECONDS * (int64_t)lc_pow10((unsigned)from)) return LC_ROW_RANGE;
  } else if (digits == 6) {
    if (from == 9 && (*value == INT64_MAX || *value == INT64_MIN)) return 0; /* Debezium's infinities in nanoseconds */
    __int128 us = from == 9 ? 0 : settled((__int128)*value * (from == 3 ? 1000 : 1));
    if (us == LC_INFINITY_US || us == LC_MINUS_INFINITY_US) {
      *value = (int64_t)us;
      return 0;
    }
  }
  return to_unit(value, from, digits);
}

/* As Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", has it. */
int64_t lc_civil_days(int64_t year, int month, int day) {
  year -= month <= 2;
  int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
  int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool two_digits(const uint8_t **p, const uint8_t *end, int *value) {
  if (end - *p < 2 || !lc_is_digit((*p)[0]) || !lc_is_digit((*p)[1])) return false;
  *value = ((*p)[0] - '0') * 10 + (*p)[1] - '0';
  *p += 2;
  return true;
}

static bool sign(const uint8_t **p, const uint8_t *end, char c) { return *p < end && *(*p)++ == (uint8_t)c; }

/* [sign]YYYY-MM-DD, the year of 4 digits up to `year_digits` */
static int read_date(const uint8_t **p, const uint8_t *end, int year_digits, int64_t *days) {
  bool negative = *p < end && **p == '-';
  if (*p < end && (**p == '-' || **p == '+')) ++*p;
  int64_t year = 0;
  int digits = 0, month, day;
  for (; *p < end && lc_is_digit(**p) && digits <= year_digits; digits++)
    year = year * 10 + *(*p)++ - '0';
  if (digits < 4 || digits > year_digits) return LC_ROW_TYPE;
  if (!sign(p, end, '-') || !two_digits(p, end, &month) || !sign(p, end, '-') || !two_digits(p, end, &day))
    return LC_ROW_TYPE;
  if (negative) year = -year;
  static const int8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  if (month < 1 || month > 12 || day < 1 || day > lengths[month - 1] + (month == 2 && leap)) return LC_ROW_RANGE;
  *days = lc_civil_days(year, month, day);
  return 0;
}

/* HH:MM:SS[.fraction] in units of 10^-digits; 24:00:00 where allowed. */
static int read_time(const uint8_t **p, const uint8_t *end, int32_t digits, bool may_be_24, int64_t *value) {
  int hour, minute, second;
  if (!two_digits(p, end, &hour) || !sign(p, end, ':') || !two_digits(p, end, &minute) || !sign(p, end, ':') ||
      !two_digits(p, end, &second))
    return LC_ROW_TYPE;
  int64_t fraction = 0;
  bool lost = false;
  if (*p < end && **p == '.') {
    const uint8_t *first = ++*p;
    int32_t count = 0;
    for (; *p < end && lc_is_digit(**p); ++*p) {
      if (count++ < digits)
        fraction = fraction * 10 + **p - '0';
      else
        lost = lost || **p != '0';
    }
    if (*p == first) return LC_ROW_TYPE;
    for (; count < digits; count++)
      fraction *= 10;
  }
  bool midnight = hour == 24 && minute == 0 && second == 0 && fraction == 0 && !lost;
  if ((hour > 23 && !(may_be_24 && midnight)) || minute > 59 || second > 59) return LC_ROW_RANGE;
  *value = (hour * 3600ll + minute * 60ll + second) * (int64_t)lc_pow10((unsigned)digits) + fraction;
  return lost ? LC_ROW_SCALE : 0;
}

/* Z or +HH:MM, in seconds. */
static int read_offset(const uint8_t **p, const uint8_t *end, int64_t *seconds) {
  *seconds = 0;
  if (*p < end && **p == 'Z') {
    ++*p;
    return 0;
  }
  int hours, minutes;
  if (*p >= end || (**p != '+' && **p != '-')) return LC_ROW_TYPE;
  bool negative = *(*p)++ == '-';
  if (!two_digits(p, end, &hours) || !sign(p, end, ':') || !two_digits(p, end, &minutes)) return LC_ROW_TYPE;
  if (hours > 23 || minutes > 59) return LC_ROW_RANGE;
  *seconds = (hours * 3600ll + minutes * 60ll) * (negative ? -1 : 1);
  return 0;
}

static bool is_word(const uint8_t *p, const uint8_t *end, const char *word) {
  return (size_t)(end - p) == strlen(word) && memcmp(p, word, (size_t)(end - p)) == 0;
}

int lc_iso_read(int32_t encoding, int32_t digits, const uint8_t *p, const uint8_t *end, int64_t *value) {
  bool zoned = encoding == LC_ENCODING_ZONED_TIMESTAMP, has_date = encoding != LC_ENCODING_ISO_TIME;
  bool has_time = encoding != LC_ENCODING_ISO_DATE;
  if (has_date && has_time && digits == 6 && (is_word(p, end, "infinity") || is_word(p, end, "-infinity"))) {
    *value = *p == '-' ? LC_MINUS_INFINITY_US : LC_INFINITY_US;
    return 0;
  }
  int64_t days = 0, time = 0, offset = 0;
  int worst = 0, code;
  if (has_date && (code = read_date(&p, end, has_time ? 9 : 7, &days)) != 0) {
    if (code == LC_ROW_TYPE) return code;
    worst = code;
  }
  if (has_date && has_time && !sign(&p, end, 'T')) return LC_ROW_TYPE;
  if (has_time && (code = read_time(&p, end, digits, !has_date, &time)) != 0) {
    if (code == LC_ROW_TYPE) return code;
    worst = worst == 0 ? code : worst;
  }
  if (zoned && (code = read_offset(&p, end, &offset)) != 0) {
    if (code == LC_ROW_TYPE) return code;
    worst = worst == LC_ROW_RANGE ? worst : code;
  }
  if (!zoned && p < end && *p == 'Z') p++;
  if (p != end) return LC_ROW_TYPE;
  if (worst != 0) return worst;
  if (!has_date) {
    *value = time;
    return 0;
  }
  if (!has_time) {
    if (days != (int32_t)days) return LC_ROW_RANGE;
    *value = lc_date_settle((int32_t)days);
    return 0;
  }
  __int128 all = ((__int128)days * DAY_SECONDS - offset) * (__int128)lc_pow10((unsigned)digits) + time;
  if (digits == 6) all = settled(all);
  if (all > INT64_MAX || all < INT64_MIN) return LC_ROW_RANGE;
  *value = (int64_t)all;
  return 0;
}

static size_t write_date(int64_t days, char *out) {
  int64_t shifted = days + 719468, era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
  int64_t of_era = shifted - era * 146097,
          year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100),
          shifted_month = (5 * of_year + 2) / 153;
  int month = (int)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
  long long year = (long long)(year_of_era + era * 400 + (month <= 2));
  int day = (int)(of_year - (153 * shifted_month + 2) / 5 + 1);
  return (size_t)snprintf(out, 24, "%s%04lld-%02d-%02d", year < 0 ? "-" : "", year < 0 ? -year : year, month, day);
}

static size_t write_time(int64_t value, int32_t digits, char *out) {
  int64_t unit = (int64_t)lc_pow10((unsigned)digits), seconds = value / unit, fraction = value % unit;
  size_t size =
      (size_t)snprintf(out, 20, "%02d:%02d:%02d", (int)(seconds / 3600), (int)(seconds / 60 % 60), (int)(seconds % 60));
  if (fraction != 0) size += (size_t)snprintf(out + size, 16, ".%0*lld", (int)digits, (long long)fraction);
  return size;
}

size_t lc_iso_write(int32_t type, int32_t digits, int64_t value, char *out) {
  bool date = type == LC_TYPE_DATE32;
  if (type == LC_TYPE_TIME64) return write_time(value, digits, out);
  if (date ? value == INT32_MAX || value == INT32_MIN
           : digits == 6 && (value == LC_INFINITY_US || value == LC_MINUS_INFINITY_US)) {
    const char *word = value > 0 ? "infinity" : "-infinity";
    memcpy(out, word, strlen(word));
    return strlen(word);
  }
  if (date) return write_date(value, out);
  int64_t day = DAY_SECONDS * (int64_t)lc_pow10((unsigned)digits), days = value / day, rest = value % day;
  if (rest < 0) {
    rest += day;
    days--;
  }
  size_t size = write_date(days, out);
  out[size++] = 'T';
  return size + write_time(rest, digits, out + size);
}
