/* PostgreSQL's dates and times: the text of DateStyle ISO to integers, binary intervals and zoned times to text. */
#include <stdio.h>

#include "pgoutput_internal.h"
#include "time_text.h"

/* A text taken apart; what is missing is 0. */
typedef struct parts {
  int64_t year, fraction_us, offset_s;
  int month, day, hour, minute, second, fraction_digits;
  bool before_christ, bad_offset;
} parts;

static bool two(const uint8_t **p, const uint8_t *end, int *value) {
  if (end - *p < 2 || !lc_is_digit((*p)[0]) || !lc_is_digit((*p)[1])) return false;
  *value = ((*p)[0] - '0') * 10 + (*p)[1] - '0';
  *p += 2;
  return true;
}

static bool sign(const uint8_t **p, const uint8_t *end, char c) { return *p < end && *(*p)++ == (uint8_t)c; }

/* YYYY[YYY]-MM-DD */
static bool take_date(const uint8_t **p, const uint8_t *end, parts *out) {
  int digits = 0;
  for (; *p < end && lc_is_digit(**p) && digits <= 7; digits++)
    out->year = out->year * 10 + *(*p)++ - '0';
  return digits >= 4 && digits <= 7 && sign(p, end, '-') && two(p, end, &out->month) && sign(p, end, '-') &&
         two(p, end, &out->day);
}

/* HH:MM:SS[.ffffff] */
static bool take_time(const uint8_t **p, const uint8_t *end, parts *out) {
  if (!two(p, end, &out->hour) || !sign(p, end, ':') || !two(p, end, &out->minute) || !sign(p, end, ':') ||
      !two(p, end, &out->second))
    return false;
  if (*p >= end || **p != '.') return true;
  ++*p;
  int digits = 0;
  for (; *p < end && lc_is_digit(**p) && digits <= 6; digits++)
    out->fraction_us = out->fraction_us * 10 + *(*p)++ - '0';
  if (digits < 1 || digits > 6) return false;
  for (; digits < 6; digits++)
    out->fraction_us *= 10;
  return true;
}

/* +HH[:MM[:SS]] */
static bool take_offset(const uint8_t **p, const uint8_t *end, parts *out) {
  int hours, minutes = 0, seconds = 0;
  if (*p >= end || (**p != '+' && **p != '-')) return false;
  bool west = *(*p)++ == '-';
  if (!two(p, end, &hours)) return false;
  if (*p < end && **p == ':') {
    ++*p;
    if (!two(p, end, &minutes)) return false;
    if (*p < end && **p == ':') {
      ++*p;
      if (!two(p, end, &seconds)) return false;
    }
  }
  out->bad_offset = hours > 23 || minutes > 59 || seconds > 59;
  out->offset_s = (hours * 3600ll + minutes * 60ll + seconds) * (west ? -1 : 1);
  return true;
}

static bool date_days(const parts *in, int64_t *days) {
  static const int8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int64_t year = in->before_christ ? 1 - in->year : in->year; /* there is no year 0: 1 BC is followed by AD 1 */
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  if (in->year == 0 || in->month < 1 || in->month > 12 || in->day < 1 ||
      in->day > lengths[in->month - 1] + (in->month == 2 && leap))
    return false;
  *days = lc_civil_days(year, in->month, in->day);
  return true;
}

static bool time_us(const parts *in, bool may_be_24, int64_t *value) {
  bool midnight = in->hour == 24 && in->minute == 0 && in->second == 0 && in->fraction_us == 0;
  if ((in->hour > 23 && !(may_be_24 && midnight)) || in->minute > 59 || in->second > 59) return false;
  *value = (in->hour * 3600ll + in->minute * 60ll + in->second) * 1000000ll + in->fraction_us;
  return true;
}

static bool is_word(const uint8_t *p, const uint8_t *end, const char *word) {
  return (size_t)(end - p) == strlen(word) && memcmp(p, word, (size_t)(end - p)) == 0;
}

static int range_date(const parts *in, int64_t *value) {
  if (!date_days(in, value) || *value <= INT32_MIN || *value >= INT32_MAX) return LC_ROW_RANGE;
  return 0;
}

static int range_stamp(const parts *in, int64_t *value) {
  int64_t days, us;
  if (!date_days(in, &days) || !time_us(in, false, &us) || in->bad_offset) return LC_ROW_RANGE;
  __int128 all = (__int128)days * LC_PG_DAY_US + us - in->offset_s * 1000000ll;
  if (all <= INT64_MIN || all >= INT64_MAX) return LC_ROW_RANGE; /* the ends are the infinities */
  *value = (int64_t)all;
  return 0;
}

