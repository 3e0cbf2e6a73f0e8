/* Stage (b) of the join: what comes is put into the stores, and who meets whom is found; join_results.c writes it. */
#include "join_results.h"

#include "gather.h"
#include "group.h"

static lc_code no_memory(const lc_join_results *r, lc_error *error) {
  return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to join %lld rows", (long long)r->changes.rows);
}

void lc_join_results_free(lc_join_results *r) {
  if (r == NULL) return;
  lc_changes_free(&r->changes);
  lc_release(&r->batch);
  lc_release(&r->pairs);
  lc_free(r->partners);
  lc_free(r->rows);
  lc_free(r->ops);
  lc_free(r);
}

/* The batch is taken over in any case. */
static lc_join_results *results_new(const lc_join_plan *plan, const lc_table *facts, const lc_table *dimension,
                                    struct ArrowArray *batch, lc_error *error) {
  lc_join_results *r = lc_calloc(1, sizeof *r);
  if (r == NULL) {
    lc_release(batch);
    lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for results");
    return NULL;
  }
  *r = (lc_join_results){.plan = plan, .facts = facts, .dimension = dimension, .batch = *batch};
  batch->release = NULL;
  return r;
}

static int32_t *counted(int32_t count) {
  int32_t *numbers = lc_malloc((size_t)count * sizeof *numbers);
  for (int32_t i = 0; numbers != NULL && i < count; i++)
    numbers[i] = i;
  return numbers;
}

/* ---- facts ---- */

