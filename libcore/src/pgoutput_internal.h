/* Inside the pgoutput decoder: big-endian reads, the rows being built, and what its files give each other. */
#ifndef LIBCORE_PGOUTPUT_INTERNAL_H
#define LIBCORE_PGOUTPUT_INTERNAL_H

#include "libcore/pgoutput.h"
#include "number.h"
#include "scan.h"
#include "view.h"

#define LC_PG_EPOCH_DAYS 10957ll               /* from 1970 to 2000, where PostgreSQL's time begins */
#define LC_PG_EPOCH_US 946684800000000ll       /* the same in microseconds */
#define LC_PG_DAY_US 86400000000ll
#define LC_PG_PADDING 32 /* readable bytes behind each message */

static inline uint16_t lc_be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t lc_be32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint64_t lc_be64(const uint8_t *p) { return (uint64_t)lc_be32(p) << 32 | lc_be32(p + 4); }

/* A value of a tuple. */
typedef struct lc_pg_cell {
  const uint8_t *at; /* its first byte */
  int32_t size;      /* bytes; 0 for n and u */
  uint8_t form;      /* n, u, t or b */
} lc_pg_cell;

/* A column being built. */
typedef struct lc_pg_builder_column {
  const lc_pgoutput_column *column;
  uint8_t *values, *validity; /* fixed width: values; BOOL: bits; variable width: int32 offsets */
  lc_buffer data;
  lc_decimal_target decimal;
  int32_t width;
  bool variable, filled; /* filled: the relation has the column */
} lc_pg_builder_column;

/* The rows of a relation being built. */
typedef struct lc_pg_builder {
  const lc_pgoutput_relation *relation;
  lc_pg_builder_column *columns; /* NULL: no row yet */
  uint8_t *ops, *positions, *unset;
  int64_t *ts, *tx_orders;
  int32_t *tx_offsets;
  lc_buffer tx_data;
  int64_t rows, capacity;
  int32_t unset_width, key_count;
  bool lacks; /* the relation has not all columns of the table */
} lc_pg_builder;

typedef struct lc_pg_decoder {
  const lc_pgoutput_plan *plan;
  const lc_kernels *kernels;
  lc_pg_builder *builders; /* one a relation */
  int32_t *slots;          /* oid -> relation index + 1, open addressing */
  uint32_t slot_mask;
  int32_t *used; /* relations with rows, in the order of their first */
  int32_t used_count;
  int64_t *changes;
  lc_pg_cell *old_cells, *new_cells;
  lc_pgoutput_state state;
  lc_pgoutput_decoded *out;
  lc_buffer padded, scratch;
  int64_t error_capacity, commit_capacity, share_capacity, event_capacity, message_count;
  char tx[48]; /* the open transaction's name */
  int32_t tx_size;
  lc_code failed; /* LC_NO_MEMORY or LC_CAPACITY ends the call */

  /* the message in work */
  const uint8_t *start, *end;
  int64_t message;
  uint64_t lsn;
} lc_pg_decoder;

/* ---- values: 0, an lc_row_code, or -1 (no memory) or -2 (more than 2^31-1 bytes of text) ---- */

enum { LC_PG_NO_MEMORY = -1, LC_PG_CAPACITY = -2 };

int lc_pg_text(lc_pg_decoder *d, int32_t kind, lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size);
int lc_pg_binary(lc_pg_decoder *d, int32_t kind, lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size);
int lc_pg_put_text(lc_pg_builder_column *c, int64_t row, const void *text, size_t size);
int lc_pg_put_utf8(lc_pg_decoder *d, lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size);
int lc_pg_put_int(lc_pg_builder_column *c, int64_t row, int64_t value);   /* INT*: RANGE where it does not fit */
int lc_pg_put_float(lc_pg_builder_column *c, int64_t row, double value); /* FLOAT*: RANGE where it becomes infinite */
int lc_pg_put_numeric(lc_pg_builder_column *c, int64_t row, const uint8_t *p, const uint8_t *end);

/* pgoutput_time.c: text as PostgreSQL prints it with DateStyle ISO.  0, TYPE or RANGE. */
int lc_pg_time_read(int32_t kind, const uint8_t *p, const uint8_t *end, int64_t *value);
size_t lc_pg_interval_write(int64_t time_us, int32_t days, int32_t months, char out[96]);
size_t lc_pg_timetz_write(int64_t time_us, int32_t west_s, char out[40]);

static inline void lc_pg_store64(lc_pg_builder_column *c, int64_t row, int64_t value) {
  memcpy(c->values + row * 8, &value, 8);
}
static inline void lc_pg_store32(lc_pg_builder_column *c, int64_t row, int32_t value) {
  memcpy(c->values + row * 4, &value, 4);
}

/* ---- rows (pgoutput_rows.c builds them, pgoutput_changes.c fills them) ---- */

lc_pg_builder *lc_pg_builder_get(lc_pg_decoder *d, int32_t relation); /* NULL: d->failed */
bool lc_pg_rows_reserve(lc_pg_decoder *d, lc_pg_builder *b, int64_t more);
void lc_pg_rows_undo(lc_pg_builder *b); /* forget what was written behind b->rows */
bool lc_pg_mark_unset(lc_pg_decoder *d, lc_pg_builder *b, int64_t row, int32_t column);
bool lc_pg_row_commit(lc_pg_decoder *d, lc_pg_builder *b, int32_t relation, int8_t op, const uint8_t position[32]);
bool lc_pg_keys_differ(const lc_pg_builder *b, int64_t row, int64_t other);
lc_code lc_pg_rows_finish(lc_pg_decoder *d, lc_error *error);
void lc_pg_rows_free(lc_pg_decoder *d);

/* pgoutput_fast.c: the tuple at p, up to the message's end, as the row behind b's last, where it holds no surprise. */
typedef enum lc_pg_fast { LC_PG_DONE, LC_PG_SURPRISED, LC_PG_FAILED } lc_pg_fast;
lc_pg_fast lc_pg_row_fast(lc_pg_decoder *d, lc_pg_builder *b, const uint8_t *p);

/* A change (I, U, D) of that relation, at that position; p stands behind the oid.  false: d->failed. */
bool lc_pg_change(lc_pg_decoder *d, int32_t relation, uint8_t kind, const uint8_t *p, uint8_t position[32]);

/* Add an error entry for the message in work.  false: d->failed. */
bool lc_pg_fault(lc_pg_decoder *d, int32_t code, const uint8_t *at, int32_t relation, int32_t column);

/* Room for one more entry of `size` bytes in a list.  false: d->failed. */
bool lc_pg_list_room(lc_pg_decoder *d, void *list, int64_t count, int64_t *capacity, size_t size);

static inline void lc_pg_cell_null(lc_pg_builder_column *c, int64_t row) {
  lc_bit_clear(c->validity, row);
  if (c->variable) ((int32_t *)(void *)c->values)[row + 1] = (int32_t)c->data.size;
}

#endif
