/* Dates and times: integers of the wire to a column's unit, ISO text to integers and back.  Proleptic Gregorian, no
 * leap seconds, no time zones but a written offset. */
#ifndef LIBCORE_TIME_TEXT_H
#define LIBCORE_TIME_TEXT_H

#include "common.h"

#define LC_INFINITY_US INT64_MAX       /* +infinity in microsecond timestamps */
#define LC_MINUS_INFINITY_US INT64_MIN /* -infinity */

/* Days since 1970-01-01 of a valid civil date. */
int64_t lc_civil_days(int64_t year, int month, int day);

/* A TIME_* or TIMESTAMP_* integer of the wire to `digits` (6 or 9) fraction digits.  0, or RANGE or SCALE. */
int lc_clock_convert(int32_t encoding, int32_t digits, int64_t *value);

/* Text of ZONED_TIMESTAMP, ISO_DATE (days), ISO_TIME, ISO_TIMESTAMP.  0, or TYPE, RANGE, SCALE. */
int lc_iso_read(int32_t encoding, int32_t digits, const uint8_t *p, const uint8_t *end, int64_t *value);

/* ISO text of a DATE32 (days), TIME64 or TIMESTAMP (wall clock) value; at most 40 bytes; returns their count. */
size_t lc_iso_write(int32_t type, int32_t digits, int64_t value, char *out);

#endif
