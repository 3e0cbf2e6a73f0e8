/* Results of the join's second stage: the columns of facts beside those taken of their partners. */
#include "join_results.h"

#include "gather.h"
#include "group.h"

enum { CONTROL_COLUMNS = 3 }; /* __op, __version, __source_ts; __unset may follow */

/* The next rows in the making. */
typedef struct piece {
  lc_join_results *r;
  int64_t from, rows;
  bool pairs, came, bare;   /* of dimension rows; that are there; deletes of the key alone */
  bool deletes;             /* facts: some are */
  int32_t *picked;          /* the row of the batch that each is of */
  int32_t *full;            /* facts: the same, -1 for a delete */
  int64_t *numbers;         /* the row of the dimension, or of the store of facts */
  struct ArrowArray fact;   /* facts: its columns; dimension: the fact's columns, __version, __unset */
  struct ArrowArray taken;  /* the taken columns; facts: and __unset of the dimension */
  struct ArrowArray control, unset;
} piece;

static lc_code no_memory(const piece *p, lc_error *error) {
  return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld results", (long long)p->rows);
}

static bool contains(const int32_t *numbers, int32_t count, int32_t number) {
  for (int32_t i = 0; i < count; i++)
    if (numbers[i] == number) return true;
  return false;
}

/* ---- unset bits ---- */

/* A column of __unset bits; one that is NULL everywhere has no values. */
static lc_view unset_of(const struct ArrowArray *batch, int64_t c, int32_t columns) {
  struct ArrowArray *child = batch->children[c];
  struct ArrowArray one = {.length = batch->length, .n_children = 1, .children = &child};
  lc_column layout = {.type = LC_TYPE_FIXED, .width = (columns + 7) / 8};
  lc_view view = lc_view_of(&one, &layout, 0);
  if (child->null_count == child->length) view.values = NULL;
  return view;
}

static bool lacks(const lc_view *unset, int64_t row, int32_t column) {
  return unset->values != NULL && lc_view_valid(unset, row) &&
         lc_bit_get(unset->values + row * unset->width, column);
}

/* The __unset of the results, where one lacks anything.  One side is in `unset`, rows of a store; the other in the
 * changes: of facts that came their own columns, else those of the dimension. */
static lc_code write_unset(piece *p, const lc_view *unset, lc_error *error) {
  const lc_join_plan *plan = p->r->plan;
  const lc_changes *changes = &p->r->changes;
  if (p->bare || (unset->values == NULL && changes->lacks == NULL)) return LC_OK;
  int32_t columns = plan->fact_count + plan->taken_count, width = (columns + 7) / 8;
  lc_column layout = {.type = LC_TYPE_FIXED, .width = width};
  lc_code code = lc_batch_new(&p->unset, &layout, 1, p->rows, error);
  if (code != LC_OK) return code;
  uint8_t *bits = lc_child_values(&p->unset, 0);
  bool any = false;
  for (int64_t i = 0; i < p->rows; i++, bits += width)
    for (int32_t c = 0; c < columns; c++) {
      bool own = c < plan->fact_count, lack;
      int32_t taken = own ? 0 : plan->taken[c - plan->fact_count];
      if (p->pairs)
        lack = own ? lacks(unset, i, c) : p->came && lc_changes_lack(changes, p->picked[i], plan->partner[taken]);
      else
        lack = own ? p->full[i] >= 0 && lc_changes_lack(changes, p->full[i], c) : lacks(unset, i, taken);
      if (lack) lc_bit_set(bits, c);
      any = any || lack;
    }
  lc_batch_finish(&p->unset, p->rows);
  if (!any) lc_release(&p->unset);
  return LC_OK;
}

/* ---- of facts that came ---- */

/* Where all rows of the batch from one on go on as they are, its columns do. */
static bool goes_on(const piece *p) {
  const lc_join_results *r = p->r;
  if (p->from > 0 || p->rows < r->count || r->changes.filled.release != NULL || r->changes.lacks != NULL) return false;
  return !p->deletes && p->picked[p->rows - 1] - p->picked[0] == p->rows - 1;
}

static void pick_facts(piece *p) {
  const lc_join_results *r = p->r;
  for (int64_t i = 0; i < p->rows; i++) {
    p->picked[i] = r->rows[p->from + i];
    p->numbers[i] = r->partners[p->picked[i]];
    p->full[i] = r->plan->inner && p->numbers[i] < 0 ? -1 : p->picked[i];
    p->deletes = p->deletes || p->full[i] < 0;
  }
}

/* Columns of the dimension's rows, and its __unset behind them. */
static lc_code take_partners(piece *p, lc_error *error) {
  const lc_join_plan *plan = p->r->plan;
  int32_t count = plan->taken_count;
  int32_t *columns = lc_malloc((size_t)(count + 1) * sizeof *columns);
  if (columns == NULL) return no_memory(p, error);
  if (count > 0) memcpy(columns, plan->taken, (size_t)count * sizeof *columns);
  columns[count] = plan->partner_count;
  lc_code code = lc_table_take(p->r->dimension, p->numbers, p->rows, columns, count + 1, &p->taken, error);
  lc_free(columns);
  return code;
}

