/* Oracle's dates, timestamps and intervals as their literals write them; the calendar's work is time_text.c's. */
#include <stdio.h>

#include "libcore/envelope.h"
#include "redo_internal.h"
#include "time_text.h"

#define MONTH_US 2629800000000ll /* a twelfth of 365.25 days */
#define SECOND_NS 1000000000ll

static bool take_word(const uint8_t **p, const uint8_t *end, const char *word) {
  size_t size = strlen(word);
  if ((size_t)(end - *p) < size || memcmp(*p, word, size) != 0) return false;
  *p += size;
  return true;
}

/* [S]YYYY-MM-DD[ HH24:MI:SS[.FF[1-9]][[ ](TZH:TZM|TZR)]] */
static bool format_known(const uint8_t *p, const uint8_t *end) {
  take_word(&p, end, "S");
  if (!take_word(&p, end, "YYYY-MM-DD")) return false;
  if (p == end) return true;
  if (!take_word(&p, end, " HH24:MI:SS")) return false;
  if (take_word(&p, end, ".FF") && p < end && *p >= '1' && *p <= '9') p++;
  if (p == end) return true;
  take_word(&p, end, " ");
  return (take_word(&p, end, "TZH:TZM") || take_word(&p, end, "TZR")) && p == end;
}

/* The parts of a literal's text; the time without a point that nothing follows. */
typedef struct parts {
  const uint8_t *date, *date_end, *time, *time_end, *zone, *zone_end;
} parts;

static bool is_clock_byte(uint8_t c) { return lc_is_digit(c) || c == ':' || c == '.'; }

static parts parts_of(const lc_redo_literal *literal) {
  const uint8_t *p = literal->text, *end = literal->text_end;
  while (p < end && *p == ' ')
    p++;
  while (end > p && end[-1] == ' ')
    end--;
  parts out = {.date = p};
  while (p < end && *p != ' ' && *p != 'T')
    p++;
  out.date_end = p;
  bool alone = p == end;
  if (!alone) p++;
  while (p < end && *p == ' ')
    p++;
  out.time = p;
  while (p < end && is_clock_byte(*p))
    p++;
  out.time_end = p > out.time && p[-1] == '.' ? p - 1 : p;
  if (alone) {
    out.time = (const uint8_t *)"00:00:00";
    out.time_end = out.time + 8;
  }
  while (p < end && *p == ' ')
    p++;
  out.zone = p;
  out.zone_end = end;
  return out;
}

/* The date as ISO 8601 counts years: the year before 0001 is 0000.  Its size in out (at most 24 bytes), or 0. */
static size_t date_write(const parts *in, uint8_t *out, bool *is_year_0) {
  const uint8_t *p = in->date;
  bool negative = p < in->date_end && *p == '-';
  if (p < in->date_end && (*p == '-' || *p == '+')) p++;
  int year = 0, digits = 0;
  for (; p < in->date_end && lc_is_digit(*p) && digits < 5; digits++)
    year = year * 10 + *p++ - '0';
  size_t rest = (size_t)(in->date_end - p);
  if (digits != 4 || rest > 12) return 0;
  *is_year_0 = year == 0;
  if (negative && year > 0) year--;
  size_t size = 0;
  if (negative) out[size++] = '-';
  for (int power = 1000; power > 0; power /= 10)
    out[size++] = (uint8_t)('0' + year / power % 10);
  memcpy(out + size, p, rest);
  return size + rest;
}

typedef enum zone_kind { ZONE_NONE, ZONE_OFFSET, ZONE_UTC, ZONE_NAMED, ZONE_BAD } zone_kind;

static zone_kind zone_of(const parts *in) {
  const uint8_t *p = in->zone;
  size_t size = (size_t)(in->zone_end - p);
  if (size == 0) return ZONE_NONE;
  if (lc_redo_is_word(p, size, "utc") || lc_redo_is_word(p, size, "gmt") || lc_redo_is_word(p, size, "z"))
    return ZONE_UTC;
  if (*p == '+' || *p == '-')
    return size == 6 && lc_is_digit(p[1]) && lc_is_digit(p[2]) && p[3] == ':' && lc_is_digit(p[4]) && lc_is_digit(p[5])
               ? ZONE_OFFSET
               : ZONE_BAD;
  return lc_redo_is_letter(*p) ? ZONE_NAMED : ZONE_BAD;
}

int lc_redo_timestamp(const lc_redo_literal *literal, int32_t digits, bool zoned, bool local_is_utc, int64_t *value) {
  enum { TIME_MAX = 64 };
  if (literal->format != NULL && !format_known(literal->format, literal->format_end)) return LC_ROW_TYPE;
  parts in = parts_of(literal);
  uint8_t text[24 + 1 + TIME_MAX + 6];
  bool is_year_0 = false;
  size_t size = date_write(&in, text, &is_year_0), time_size = (size_t)(in.time_end - in.time);
  zone_kind zone = zone_of(&in);
  if (size == 0 || time_size > TIME_MAX || zone == ZONE_BAD) return LC_ROW_TYPE;
  text[size++] = 'T';
  memcpy(text + size, in.time, time_size);
  size += time_size;
  int code = lc_iso_read(LC_ENCODING_ISO_TIMESTAMP, digits, text, text + size, value);
  if (code == LC_ROW_TYPE) return code;
  bool has_zone = zone != ZONE_NONE, is_tz = literal->kind == REDO_TIMESTAMP_TZ;
  bool utc = zone == ZONE_UTC || (!has_zone && literal->kind == REDO_TIMESTAMP_ITZ && local_is_utc);
  if (zone == ZONE_NAMED || (zoned ? !has_zone && !utc : has_zone || is_tz)) return LC_REDO_ZONE;
  if (is_year_0) return LC_ROW_RANGE;
  if (!zoned || utc) return code;
  memcpy(text + size, in.zone, 6);
  return lc_iso_read(LC_ENCODING_ZONED_TIMESTAMP, digits, text, text + size + 6, value);
}

