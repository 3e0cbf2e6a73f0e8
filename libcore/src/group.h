/* Which rows of a batch belong together, and which of them is the last: the hash table inside compact. */
#ifndef LIBCORE_GROUP_H
#define LIBCORE_GROUP_H

#include "view.h"

enum { LC_OP_UPSERT = 1, LC_OP_DELETE = 2, LC_OP_INSERT = 6, LC_OP_UPDATE = 7 }; /* as in libcore/change.py */

/* A group is named by its first row.  Arrays are indexed by row unless said otherwise. */
typedef struct lc_groups {
  int32_t *group;  /* the first row of the row's group */
  int32_t *winner; /* at a group: its row with the greatest position, of equal ones the later */
  int32_t *next;   /* the row of the same group that came before; -1 at the first.  NULL unless links were asked for */
  int32_t *tail;   /* at a group: its latest row, where `next` starts.  NULL unless links were asked for */
  int32_t *net;    /* at a group: upserts minus deletes */
  int64_t count;   /* groups */
} lc_groups;

/* < 0, 0, > 0 as position a stands before, at, or behind position b (32 bytes each). */
int lc_position_compare(const uint8_t *a, const uint8_t *b);

/* Whether rows a and b have equal keys: NULL is equal to NULL, NaN to NaN, -0.0 to 0.0, everything else bit by bit. */
bool lc_rows_equal(const lc_view *views, int64_t key_count, int64_t a, int64_t b);

/* Group `rows` rows by the values of some columns.  `links` asks for next and tail.  On LC_OK the caller frees with
 * lc_groups_free; LC_NO_MEMORY leaves nothing behind. */
lc_code lc_groups_make(lc_groups *groups, const struct ArrowArray *batch, const lc_column *columns,
                       int64_t column_count, const int32_t *key, int64_t key_count, const lc_view *op,
                       const lc_view *position, bool links, lc_error *error);
void lc_groups_free(lc_groups *groups);

#endif
