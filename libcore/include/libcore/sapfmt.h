/* SAP value formats: rows of RFC_READ_TABLE and whole columns of one kind to exactly typed columns; a bad value becomes
 * an error entry, its neighbours go on.
 *
 * CELLS.  The input is one column.  UTF8: offsets and lengths count UTF-16 code units, which is what an ABAP system
 * calls a character (a character of four UTF-8 bytes counts two), and a value must be valid UTF-8, else UTF8 at the
 * sequence's first byte.  BINARY: they count bytes, and the cells of text kinds must be valid UTF-8, each by itself.
 *   - padded (RFC_READ_TABLE, with a delimiter or without): a field stands at its offset with its length; what a short
 *     row lacks is blank.  Where the plan has a delimiter, it stands right before each field but the first, else
 *     DELIMITER there; it may stand inside a value.
 *   - not padded: fields follow one another with the delimiter between them and none inside; one too few or too many:
 *     DELIMITER.  A cell longer than its length: LENGTH at the cell.
 *   - a character that two fields share: UTF8 at the character.  Behind the last field only blanks, else LENGTH at the
 *     first other byte (not asked where the last field's length is 0, which means "to the end").
 * Trailing blanks of a cell do not count; a blank cell is NULL but in CHAR, NUMC, ALPHA_IN, ALPHA_OUT (empty text) and
 * BOOL (false).  A NULL value gives NULL in every column.  The tab and other controls are data.
 *
 * FAULTS.  One a value, the first in this order: UTF8 of the whole; not padded, DELIMITER, as a delimiter in a value
 * moves all cells behind it; then field by field DELIMITER (padded), the border, LENGTH of a cell, and what the kind
 * says, at the cell's first byte (blanks in front of a number or TIMESTAMP are allowed, and count as its first bytes);
 * LENGTH behind the last field at the end.  A fault of one cell leaves its neighbours.
 *
 * Row codes of the kinds: TYPE where the characters are not of the form; RANGE where the value does not fit the column;
 * SCALE where digits other than 0 would be lost; OVERFLOWED where a number holds a '*' (the sender's field was too
 * short); DATS and TIMS where the digits are no day or no time of the day.
 *
 * Contract: Any values may come; the plan's fields ascend and do not overlap (else LC_INVALID).
 * Units: Offsets and lengths in UTF-16 code units (UTF8 input) or bytes (BINARY); times in the unit of the column's
 *   scale; amounts exact.
 * Ownership: Plan and values are read in place during the call alone; *out is released once by lc_sap_result_free, its
 *   batch may be moved out before.
 * Errors: A bad value is an lc_sap_error and NULL in the batch, its neighbours go on; codes at the functions.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_SAPFMT_H
#define LIBCORE_SAPFMT_H

#include "libcore/types.h"

/* cdef */
typedef enum lc_sap_kind {
  LC_SAP_SKIP = 0, /* no column */
  LC_SAP_CHAR = 1, /* also CLNT, LANG, CUKY, UNIT -> UTF8 */
  LC_SAP_NUMC = 2, /* digits alone -> UTF8 as they stand, or INT16, INT32, INT64 */
  LC_SAP_DATS = 3, /* YYYYMMDD, years 1 to 9999, proleptic Gregorian; 00000000 is NULL -> DATE32 */
  LC_SAP_TIMS = 4, /* HHMMSS up to 235959; 240000 is TIMS -> TIME64 */
  /* DEC, CURR, QUAN as text: digits with an optional point and one sign, in front or behind -> a decimal, or UTF8 as
   * lc_numeric_from_text writes it */
  LC_SAP_NUMBER = 5,
  LC_SAP_FLTP = 6, /* a NUMBER with an optional exponent; a sign behind stands last -> FLOAT64; infinite: RANGE */
  LC_SAP_INT1 = 7, /* 0..255; this and the next: digits and one sign, in front or behind -> INT16, INT32, INT64 */
  LC_SAP_INT2 = 8, /* within 16, 32, 64 bits */
  LC_SAP_INT4 = 9,
  LC_SAP_INT8 = 10,
  LC_SAP_RAW = 11,    /* pairs of hex digits -> BINARY */
  LC_SAP_BOOL = 12,   /* X is true, blank is false, '-' is NULL -> BOOL */
  LC_SAP_PACKED = 13, /* BINARY input alone, not blank-trimmed: two digits a byte, the last half byte C, F (+) or D (-),
                         `decimals` digits behind the point -> a decimal; cut short by the row's end: TYPE */
  LC_SAP_TIMESTAMP = 14,  /* TIMESTAMP, TIMESTAMPL: [YYYYMMDD]HHMMSS[.fraction], 0 is NULL -> TIMESTAMP */
  LC_SAP_ALPHA_IN = 15,   /* ALPHA conversion to `length` characters: digits alone get zeros in front -> UTF8 */
  LC_SAP_ALPHA_OUT = 16,  /* ALPHA conversion back: digits alone lose zeros in front, all but the last -> UTF8 */
  LC_SAP_ODATA_DATE = 17, /* /Date(ms)/, /Date(ms+minutes)/: milliseconds are UTC either way -> TIMESTAMP */
  LC_SAP_ODATA_TIME = 18, /* PT[n H][n M][n[.f] S] below 24 hours -> TIME64 */
  LC_SAP_BASE64 = 19      /* Edm.Binary: standard alphabet, padded -> BINARY */
} lc_sap_kind;

