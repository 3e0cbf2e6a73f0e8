/* Stage (a) of the join: who goes where, with which version, and what the store keeps. */
#include "gather.h"
#include "group.h"
#include "join_columns.h"

enum { CONTROL_COLUMNS = 3 }; /* __op, __version, __source_ts; __unset may follow */

typedef struct route {
  const lc_join_plan *plan;
  lc_table *keys;
  lc_changes changes;
  lc_store_rows stored;
  uint32_t *found;
  uint8_t *flags, *ops; /* a row each: LC_JOIN_...; what lc_rows_write does */
  int64_t *versions;
  /* Rows that go to (b), forgets first, and to (c), deletes first; `bare`: the same, -1 where there is a key only. */
  int32_t *entering, *entering_bare, *direct, *direct_bare;
  int64_t *left;                      /* the row in the store of each forget */
  int64_t forgets, entering_count, deletes, direct_count, rows; /* rows: that stay */
  struct ArrowArray old;              /* the foreign keys that the forgets name */
} route;

static lc_code no_memory(const route *r, lc_error *error) {
  return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to route %lld facts", (long long)r->changes.rows);
}

static bool allocate(route *r) {
  size_t rows = (size_t)r->changes.rows;
  r->found = lc_malloc(rows * sizeof *r->found);
  r->flags = lc_malloc(rows);
  r->ops = lc_calloc(rows, 1);
  r->versions = lc_malloc(rows * sizeof *r->versions);
  r->entering = lc_malloc(2 * rows * sizeof *r->entering);
  r->entering_bare = lc_malloc(2 * rows * sizeof *r->entering_bare);
  r->direct = lc_malloc(rows * sizeof *r->direct);
  r->direct_bare = lc_malloc(rows * sizeof *r->direct_bare);
  r->left = lc_malloc(rows * sizeof *r->left);
  return r->found != NULL && r->flags != NULL && r->ops != NULL && r->versions != NULL && r->entering != NULL &&
         r->entering_bare != NULL && r->direct != NULL && r->direct_bare != NULL && r->left != NULL;
}

static void free_all(route *r) {
  lc_store_rows_free(&r->stored);
  lc_changes_free(&r->changes);
  lc_release(&r->old);
  lc_free(r->found);
  lc_free(r->flags);
  lc_free(r->ops);
  lc_free(r->versions);
  lc_free(r->entering);
  lc_free(r->entering_bare);
  lc_free(r->direct);
  lc_free(r->direct_bare);
  lc_free(r->left);
}

/* ---- the counter ---- */

static lc_code greatest_version(const lc_table *counter, int64_t *version, lc_error *error) {
  struct ArrowArray whole = {0};
  lc_code code = lc_table_whole(counter, -1, &whole, error);
  if (code != LC_OK) return code;
  *version = 0;
  lc_view values = lc_view_of(&whole, counter->columns, 1);
  for (int64_t row = 0; row < whole.length; row++)
    if (lc_load_i64(values.values + 8 * row) > *version) *version = lc_load_i64(values.values + 8 * row);
  lc_release(&whole);
  return LC_OK;
}

/* The last version for each slot that a row is in; `slots`: a byte a slot, all 0. */
static lc_code count(const route *r, lc_table *counter, const int64_t *slot_keys, uint8_t *slots, int64_t version,
                     lc_error *error) {
  static const lc_column layout[] = {{.type = LC_TYPE_INT64}, {.type = LC_TYPE_INT64}};
  int64_t touched = 0;
  for (int64_t row = 0; row < r->changes.rows; row++) {
    if (r->ops[row] == 0) continue;
    uint32_t slot = lc_slot(r->keys, r->stored.in.slot_hash[row]);
    touched += !slots[slot];
    slots[slot] = 1;
  }
  struct ArrowArray rows;
  lc_code code = lc_batch_new(&rows, layout, 2, touched, error);
  if (code != LC_OK) return code;
  int64_t *key = lc_child_values(&rows, 0), *value = lc_child_values(&rows, 1);
  for (int32_t slot = 0; slot < r->keys->slots; slot++) {
    if (!slots[slot]) continue;
    *key++ = slot_keys[slot];
    *value++ = version;
  }
  lc_batch_finish(&rows, touched);
  code = lc_table_upsert(counter, &rows, error);
  lc_release(&rows);
  return code;
}

/* ---- who goes where ---- */