static lc_code gather_facts(piece *p, lc_error *error) {
  const lc_join_plan *plan = p->r->plan;
  const lc_changes *changes = &p->r->changes;
  lc_code code = lc_batch_new(&p->fact, plan->fact, plan->fact_count, p->rows, error);
  for (int32_t c = 0; c < plan->fact_count && code == LC_OK; c++) {
    lc_view view = lc_view_of(&changes->table.array, plan->fact, c);
    bool key = contains(plan->fact_key, plan->fact_key_count, c);
    code = lc_gather(&view, key ? p->picked : p->full, p->rows, !key && p->deletes, &p->fact, c, error);
  }
  if (code == LC_OK) lc_batch_finish(&p->fact, p->rows);
  return code;
}

static lc_code gather_control(piece *p, lc_error *error) {
  static const lc_column layout[] = {{.type = LC_TYPE_INT8}, {.type = LC_TYPE_INT64}, {.type = LC_TYPE_TIMESTAMP}};
  const lc_join_results *r = p->r;
  lc_code code = lc_batch_new(&p->control, layout, CONTROL_COLUMNS, p->rows, error);
  if (code != LC_OK) return code;
  struct ArrowArray version = lc_column_of(&r->batch, r->plan->fact_count + 1), *pointer = &version;
  struct ArrowArray one = {.length = r->batch.length, .n_children = 1, .children = &pointer};
  lc_view versions = lc_view_of(&one, &layout[1], 0);
  uint8_t *ops = lc_child_values(&p->control, 0);
  for (int64_t i = 0; i < p->rows; i++)
    ops[i] = p->full[i] < 0 ? LC_OP_DELETE : r->changes.ops[p->picked[i]];
  code = lc_gather(&versions, p->picked, p->rows, false, &p->control, 1, error);
  if (code == LC_OK) code = lc_gather(&r->changes.stamps, p->picked, p->rows, false, &p->control, 2, error);
  if (code == LC_OK) lc_batch_finish(&p->control, p->rows);
  return code;
}

static lc_code write_facts(piece *p, struct ArrowArray *out, lc_error *error) {
  lc_join_results *r = p->r;
  int32_t fact_count = r->plan->fact_count, taken_count = r->plan->taken_count;
  pick_facts(p);
  lc_code code = take_partners(p, error);
  if (code == LC_OK) {
    lc_view unset = unset_of(&p->taken, taken_count, r->plan->partner_count);
    code = write_unset(p, &unset, error);
  }
  bool on = code == LC_OK && goes_on(p);
  if (code == LC_OK && !on) code = gather_facts(p, error);
  if (code == LC_OK && !on) code = gather_control(p, error);
  lc_part parts[] = {
      {.from = on ? &r->batch : &p->fact, .count = fact_count, .start = on ? p->picked[0] : 0},
      {.from = &p->taken, .count = taken_count},
      {.from = on ? &r->batch : &p->control,
       .first = on ? fact_count : 0,
       .count = CONTROL_COLUMNS,
       .start = on ? p->picked[0] : 0},
      {.from = &p->unset, .count = 1},
  };
  return code == LC_OK ? lc_parts_join(out, p->rows, parts, p->unset.release == NULL ? 3 : 4, error) : code;
}

/* ---- of facts at dimension rows that changed ---- */

static void pick_pairs(piece *p) {
  const lc_join_results *r = p->r;
  const int32_t *probes = r->pairs.children[0]->buffers[1];
  const int64_t *numbers = r->pairs.children[1]->buffers[1];
  for (int64_t i = 0; i < p->rows; i++) {
    p->picked[i] = r->rows[probes[p->from + i]];
    p->full[i] = probes[p->from + i];
    p->numbers[i] = numbers[p->from + i];
  }
}

/* The facts out of the store: all of their columns, or the key's alone; then __version and __unset. */
static lc_code take_facts(piece *p, lc_error *error) {
  const lc_join_plan *plan = p->r->plan;
  const lc_table *facts = p->r->facts;
  int32_t *of_column = lc_malloc((size_t)facts->column_count * sizeof *of_column);
  if (of_column == NULL) return no_memory(p, error);
  for (int64_t i = 0; i < p->rows; i++)
    if (p->numbers[i] >= facts->next_row || !(*lc_flags(facts, (uint32_t)p->numbers[i]) & LC_ROW_LIVE)) {
      lc_free(of_column);
      return lc_fail(error, LC_INVALID, i, -1, "expected the number of a row that is there, found %lld",
                     (long long)p->numbers[i]);
    }
  for (int32_t c = 0; c < facts->column_count; c++)
    of_column[c] = p->bare && c < plan->fact_count && !contains(plan->fact_key, plan->fact_key_count, c) ? -1 : c;
  lc_code code = lc_records_write(facts, p->numbers, p->rows, of_column, facts->columns, facts->column_count, &p->fact,
                                  error);
  for (int32_t c = 0; code == LC_OK && c < plan->fact_count; c++) {
    if (of_column[c] >= 0) continue;
    lc_child_nulls(&p->fact, c, p->rows);
    p->fact.children[c]->null_count = p->rows;
  }
  lc_free(of_column);
  return code;
}