int lc_pg_time_read(int32_t kind, const uint8_t *p, const uint8_t *end, int64_t *value) {
  parts in = {0};
  if (kind == LC_PGOUTPUT_TIME) {
    if (!take_time(&p, end, &in) || p != end) return LC_ROW_TYPE;
    return time_us(&in, true, value) ? 0 : LC_ROW_RANGE;
  }
  bool down = is_word(p, end, "-infinity");
  if (down || is_word(p, end, "infinity")) {
    if (kind == LC_PGOUTPUT_DATE)
      *value = down ? INT32_MIN : INT32_MAX;
    else
      *value = down ? INT64_MIN : INT64_MAX;
    return 0;
  }
  if (end - p > 3 && memcmp(end - 3, " BC", 3) == 0) {
    in.before_christ = true;
    end -= 3;
  }
  if (!take_date(&p, end, &in)) return LC_ROW_TYPE;
  if (kind == LC_PGOUTPUT_DATE) return p == end ? range_date(&in, value) : LC_ROW_TYPE;
  if (!sign(&p, end, ' ') || !take_time(&p, end, &in)) return LC_ROW_TYPE;
  if (kind == LC_PGOUTPUT_TIMESTAMPTZ && !take_offset(&p, end, &in)) return LC_ROW_TYPE;
  return p == end ? range_stamp(&in, value) : LC_ROW_TYPE;
}

/* SS[.fraction without trailing zeros] */
static size_t seconds_write(int64_t second_us, char *out) {
  int fraction = (int)(second_us % 1000000);
  size_t size = (size_t)snprintf(out, 8, "%02d", (int)(second_us / 1000000) % 60);
  if (fraction == 0) return size;
  size += (size_t)snprintf(out + size, 16, ".%06d", fraction);
  while (out[size - 1] == '0')
    size--;
  return size;
}

/* One field of an interval: "1 year", " +2 mons". */
static size_t field_write(char *out, int32_t value, const char *unit, bool *first, bool *negative) {
  if (value == 0) return 0;
  size_t size = (size_t)snprintf(out, 32, "%s%s%d %s%s", *first ? "" : " ", *negative && value > 0 ? "+" : "", value,
                                 unit, value == 1 ? "" : "s");
  *negative = value < 0;
  *first = false;
  return size;
}

size_t lc_pg_interval_write(int64_t time_us, int32_t days, int32_t months, char out[96]) {
  if (time_us == INT64_MAX && days == INT32_MAX && months == INT32_MAX) return (size_t)snprintf(out, 96, "infinity");
  if (time_us == INT64_MIN && days == INT32_MIN && months == INT32_MIN) return (size_t)snprintf(out, 96, "-infinity");
  bool first = true, negative = false;
  size_t size = field_write(out, months / 12, "year", &first, &negative);
  size += field_write(out + size, months % 12, "mon", &first, &negative);
  size += field_write(out + size, days, "day", &first, &negative);
  if (!first && time_us == 0) return size;
  uint64_t us = time_us < 0 ? 0 - (uint64_t)time_us : (uint64_t)time_us;
  size += (size_t)snprintf(out + size, 48, "%s%s%02lld:%02d:", first ? "" : " ",
                           time_us < 0 ? "-" : (negative ? "+" : ""), (long long)(us / 3600000000u),
                           (int)(us / 60000000u % 60));
  return size + seconds_write((int64_t)(us % 60000000u), out + size);
}

size_t lc_pg_timetz_write(int64_t us, int32_t west_s, char out[40]) {
  size_t size = (size_t)snprintf(out, 16, "%02d:%02d:", (int)(us / 3600000000ll), (int)(us / 60000000ll % 60));
  size += seconds_write(us % 60000000ll, out + size);
  int s = west_s < 0 ? -west_s : west_s;
  size += (size_t)snprintf(out + size, 8, "%c%02d", west_s <= 0 ? '+' : '-', s / 3600);
  if (s % 3600 != 0) size += (size_t)snprintf(out + size, 8, ":%02d", s / 60 % 60);
  if (s % 60 != 0) size += (size_t)snprintf(out + size, 8, ":%02d", s % 60);
  return size;
}