/* How many rows there are before the first that has the place of an earlier one: its values may come from that one. */
static lc_code distinct_places(const lc_join_plan *plan, const lc_changes *changes, int64_t *rows, lc_error *error) {
  *rows = changes->rows;
  if (changes->lacks == NULL) return LC_OK;
  uint8_t *zeros = lc_calloc((size_t)changes->rows, 32);
  if (zeros == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to group %lld rows", (long long)changes->rows);
  lc_view op = {.values = changes->ops, .rows = changes->rows}, position = {.values = zeros, .rows = changes->rows};
  lc_groups groups;
  lc_code code = lc_groups_make(&groups, &changes->table.array, plan->fact, plan->fact_count, plan->place,
                                plan->place_count, &op, &position, false, error);
  lc_free(zeros);
  if (code != LC_OK) return code;
  for (int64_t row = changes->rows - 1; row >= 0; row--)
    if (groups.group[row] != (int32_t)row) *rows = row;
  lc_groups_free(&groups);
  return LC_OK;
}

static lc_code store_facts(lc_join_results *r, lc_table *facts, lc_error *error) {
  const lc_join_plan *plan = r->plan;
  int32_t *all = counted(plan->fact_count);
  if (all == NULL) return no_memory(r, error);
  lc_store_rows stored = {0};
  struct ArrowArray version = lc_column_of(&r->batch, plan->fact_count + 1);
  lc_code code = lc_changes_fill(&r->changes, facts, all, plan->fact_count, error);
  if (code == LC_OK)
    code = lc_store_rows_make(&stored, &r->changes, facts, all, plan->fact_count, &version, error);
  if (code == LC_OK) code = lc_rows_write(facts, &stored.in, r->changes.ops, false, error);
  lc_store_rows_free(&stored);
  lc_free(all);
  return code;
}

/* Look the dimension's row of each fact up; -1: none. */
static lc_code find_partners(lc_join_results *r, lc_error *error) {
  const lc_join_plan *plan = r->plan;
  const lc_table *dimension = r->dimension;
  int64_t rows = r->changes.rows;
  lc_borrowed keys = {0};
  struct ArrowArray cast = {0};
  int32_t *all = counted((int32_t)rows);
  lc_code code = all == NULL || !lc_borrowed_make(&keys, dimension->key_count, rows) ? no_memory(r, error) : LC_OK;
  bool same = true;
  for (int32_t k = 0; k < dimension->key_count; k++)
    same = same && plan->fact[plan->foreign_key[k]].type == dimension->key_columns[k].type;
  if (code == LC_OK && !same) code = lc_batch_new(&cast, dimension->key_columns, dimension->key_count, rows, error);
  for (int32_t k = 0; k < dimension->key_count && code == LC_OK; k++) {
    int32_t column = plan->foreign_key[k];
    keys.columns[k] = r->changes.table.columns[column];
    if (same) continue;
    code = lc_pick_cast(&keys.columns[k], &plan->fact[column], &dimension->key_columns[k], all, rows, &cast, k, error);
  }
  if (code == LC_OK && !same) lc_batch_finish(&cast, rows);
  for (int32_t k = 0; k < dimension->key_count && code == LC_OK && !same; k++)
    keys.columns[k] = lc_column_of(&cast, k);
  if (code == LC_OK) code = lc_table_find(dimension, &keys.array, r->partners, error);
  for (int32_t k = 0; k < dimension->key_count && code == LC_OK; k++) {
    lc_view view = lc_view_of(&keys.array, dimension->key_columns, k);
    for (int64_t row = 0; view.validity != NULL && row < rows; row++)
      if (!lc_view_valid(&view, row)) r->partners[row] = -1; /* NULL is no key's value, though a store may have it */
  }
  lc_release(&cast);
  lc_borrowed_free(&keys);
  lc_free(all);
  return code;
}

lc_code lc_join_facts(const lc_join_plan *plan, lc_table *facts, const lc_table *dimension, struct ArrowArray *batch,
                      int32_t with_unset, lc_join_results **out, int64_t *used, lc_error *error) {
  lc_join_results *r = results_new(plan, facts, dimension, batch, error);
  if (r == NULL) return LC_NO_MEMORY;
  lc_code code = lc_changes_take(&r->changes, plan->fact, plan->fact_count, &r->batch, with_unset != 0, error);
  if (code == LC_OK) code = distinct_places(plan, &r->changes, used, error);
  if (code == LC_OK) {
    r->changes.rows = r->changes.table.array.length = r->batch.length = *used;
    r->partners = lc_malloc((size_t)*used * sizeof *r->partners);
    r->rows = lc_malloc((size_t)*used * sizeof *r->rows);
    if (r->partners == NULL || r->rows == NULL) code = no_memory(r, error);
  }
  if (code == LC_OK && *used > 0) code = find_partners(r, error);
  if (code == LC_OK && *used > 0) code = store_facts(r, facts, error);
  for (int64_t row = 0; code == LC_OK && row < *used; row++) {
    uint8_t op = r->changes.ops[row];
    if (op == LC_OP_DELETE || (plan->inner && op == LC_OP_INSERT && r->partners[row] < 0)) continue;
    r->rows[r->count++] = (int32_t)row;
  }
  r->came = r->count;
  if (code == LC_OK) *out = r;
  if (code != LC_OK) lc_join_results_free(r);
  return code;
}

/* ---- dimension ---- */

/* A dimension's row on its way: what is known of it, and those of whose facts there are results. */
typedef struct dimension_rows {
  lc_store_rows stored;
  uint32_t *found;
  uint8_t *flags, *writes;
} dimension_rows;

/* Rows that came or changed, then rows that went; what the store does with each. */
static void list_changed(lc_join_results *r, dimension_rows *d) {
  for (int gone = 0; gone <= 1; gone++) {
    for (int64_t row = 0; row < r->changes.rows; row++) {
      if (r->changes.stays != NULL && !r->changes.stays[row]) continue;
      bool known = d->flags[row] & LC_JOIN_KNOWN, deleted = r->changes.ops[row] == LC_OP_DELETE;
      if (gone ? !deleted || !known : deleted || (d->flags[row] & LC_JOIN_SAME)) continue;
      d->writes[row] = gone ? LC_OP_DELETE : LC_OP_UPSERT;
      r->ops[r->changed] = r->plan->inner && !known ? LC_OP_INSERT : LC_OP_UPSERT;
      r->rows[r->changed++] = (int32_t)row;
    }
    if (!gone) r->came_rows = r->changed;
  }
}

static lc_code find_facts(lc_join_results *r, lc_error *error) {
  const lc_join_plan *plan = r->plan;
  if (r->changed == 0 || lc_table_rows(r->facts) == 0) return LC_OK;
  struct ArrowArray values;
  lc_code code = lc_batch_new(&values, r->facts->index_columns, r->facts->index_count, r->changed, error);
  if (code != LC_OK) return code;
  for (int32_t k = 0; k < r->facts->index_count && code == LC_OK; k++) {
    int32_t column = plan->dimension_key[k];
    code = lc_pick_cast(&r->changes.table.columns[column], &plan->dimension[column], &r->facts->index_columns[k],
                        r->rows, r->changed, &values, k, error);
  }
  if (code == LC_OK) lc_batch_finish(&values, r->changed);
  if (code == LC_OK) code = lc_table_matches(r->facts, &values, &r->pairs, error);
  lc_release(&values);
  if (code != LC_OK) return code;
  const int32_t *probes = r->pairs.children[0]->buffers[1];
  r->count = r->pairs.length;
  while (r->came < r->count && probes[r->came] < r->came_rows)
    r->came++;
  return LC_OK;
}

static lc_code change_dimension(lc_join_results *r, dimension_rows *d, lc_table *dimension, lc_error *error) {
  const lc_join_plan *plan = r->plan;
  size_t rows = (size_t)r->changes.rows;
  lc_code code = lc_changes_fill(&r->changes, dimension, plan->partner, plan->partner_count, error);
  d->found = lc_malloc(rows * sizeof *d->found);
  d->flags = lc_malloc(rows);
  d->writes = lc_calloc(rows, 1);
  r->rows = lc_malloc(rows * sizeof *r->rows);
  r->ops = lc_malloc(rows);
  bool good = d->found != NULL && d->flags != NULL && d->writes != NULL && r->rows != NULL && r->ops != NULL;
  if (code == LC_OK && !good) code = no_memory(r, error);
  if (code == LC_OK)
    code = lc_store_rows_make(&d->stored, &r->changes, dimension, plan->partner, plan->partner_count, NULL, error);
  if (code != LC_OK) return code;
  lc_join_look_up(&d->stored.in, r->changes.stays, plan->taken, plan->taken_count, d->found, d->flags);
  list_changed(r, d);
  code = find_facts(r, error);
  d->stored.in.found = d->found;
  return code == LC_OK ? lc_rows_write(dimension, &d->stored.in, d->writes, false, error) : code;
}

lc_code lc_join_dimension(const lc_join_plan *plan, const lc_table *facts, lc_table *dimension,
                          struct ArrowArray *batch, int32_t with_unset, lc_join_results **out, lc_error *error) {
  lc_join_results *r = results_new(plan, facts, dimension, batch, error);
  if (r == NULL) return LC_NO_MEMORY;
  lc_code code = lc_changes_compact(&r->changes, plan->dimension, plan->dimension_count, plan->dimension_key,
                                    plan->foreign_key_count, &r->batch, with_unset != 0, error);
  dimension_rows d = {0};
  if (code == LC_OK && r->changes.rows > 0) code = change_dimension(r, &d, dimension, error);
  lc_store_rows_free(&d.stored);
  lc_free(d.found);
  lc_free(d.flags);
  lc_free(d.writes);
  if (code == LC_OK) *out = r;
  if (code != LC_OK) lc_join_results_free(r);
  return code;
}
