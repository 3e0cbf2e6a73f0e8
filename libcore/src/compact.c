/* Compact: group the rows, choose the ones that stay, fold unset columns, and gather. */
#include "libcore/compact.h"

#include "gather.h"
#include "group.h"

#define CONTROL_COLUMNS 3 /* __op, __position, __source_ts; __unset may follow */

typedef struct job {
  const struct ArrowArray *batch;
  const lc_column *columns;
  int64_t column_count, table_columns, rows;
  lc_view op, position, unset; /* unset.values == NULL: the batch has none */
  lc_groups groups;
  int32_t *chosen;   /* the rows that stay, in order */
  int64_t count;     /* of chosen */
  bool any_insert, any_update;
  int32_t **sources; /* at a table column: where each chosen row takes its value, -1 NULL; NULL: from itself */
} job;

static const uint8_t *unset_bits(const job *j, int64_t row) { return j->unset.values + j->unset.width * row; }

/* Only bits of table columns count: the last byte may have more. */
static bool row_has_unset(const job *j, const uint8_t *bits) {
  for (int64_t byte = 0; byte < j->table_columns / 8; byte++)
    if (bits[byte] != 0) return true;
  int64_t rest = j->table_columns % 8;
  return rest != 0 && (bits[j->table_columns / 8] & ((1 << rest) - 1)) != 0;
}

static lc_code check_rows(job *j, bool keyless, bool *any_unset, lc_error *error) {
  for (int64_t row = 0; row < j->rows; row++) {
    uint8_t op = j->op.values[row];
    bool of_keys = op == LC_OP_INSERT || op == LC_OP_UPDATE;
    if (op != LC_OP_UPSERT && op != LC_OP_DELETE && (!of_keys || keyless))
      return lc_fail(error, LC_DATA, row, -1,
                     "expected an upsert (1), delete (2), insert (6) or update (7), found op %d", (int8_t)op);
    j->any_insert |= op == LC_OP_INSERT;
    j->any_update |= op == LC_OP_UPDATE;
  }
  *any_unset = false;
  if (j->unset.values == NULL) return LC_OK;
  for (int64_t row = 0; row < j->rows; row++) {
    if (!row_has_unset(j, unset_bits(j, row))) continue;
    *any_unset = true;
    if (keyless)
      return lc_fail(error, LC_DATA, row, -1, "expected all values of a row of a keyless table, found an unset one");
  }
  return LC_OK;
}

static lc_code check_layout(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                            int64_t table_columns, const int32_t *key, int64_t key_count, lc_error *error) {
  lc_code code = lc_check_batch(batch, columns, column_count, error);
  if (code != LC_OK) return code;
  int64_t control = column_count - table_columns;
  if (table_columns < 0 || control < CONTROL_COLUMNS || control > CONTROL_COLUMNS + 1 || batch->length >= INT32_MAX / 2)
    return lc_fail(error, LC_INVALID, -1, -1,
                   "expected 3 or 4 control columns and fewer than 2^30 rows, found %lld columns for a table of %lld",
                   (long long)column_count, (long long)table_columns);
  const lc_column *c = columns + table_columns;
  if (c[0].type != LC_TYPE_INT8 || c[1].type != LC_TYPE_FIXED || c[1].width != 32 || c[2].type != LC_TYPE_TIMESTAMP)
    return lc_fail(error, LC_INVALID, -1, -1,
                   "expected __op int8, __position fixed(32), __source_ts timestamp behind the table's columns");
  if (control > CONTROL_COLUMNS && (c[3].type != LC_TYPE_FIXED || c[3].width != (table_columns + 7) / 8))
    return lc_fail(error, LC_INVALID, -1, -1, "expected __unset of %lld bytes", (long long)((table_columns + 7) / 8));
  for (int64_t k = 0; k < key_count; k++)
    if (key[k] < 0 || key[k] >= table_columns)
      return lc_fail(error, LC_INVALID, -1, -1, "expected a key column below %lld, found %d", (long long)table_columns,
                     key[k]);
  return LC_OK;
}

/* Whether row a stands before row b in their source's order. */
static bool before(const job *j, int32_t a, int32_t b) {
  int order = lc_position_compare(j->position.values + 32 * (int64_t)a, j->position.values + 32 * (int64_t)b);
  return order < 0 || (order == 0 && a < b);
}

