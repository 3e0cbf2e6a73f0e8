/* The last change of each key in a batch, and the net count of each row in a keyless one.
 *
 * Columns: the table's own, then __op int8, __position fixed(32), __source_ts, and perhaps __unset fixed(w), as in
 * libcore/change.py.  Only upserts (1) and deletes (2) are taken, of tables with a key also inserts (6, an upsert that
 * the source calls new) and updates (7, an upsert that is nothing where the key has no row).
 *
 * Keyed: of the rows of one key the one with the greatest position stays, of equal positions the later row; the rows
 * that stay keep the batch's order.  Where the winner is an upsert with unset columns, each such column gets the value
 * of the latest earlier upsert that has it, as long as no delete lies between; behind a delete it becomes NULL and set;
 * with neither it stays unset.  A row that is alone, or a delete, is passed as it is.  Of several rows of a key the
 * winner is an insert where the first by position is one, an update where all are, else an upsert.  Updates behind a
 * delete, with no upsert or insert between, are as if they were not there.
 *
 * Keyless: rows equal in all table columns are counted, +1 an upsert, -1 a delete; a net count m gives |m| upserts or
 * deletes, all with values, position and time of the row with the greatest position (of equal ones the later), in the
 * place of that row.
 *
 * Equal means: NULL is equal to NULL, NaN to NaN, -0.0 to 0.0, everything else bit by bit.  Grouping is an open
 * addressed table over lc_hash_rows with a full comparison of the key; no allocation depends on a row.
 *
 * Contract: Positions compare byte by byte; rows may come in any order; key columns are among the table's own.
 * Units: __source_ts and __position are carried, not read as times; counts are rows.
 * Ownership: Inputs are read in place and not kept; *out owns its memory and is released by its own release callback;
 *   with `unchanged` nothing is made.
 * Errors: A row that no rule fits fails the call as LC_DATA with error->row; codes at the function.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_COMPACT_H
#define LIBCORE_COMPACT_H

#include "libcore/types.h"

/* cdef */
/* What lc_compact found, besides the rows. */
typedef struct lc_compact_result {
  int32_t unchanged; /* 1: every row stays as it is and *out is not set; the caller goes on with its own batch */
  int32_t any_unset; /* 1: some row still lacks a value for some table column */
} lc_compact_result;

/* Compact a batch.
 *
 *   batch, columns, column_count   the struct array and the layout of its columns
 *   table_columns                  how many of them are the table's own; 3 or 4 control columns follow
 *   key, key_count                 indexes of the key columns; key_count 0: a keyless table
 *
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, LC_CAPACITY, or LC_DATA with error->row where an op is none of the
 * four, or where a row of a keyless table lacks a value.  *out is set on LC_OK without `unchanged` only.
 */
lc_code lc_compact(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                   int64_t table_columns, const int32_t *key, int64_t key_count, struct ArrowArray *out,
                   lc_compact_result *result, lc_error *error);
/* end cdef */

#endif