typedef enum lc_sap_code {
  LC_SAP_TYPE = 1,
  LC_SAP_RANGE = 2,
  LC_SAP_SCALE = 3,
  LC_SAP_INVALID_DATS = 4,
  LC_SAP_INVALID_TIMS = 5,
  LC_SAP_OVERFLOWED = 6,
  LC_SAP_UTF8 = 7,
  LC_SAP_LENGTH = 8,
  LC_SAP_DELIMITER = 9,
  LC_SAP_CURRENCY = 10 /* an amount other than 0 without a currency */
} lc_sap_code;

/* One field of a row, and the column that it fills. */
typedef struct lc_sap_field {
  int32_t kind;   /* lc_sap_kind */
  int32_t type;   /* lc_type of the column; ignored for SKIP */
  int32_t offset; /* units; ascending from field to field, no overlap; ignored where the plan is not padded */
  int32_t length; /* units, 0: to the end (padded: the last field alone; not padded: any length) */
  int32_t precision, scale; /* decimals; scale of TIME64 and TIMESTAMP: 6 or 9, the unit's digits */
  int32_t decimals;         /* PACKED: digits behind the point, 0..76 */
  int32_t initial_null; /* 1: the ABAP initial value is NULL too: no text in CHAR, NUMC, ALPHA_*; zeros alone in NUMC,
                           TIMS, RAW; 0 in NUMBER, FLTP, INT*, PACKED */
} lc_sap_field;

typedef struct lc_sap_plan {
  const lc_sap_field *fields;
  int32_t field_count; /* 1..4096 */
  int32_t delimiter;   /* an ASCII character, 0: none */
  int32_t padded;      /* 1: cells stand at their offsets; 0: they end at the delimiter (which must be there) */
} lc_sap_plan;

typedef struct lc_sap_error {
  int64_t row;
  int64_t position; /* 0-based byte in the row's value */
  int32_t code;     /* lc_sap_code */
  int32_t field;    /* index in the plan; -1: the whole value */
} lc_sap_error;

/* Made by a call; freed by lc_sap_result_free, once.  batch may be moved out (then batch.release is NULL). */
typedef struct lc_sap_result {
  struct ArrowArray batch; /* a column for each field but SKIP, as many rows as the input; NULL where a value is bad */
  int64_t error_count;
  lc_sap_error *errors; /* in the order of rows, one each at most */
} lc_sap_result;

/* Read each value of a struct array with one child (UTF8 or BINARY, as `input` says) by the plan.
 *
 * level as in lc_json_validate.  Work is linear in the bytes; memory is that of the output.  Returns LC_OK, LC_INVALID,
 * LC_NO_MEMORY, or LC_CAPACITY where a column's text would pass 2^31-1 bytes; on failure *out holds nothing to free.
 */
lc_code lc_sap_read(const lc_sap_plan *plan, const struct ArrowArray *values, const lc_column *input, int32_t level,
                    lc_sap_result *out, lc_error *error);

/* One row of TCURX: a currency that has other than two decimals. */
typedef struct lc_sap_currency {
  uint8_t key[8];   /* without trailing blanks, zeros behind; a longer key of the data is in no table */
  int32_t decimals; /* 0..9 */
} lc_sap_currency;

/* Shift amounts between how a CURR field stores them (as if every currency had two decimals) and what they are:
 * real = stored * 10^(2 - decimals of the currency); a currency that is not in the table has two.
 *
 *   amounts   a struct array (a decimal as `layouts[0]` says, currency UTF8 or BINARY)
 *   table     each key once
 *   to_real   1: stored to real, 0: back
 *   target    the decimal of the result: batch has this one column
 *
 * NULL stays NULL.  A NULL currency shifts 0 alone, else CURRENCY.  Digits lost: SCALE; too many: RANGE; at byte 0.
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY; on failure *out holds nothing to free.
 */
lc_code lc_sap_shift(const struct ArrowArray *amounts, const lc_column *layouts, const lc_sap_currency *table,
                     int32_t table_count, int32_t to_real, const lc_column *target, lc_sap_result *out,
                     lc_error *error);

/* Text in a code page to UTF-8: a struct array with one BINARY child to one UTF8 column.
 *
 *   code_page  1: UTF-8 (checked), 2: UTF-16 little endian, 3: UTF-16 big endian, 4: one byte a character by `table`
 *   table      of 256 Unicode code points, 0xffffffff where the page has none; NULL for the others
 *
 * Errors: UTF8 at the first byte that is no character (also of a lone surrogate, or an odd last byte).
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, LC_CAPACITY; on failure *out holds nothing to free.
 */
lc_code lc_sap_transcode(const struct ArrowArray *values, int32_t code_page, const uint32_t *table,
                         lc_sap_result *out, lc_error *error);

void lc_sap_result_free(lc_sap_result *result);
/* end cdef */

#endif