/* Facts that left a foreign key, then those that have one. */
static void list_entering(route *r) {
  const uint8_t *stays = r->changes.stays, *ops = r->changes.ops;
  for (int deleted = 0; deleted <= 1; deleted++)
    for (int64_t row = 0; row < r->changes.rows; row++) {
      if ((stays != NULL && !stays[row]) || !(r->flags[row] & LC_JOIN_LEFT)) continue;
      bool still = (r->flags[row] & LC_JOIN_SAME) && (r->flags[row] & LC_JOIN_COMPLETE);
      if (deleted != (ops[row] == LC_OP_DELETE) || (!deleted && still)) continue;
      r->left[r->forgets] = r->found[row];
      r->entering_bare[r->forgets] = -1;
      r->entering[r->forgets++] = (int32_t)row;
    }
  r->entering_count = r->forgets;
  for (int64_t row = 0; row < r->changes.rows; row++) {
    if ((stays != NULL && !stays[row]) || ops[row] == LC_OP_DELETE || !(r->flags[row] & LC_JOIN_COMPLETE)) continue;
    r->entering_bare[r->entering_count] = (int32_t)row;
    r->entering[r->entering_count++] = (int32_t)row;
  }
}

/* Deletes, then facts without a foreign key that need no partner. */
static void list_direct(route *r) {
  for (int full = 0; full <= 1; full++) {
    for (int64_t row = 0; row < r->changes.rows; row++) {
      if (r->changes.stays != NULL && !r->changes.stays[row]) continue;
      bool deleted = r->changes.ops[row] == LC_OP_DELETE, nulls = !deleted && !(r->flags[row] & LC_JOIN_COMPLETE);
      bool gone = deleted || (r->plan->inner && nulls && (r->flags[row] & LC_JOIN_LEFT));
      if (full ? r->plan->inner || !nulls : !gone) continue;
      r->direct_bare[r->direct_count] = full ? (int32_t)row : -1;
      r->direct[r->direct_count++] = (int32_t)row;
    }
    if (!full) r->deletes = r->direct_count;
  }
}

/* Versions and what the store does, in the order of the rows. */
static void number_rows(route *r, int64_t version) {
  for (int64_t row = 0; row < r->changes.rows; row++) {
    if (r->changes.stays != NULL && !r->changes.stays[row]) continue;
    r->ops[row] = r->changes.ops[row] == LC_OP_DELETE ? LC_OP_DELETE : LC_OP_UPSERT;
    r->versions[row] = version + ++r->rows;
  }
}

/* ---- out ---- */

static bool contains(const int32_t *numbers, int32_t count, int32_t number) {
  for (int32_t i = 0; i < count; i++)
    if (numbers[i] == number) return true;
  return false;
}

/* The foreign keys that the forgets name, in the order of the plan. */
static lc_code take_old(route *r, lc_error *error) {
  if (r->forgets == 0) return LC_OK;
  return lc_table_take(r->keys, r->left, r->forgets, r->plan->held_foreign_key, r->plan->foreign_key_count, &r->old,
                       error);
}

static lc_code gather_foreign_key(const route *r, int32_t k, struct ArrowArray *out, lc_error *error) {
  int32_t column = r->plan->foreign_key[k];
  lc_view first = lc_view_of(&r->changes.table.array, r->plan->fact, column);
  if (r->forgets == 0) return lc_gather(&first, r->entering, r->entering_count, false, out, column, error);
  int32_t *rows = lc_malloc((size_t)r->entering_count * sizeof *rows);
  if (rows == NULL) return no_memory(r, error);
  for (int64_t i = 0; i < r->entering_count; i++)
    rows[i] = i < r->forgets ? (int32_t)(-2 - i) : r->entering[i];
  struct ArrowArray *old = r->old.children[k];
  struct ArrowArray one = {.length = r->forgets, .n_children = 1, .children = &old};
  lc_view second = lc_view_of(&one, &r->plan->fact[column], 0);
  lc_code code = lc_pick(&first, &second, rows, r->entering_count, out, column, error);
  lc_free(rows);
  return code;
}

