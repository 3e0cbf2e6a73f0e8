/* Records of fixed width to typed columns: each column has an offset and a length, in characters, in UTF-16 code units
 * (what an ABAP system calls a character: one of four UTF-8 bytes counts two) or in bytes.  A character whose two units
 * two columns share is UTF8 at the character, before any value of the record is read.
 *
 * A record is a line, or record_bytes bytes without line ends.  A file may hold several kinds of records, told apart
 * by the marker that each begins with (header, items, trailer; the segments of a flat IDoc): each kind has its own
 * columns and its own output.  Pieces, errors, values and threads are as in delimited.h.
 *
 * Contract: A piece begins at a record; offsets and lengths of columns lie inside the width.
 * Units: Offsets, lengths and width in characters, UTF-16 code units or bytes, as `characters` says; record_bytes and
 *   record_bytes_max in bytes.
 * Ownership: As in delimited.h; `out` holds kind_count arrays, each with its own release callback.
 * Errors: A bad record is an lc_text_error and its neighbours go on; codes as of lc_delimited_read.
 * Threads: No state but the arguments'; one file is read by one call after the other.
 */
#ifndef LIBCORE_FIXED_WIDTH_H
#define LIBCORE_FIXED_WIDTH_H

#include "libcore/delimited.h"

/* cdef */
/* One kind of record. */
typedef struct lc_fixed_kind {
  const lc_text_column *columns;
  int64_t column_count;
  const uint8_t *marker; /* bytes a record of this kind begins with; size 0: every record */
  int64_t marker_size;
  int64_t width; /* characters or bytes of a record: >= the end of each column */
} lc_fixed_kind;

typedef struct lc_fixed_plan {
  const lc_fixed_kind *kinds; /* the first whose marker fits counts */
  int64_t kind_count;
  int64_t record_bytes;     /* > 0: records without line ends; 0: lines */
  int64_t record_bytes_max; /* > 0 */
  int32_t characters;       /* 1: offsets count UTF-8 characters; 2: UTF-16 code units; 0: bytes */
  int32_t pad_short;        /* 1: a record that ends early is followed by blanks; 0: it is an error */
  int32_t ignore_rest;      /* 1: bytes behind the width mean nothing; 0: they must be spaces */
  int32_t ignore_kinds;     /* 1: records that no marker fits are counted and passed by; 0: they are errors */
  int32_t skip_blank;       /* 1: an empty line is no record */
  const uint16_t *encoding; /* as in lc_delimited_plan; characters are then bytes */
} lc_fixed_plan;

/* Read records of fixed width; `out` has kind_count arrays.  Arguments and answer are as of lc_delimited_read; with
 * record_bytes the line is the record's number. */
lc_code lc_fixed_read(const lc_fixed_plan *plan, const uint8_t *data, int64_t size, int32_t final, int64_t rows_max,
                      const lc_text_state *state, int32_t level, struct ArrowArray *out, lc_text_read *read,
                      lc_error *error);
/* end cdef */

#endif
