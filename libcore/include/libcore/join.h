/* The three stages of the foreign-key join, a call a batch each (libcore/join.py says what they are for, why three).
 *
 * (a) lc_join_route and (b) lc_join_facts, lc_join_dimension work on stores of table.h that the caller made:
 *
 *   keys       the plan's held columns, __unset fixed(w); key: the fact's
 *   counter    slot_key int64, value int64; key: slot_key.  A row a slot that was touched: the greatest version given
 *   facts      the fact's columns, __version int64, __unset; key: foreign key, then what is left of the fact's key;
 *              index: the foreign key
 *   dimension  the plan's partner columns, __unset; key: the dimension's
 *
 * __unset has a bit for each column in front (without __version), lowest first, and is NULL where none is set.
 *
 * Batches.  In: changes of a table as in libcore/change.py: its columns, __op, __position, __source_ts, and perhaps
 * __unset.  From (a) to (b): the fact's columns, __op, __version int64, __source_ts, perhaps __unset.  To (c) the same
 * with the result's columns: the fact's, then the taken ones.  A batch that a function takes over may go on in its
 * output without a copy.  Keys are equal as in compact.h: NULL equals NULL, NaN equals NaN, -0.0 equals 0.0, everything
 * else bit by bit.
 *
 * After LC_NO_MEMORY, or LC_CAPACITY of a store's heap, a store may have some of the rows, and they are to be dropped;
 * every other failure is found before a store changes.
 *
 * (c) lc_latest: of the results that come for a key, nothing older than what came.  Two places may answer for one fact
 * in any order, before and after its foreign key changed; each answer carries the version of the fact that it is about.
 * An object remembers the greatest version of each key since it was cleared, which is done at the end of each epoch.
 * Memory: 8 to 16 bytes a key for the index, 16 for the entry, and the key itself with 1 byte a column, 4 more for a
 * text; lc_latest_clear keeps what 65,536 keys need and frees the rest.
 *
 * Stores and objects are used by one thread at a time.
 *
 * Contract: Keys have the layout that the object was made for; versions rise with time.
 * Units: Versions are the caller's, any int64; a position has 32 bytes.
 * Ownership: An object belongs to who made it, until lc_latest_free; batches are read in place, `rows` and `positions`
 *   are the caller's.
 * Errors: After a failure the object is as before the call; codes at the function.
 * Threads: An object is used by one thread at a time; different objects at once.
 */
#ifndef LIBCORE_JOIN_H
#define LIBCORE_JOIN_H

#include "libcore/table.h"
#include "libcore/types.h"

/* cdef */
/* What is joined; read only, and to live as long as what was made with it. */
typedef struct lc_join_plan {
  const lc_column *fact, *dimension; /* the columns of the tables */
  int32_t fact_count, dimension_count;
  const int32_t *fact_key, *foreign_key, *place; /* columns of the fact; place: the key of the store facts */
  int32_t fact_key_count, foreign_key_count, place_count;
  const int32_t *held; /* columns of the fact in the store keys */
  int32_t held_count;
  const int32_t *held_foreign_key;      /* the foreign key as columns of the store keys */
  const int32_t *dimension_key;         /* columns of the dimension, as many as the foreign key has */
  const int32_t *partner, *taken;       /* columns of the dimension in its store; columns of that store in the result */
  int32_t partner_count, taken_count;
  int32_t inner; /* 1: a fact without partner is not in the result; 0: with NULLs */
} lc_join_plan;

/* What lc_join_route gives. release NULL: no rows. */
typedef struct lc_join_routed {
  struct ArrowArray entering, direct; /* to (b); to (c) */
  int32_t entering_unset, direct_unset; /* 1: __unset stands behind the other columns */
} lc_join_routed;

/* Stage (a): the changes compacted, completed from the store, put there, and each with the next version.
 *
 *   slot_keys  a number for each slot of the stores that hashes into it: the keys of `counter`
 *   batch      changes of the fact, taken over; with_unset 1: with __unset
 *
 * entering: first op 2 (forget: key and old foreign key) for facts that left a foreign key, moved ones, then deleted
 * ones; then those that have one, op 6 where the fact was not known, else 1.  direct: op 2 with the key for deleted
 * facts, and in an inner join for those that lost their foreign key; in another one those without a foreign key, whole.
 *
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, LC_CAPACITY of a store, or LC_DATA with error->row: an op that is none of 1,
 * 2 and 6, or as lc_table_upsert.
 */
lc_code lc_join_route(const lc_join_plan *plan, struct lc_table *keys, struct lc_table *counter,
                      const int64_t *slot_keys, struct ArrowArray *batch, int32_t with_unset, lc_join_routed *out,
                      lc_error *error);

/* Results that are still to be written: of lc_join_facts until the dimension's store changes, of lc_join_dimension
 * until that of the facts does. */
typedef struct lc_join_results lc_join_results;

/* Stage (b): what (a) sent is put into the store, in order; the results are of the facts that came, in their order.
 *
 *   batch  from (a), taken over; with_unset 1: with __unset
 *   used   out: how many of its rows were; fewer than there are only with unset columns, where two rows are at one
 *          place: call again with the rest
 *
 * *out: for lc_join_results_free. Errors as lc_join_route.
 */
lc_code lc_join_facts(const lc_join_plan *plan, struct lc_table *facts, const struct lc_table *dimension,
                      struct ArrowArray *batch, int32_t with_unset, lc_join_results **out, int64_t *used,
                      lc_error *error);

/* The same for changes of the dimension: the results are of every fact whose partner came, changed in a taken column or
 * went, in that order.  Errors as lc_join_route; LC_CAPACITY for 2^31-1 facts too. */
lc_code lc_join_dimension(const lc_join_plan *plan, const struct lc_table *facts, struct lc_table *dimension,
                          struct ArrowArray *batch, int32_t with_unset, lc_join_results **out, lc_error *error);

/* Write the next results, at most rows_max >= 1 rows; out->release NULL: there are no more.  out_unset: as in
 * lc_join_routed.  LC_NO_MEMORY, or LC_CAPACITY where a column would exceed 2^31-1 bytes: the same rows come next. */
lc_code lc_join_next(lc_join_results *results, int64_t rows_max, struct ArrowArray *out, int32_t *out_unset,
                     lc_error *error);
void lc_join_results_free(lc_join_results *results); /* NULL is allowed */

typedef struct lc_latest lc_latest;

/* Make an object for keys of that layout.
 *
 *   key, key_count   the layout of the key columns, at least one
 *
 * Returns LC_OK with *out for lc_latest_free, LC_INVALID, or LC_NO_MEMORY.
 */
lc_code lc_latest_new(const lc_column *key, int64_t key_count, lc_latest **out, lc_error *error);
void lc_latest_free(lc_latest *latest);  /* NULL is allowed */
void lc_latest_clear(lc_latest *latest); /* forget the versions; the counter of positions goes on */

/* Which rows pass: those whose version is not below the greatest that came for their key, rows before it included.
 *
 *   batch      the key columns, then the version, int64 without NULL
 *   rows       out, room for batch->length: the rows that pass, in order; *count: how many
 *   positions  out, room for batch->length times 32 bytes: for each row that passes 24 zeros and a counter, big endian,
 *              which starts at 1 and rises for the life of the object
 *
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY above 2^31-1 bytes of keys since the last clear; after a
 * failure nothing has changed.
 */
lc_code lc_latest_take(lc_latest *latest, const struct ArrowArray *batch, int32_t *rows, int64_t *count,
                       uint8_t *positions, lc_error *error);
/* end cdef */

#endif
