/* A keyed store of rows: the state of joins and windows.  Batches in, batches out, by key or by secondary index.
 *
 * Layout.  A row has a number; its record of fixed size stands in a page of 64 kB at that number, so a number leads to
 * the row without a search:
 *
 *   tag 4 | next 4, prev 4, tag 4 (with an index only) | key: NULL bits, values, text sizes
 *         | rest: NULL bits, values, text sizes | 16 bytes: the texts themselves, or where they are in the heap
 *
 * Decimals of up to 9 and 18 digits take 4 and 8 bytes, bools one.  -0.0 and NaN are stored in one form in the key, so
 * that keys compare byte by byte, and again as they came.  The heap has size classes, and pages that fall empty go back
 * to the system; freed numbers are used again, the one freed last first.  So memory does not grow by churn.
 *
 * The index is an open addressed table of 8 bytes a place (32 bits of the hash, row number), linear probing, at most
 * three quarters full.  The upper bits of the 32 choose the place, so growth never touches a row; a grown table takes
 * over the places of the old one a few at a time, so no call pauses for it.  Rows with equal index columns form a list
 * through their records, so removing one of a million costs as much as one of two.
 *
 * Equal means: NULL is equal to NULL, NaN to NaN, -0.0 to 0.0, everything else bit by bit.
 *
 * Changes since the last mark are flags of one byte a row.  A deleted row keeps its number and key until the mark, so
 * that lc_table_changed can name it; a row that came after the mark and went before the next leaves nothing.
 *
 * Bounds: 2^31-2 rows, records of 2^24 bytes, 2^31-1 bytes of text a row, 64 GB of texts up to 8 kB each and about a
 * million longer ones; beyond: LC_CAPACITY.  A store is used by one thread at a time; const calls may run beside one
 * another.  All row batches given out own their memory.
 *
 * Contract: Batches have the layout that the store was made for; NULL is a key value like another.
 * Units: Sizes in bytes; row numbers are the store's, slots those of hash.h.
 * Ownership: A store belongs to who made it, until lc_table_free; batches are read in place and copied; batches given
 *   out own their memory.
 * Errors: After a failure the store is usable; what of a call is in it stands at each function.
 * Threads: A store is used by one thread at a time; calls on a const store may run beside one another.
 */
#ifndef LIBCORE_TABLE_H
#define LIBCORE_TABLE_H

#include "libcore/types.h"

/* cdef */
typedef struct lc_table lc_table;

/* Make a store.
 *
 *   columns, column_count          the layout of a row
 *   key, key_count                 the key columns, at least one, none twice
 *   index, index_count             the columns of a secondary index, which is not unique; index_count 0: none
 *   slot_by, slot_by_count         key columns; slot of a row = lc_hash_rows over them % slots
 *   slots                          1..65536
 *   bytes_max                      bound of lc_table_bytes; 0: none
 *
 * Returns LC_OK with *out for lc_table_free, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY for a record above 2^24 bytes.
 */
lc_code lc_table_new(const lc_column *columns, int64_t column_count, const int32_t *key, int64_t key_count,
                     const int32_t *index, int64_t index_count, const int32_t *slot_by, int64_t slot_by_count,
                     int32_t slots, int64_t bytes_max, lc_table **out, lc_error *error);
void lc_table_free(lc_table *table); /* NULL is allowed */

int64_t lc_table_rows(const lc_table *table);  /* rows that are there */
int64_t lc_table_bytes(const lc_table *table); /* all memory held, what is free for the next rows included */

/* Put rows in the place of those of their keys, in order.  batch: the store's columns.
 *
 * Returns LC_OK.  Before anything changes: LC_CAPACITY where the store could come above bytes_max (each row counted as
 * if no other of the batch had its key), LC_DATA with error->row for a decimal that does not fit its 4 or 8 bytes,
 * LC_INVALID.  LC_NO_MEMORY (or LC_CAPACITY at a bound of the heap) with error->row: the rows before it are in, it and
 * the later ones are not, and the store goes on being usable; error->row -1: nothing changed.
 */
lc_code lc_table_upsert(lc_table *table, const struct ArrowArray *batch, lc_error *error);

/* As lc_table_upsert, for rows that are durable: their keys count as not changed.  with_op 1: a last column int8 says
 * 1 upsert or 2 delete; LC_DATA for another, before anything changes. */
lc_code lc_table_load(lc_table *table, const struct ArrowArray *batch, int32_t with_op, lc_error *error);

/* Remove the rows of keys.  keys: the key columns in key order; *count: how many went.  On failure nothing changed. */
lc_code lc_table_delete(lc_table *table, const struct ArrowArray *keys, int64_t *count, lc_error *error);

/* rows: out, keys->length numbers, -1 where there is no such row; valid until the store changes. */
lc_code lc_table_find(const lc_table *table, const struct ArrowArray *keys, int64_t *rows, lc_error *error);

/* slots: out, keys->length slots, whether the store has the keys or not. */
lc_code lc_table_slots_of(const lc_table *table, const struct ArrowArray *keys, int32_t *slots, lc_error *error);

/* Copy rows out by number; -1 gives a row of NULLs.  columns: which columns in which order, none twice.
 *
 * Returns LC_OK with *out, LC_INVALID with error->row = the place of a number that is no row's, LC_NO_MEMORY, or
 * LC_CAPACITY where a column would exceed 2^31-1 bytes.
 */
lc_code lc_table_take(const lc_table *table, const int64_t *rows, int64_t row_count, const int32_t *columns,
                      int64_t column_count, struct ArrowArray *out, lc_error *error);

/* Every row whose index columns have one of these values; a NULL in any of them matches nothing.
 *
 * values: the index columns.  *out: two columns, int32 row of `values` and int64 row number, by the former, then by
 * age: since when the row's key, or the values of its index columns, are there.  LC_CAPACITY for 2^31-1 matches.
 */
lc_code lc_table_matches(const lc_table *table, const struct ArrowArray *values, struct ArrowArray *out,
                         lc_error *error);

/* All rows of a slot, or of all (slot -1), by number. */
lc_code lc_table_whole(const lc_table *table, int32_t slot, struct ArrowArray *out, lc_error *error);

/* The rows of one slot in a batch of lc_table_changed. */
typedef struct lc_table_range {
  int32_t slot, first, count;
} lc_table_range;

/* What is other than at the last mark: the store's columns and an int8 (1 upsert; 2 delete: only key columns are set),
 * by slot, then by number.  ranges: out, room for `slots` of them; *range_count: how many slots have rows. */
lc_code lc_table_changed(const lc_table *table, struct ArrowArray *out, lc_table_range *ranges, int64_t *range_count,
                         lc_error *error);

/* How many rows lc_table_changed would give. */
int64_t lc_table_changes(const lc_table *table);

/* Count changes anew.  A store that is empty then numbers its rows from 0 again and gives its memory back. */
void lc_table_mark(lc_table *table);

/* Remove all rows. */
void lc_table_clear(lc_table *table);
/* end cdef */

#endif
