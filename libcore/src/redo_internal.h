/* Inside the redo parser: a statement taken apart into literals, and a literal made a cell. */
#ifndef LIBCORE_REDO_INTERNAL_H
#define LIBCORE_REDO_INTERNAL_H

#include "envelope_internal.h" /* lc_names */
#include "libcore/redo.h"
#include "number.h"

#define LC_REDO_NAME_MAX 512 /* bytes of a column's name */

typedef enum lc_redo_kind {
  REDO_ABSENT = 0,
  REDO_NULL,
  REDO_TEXT,
  REDO_BARE, /* a number, TRUE, Nan: without quotes */
  REDO_UNISTR,
  REDO_HEX,
  REDO_DATE,
  REDO_TIMESTAMP,
  REDO_TIMESTAMP_TZ,
  REDO_TIMESTAMP_ITZ,
  REDO_YEARS, /* TO_YMINTERVAL */
  REDO_DAYS,  /* TO_DSINTERVAL */
  REDO_EMPTY,
  REDO_UNKNOWN, /* Unsupported Type, or a function that is none of the above */
  REDO_JOINED   /* parts with || between them */
} lc_redo_kind;

typedef enum lc_redo_clause { REDO_VALUES, REDO_SET, REDO_WHERE } lc_redo_clause;

/* A value as it stands in the statement. */
typedef struct lc_redo_literal {
  int32_t kind;
  uint32_t parts;                     /* JOINED: 1 << kind of each part */
  bool json;                          /* behind a comment JSON */
  int32_t clause;                     /* lc_redo_clause where it stands */
  const uint8_t *start, *end;         /* all of it */
  const uint8_t *text, *text_end;     /* inside the quotes of the text or the first argument; BARE: itself */
  const uint8_t *format, *format_end; /* the same of the second argument, or NULL */
} lc_redo_literal;


/* A walk over one statement. */
typedef struct lc_redo_cursor {
  const uint8_t *p, *end;
  lc_redo_clause clause;
  bool relaxed;
  int32_t fault; /* the first one's code, or 0 */
  const uint8_t *fault_at;
} lc_redo_cursor;

/* One statement taken apart; memory is kept from one to the next. */
typedef struct lc_redo_statement {
  lc_names names;
  int32_t column_count;
  bool skip_unknown, failed;       /* failed: no memory */
  uint8_t op;                      /* 'i', 'u', 'd' */
  int32_t next;                    /* the column that the next name is first compared with */
  lc_redo_literal *before, *after; /* per column; owned */
  lc_buffer order;                 /* insert: int32 column of each name, -1 for one to pass over */
} lc_redo_statement;

/* Take a statement apart.  true, or false with cursor->fault, or statement->failed. */
bool lc_redo_read(lc_redo_statement *statement, lc_redo_cursor *cursor);
/* One value (redo_value.c). */
bool lc_redo_value(lc_redo_cursor *cursor, lc_redo_literal *literal);
/* The same without comments and ||: to walk over the parts of a JOINED one. */
bool lc_redo_part(lc_redo_cursor *cursor, lc_redo_literal *literal);

static inline bool lc_redo_fault(lc_redo_cursor *c, int32_t code, const uint8_t *at) {
  c->fault = code;
  c->fault_at = at;
  return false;
}
static inline bool lc_redo_is_letter(uint8_t c) { return (uint8_t)((c | 0x20) - 'a') < 26; }
static inline bool lc_redo_is_name(uint8_t c) {
  return lc_redo_is_letter(c) || lc_is_digit(c) || c == '_' || c == '$' || c == '#' || c >= 0x80;
}
/* Whether size bytes at p are that word of lower case letters, digits and _, in any case. */
static inline bool lc_redo_is_word(const uint8_t *p, size_t size, const char *word) {
  for (size_t i = 0; i < size; i++) {
    uint8_t c = p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 0x20 : p[i];
    if (word[i] == 0 || c != (uint8_t)word[i]) return false;
  }
  return word[size] == 0;
}
/* The byte behind the name characters at p. */
static inline const uint8_t *lc_redo_name_end(const uint8_t *p, const uint8_t *end) {
  while (p < end && lc_redo_is_name(*p))
    p++;
  return p;
}
/* Whether that word stands at p, and no name character behind it. */
static inline bool lc_redo_at_word(const uint8_t *p, const uint8_t *end, const char *word) {
  if (p == end || (*p | 0x20) != word[0]) return false; /* most often */
  size_t size = strlen(word);
  return (size_t)(end - p) >= size && lc_redo_is_word(p, size, word) && (p + size == end || !lc_redo_is_name(p[size]));
}