/* The columns of the fact for rows of which the first `bare` have a key only. */
static lc_code gather_fact(const route *r, const int32_t *rows, const int32_t *full, int64_t bare, int64_t row_count,
                           bool entering, struct ArrowArray *out, lc_error *error) {
  const lc_join_plan *plan = r->plan;
  lc_code code = lc_batch_new(out, plan->fact, plan->fact_count, row_count, error);
  if (code != LC_OK) return code;
  for (int32_t c = 0; c < plan->fact_count && code == LC_OK; c++) {
    if (entering && contains(plan->foreign_key, plan->foreign_key_count, c)) continue;
    lc_view view = lc_view_of(&r->changes.table.array, plan->fact, c);
    bool key = contains(plan->fact_key, plan->fact_key_count, c);
    code = lc_gather(&view, key ? rows : full, row_count, !key && bare > 0, out, c, error);
  }
  for (int32_t k = 0; entering && k < plan->foreign_key_count && code == LC_OK; k++)
    code = gather_foreign_key(r, k, out, error);
  if (code == LC_OK)
    lc_batch_finish(out, row_count);
  else
    lc_release(out);
  return code;
}

static bool any_lacks(const route *r, const int32_t *rows, int64_t from, int64_t until) {
  if (r->changes.lacks == NULL) return false;
  for (int64_t i = from; i < until; i++)
    for (int32_t byte = 0; byte < r->changes.width; byte++)
      if (r->changes.lacks[rows[i] * (int64_t)r->changes.width + byte] != 0) return true;
  return false;
}

/* __op, __version, __source_ts, and __unset where a row lacks something; `width`: bytes of it. */
static lc_code write_control(const route *r, const int32_t *rows, int64_t bare, int64_t row_count, int32_t width,
                             int32_t *with_unset, struct ArrowArray *out, lc_error *error) {
  *with_unset = any_lacks(r, rows, bare, row_count);
  lc_column layout[] = {{.type = LC_TYPE_INT8},
                        {.type = LC_TYPE_INT64},
                        {.type = LC_TYPE_TIMESTAMP},
                        {.type = LC_TYPE_FIXED, .width = width}};
  lc_code code = lc_batch_new(out, layout, CONTROL_COLUMNS + *with_unset, row_count, error);
  if (code != LC_OK) return code;
  uint8_t *ops = lc_child_values(out, 0), *unset = *with_unset ? lc_child_values(out, CONTROL_COLUMNS) : NULL;
  int64_t *versions = lc_child_values(out, 1);
  for (int64_t i = 0; i < row_count; i++) {
    ops[i] = i < bare ? LC_OP_DELETE : r->flags[rows[i]] & LC_JOIN_KNOWN ? LC_OP_UPSERT : LC_OP_INSERT;
    versions[i] = r->versions[rows[i]];
    if (unset != NULL && i >= bare)
      memcpy(unset + i * width, r->changes.lacks + rows[i] * (int64_t)r->changes.width, (size_t)r->changes.width);
  }
  code = lc_gather(&r->changes.stamps, rows, row_count, false, out, 2, error);
  if (code == LC_OK)
    lc_batch_finish(out, row_count);
  else
    lc_release(out);
  return code;
}

/* To (b).  Where every row of the batch goes there, its columns go on as they are: `move` is then the batch. */
static lc_code write_entering(const route *r, struct ArrowArray *move, lc_join_routed *out, lc_error *error) {
  struct ArrowArray fact = {0}, control = {0};
  int32_t width = (r->plan->fact_count + 7) / 8;
  lc_code code = write_control(r, r->entering, r->forgets, r->entering_count, width, &out->entering_unset, &control,
                               error);
  if (code == LC_OK && move == NULL)
    code = gather_fact(r, r->entering, r->entering_bare, r->forgets, r->entering_count, true, &fact, error);
  lc_part parts[] = {{.from = move != NULL ? move : &fact, .count = r->plan->fact_count},
                     {.from = &control, .count = CONTROL_COLUMNS + out->entering_unset}};
  if (code == LC_OK) code = lc_parts_join(&out->entering, r->entering_count, parts, 2, error);
  if (code == LC_OK) return code;
  lc_release(&fact);
  lc_release(&control);
  return code;
}

