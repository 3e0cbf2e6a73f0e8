/* Inside sapfmt: a block of rows at a time, field by field; first the cells are found, then a reader of the kind runs
 * over them.  So each loop is short, and a block's bytes stay in the cache from field to field. */
#ifndef LIBCORE_SAPFMT_INTERNAL_H
#define LIBCORE_SAPFMT_INTERNAL_H

#include "libcore/sapfmt.h"
#include "number.h"
#include "scan.h"

enum { LC_SAP_BLOCK = 512 };

/* A cell without its trailing blanks; p NULL: there is none to read (a NULL value, or a fault that is told). */
typedef struct lc_sap_cell {
  const uint8_t *p;
  int64_t size;
} lc_sap_cell;

typedef enum lc_sap_state {
  LC_SAP_EASY = 0, /* a character is a byte, and cells stand at their offsets */
  LC_SAP_WALK = 1, /* cells are found one behind the other */
  LC_SAP_DEAD = 2  /* a NULL value, or a fault behind which no cell can be found */
} lc_sap_state;

/* Where the output column of a field is written. */
typedef struct lc_sap_column {
  const lc_sap_field *field;
  int32_t index;     /* of the field in the plan */
  uint8_t *values;   /* fixed width: values; variable width: int32 offsets */
  uint8_t *validity; /* bits */
  lc_buffer data;
  lc_decimal_target decimal;
} lc_sap_column;

typedef struct lc_sap_reader {
  const lc_sap_plan *plan;
  const lc_kernels *kernels;
  bool units; /* a character may be more than a byte: UTF8 input */
  lc_code failed; /* LC_NO_MEMORY or LC_CAPACITY: nothing more is done */
  /* the block */
  int64_t first; /* its first row */
  int32_t count;
  bool all_easy;
  int64_t bytes; /* of all its rows */
  const uint8_t *row[LC_SAP_BLOCK];
  int64_t size[LC_SAP_BLOCK];
  uint8_t state[LC_SAP_BLOCK];
  int64_t unit[LC_SAP_BLOCK], byte[LC_SAP_BLOCK]; /* WALK: where the next field is looked for; byte -1: the row ended */
  lc_sap_cell cell[LC_SAP_BLOCK];                 /* of the field at hand */
  lc_sap_error fault[LC_SAP_BLOCK];               /* code 0: none so far */
} lc_sap_reader;

/* Tell a fault of a row of the block, if it is the row's first. */
static inline void lc_sap_blame(lc_sap_reader *r, int32_t i, int32_t code, int32_t field, const uint8_t *at) {
  if (r->fault[i].code == 0)
    r->fault[i] =
        (lc_sap_error){.row = r->first + i, .position = at - r->row[i], .code = code, .field = field};
}

/* A cell that its reader cannot take: a fault at its first byte, and NULL. */
static inline void lc_sap_reject(lc_sap_reader *r, const lc_sap_column *column, int32_t i, int32_t code) {
  lc_sap_blame(r, i, code, column->index, r->cell[i].p);
  lc_bit_clear(column->validity, r->first + i);
}
static inline void lc_sap_null(lc_sap_reader *r, const lc_sap_column *column, int32_t i) {
  lc_bit_clear(column->validity, r->first + i);
}

#define LC_BLANKS (LC_ONES * ' ')

/* Size of the bytes without trailing blanks. */
static inline int64_t lc_sap_trimmed(const uint8_t *p, int64_t size) {
  while (size >= 8 && lc_load64(p + size - 8) == LC_BLANKS)
    size -= 8;
  while (size > 0 && p[size - 1] == ' ')
    size--;
  return size;
}

bool lc_sap_is_ascii(const uint8_t *p, int64_t size);

/* Find the cells of field f of the plan in all rows of the block. */
void lc_sap_find_cells(lc_sap_reader *r, int32_t f);
/* What stands behind the last field must be blank. */
void lc_sap_check_rest(lc_sap_reader *r);

/* Readers of the block's cells, by kind. */
void lc_sap_read_text(lc_sap_reader *r, lc_sap_column *column); /* CHAR, ALPHA_IN, ALPHA_OUT */
void lc_sap_read_numc(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_raw(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_base64(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_bool(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_number(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_fltp(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_int(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_packed(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_dats(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_tims(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_timestamp(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_odata_date(lc_sap_reader *r, lc_sap_column *column);
void lc_sap_read_odata_time(lc_sap_reader *r, lc_sap_column *column);

/* Make room for `more` bytes of a column's text; false: r->failed says why. */
bool lc_sap_reserve(lc_sap_reader *r, lc_sap_column *column, int64_t more);

/* An integer of up to 64 bits into a column of 2, 4 or 8 bytes a value; false: it does not fit. */
bool lc_sap_store_int(const lc_sap_column *column, int64_t row, int64_t value);

/* A growing list of faults. */
lc_code lc_sap_errors_add(lc_sap_result *out, int64_t *capacity, const lc_sap_error *fault);

#endif
