/* Dates and times: integers of the wire to a column's unit, ISO text to integers and back.  Proleptic Gregorian, no
 * leap seconds, no time zones but a written offset. */
#ifndef LIBCORE_TIME_TEXT_H
#define LIBCORE_TIME_TEXT_H

#include "scan.h"

#define LC_INFINITY_US INT64_MAX       /* +infinity in microsecond timestamps */
#define LC_MINUS_INFINITY_US INT64_MIN /* -infinity */
#define LC_DATE_LAST 2145042905        /* 5874897-12-31, the last date that PostgreSQL has */

/* Days since 1970-01-01 of a valid civil date. */
int64_t lc_civil_days(int64_t year, int month, int day);

/* Days as a DATE32 has them: those that Debezium writes for an infinite date become INT32_MAX and INT32_MIN. */
static inline int32_t lc_date_settle(int32_t days) {
  if (LC_LIKELY(days <= LC_DATE_LAST && days >= -LC_DATE_LAST)) return days;
  /* INT32_MAX and INT32_MIN days since 2000, counted from 1970 in 32 bits; since 2026 +5877611-06-21 for the first */
  if (days == -2147472692 || days == 2146033979) return INT32_MAX;
  return days == -2147472691 ? INT32_MIN : days;
}

/* A TIME_* or TIMESTAMP_* integer of the wire to `digits` (6 or 9) fraction digits.  0, or RANGE or SCALE. */
int lc_clock_convert(int32_t encoding, int32_t digits, int64_t *value);

/* Text of ZONED_TIMESTAMP, ISO_DATE (days), ISO_TIME, ISO_TIMESTAMP.  0, or TYPE, RANGE, SCALE. */
int lc_iso_read(int32_t encoding, int32_t digits, const uint8_t *p, const uint8_t *end, int64_t *value);

/* ISO text of a DATE32 (days), TIME64 or TIMESTAMP (wall clock) value; at most 40 bytes; returns their count. */
size_t lc_iso_write(int32_t type, int32_t digits, int64_t value, char *out);

#endif