/* ---- intervals ---- */

/* Digits, first to last of them in number; false where their count is outside. */
static bool digits_take(const uint8_t **p, const uint8_t *end, int first, int last, int64_t *value) {
  int count = 0;
  for (*value = 0; *p < end && lc_is_digit(**p) && count <= last; count++)
    *value = *value * 10 + *(*p)++ - '0';
  return count >= first && count <= last;
}

static bool byte_take(const uint8_t **p, const uint8_t *end, uint8_t byte) { return *p < end && *(*p)++ == byte; }

/* [sign]years-months */
static int months_read(const uint8_t *p, const uint8_t *end, __int128 *months) {
  bool negative = p < end && *p == '-';
  if (p < end && (*p == '-' || *p == '+')) p++;
  int64_t years, rest;
  if (!digits_take(&p, end, 1, 9, &years) || !byte_take(&p, end, '-') || !digits_take(&p, end, 1, 2, &rest) || p != end)
    return LC_ROW_TYPE;
  if (rest > 11) return LC_ROW_RANGE;
  *months = (negative ? -1 : 1) * (years * 12 + rest);
  return 0;
}

/* [sign]days HH:MM:SS[.[fraction]] in nanoseconds; at most nine fraction digits */
static int days_read(const uint8_t *p, const uint8_t *end, __int128 *nanoseconds) {
  bool negative = p < end && *p == '-';
  if (p < end && (*p == '-' || *p == '+')) p++;
  int64_t days, hours, minutes, seconds, fraction = 0;
  if (!digits_take(&p, end, 1, 9, &days) || !byte_take(&p, end, ' ') || !digits_take(&p, end, 1, 2, &hours) ||
      !byte_take(&p, end, ':') || !digits_take(&p, end, 2, 2, &minutes) || !byte_take(&p, end, ':') ||
      !digits_take(&p, end, 2, 2, &seconds))
    return LC_ROW_TYPE;
  if (p < end) {
    if (*p++ != '.') return LC_ROW_TYPE;
    const uint8_t *first = p;
    if (!digits_take(&p, end, 0, 9, &fraction) || p != end) return LC_ROW_TYPE;
    for (int64_t count = p - first; count < 9; count++)
      fraction *= 10;
  }
  if (hours > 23 || minutes > 59 || seconds > 59) return LC_ROW_RANGE;
  int64_t all = ((days * 24 + hours) * 60 + minutes) * 60 + seconds; /* below 10^14 */
  *nanoseconds = (negative ? -1 : 1) * ((__int128)all * SECOND_NS + fraction);
  return 0;
}

int lc_redo_interval(const lc_redo_literal *literal, bool *is_months, __int128 *value) {
  const uint8_t *p = literal->text, *end = literal->text_end;
  *is_months = literal->kind == REDO_YEARS;
  if (literal->kind == REDO_TEXT) *is_months = end > p && memchr(p, ':', (size_t)(end - p)) == NULL;
  return *is_months ? months_read(p, end, value) : days_read(p, end, value);
}

int lc_redo_interval_us(bool is_months, __int128 value, int64_t *microseconds) {
  if (!is_months && value % 1000 != 0) return LC_ROW_SCALE;
  __int128 all = is_months ? value * MONTH_US : value / 1000;
  if (all > INT64_MAX || all < INT64_MIN) return LC_ROW_RANGE;
  *microseconds = (int64_t)all;
  return 0;
}

size_t lc_redo_interval_text(bool is_months, __int128 value, uint8_t *out) {
  const char *sign = value < 0 ? "-" : "";
  if (value < 0) value = -value;
  char *text = (char *)out;
  size_t size = 1, date_size;
  text[0] = 'P';
  if (is_months) {
    long long years = (long long)(value / 12), months = (long long)(value % 12);
    if (years != 0) size += (size_t)snprintf(text + size, 24, "%s%lldY", sign, years);
    if (months != 0) size += (size_t)snprintf(text + size, 24, "%s%lldM", sign, months);
  } else {
    int64_t seconds = (int64_t)(value / SECOND_NS), nanoseconds = (int64_t)(value % SECOND_NS);
    long long days = seconds / 86400;
    int hours = (int)(seconds / 3600 % 24), minutes = (int)(seconds / 60 % 60), rest = (int)(seconds % 60);
    if (days != 0) size += (size_t)snprintf(text + size, 24, "%s%lldD", sign, days);
    date_size = size;
    text[size++] = 'T';
    if (hours != 0) size += (size_t)snprintf(text + size, 8, "%s%dH", sign, hours);
    if (minutes != 0) size += (size_t)snprintf(text + size, 8, "%s%dM", sign, minutes);
    if (rest != 0 || nanoseconds != 0) {
      size += (size_t)snprintf(text + size, 8, "%s%d", sign, rest);
      if (nanoseconds != 0) {
        size += (size_t)snprintf(text + size, 12, ".%09d", (int)nanoseconds);
        while (text[size - 1] == '0')
          size--;
      }
      text[size++] = 'S';
    }
    if (size == date_size + 1) size = date_size; /* nothing behind the T */
  }
  if (size > 1) return size;
  memcpy(text, "PT0S", 4);
  return 4;
}
