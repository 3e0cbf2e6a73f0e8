/* Dates and times by pattern, and numbers of many lands in one form: text that the exact readers take. */
#include "delimited_cells.h"
#include "libcore/envelope.h"
#include "time_text.h"

enum { TEXT_MAX = 63 }; /* bytes of a date or time */

static int encoding_of(int32_t kind) {
  switch (kind) {
    case LC_TEXT_KIND_DATE: return LC_ENCODING_ISO_DATE;
    case LC_TEXT_KIND_TIME: return LC_ENCODING_ISO_TIME;
    case LC_TEXT_KIND_TIMESTAMP: return LC_ENCODING_ISO_TIMESTAMP;
    default: return LC_ENCODING_ZONED_TIMESTAMP;
  }
}

static uint32_t letters(const char *set) {
  uint32_t bits = 0;
  for (; *set != '\0'; set++)
    bits |= 1u << (*set & 31);
  return bits;
}

/* Upper and lower case letters share a bit, so those of the other case are told apart by `small`. */
bool lc_clock_valid(const lc_text_column *column) {
  if (column->kind != LC_TEXT_KIND_DATE && column->digits != 6 && column->digits != 9) return false;
  if (column->pattern_size == 0) return true;
  if (column->pattern_size < 0 || column->pattern_size > 128 || column->pattern_size % 2 != 0) return false;
  uint32_t large = 0, small = 0;
  for (int32_t i = 0; i < column->pattern_size; i += 2) {
    uint8_t letter = column->pattern[i + 1];
    if (column->pattern[i] == 0) continue;
    if (column->pattern[i] != '%' || memchr("YmbdHMSfz", letter, 9) == NULL) return false;
    uint32_t *bits = letter < 'a' ? &large : &small, bit = 1u << (letter & 31);
    if (*bits & bit) return false; /* twice */
    *bits |= bit;
  }
  bool date = column->kind != LC_TEXT_KIND_TIME, time = column->kind != LC_TEXT_KIND_DATE;
  uint32_t month = small & letters("mb");
  bool has_date = (large & letters("Y")) && (small & letters("d")) && (month == letters("m") || month == letters("b"));
  bool any_date = (large & letters("Y")) || (small & letters("dmb"));
  bool has_time = (large & letters("H")) && (large & letters("M")), any_time = (large & letters("HMS")) != 0;
  if (small & letters("f") && !(large & letters("S"))) return false;
  if ((small & letters("z")) != (column->kind == LC_TEXT_KIND_TIMESTAMPTZ ? letters("z") : 0)) return false;
  if (large & letters("S") && !has_time) return false;
  return (date ? has_date : !any_date) && (time ? has_time || (date && !any_time) : !any_time);
}

/* What a pattern took out of a text. */
typedef struct parts {
  uint8_t year[4], month[2], day[2], hour[2], minute[2], second[2], zone[6];
  const uint8_t *fraction, *fraction_end;
} parts;

/* One or two digits; two where `both`. */
static bool take_two(const uint8_t **p, const uint8_t *end, bool both, uint8_t out[2]) {
  if (*p >= end || !lc_is_digit(**p)) return false;
  bool two = *p + 1 < end && lc_is_digit((*p)[1]);
  if (both && !two) return false;
  out[0] = two ? (*p)[0] : '0';
  out[1] = (*p)[two];
  *p += 1 + two;
  return true;
}

static bool take_month(const uint8_t **p, const uint8_t *end, uint8_t out[2]) {
  static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
  if (end - *p < 3) return false;
  for (int m = 0; m < 12; m++) {
    const char *name = names + 3 * m;
    if (((*p)[0] | 0x20) == name[0] && ((*p)[1] | 0x20) == name[1] && ((*p)[2] | 0x20) == name[2]) {
      out[0] = (uint8_t)('0' + (m + 1) / 10);
      out[1] = (uint8_t)('0' + (m + 1) % 10);
      *p += 3;
      return true;
    }
  }
  return false;
}

/* Z, +HH, +HHMM or +HH:MM. */
static bool take_zone(const uint8_t **p, const uint8_t *end, uint8_t out[6]) {
  memcpy(out, "+00:00", 6);
  if (*p < end && **p == 'Z') {
    ++*p;
    return true;
  }
  if (*p >= end || (**p != '+' && **p != '-')) return false;
  out[0] = *(*p)++;
  if (!take_two(p, end, true, out + 1)) return false;
  if (*p < end && **p == ':') {
    ++*p;
    return take_two(p, end, true, out + 4);
  }
  if (*p < end && lc_is_digit(**p)) return take_two(p, end, true, out + 4);
  return true;
}

static bool take_item(const lc_text_column *column, int32_t i, const uint8_t **p, const uint8_t *end, parts *out) {
  const uint8_t *item = column->pattern + i;
  /* in front of another run of digits a part must have its full width */
  bool both = i + 2 < column->pattern_size && (item[2] == '%' || lc_is_digit(item[3]));
  if (item[0] == 0) {
    if (*p >= end || **p != item[1]) return false;
    ++*p;
    return true;
  }
  switch (item[1]) {
    case 'Y':
      if (end - *p < 4) return false;
      memcpy(out->year, *p, 4);
      for (int d = 0; d < 4; d++)
        if (!lc_is_digit(*(*p)++)) return false;
      return true;
    case 'm': return take_two(p, end, both, out->month);
    case 'b': return take_month(p, end, out->month);
    case 'd': return take_two(p, end, both, out->day);
    case 'H': return take_two(p, end, both, out->hour);
    case 'M': return take_two(p, end, both, out->minute);
    case 'S': return take_two(p, end, both, out->second);
    case 'z': return take_zone(p, end, out->zone);
    default: /* f */
      out->fraction = *p;
      while (*p < end && lc_is_digit(**p))
        ++*p;
      out->fraction_end = *p;
      return out->fraction < *p;
  }
}

