/* Inside the join: results that are found and still to be written. */
#ifndef LIBCORE_JOIN_RESULTS_H
#define LIBCORE_JOIN_RESULTS_H

#include "join_columns.h"

/* Of facts that came (pairs.release NULL), or of facts at dimension rows that changed. */
struct lc_join_results {
  const lc_join_plan *plan;
  const lc_table *facts, *dimension;
  struct ArrowArray batch; /* what came */
  lc_changes changes;
  int64_t count, at; /* results; those that were written */
  int64_t came;      /* results of partners that are there; behind them of those that went */

  int64_t *partners; /* facts: for each row of the batch the dimension's row, -1 none */
  int32_t *rows;     /* facts: of each result; dimension: of each row that changed, its row in the batch */

  struct ArrowArray pairs; /* dimension: (place in `rows`, row in the store facts) of each result */
  uint8_t *ops;            /* dimension: of the results of each row that changed */
  int64_t changed, came_rows;
};

#endif