/* ---- cells (redo_cells.c) ---- */

typedef struct lc_redo_cells {
  const lc_redo_column *plan;
  uint8_t *values; /* fixed width: values; BOOL: bits; UTF8 and BINARY: int32 offsets */
  uint8_t *validity;
  lc_buffer data;
  int32_t width;
  bool variable;
  lc_decimal_target decimal; /* integers: 38 digits */
} lc_redo_cells;

/* What the values of a statement are read by. */
typedef struct lc_redo_reading {
  const uint8_t *end; /* of the statement */
  bool relaxed, local_is_utc;
} lc_redo_reading;

/* Write a literal into a cell.  LC_REDO_KEPT (a value or NULL), LC_REDO_UNSET (NULL was written), LC_REDO_LOST (the
 * same, and the statement had a value that nobody can know), -1 no memory, or a row code with *at where it stands. */
enum { LC_REDO_KEPT = 0, LC_REDO_NO_MEMORY = -1, LC_REDO_UNSET = -2, LC_REDO_LOST = -3 };
int lc_redo_cell(lc_redo_cells *column, int64_t row, const lc_redo_literal *literal, const lc_redo_reading *reading,
                 const uint8_t **at);
void lc_redo_cell_null(lc_redo_cells *column, int64_t row);

/* ---- texts and bytes, appended to the column's data (redo_text.c): as lc_redo_cell ---- */

/* p..end as it stands, or with each doubled apostrophe made one. */
int lc_redo_text_append(lc_redo_cells *column, const uint8_t *p, const uint8_t *end, bool doubled);
int lc_redo_text(lc_redo_cells *column, const lc_redo_literal *literal, const lc_redo_reading *reading,
                 const uint8_t **at);
int lc_redo_bytes(lc_redo_cells *column, const lc_redo_literal *literal, const lc_redo_reading *reading,
                  const uint8_t **at);

/* ---- dates and intervals (redo_time.c): 0 or a row code ---- */

int lc_redo_timestamp(const lc_redo_literal *literal, int32_t digits, bool zoned, bool local_is_utc, int64_t *value);
/* Months (TO_YMINTERVAL) or nanoseconds, up to 10^9 days; the sign on both. */
int lc_redo_interval(const lc_redo_literal *literal, bool *is_months, __int128 *value);
int lc_redo_interval_us(bool is_months, __int128 value, int64_t *microseconds);
size_t lc_redo_interval_text(bool is_months, __int128 value, uint8_t *out); /* at most 64 bytes */

/* ---- rows (redo_rows.c) ---- */

/* The fault of a statement. */
typedef struct lc_redo_slip {
  int32_t code, column;
  int64_t position;
} lc_redo_slip;

/* The call in work. */
typedef struct lc_redo_parser {
  const lc_redo_plan *plan;
  const lc_kernels *kernels;
  lc_redo_statement statement;
  lc_redo_cells *cells; /* per column; owned */
  bool has_key, has_unset;
  lc_redo_reading reading;
  int64_t rows; /* kept */
  struct ArrowArray *batch;
  int8_t *ops;
  int32_t *row_of;
  uint8_t *before, *unavailable, *unset;
  int32_t unset_width;
  lc_redo_error *errors;
  int64_t error_count, error_capacity;
  lc_code failed;
  lc_redo_slip fault; /* of the statement in work; code 0: none */
} lc_redo_parser;

/* The rows of the statement just read, behind those kept, which is r->rows; their count.  Faults go to r->fault. */
int64_t lc_redo_rows(lc_redo_parser *r, int64_t input_row, const uint8_t *start);
/* Take back what stands behind row r->rows. */
void lc_redo_rows_undo(lc_redo_parser *r);

#endif