/* Where only updates stand behind a key's delete there is nothing that they could change: the delete stays. */
static void settle_updates(job *j) {
  for (int32_t row = 0; row < (int32_t)j->rows; row++) {
    int32_t group = j->groups.group[row], last = -1;
    if (j->groups.winner[group] != row || j->op.values[row] != LC_OP_UPDATE) continue;
    for (int32_t one = j->groups.tail[group]; one >= 0; one = j->groups.next[one])
      if (j->op.values[one] != LC_OP_UPDATE && (last < 0 || before(j, last, one))) last = one;
    if (last >= 0 && j->op.values[last] == LC_OP_DELETE) j->groups.winner[group] = last;
  }
}

/* Keyed: each group's winner.  Keyless: |net| copies of each group's last row. */
static bool choose(job *j, bool keyless) {
  const lc_groups *g = &j->groups;
  j->chosen = lc_malloc((size_t)j->rows * sizeof *j->chosen); /* |net| of a group is at most its rows */
  if (j->chosen == NULL) return false;
  for (int32_t row = 0; row < (int32_t)j->rows; row++) {
    int32_t group = g->group[row];
    if (g->winner[group] != row) continue;
    int32_t copies = keyless ? abs(g->net[group]) : 1;
    while (copies-- > 0)
      j->chosen[j->count++] = row;
  }
  return true;
}

static bool source_of(job *j, int64_t column, int64_t place, int32_t row) {
  if (j->sources[column] == NULL) {
    j->sources[column] = lc_malloc((size_t)j->count * sizeof(int32_t));
    if (j->sources[column] == NULL) return false;
    memcpy(j->sources[column], j->chosen, (size_t)j->count * sizeof(int32_t));
  }
  j->sources[column][place] = row;
  return true;
}

/* The winner at `place` lacks a column: the latest upsert of its group that has it, unless a delete lies between, which
 * is where it stands before alive_row. */
static bool fold_column(job *j, int64_t place, int64_t column, int32_t alive_row) {
#ifdef LC_CANARY /* a bug on purpose, to see that the tests catch it (tests/libcore/test_canary.py): no delete hides */
  alive_row = -1;
#endif
  int32_t best = -1;
  int32_t winner = j->chosen[place];
  for (int32_t row = j->groups.tail[j->groups.group[winner]]; row >= 0; row = j->groups.next[row]) {
    if (row == winner || j->op.values[row] == LC_OP_DELETE || lc_bit_get(unset_bits(j, row), column)) continue;
    if (best < 0 || before(j, best, row)) best = row;
  }
  if (best >= 0 && (alive_row < 0 || !before(j, best, alive_row))) return source_of(j, column, place, best);
  return alive_row < 0 || source_of(j, column, place, -1);
}

/* The row that made a key anew behind its last delete: not an update, as that finds no row there.  -1 without a
 * delete. */
static int32_t first_alive(const job *j, int32_t tail) {
  int32_t delete_row = -1, first = -1;
  for (int32_t row = tail; row >= 0; row = j->groups.next[row])
    if (j->op.values[row] == LC_OP_DELETE && (delete_row < 0 || before(j, delete_row, row))) delete_row = row;
  for (int32_t row = tail; row >= 0 && delete_row >= 0; row = j->groups.next[row])
    if (j->op.values[row] != LC_OP_UPDATE && before(j, delete_row, row) && (first < 0 || before(j, row, first)))
      first = row;
  return first;
}

static bool fold(job *j) {
  j->sources = lc_calloc((size_t)j->table_columns, sizeof *j->sources);
  if (j->sources == NULL) return false;
  for (int64_t place = 0; place < j->count; place++) {
    int32_t winner = j->chosen[place], tail = j->groups.tail[j->groups.group[winner]];
    if (j->groups.next[tail] < 0 || j->op.values[winner] == LC_OP_DELETE || !row_has_unset(j, unset_bits(j, winner)))
      continue;
    int32_t alive_row = first_alive(j, tail);
    for (int64_t c = 0; c < j->table_columns; c++)
      if (lc_bit_get(unset_bits(j, winner), c) && !fold_column(j, place, c, alive_row)) return false;
  }
  return true;
}

static void settle_unset(const job *j, struct ArrowArray *out, lc_compact_result *result) {
  uint8_t *bits = lc_child_values(out, j->table_columns + CONTROL_COLUMNS);
  result->any_unset = 0;
  for (int64_t place = 0; place < j->count; place++, bits += j->unset.width) {
    for (int64_t c = 0; j->sources != NULL && c < j->table_columns; c++)
      if (j->sources[c] != NULL && j->sources[c][place] != j->chosen[place]) lc_bit_clear(bits, c);
    if (row_has_unset(j, bits)) result->any_unset = 1;
  }
}

