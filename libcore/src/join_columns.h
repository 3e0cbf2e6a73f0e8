/* Inside the join: changes made complete before a store takes them, and batches put together of other columns. */
#ifndef LIBCORE_JOIN_COLUMNS_H
#define LIBCORE_JOIN_COLUMNS_H

#include "libcore/join.h"
#include "table.h"

/* A batch over columns that lie elsewhere: only the structs are its own. */
typedef struct lc_borrowed {
  struct ArrowArray array;     /* what functions take; never released */
  struct ArrowArray *columns;  /* copies of structs, each starting at its first row */
  struct ArrowArray **pointers;
} lc_borrowed;

bool lc_borrowed_make(lc_borrowed *batch, int64_t columns, int64_t rows);
void lc_borrowed_free(lc_borrowed *batch);
/* Column c of another batch, from its first row on, as a struct that shares its memory. */
struct ArrowArray lc_column_of(const struct ArrowArray *batch, int64_t c);

/* Changes of a table on their way into a store. */
typedef struct lc_changes {
  const lc_column *layout; /* of the table's columns */
  int32_t count;           /* of them */
  int64_t rows;
  struct ArrowArray compacted, filled; /* what was made on the way; released at the end */
  lc_borrowed table;                   /* the table's columns as they are now */
  const uint8_t *ops;                  /* a row each: LC_OP_... */
  lc_view stamps;                      /* __source_ts */
  uint8_t *stays;                      /* whether the row is the last of its key; NULL: each is */
  uint8_t *lacks;                      /* __unset of all rows, zero for deletes; NULL: no bit is set */
  int32_t width;                       /* bytes of it a row */
} lc_changes;

/* Compact a batch of the table (its columns, __op, __position, __source_ts, perhaps __unset); see compact.h for errors.
 * `batch` must outlive the changes.  lc_changes_free also after a failure. */
lc_code lc_changes_compact(lc_changes *changes, const lc_column *layout, int32_t count, const int32_t *key,
                           int32_t key_count, struct ArrowArray *batch, bool with_unset, lc_error *error);
/* Take a batch of the table's columns, __op, __version, __source_ts, perhaps __unset, as it is. */
lc_code lc_changes_take(lc_changes *changes, const lc_column *layout, int32_t count, struct ArrowArray *batch,
                        bool with_unset, lc_error *error);
/* What rows lack is taken from the rows of their keys in the store, whose first columns are in_store[] of the table and
 * whose last is __unset; `lacks` has what is left. */
lc_code lc_changes_fill(lc_changes *changes, const lc_table *store, const int32_t *in_store, int32_t held,
                        lc_error *error);
void lc_changes_free(lc_changes *changes);
static inline bool lc_changes_lack(const lc_changes *changes, int64_t row, int32_t column) {
  return changes->lacks != NULL && lc_bit_get(changes->lacks + row * changes->width, column);
}

/* The changes as rows of a store; `unset` owns its last column. */
typedef struct lc_store_rows {
  lc_borrowed batch;
  struct ArrowArray unset;
  lc_rows_in in;
} lc_store_rows;

/* version: what stands between the columns and __unset, or NULL.  lc_store_rows_free also after a failure. */
lc_code lc_store_rows_make(lc_store_rows *rows, const lc_changes *changes, const lc_table *store,
                           const int32_t *in_store, int32_t held, const struct ArrowArray *version, lc_error *error);
void lc_store_rows_free(lc_store_rows *rows);

/* KNOWN: the key is there.  SAME: and all compared columns are equal, where both have them.  LEFT, COMPLETE: no NULL
 * among those of the old row, of the new one. */
enum { LC_JOIN_KNOWN = 1, LC_JOIN_SAME = 2, LC_JOIN_LEFT = 4, LC_JOIN_COMPLETE = 8 };
/* found: as lc_rows_in.found.  flags: LC_JOIN_...  Rows that do not stay are passed over. */
void lc_join_look_up(lc_rows_in *in, const uint8_t *stays, const int32_t *compared, int32_t compared_count,
                     uint32_t *found, uint8_t *flags);

/* Copy rows of two columns: >= 0 of the first, -1 NULL, below it -2 - row of the second.  As lc_gather otherwise. */
lc_code lc_pick(const lc_view *first, const lc_view *second, const int32_t *rows, int64_t count,
                struct ArrowArray *out, int64_t c, lc_error *error);

/* Integers in another width into child c of `out`; one that does not fit becomes NULL.  Other layouts: as lc_gather.
 * rows: which, -1 NULL. */
lc_code lc_pick_cast(const struct ArrowArray *column, const lc_column *from, const lc_column *to, const int32_t *rows,
                     int64_t count, struct ArrowArray *out, int64_t c, lc_error *error);

/* Columns of a batch that go into another one. */
typedef struct lc_part {
  struct ArrowArray *from;
  int64_t first, count; /* children */
  int64_t start;        /* first row */
} lc_part;

/* Put columns side by side without a copy; all `from` are then released.  LC_NO_MEMORY: nothing was moved. */
lc_code lc_parts_join(struct ArrowArray *out, int64_t rows, const lc_part *parts, int64_t part_count, lc_error *error);
static inline void lc_release(struct ArrowArray *array) {
  if (array->release != NULL) array->release(array);
}
/* All values of child c NULL. */
void lc_child_nulls(struct ArrowArray *batch, int64_t c, int64_t rows);

#endif
