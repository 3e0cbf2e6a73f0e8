/* Text records to typed columns: delimited files (RFC 4180 and its ERP dialects), and the words that fixed_width.h and
 * idoc.h share with it.
 *
 * Input is a piece of a file.  A call reads whole records and says how many bytes it consumed; the caller hands the
 * rest in again in front of the next piece, so what a restart needs is a byte offset and the small lc_text_state.  The
 * answer does not depend on where the pieces were cut.
 *
 * A record ends at LF, CRLF or CR outside of quotes, or at the end of the last piece.  A record that gives no row gives
 * an lc_text_error and its neighbours go on.  A quote that is still open after record_bytes_max bytes, or at the end of
 * the file, is blamed on the line where the record began; reading goes on with the next line.
 *
 * A field becomes a value in this order: blanks (space, tab) around an unquoted field are dropped where the column is
 * no text or trims; a field whose raw bytes are a NULL word is NULL; escapes are resolved; BOOL words are looked up; an
 * empty field of a column that is no text is NULL; else the kind's grammar decides, exactly, without rounding.
 *
 * Contract: A piece begins at a record; the caller hands in the unconsumed rest again, with the state of the last call,
 *   in front of the next piece.
 * Units: Sizes and offsets in bytes; lines count from 1, columns and fields from 0; times of `digits` 6 or 9.
 * Ownership: The input is read in place; *out arrays belong to the caller, also the lists in lc_text_read, which
 *   lc_text_read_free frees.
 * Errors: A bad record is an lc_text_error and its neighbours go on; codes at the function.
 * Threads: No state but the arguments'; one file is read by one call after the other.
 */
#ifndef LIBCORE_DELIMITED_H
#define LIBCORE_DELIMITED_H

#include "libcore/types.h"

/* cdef */
/* Why a record gave no row; those below 32 are lc_row_code's.  libcore.delimited_types.LineCode has the same. */
typedef enum lc_text_code {
  LC_TEXT_SYNTAX = 1, /* IDoc XML: not well-formed */
  LC_TEXT_UTF8 = 2,   /* bytes that are no text in the plan's encoding */
  LC_TEXT_DEPTH = 3,  /* IDoc XML: nested too deep */
  LC_TEXT_TYPE = 5,
  LC_TEXT_RANGE = 6,
  LC_TEXT_SCALE = 7,
  LC_TEXT_QUOTE = 32,  /* text behind a closing quote, or a quote that never closes */
  LC_TEXT_FIELDS = 33, /* too few or too many fields, or bytes */
  LC_TEXT_LONG = 34,   /* above record_bytes_max */
  LC_TEXT_NULL = 35,   /* no value in a column that must have one */
  LC_TEXT_KIND = 36    /* a record (segment) that the plan does not name */
} lc_text_code;

/* How a field's text is read. */
typedef enum lc_text_kind {
  LC_TEXT_KIND_TEXT = 1,  /* -> UTF8 */
  LC_TEXT_KIND_INT = 2,   /* -> INT16, INT32, INT64; a fraction of zeros is allowed */
  LC_TEXT_KIND_FLOAT = 3, /* -> FLOAT32, FLOAT64: nearest; NaN, Infinity, -Infinity */
  LC_TEXT_KIND_BOOL = 4,  /* -> BOOL by the column's words, ASCII letters of either case */
  LC_TEXT_KIND_HEX = 5,   /* -> BINARY: pairs of hex digits, perhaps behind \x */
  LC_TEXT_KIND_BASE64 = 6,
  LC_TEXT_KIND_DECIMAL = 7,     /* -> DECIMAL128, DECIMAL256 */
  LC_TEXT_KIND_NUMERIC = 8,     /* -> UTF8: canonical text */
  LC_TEXT_KIND_DATE = 9,        /* -> DATE32 */
  LC_TEXT_KIND_TIME = 10,       /* -> TIME64 of `digits` */
  LC_TEXT_KIND_TIMESTAMP = 11,  /* -> TIMESTAMP of `digits`, wall clock */
  LC_TEXT_KIND_TIMESTAMPTZ = 12 /* -> TIMESTAMP of `digits`, UTC; the offset must be written */
} lc_text_kind;

