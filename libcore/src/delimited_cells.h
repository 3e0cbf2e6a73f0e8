/* Inside the readers of text records: fields become cells, rows are kept or undone, errors are listed. */
#ifndef LIBCORE_DELIMITED_CELLS_H
#define LIBCORE_DELIMITED_CELLS_H

#include "libcore/delimited.h"
#include "number.h"
#include "scan.h"

enum { LC_FIELD_QUOTED = 1, LC_FIELD_ESCAPED = 2, LC_FIELD_CHECKED = 4 /* known to be valid UTF-8 */ };

/* A field's bytes as they stand in the record. */
typedef struct lc_field {
  const uint8_t *start, *end;
  int32_t flags;
} lc_field;

/* How escapes inside a field are resolved. */
typedef struct lc_escapes {
  int32_t quote, escape; /* 0: none */
  bool doubled, letters;
} lc_escapes;

typedef struct lc_cell {
  const lc_text_column *column;
  uint8_t *values; /* fixed width: values; BOOL: bits; variable: int32 offsets */
  uint8_t *validity;
  lc_buffer data;
  lc_decimal_target decimal;
  bool variable;
} lc_cell;

/* The rows of one output array. */
typedef struct lc_cells {
  struct ArrowArray batch;
  lc_cell *cells;
  int64_t count; /* of columns */
  int64_t rows;
  const uint16_t *encoding;
  const lc_kernels *kernels;
  lc_escapes escapes;
  bool quoted_nulls;
  lc_buffer plain, number; /* scratch: a field without its escapes, a number in canonical form */
} lc_cells;

/* Check the columns and make room for `capacity` rows.  On failure nothing is kept. */
lc_code lc_cells_init(lc_cells *cells, const lc_text_column *columns, int64_t count, int64_t capacity,
                      lc_error *error);
void lc_cells_free(lc_cells *cells);

/* A field into column c of the row in work: 0, an lc_text_code, or below 0 -lc_code where the call must end. */
int lc_cell_set(lc_cells *cells, int64_t c, lc_field field);
void lc_cells_keep(lc_cells *cells, int64_t line, int64_t offset);
void lc_cells_undo(lc_cells *cells); /* forget what was set in the row in work */
void lc_cells_finish(lc_cells *cells, struct ArrowArray *out);

/* Resolve escapes: at most as many bytes as the field has; their count. */
size_t lc_unescape(const lc_escapes *escapes, const uint8_t *p, const uint8_t *end, bool quoted, uint8_t *out);

/* A number in canonical form ([-]digits[.digits][e...], Infinity, NaN) into cells->number: 0, TYPE, or -lc_code. */
int lc_number_normalise(const lc_text_column *column, const uint8_t *p, const uint8_t *end, lc_buffer *out);

/* Text of a date or time by the column's pattern or ISO.  0, TYPE, RANGE or SCALE. */
int lc_clock_read(const lc_text_column *column, const uint8_t *p, const uint8_t *end, int64_t *value);
bool lc_clock_valid(const lc_text_column *column);

/* ---- errors ---- */

typedef struct lc_text_errors {
  lc_text_error *list;
  int64_t count, capacity;
} lc_text_errors;

bool lc_text_error_add(lc_text_errors *errors, lc_text_error entry);

/* ---- finding bytes ---- */

/* Bits of the 64 bytes at p that are one of the four of `set`. */
typedef uint64_t (*lc_marks)(const uint8_t *p, const uint8_t set[4]);
lc_marks lc_marks_pick(int32_t level); /* NULL where the machine lacks that level */

/* Walks from one marked byte to the next. */
typedef struct lc_marker {
  const uint8_t *base, *end; /* the block in work; the end of the input */
  uint64_t mask;             /* its marks that are still ahead */
  lc_marks marks;
  uint8_t set[4];
} lc_marker;

uint64_t lc_marker_tail(const lc_marker *marker, const uint8_t *at); /* a block that the input ends in */

static inline uint64_t lc_marker_block(const lc_marker *marker, const uint8_t *at) {
  if (LC_LIKELY(marker->end - at >= 64)) return marker->marks(at, marker->set);
  return lc_marker_tail(marker, at);
}

static inline void lc_marker_restart(lc_marker *marker, const uint8_t *at) {
  marker->base = at;
  marker->mask = lc_marker_block(marker, at);
}

/* Go on at `to`, which lies ahead. */
static inline void lc_marker_seek(lc_marker *marker, const uint8_t *to) {
  if (to >= marker->base && to - marker->base < 64)
    marker->mask &= ~0ull << (to - marker->base);
  else
    lc_marker_restart(marker, to);
}

/* The next marked byte, or the end. */
static inline const uint8_t *lc_marker_next(lc_marker *marker) {
  while (LC_UNLIKELY(marker->mask == 0)) {
    if (marker->end - marker->base <= 64) return marker->end;
    marker->base += 64;
    marker->mask = lc_marker_block(marker, marker->base);
  }
  const uint8_t *found = marker->base + __builtin_ctzll(marker->mask);
  marker->mask &= marker->mask - 1;
  return found;
}

/* At most how many records the bytes hold: line ends, and one. */
int64_t lc_lines_most(const uint8_t *data, int64_t size, lc_marks marks);

/* Line ends inside a record. */
int64_t lc_line_ends(const uint8_t *p, const uint8_t *end);

/* The line end at or after p, or the end. */
const uint8_t *lc_line_end(const uint8_t *p, const uint8_t *end, lc_marks marks);

/* Pass a line by: *p behind its end, or as far as the input goes, with state->skipping still set. */
void lc_line_skip(const uint8_t **p, const uint8_t *end, bool final, lc_marks marks, lc_text_state *state);

#endif
