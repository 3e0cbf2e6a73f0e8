/* Dates and times: DATS, TIMS, TIMESTAMP(L), and those of OData. */
#include "sapfmt_internal.h"

/* Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"); years 1 to 9999. */
static int32_t civil_days(int32_t year, int32_t month, int32_t day) {
  year -= month <= 2;
  int32_t era = year / 400, of_era = year - era * 400; /* year >= 0 */
  int32_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* Days of a date written as the number YYYYMMDD; false: no such day. */
static inline bool date_of(uint32_t number, int32_t *days) {
  static const int8_t lengths[16] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0, 0, 0};
  int32_t year = (int32_t)(number / 10000), month = (int32_t)(number / 100 % 100), day = (int32_t)(number % 100);
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > lengths[month] + (month == 2 && leap)) return false;
  *days = civil_days(year, month, day);
  return true;
}

/* Seconds of the day of a time written as the number HHMMSS; false: no such time. */
static inline bool time_of(uint32_t number, int64_t *seconds) {
  uint32_t hours = number / 10000, minutes = number / 100 % 100, rest = number % 100;
  *seconds = hours * 3600ll + minutes * 60ll + rest;
  return hours < 24 && minutes < 60 && rest < 60;
}

void lc_sap_read_dats(lc_sap_reader *r, lc_sap_column *column) {
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    if (cell->p == NULL || cell->size == 0) {
      lc_sap_null(r, column, i);
      continue;
    }
    uint64_t word = cell->size == 8 ? lc_load64(cell->p) : 0;
    if (lc_digit_count(word) != 8) {
      lc_sap_reject(r, column, i, LC_SAP_INVALID_DATS);
      continue;
    }
    uint32_t number = lc_digits_value(word, 8);
    int32_t days = 0;
    if (number == 0)
      lc_sap_null(r, column, i);
    else if (!date_of(number, &days))
      lc_sap_reject(r, column, i, LC_SAP_INVALID_DATS);
    memcpy(column->values + (r->first + i) * 4, &days, 4);
  }
}

void lc_sap_read_tims(lc_sap_reader *r, lc_sap_column *column) {
  int64_t unit = (int64_t)lc_pow10((unsigned)column->field->scale);
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    if (cell->p == NULL || cell->size == 0) {
      lc_sap_null(r, column, i);
      continue;
    }
    uint64_t word = 0;
    if (cell->size == 6) memcpy(&word, cell->p, 6);
    int64_t seconds = 0;
    if (lc_digit_count(word) != 6 || !time_of(lc_digits_value(word, 6), &seconds)) {
      lc_sap_reject(r, column, i, LC_SAP_INVALID_TIMS);
      continue;
    }
    if (seconds == 0 && column->field->initial_null) lc_sap_null(r, column, i);
    int64_t value = seconds * unit;
    memcpy(column->values + (r->first + i) * 8, &value, 8);
  }
}

/* Digits of a fraction as units of 10^-digits; *lost: others than 0 behind. */
static int64_t fraction_of(const uint8_t *p, const uint8_t *end, int32_t digits, bool *lost) {
  int64_t value = 0;
  int32_t count = 0;
  for (; p < end; p++) {
    if (count++ < digits)
      value = value * 10 + *p - '0';
    else
      *lost = *lost || *p != '0';
  }
  for (; count < digits; count++)
    value *= 10;
  return value;
}

static const uint8_t *digits_end(const uint8_t *p, const uint8_t *end) {
  while (p < end && lc_is_digit(*p))
    p++;
  return p;
}

/* YYYYMMDDHHMMSS[.fraction], zeros in front left out or not.  0, or a code, or -1 for the initial 0. */
static int32_t timestamp_of(const lc_sap_cell *cell, int32_t digits, int64_t *value) {
  const uint8_t *p = cell->p, *end = p + cell->size;
  while (p < end && *p == ' ')
    p++;
  const uint8_t *whole_end = digits_end(p, end), *fraction = whole_end;
  if (fraction < end && *fraction == '.') fraction++;
  if (whole_end == p || whole_end - p > 14 || digits_end(fraction, end) != end ||
      (fraction > whole_end && fraction == end))
    return LC_SAP_TYPE;
  uint64_t number = 0;
  for (; p < whole_end; p++)
    number = number * 10 + (uint64_t)(*p - '0');
  bool lost = false;
  int64_t rest = fraction_of(fraction, end, digits, &lost);
  if (number == 0 && rest == 0 && !lost) return -1;
  int32_t days;
  int64_t seconds;
  if (!date_of((uint32_t)(number / 1000000), &days)) return LC_SAP_INVALID_DATS;
  if (!time_of((uint32_t)(number % 1000000), &seconds)) return LC_SAP_INVALID_TIMS;
  if (lost) return LC_SAP_SCALE;
  __int128 all = ((__int128)days * 86400 + seconds) * (__int128)lc_pow10((unsigned)digits) + rest;
  *value = (int64_t)all;
  return all < INT64_MIN || all > INT64_MAX ? LC_SAP_RANGE : 0;
}