/* One column.  Words are a run of (2 bytes of length, little endian, then the word). */
typedef struct lc_text_column {
  lc_column layout;
  int32_t kind;
  int32_t digits;   /* 6 or 9; clocks only */
  int32_t required; /* 1: NULL is an error */
  int32_t trim;     /* TEXT: 0 nothing, 1 spaces at the right, 2 spaces and tabs at both ends */
  int32_t decimal;  /* the byte between whole and fraction */
  int32_t trailing_sign; /* 1: the sign may stand behind the digits */
  int32_t implied;       /* > 0: no point is written; that many last digits are the fraction */
  int32_t field;         /* delimited: 0-based field */
  const uint8_t *thousands; /* bytes between groups of three digits; size 0: none */
  int32_t thousands_size;
  int32_t pattern_size; /* dates and times: items of two bytes (0, literal) or ('%', letter); size 0: ISO */
  const uint8_t *pattern;
  const uint8_t *null_words, *true_words, *false_words;
  int32_t null_size, true_size, false_size; /* bytes */
  int64_t offset, length;                   /* fixed width: where in the record */
} lc_text_column;

/* A delimited file's dialect and columns. */
typedef struct lc_delimited_plan {
  const lc_text_column *columns;
  int64_t column_count;
  int64_t fields;           /* fields of a record; 0: at least those that the columns need */
  int64_t record_bytes_max; /* > 0 */
  int32_t delimiter;        /* 1..127, none of these four equal to another, none CR or LF */
  int32_t quote;            /* 0: none */
  int32_t escape;           /* 0: none */
  int32_t comment;          /* 0: none; a line that begins with it is passed by */
  int32_t doubled;          /* 1: two quotes inside quotes are one */
  int32_t lazy_quotes;      /* 1: a quote that stands before neither delimiter nor line end closes nothing */
  int32_t c_escapes;        /* 1: escape and b f n r t v 0 are control characters */
  int32_t quoted_nulls;     /* 1: NULL words count in quotes too */
  int32_t skip_blank;       /* 1: an empty line is no record */
  int32_t trailing;         /* 1: one more, empty, field at the end is allowed */
  const uint16_t *encoding; /* 256 code points (65535: none) of a single-byte encoding; NULL: UTF-8 */
} lc_delimited_plan;

/* Between two calls. */
typedef struct lc_text_state {
  int64_t line;     /* 1-based line of the next byte */
  int64_t skip;     /* lines that are still to be passed by at the head of the file */
  int32_t skipping; /* 1: the next byte is inside a line that gives nothing (more) */
} lc_text_state;

/* A record that gave no row. */
typedef struct lc_text_error {
  int64_t line;     /* 1-based line of its first byte */
  int64_t offset;   /* its first byte in the input */
  int64_t size;     /* its bytes without the line end; of a broken quote or an overlong record its first line */
  int64_t position; /* 0-based byte in the record */
  int32_t code;     /* lc_text_code */
  int32_t column;   /* index of the column, -1 */
  int32_t kind;     /* fixed width with kinds: which, -1 */
} lc_text_error;

/* What a call read, besides the rows. */
typedef struct lc_text_read {
  int64_t consumed; /* bytes */
  int64_t ignored;  /* records of kinds that the plan does not name, where it says so */
  lc_text_state state;
  lc_text_error *errors; /* in order; owned */
  int64_t error_count;
} lc_text_read;

/* Read records of a delimited file.
 *
 *   data, size  bytes that begin at a record (or in a line that is being skipped)
 *   final       1: nothing comes behind
 *   rows_max    rows after which the call ends, >= 1
 *   level       0 the fastest this machine has, 1 scalar, 2 SSE4.2, 3 AVX2
 *   out         a struct array: the columns, then line INT64 (1-based) and offset INT64 (of the record's first byte)
 *
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY or LC_CAPACITY; *out and *read are set on LC_OK only.
 */
lc_code lc_delimited_read(const lc_delimited_plan *plan, const uint8_t *data, int64_t size, int32_t final,
                          int64_t rows_max, const lc_text_state *state, int32_t level, struct ArrowArray *out,
                          lc_text_read *read, lc_error *error);

void lc_text_read_free(lc_text_read *read);
/* end cdef */

#endif
