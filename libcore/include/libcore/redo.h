/* Oracle LogMiner statements (SQL_REDO, SQL_UNDO) of one table to the rows of a change batch; a bad statement becomes
 * an error entry, its neighbours go on.
 *
 * GRAMMAR.  Words in any case, blanks (space, tab, newline, return) between all tokens, one `;` at the end or none:
 *   insert into T ( name, ... ) values ( value, ... )
 *   update T [alias] set column = value, ... [where condition and ...]
 *   delete from T [alias] [where condition and ...]
 *   T, column     names joined by dots, the last one counts; a name is "anything but a quote", or letters, digits,
 *                 _ $ # and bytes above 127, which are then looked up in upper case.  The table's name is not compared
 *   condition     column = value | column IS NULL | ROWID = value, which is read and dropped
 *   value         part [|| part ...] behind any comments
 *   part          'text' with '' for a quote | NULL | TRUE | FALSE | Nan | Inf | Infinity | Unsupported Type
 *                 | a number's characters (digits, letters, + - .) that start with a digit or one of the three
 *                 | NAME('text' [, 'text' ...]) for UNISTR HEXTORAW TO_DATE TO_TIMESTAMP TO_TIMESTAMP_TZ
 *                   TO_TIMESTAMP_ITZ TO_YMINTERVAL TO_DSINTERVAL | EMPTY_CLOB() | EMPTY_BLOB()
 *                 | NAME(...) of any other name, brackets and texts balanced: a value that nobody can know
 * Statements with an apostrophe that LogMiner forgot to double (plan `relaxed`): one that is not well formed is read
 * again, and now an apostrophe ends a text only where the statement can go on behind it: in `values` before `, value`
 * or `)` and the end, in `set` before `, column`, `where column` or the end, behind `where` before `and column` or the
 * end, everywhere before `|| 'text'` and `|| UNISTR(`.  Two of them are one, doubled; but a text of which one is
 * not doubled, and which could end behind two as well ('5'', "B" = 'x'), is SYNTAX: nobody knows where it ends.
 *
 * PIECES.  With a second column CSF: a statement goes on in the next row where CSF is not 0; pieces may break it
 * anywhere.  A statement whose last piece is not there is left for the next call (`consumed`).
 *
 * VALUES, by the column's form and type.  Any other pair is TYPE.
 *   NULL, IS NULL         NULL
 *   'text'                UTF8; what the following lines say of numbers, of BOOL, and of dates
 *   number, TRUE, Nan     decimals and integers, exactly, else SCALE or RANGE; FLOAT64 and FLOAT32 (nearest, too large:
 *                         RANGE; Nan, Inf); BOOL of 0, 1, TRUE, FALSE; NUMERIC; UTF8 of the number's characters
 *   UNISTR                UTF8, also joined with texts; a lone surrogate is SURROGATE
 *   HEXTORAW              BINARY, also joined.  Behind a comment JSON and into UTF8: unknown, for it is binary JSON
 *   TO_DATE, TO_TIMESTAMP TIMESTAMP, DATE32 where the time is 0 (else SCALE); UTF8 gets the text.  The text is
 *                         [-]YYYY-MM-DD[ HH:MI:SS[.[fraction]]], and a format must say just that, else TYPE.  Years
 *                         before 1 are counted without a year 0, as Oracle does
 *   TO_TIMESTAMP_TZ       ZONED, with a blank and +HH:MM behind the time; a named zone, or none, is ZONE
 *   TO_TIMESTAMP_ITZ      ZONED where it has an offset, or where the plan says `local_is_utc`, else ZONE; TIMESTAMP
 *                         without an offset.  An offset into TIMESTAMP, or none into ZONED, is ZONE
 *   TO_YMINTERVAL         INTERVAL: ISO 8601 as P1Y6M; INTERVAL_US: a year is 365.25 days; UTF8 gets the text
 *   TO_DSINTERVAL         INTERVAL: P1DT2H3M4.05S, each part with the sign; INTERVAL_US; UTF8 gets the text
 *   EMPTY_CLOB, _BLOB     UTF8 and BINARY of no bytes; unset where the column says `empty_is_unset`
 *   Unsupported Type, unknown functions     unset, and the row is marked unavailable where it is a new value
 *   form LITERAL (UTF8)   a text's characters; of anything else that is known its source text
 *
 * ROWS.  insert: op 6 where `creates` and there is a key, else 1; delete: op 2; update: op 1 of the values in `set`
 * laid over those behind `where`.  A column that neither names is unset, which is not NULL.
 *   - table with key columns: a delete carries its key columns alone, the others are NULL.  An update whose key differs
 *     from the one behind `where` gives a delete of the old key before it.  A key column that lacks a value, of a row
 *     or behind an update's `where`: KEY.
 *   - table without: an update gives a delete of all that stands behind `where`, then an upsert; an unset column in
 *     any row: BEFORE.
 *   - plan `images`: delete and update give the row behind `where` whole (`before`), update and insert the new one;
 *     nothing is KEY or BEFORE.
 *
 * FAULTS, one a statement, the first of: EMPTY (a piece is NULL), at that piece; UTF8; STATEMENT (neither insert nor
 * update nor delete) at its first word; reading from left to right SYNTAX at the byte that cannot go on, COLUMN and
 * DUPLICATE at the name; of the values the one with the smallest position, at its first byte, SURROGATE at its
 * backslash; KEY and BEFORE at byte 0, old row before new, columns in order.  A value that no row needs (an old value
 * that `set` replaces) is not looked into.
 *
 * Contract: Statements are of one table, in the order in which they were logged; any bytes may come.
 * Units: Positions are 0-based bytes in the statement; clocks in the unit that the column's scale says; INTERVAL_US in
 *   microseconds.
 * Ownership: Plan and statements are read in place during the call alone; *out is released once by lc_redo_free, its
 *   batch may be moved out before.
 * Errors: A bad statement is an lc_redo_error and its neighbours go on; codes at the function.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_REDO_H
#define LIBCORE_REDO_H

#include "libcore/json.h"
#include "libcore/types.h"

/* cdef */
/* What a column's type alone does not say. */
typedef enum lc_redo_form {
  LC_REDO_PLAIN = 0,
  LC_REDO_LITERAL = 1,    /* UTF8: as it stands in the statement */
  LC_REDO_NUMERIC = 2,    /* UTF8: canonical text of any number, as LC_ENCODING_NUMERIC_TEXT */
  LC_REDO_INTERVAL = 3,   /* UTF8 */
  LC_REDO_INTERVAL_US = 4, /* INT64 */
  LC_REDO_ZONED = 5       /* TIMESTAMP: an instant, in UTC */
} lc_redo_form;