/* To (c). */
static lc_code write_direct(const route *r, lc_join_routed *out, lc_error *error) {
  const lc_join_plan *plan = r->plan;
  struct ArrowArray fact = {0}, taken = {0}, control = {0};
  lc_column *layout = lc_malloc((size_t)plan->taken_count * sizeof *layout);
  lc_code code = layout == NULL ? no_memory(r, error) : LC_OK;
  for (int32_t c = 0; code == LC_OK && c < plan->taken_count; c++)
    layout[c] = plan->dimension[plan->partner[plan->taken[c]]];
  if (code == LC_OK) code = lc_batch_new(&taken, layout, plan->taken_count, r->direct_count, error);
  for (int32_t c = 0; code == LC_OK && c < plan->taken_count; c++)
    lc_child_nulls(&taken, c, r->direct_count);
  if (code == LC_OK) lc_batch_finish(&taken, r->direct_count);
  if (code == LC_OK)
    code = gather_fact(r, r->direct, r->direct_bare, r->deletes, r->direct_count, false, &fact, error);
  int32_t width = (plan->fact_count + plan->taken_count + 7) / 8;
  if (code == LC_OK)
    code = write_control(r, r->direct, r->deletes, r->direct_count, width, &out->direct_unset, &control, error);
  lc_part parts[] = {{.from = &fact, .count = plan->fact_count},
                     {.from = &taken, .count = plan->taken_count},
                     {.from = &control, .count = CONTROL_COLUMNS + out->direct_unset}};
  if (code == LC_OK) code = lc_parts_join(&out->direct, r->direct_count, parts, 3, error);
  lc_free(layout);
  if (code == LC_OK) return code;
  lc_release(&fact);
  lc_release(&taken);
  lc_release(&control);
  return code;
}

/* ---- a batch ---- */

static lc_code classify(route *r, lc_table *counter, int64_t *version, lc_error *error) {
  const lc_join_plan *plan = r->plan;
  lc_code code = lc_changes_fill(&r->changes, r->keys, plan->held, plan->held_count, error);
  if (code == LC_OK) code = allocate(r) ? LC_OK : no_memory(r, error);
  if (code == LC_OK)
    code = lc_store_rows_make(&r->stored, &r->changes, r->keys, plan->held, plan->held_count, NULL, error);
  if (code == LC_OK) code = greatest_version(counter, version, error);
  if (code != LC_OK) return code;
  lc_join_look_up(&r->stored.in, r->changes.stays, plan->held_foreign_key, plan->foreign_key_count, r->found, r->flags);
  number_rows(r, *version);
  list_entering(r);
  list_direct(r);
  return take_old(r, error);
}

static lc_code run(route *r, lc_table *counter, const int64_t *slot_keys, struct ArrowArray *batch,
                   lc_join_routed *out, lc_error *error) {
  int64_t version = 0;
  lc_code code = classify(r, counter, &version, error);
  uint8_t *slots = lc_calloc((size_t)r->keys->slots, 1);
  if (code == LC_OK && slots == NULL) code = no_memory(r, error);
  if (code == LC_OK && r->direct_count > 0) code = write_direct(r, out, error);
  bool move = r->forgets == 0 && r->entering_count == r->changes.rows && r->changes.compacted.release == NULL &&
              r->changes.filled.release == NULL;
  if (code == LC_OK && r->entering_count > 0 && !move) code = write_entering(r, NULL, out, error);
  /* The store may know each row's place already: rows that stay have different keys. */
  r->stored.in.found = r->found;
  if (code == LC_OK) code = lc_rows_write(r->keys, &r->stored.in, r->ops, false, error);
  if (code == LC_OK) code = count(r, counter, slot_keys, slots, version + r->rows, error);
  if (code == LC_OK && r->entering_count > 0 && move) code = write_entering(r, batch, out, error);
  lc_free(slots);
  return code;
}

lc_code lc_join_route(const lc_join_plan *plan, lc_table *keys, lc_table *counter, const int64_t *slot_keys,
                      struct ArrowArray *batch, int32_t with_unset, lc_join_routed *out, lc_error *error) {
  route r = {.plan = plan, .keys = keys};
  *out = (lc_join_routed){0};
  lc_code code = lc_changes_compact(&r.changes, plan->fact, plan->fact_count, plan->fact_key, plan->fact_key_count,
                                    batch, with_unset != 0, error);
  if (code == LC_OK && r.changes.rows > 0) code = run(&r, counter, slot_keys, batch, out, error);
  free_all(&r);
  if (batch->release != NULL) batch->release(batch);
  if (code == LC_OK) return code;
  lc_release(&out->entering);
  lc_release(&out->direct);
  *out = (lc_join_routed){0};
  return code;
}