static bool take(const uint8_t **p, const uint8_t *end, const char *text) {
  size_t size = strlen(text);
  if ((size_t)(end - *p) < size || memcmp(*p, text, size) != 0) return false;
  *p += size;
  return true;
}

/* /Date(ms)/ or /Date(ms+minutes)/ */
static int32_t odata_date_of(const lc_sap_cell *cell, int32_t digits, int64_t *value) {
  const uint8_t *p = cell->p, *end = p + cell->size;
  if (!take(&p, end, "/Date(")) return LC_SAP_TYPE;
  bool negative = take(&p, end, "-"), fits = true;
  const uint8_t *last = digits_end(p, end), *start = p;
  int64_t ms = 0;
  for (; p < last; p++)
    fits = fits && !__builtin_mul_overflow(ms, 10, &ms) &&
           !__builtin_add_overflow(ms, negative ? '0' - *p : *p - '0', &ms);
  if (p == start) return LC_SAP_TYPE;
  if (take(&p, end, "+") || take(&p, end, "-")) { /* minutes to a wall clock that nobody asks for */
    start = p;
    p = digits_end(p, end);
    if (p == start) return LC_SAP_TYPE;
  }
  if (!take(&p, end, ")/") || p != end) return LC_SAP_TYPE;
  return !fits || __builtin_mul_overflow(ms, (int64_t)lc_pow10((unsigned)digits - 3), value) ? LC_SAP_RANGE : 0;
}

/* PT, hours H, minutes M, seconds S with a fraction, each of which may be left out, but not all. */
static int32_t odata_time_of(const lc_sap_cell *cell, int32_t digits, int64_t *value) {
  static const struct {
    char mark;
    int32_t seconds;
  } parts[3] = {{'H', 3600}, {'M', 60}, {'S', 1}};
  const uint8_t *p = cell->p, *end = p + cell->size;
  if (!take(&p, end, "PT") || p == end) return LC_SAP_TYPE;
  int64_t seconds = 0, fraction = 0;
  bool lost = false, large = false;
  for (int32_t k = 0; k < 3 && p < end; k++) {
    const uint8_t *start = p, *stop = digits_end(p, end), *point = stop;
    if (stop == start) return LC_SAP_TYPE;
    if (stop < end && *stop == '.') {
      stop = digits_end(stop + 1, end);
      if (stop == point + 1) return LC_SAP_TYPE;
    }
    if (stop == end) return LC_SAP_TYPE;
    if (*stop != (uint8_t)parts[k].mark) continue; /* perhaps the next mark's */
    if (stop > point) {
      if (parts[k].mark != 'S') return LC_SAP_TYPE;
      fraction = fraction_of(point + 1, stop, digits, &lost);
    }
    int64_t count = 0;
    for (; p < point; p++)
      count = count < 1000000 ? count * 10 + *p - '0' : count;
    large = large || count >= 1000000;
    seconds += count * parts[k].seconds;
    p = stop + 1;
  }
  if (p != end) return LC_SAP_TYPE;
  if (large || seconds >= 86400) return LC_SAP_INVALID_TIMS;
  *value = seconds * (int64_t)lc_pow10((unsigned)digits) + fraction;
  return lost ? LC_SAP_SCALE : 0;
}

typedef int32_t (*instant_reader)(const lc_sap_cell *, int32_t, int64_t *);

static void read_instants(lc_sap_reader *r, lc_sap_column *column, instant_reader read) {
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    int64_t value = 0;
    int32_t code = cell->p == NULL || cell->size == 0 ? -1 : read(cell, column->field->scale, &value);
    if (code > 0)
      lc_sap_reject(r, column, i, code);
    else if (code < 0)
      lc_sap_null(r, column, i);
    else
      memcpy(column->values + (r->first + i) * 8, &value, 8);
  }
}

void lc_sap_read_timestamp(lc_sap_reader *r, lc_sap_column *column) { read_instants(r, column, timestamp_of); }
void lc_sap_read_odata_date(lc_sap_reader *r, lc_sap_column *column) { read_instants(r, column, odata_date_of); }
void lc_sap_read_odata_time(lc_sap_reader *r, lc_sap_column *column) { read_instants(r, column, odata_time_of); }