static lc_code gather_taken(piece *p, lc_error *error) {
  const lc_join_plan *plan = p->r->plan;
  lc_column *layout = lc_malloc((size_t)plan->taken_count * sizeof *layout);
  if (layout == NULL) return no_memory(p, error);
  for (int32_t i = 0; i < plan->taken_count; i++)
    layout[i] = plan->dimension[plan->partner[plan->taken[i]]];
  lc_code code = lc_batch_new(&p->taken, layout, plan->taken_count, p->rows, error);
  for (int32_t i = 0; i < plan->taken_count && code == LC_OK; i++) {
    lc_view view = lc_view_of(&p->r->changes.table.array, plan->dimension, plan->partner[plan->taken[i]]);
    if (p->came)
      code = lc_gather(&view, p->picked, p->rows, false, &p->taken, i, error);
    else
      lc_child_nulls(&p->taken, i, p->rows);
  }
  if (code == LC_OK) lc_batch_finish(&p->taken, p->rows);
  lc_free(layout);
  return code;
}

static lc_code write_pairs(piece *p, struct ArrowArray *out, lc_error *error) {
  static const lc_column layout[] = {{.type = LC_TYPE_INT8}, {.type = LC_TYPE_TIMESTAMP}};
  const lc_join_plan *plan = p->r->plan;
  pick_pairs(p);
  lc_code code = take_facts(p, error);
  if (code == LC_OK) {
    lc_view unset = unset_of(&p->fact, plan->fact_count + 1, plan->fact_count);
    code = write_unset(p, &unset, error);
  }
  if (code == LC_OK) code = gather_taken(p, error);
  if (code == LC_OK) code = lc_batch_new(&p->control, layout, 2, p->rows, error);
  if (code != LC_OK) return code;
  uint8_t *ops = lc_child_values(&p->control, 0);
  for (int64_t i = 0; i < p->rows; i++)
    ops[i] = p->bare ? LC_OP_DELETE : p->came ? p->r->ops[p->full[i]] : LC_OP_UPSERT;
  code = lc_gather(&p->r->changes.stamps, p->picked, p->rows, false, &p->control, 1, error);
  if (code != LC_OK) return code;
  lc_batch_finish(&p->control, p->rows);
  lc_part parts[] = {
      {.from = &p->fact, .count = plan->fact_count},
      {.from = &p->taken, .count = plan->taken_count},
      {.from = &p->control, .count = 1},
      {.from = &p->fact, .first = plan->fact_count, .count = 1}, /* __version */
      {.from = &p->control, .first = 1, .count = 1},
      {.from = &p->unset, .count = 1},
  };
  return lc_parts_join(out, p->rows, parts, p->unset.release == NULL ? 5 : 6, error);
}

/* ---- piece by piece ---- */

lc_code lc_join_next(lc_join_results *r, int64_t rows_max, struct ArrowArray *out, int32_t *out_unset,
                     lc_error *error) {
  *out = (struct ArrowArray){0};
  *out_unset = 0;
  if (rows_max < 1)
    return lc_fail(error, LC_INVALID, -1, -1, "expected at least one row, found %lld", (long long)rows_max);
  if (r->at == r->count) return LC_OK;
  int64_t until = r->at < r->came ? r->came : r->count;
  piece p = {.r = r, .from = r->at, .rows = until - r->at < rows_max ? until - r->at : rows_max};
  p.pairs = r->pairs.release != NULL;
  p.came = !p.pairs || r->at < r->came;
  p.bare = !p.came && r->plan->inner;
  p.picked = lc_malloc((size_t)p.rows * sizeof *p.picked);
  p.full = lc_malloc((size_t)p.rows * sizeof *p.full);
  p.numbers = lc_malloc((size_t)p.rows * sizeof *p.numbers);
  lc_code code = p.picked == NULL || p.full == NULL || p.numbers == NULL ? no_memory(&p, error) : LC_OK;
  if (code == LC_OK) code = p.pairs ? write_pairs(&p, out, error) : write_facts(&p, out, error);
  if (code == LC_OK) {
    *out_unset = out->n_children > r->plan->fact_count + r->plan->taken_count + CONTROL_COLUMNS;
    r->at += p.rows;
  }
  lc_free(p.picked);
  lc_free(p.full);
  lc_free(p.numbers);
  lc_release(&p.fact);
  lc_release(&p.taken);
  lc_release(&p.control);
  lc_release(&p.unset);
  return code;
}