/* The ISO text of what the pattern finds; its size, or 0. */
static size_t rewrite(const lc_text_column *column, const uint8_t *p, const uint8_t *end, uint8_t out[128]) {
  parts found = {.hour = "00", .minute = "00", .second = "00"};
  for (int32_t i = 0; i < column->pattern_size; i += 2)
    if (!take_item(column, i, &p, end, &found)) return 0;
  if (p != end) return 0;
  uint8_t *w = out;
  if (column->kind != LC_TEXT_KIND_TIME) {
    memcpy(w, found.year, 4);
    w[4] = w[7] = '-';
    memcpy(w + 5, found.month, 2);
    memcpy(w + 8, found.day, 2);
    w += 10;
    if (column->kind == LC_TEXT_KIND_DATE) return 10;
    *w++ = 'T';
  }
  memcpy(w, found.hour, 2);
  w[2] = w[5] = ':';
  memcpy(w + 3, found.minute, 2);
  memcpy(w + 6, found.second, 2);
  w += 8;
  if (found.fraction != NULL) {
    *w++ = '.';
    memcpy(w, found.fraction, (size_t)(found.fraction_end - found.fraction));
    w += found.fraction_end - found.fraction;
  }
  if (column->kind == LC_TEXT_KIND_TIMESTAMPTZ) {
    memcpy(w, found.zone, 6);
    w += 6;
  }
  return (size_t)(w - out);
}

int lc_clock_read(const lc_text_column *column, const uint8_t *p, const uint8_t *end, int64_t *value) {
  uint8_t text[128]; /* at most 63 bytes of fraction, and 26 */
  if (end - p > TEXT_MAX) return LC_TEXT_TYPE;
  size_t size = (size_t)(end - p);
  if (column->pattern_size > 0) {
    size = rewrite(column, p, end, text);
    if (size == 0) return LC_TEXT_TYPE;
    p = text;
  } else if (column->kind >= LC_TEXT_KIND_TIMESTAMP && !(size > 10 && p[10] == 'T')) {
    memcpy(text, p, size);
    uint8_t *space = memchr(text, ' ', size);
    if (space != NULL) *space = 'T';
    p = text;
  }
  return lc_iso_read(encoding_of(column->kind), column->digits, p, p + size, value);
}

/* ---- numbers ---- */

static bool take_digits(const uint8_t **p, const uint8_t *end, uint8_t **w) {
  const uint8_t *first = *p;
  while (*p < end && lc_is_digit(**p))
    *(*w)++ = *(*p)++;
  return *p > first;
}

static bool at_separator(const lc_text_column *column, const uint8_t *p, const uint8_t *end) {
  return column->thousands_size > 0 && end - p >= column->thousands_size &&
         memcmp(p, column->thousands, (size_t)column->thousands_size) == 0;
}

/* Digits, perhaps in groups: one to three, then three each. */
static bool take_whole(const lc_text_column *column, const uint8_t **p, const uint8_t *end, uint8_t **w) {
  const uint8_t *first = *p;
  bool any = take_digits(p, end, w);
  if (!any || !at_separator(column, *p, end)) return true;
  if (*p - first > 3) return false;
  while (at_separator(column, *p, end)) {
    *p += column->thousands_size;
    first = *p;
    if (!take_digits(p, end, w) || *p - first != 3) return false;
  }
  return true;
}

static bool is_word(const uint8_t *p, const uint8_t *end, const char *word) {
  return (size_t)(end - p) == strlen(word) && memcmp(p, word, (size_t)(end - p)) == 0;
}

int lc_number_normalise(const lc_text_column *column, const uint8_t *p, const uint8_t *end, lc_buffer *out) {
  out->size = 0;
  if (!lc_buffer_reserve(out, (size_t)(end - p) + 24)) return -LC_NO_MEMORY;
  uint8_t *w = out->data;
  bool sign = true;
  if (p < end && (*p == '-' || *p == '+')) {
    if (*p++ == '-') *w++ = '-';
  } else if (column->trailing_sign && p < end && (end[-1] == '-' || end[-1] == '+')) {
    if (*--end == '-') *w++ = '-';
  } else {
    sign = false;
  }
  if (is_word(p, end, "Infinity") || (!sign && is_word(p, end, "NaN"))) {
    if (column->implied > 0) return LC_TEXT_TYPE;
    memcpy(w, p, (size_t)(end - p));
    out->size = (size_t)(w - out->data) + (size_t)(end - p);
    return 0;
  }
  const uint8_t *first = p;
  uint8_t *whole = w;
  bool exact = true;
  if (!take_whole(column, &p, end, &w)) return LC_TEXT_TYPE;
  bool any = p > first;
  if (w == whole) *w++ = '0';
  if (p < end && *p == column->decimal) {
    uint8_t *point = w++;
    *point = '.';
    p++;
    exact = false;
    if (take_digits(&p, end, &w))
      any = true;
    else
      w = point;
  }
  if (!any) return LC_TEXT_TYPE;
  if (p < end && (*p | 0x20) == 'e') {
    *w++ = 'e';
    exact = false;
    if (++p < end && (*p == '-' || *p == '+')) *w++ = *p++;
    if (!take_digits(&p, end, &w)) return LC_TEXT_TYPE;
  }
  if (p != end || (column->implied > 0 && !exact)) return LC_TEXT_TYPE;
  if (column->implied > 0) {
    memcpy(w, "e-", 2);
    w[2] = (uint8_t)('0' + column->implied / 10);
    w[3] = (uint8_t)('0' + column->implied % 10);
    w += 4;
  }
  out->size = (size_t)(w - out->data);
  return 0;
}