/* A key whose first change is an insert is still new after all of them; one that was there before is not.  Updates
 * alone are an update. */
static void settle_ops(const job *j, uint8_t *op) {
  for (int64_t place = 0; place < j->count; place++) {
    int32_t tail = j->groups.tail[j->groups.group[j->chosen[place]]], first = tail;
    if (op[place] == LC_OP_DELETE || j->groups.next[tail] < 0) continue;
    bool updates = true;
    for (int32_t row = tail; row >= 0; row = j->groups.next[row]) {
      if (before(j, row, first)) first = row;
      updates = updates && j->op.values[row] == LC_OP_UPDATE;
    }
    op[place] = updates ? LC_OP_UPDATE : j->op.values[first] == LC_OP_INSERT ? LC_OP_INSERT : LC_OP_UPSERT;
  }
}

static lc_code gather_all(const job *j, bool keyless, struct ArrowArray *out, lc_compact_result *result,
                          lc_error *error) {
  lc_code code = lc_batch_new(out, j->columns, j->column_count, j->count, error);
  if (code != LC_OK) return code;
  for (int64_t c = 0; c < j->column_count && code == LC_OK; c++) {
    lc_view view = lc_view_of(j->batch, j->columns, c);
    const int32_t *source = j->sources != NULL && c < j->table_columns ? j->sources[c] : NULL;
    code = lc_gather(&view, source ? source : j->chosen, j->count, source != NULL, out, c, error);
  }
  if (code != LC_OK) {
    out->release(out);
    return code;
  }
  uint8_t *op = lc_child_values(out, j->table_columns);
  if (j->any_insert || j->any_update) settle_ops(j, op);
  if (keyless) {
    for (int64_t place = 0; place < j->count; place++)
      op[place] = j->groups.net[j->groups.group[j->chosen[place]]] > 0 ? LC_OP_UPSERT : LC_OP_DELETE;
  }
  if (j->unset.values != NULL && j->count > 0) settle_unset(j, out, result);
  lc_batch_finish(out, j->count);
  return LC_OK;
}

static lc_code run(job *j, const int32_t *key, int64_t key_count, bool keyless, bool any_unset, struct ArrowArray *out,
                   lc_compact_result *result, lc_error *error) {
  lc_code code = lc_groups_make(&j->groups, j->batch, j->columns, j->column_count, key, key_count, &j->op, &j->position,
                                any_unset || j->any_insert || j->any_update, error);
  if (code != LC_OK) return code;
  if (j->groups.count == j->rows) { /* no two rows meet, so each stays as it is */
    *result = (lc_compact_result){.unchanged = 1, .any_unset = any_unset};
    return LC_OK;
  }
  if (j->any_update) settle_updates(j);
  if (!choose(j, keyless) || (any_unset && !fold(j)))
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to compact %lld rows", (long long)j->rows);
  struct ArrowArray kept;
  code = gather_all(j, keyless, &kept, result, error);
  if (code == LC_OK) *out = kept;
  return code;
}

lc_code lc_compact(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                   int64_t table_columns, const int32_t *key, int64_t key_count, struct ArrowArray *out,
                   lc_compact_result *result, lc_error *error) {
  *result = (lc_compact_result){0};
  lc_code code = check_layout(batch, columns, column_count, table_columns, key, key_count, error);
  if (code != LC_OK) return code;
  job j = {.batch = batch,
           .columns = columns,
           .column_count = column_count,
           .table_columns = table_columns,
           .rows = batch->length};
  j.op = lc_view_of(batch, columns, table_columns);
  j.position = lc_view_of(batch, columns, table_columns + 1);
  if (column_count > table_columns + CONTROL_COLUMNS) j.unset = lc_view_of(batch, columns, column_count - 1);
  bool any_unset = false;
  code = check_rows(&j, key_count == 0, &any_unset, error);
  if (code != LC_OK) return code;
  int32_t *all = NULL;
  int64_t used = key_count;
  if (key_count == 0) {
    all = lc_malloc((size_t)table_columns * sizeof *all);
    if (all == NULL)
      return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for a key of %lld columns", (long long)table_columns);
    for (int64_t c = 0; c < table_columns; c++)
      all[c] = (int32_t)c;
    used = table_columns;
  }
  code = run(&j, all ? all : key, used, key_count == 0, any_unset, out, result, error);
  lc_free(all);
  lc_free(j.chosen);
  for (int64_t c = 0; j.sources != NULL && c < table_columns; c++)
    lc_free(j.sources[c]);
  lc_free(j.sources);
  lc_groups_free(&j.groups);
  return code;
}