/* Faults besides those of lc_row_code; the numbers are those of libcore.redo_types.RedoCode. */
typedef enum lc_redo_code {
  LC_REDO_COLUMN = 32,    /* a column that the table lacks */
  LC_REDO_STATEMENT = 33, /* neither insert nor update nor delete */
  LC_REDO_EMPTY = 34,     /* NULL instead of a statement or a piece of it */
  LC_REDO_ZONE = 35       /* an offset is missing, named, or of no use */
} lc_redo_code;

typedef struct lc_redo_column {
  const char *name;  /* UTF-8, without quotes, not NUL-terminated */
  int32_t name_size; /* bytes, 1..512 */
  int32_t is_key;
  int32_t type; /* lc_type: BOOL INT16 INT32 INT64 FLOAT32 FLOAT64 DATE32 TIME64 TIMESTAMP DECIMAL* UTF8 BINARY */
  int32_t precision;
  int32_t scale; /* decimals: digits after the point; TIME64 and TIMESTAMP: 6 or 9, the unit's digits */
  int32_t form;  /* lc_redo_form */
  int32_t empty_is_unset; /* 1: EMPTY_CLOB() and EMPTY_BLOB() only say that the value follows in other rows */
} lc_redo_column;

/* Owned by the caller, read during a call only. */
typedef struct lc_redo_plan {
  const lc_redo_column *columns;
  int32_t column_count; /* 1..65,000 */
  int32_t relaxed;
  int32_t skip_unknown; /* 1: columns that the table lacks are passed over */
  int32_t local_is_utc;
  int32_t creates;
  int32_t images;
} lc_redo_plan;

typedef struct lc_redo_error {
  int64_t row;      /* 0-based row of the statement's first piece */
  int64_t position; /* 0-based byte in the statement */
  int32_t code;     /* lc_row_code or lc_redo_code */
  int32_t column;   /* the column to blame, or -1 */
} lc_redo_error;

/* Released by lc_redo_free, once; batch may be moved out (then batch.release is NULL). */
typedef struct lc_redo_result {
  struct ArrowArray batch; /* the columns, op INT8, row INT32 (of the statement's first piece), before BOOL,
                              unavailable BOOL, unset FIXED of (column_count + 7) / 8 bytes, lowest bit first */
  int32_t has_unset;
  int64_t consumed; /* rows done, counted from the first */
  int64_t error_count;
  lc_redo_error *errors; /* in the order of statements */
} lc_redo_result;

/* Parse a struct array: statements BINARY and, where it has two columns, csf INT8.
 *
 * Work is linear in the bytes (in relaxed statements: of a text times its apostrophes); memory is that of the output.
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY where a column's text would pass 2^31-1 bytes; on failure
 * *out holds nothing to free.
 */
lc_code lc_redo_parse(const lc_redo_plan *plan, const struct ArrowArray *statements, lc_redo_result *out,
                      lc_error *error);

void lc_redo_free(lc_redo_result *result);
/* end cdef */

#endif
