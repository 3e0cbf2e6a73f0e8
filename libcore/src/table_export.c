/* What the store gives out: rows by number, all rows of a slot, and what changed since the mark. */
#include "table.h"

enum { OP_UPSERT = 1, OP_DELETE = 2 };

lc_code lc_table_take(const lc_table *t, const int64_t *rows, int64_t row_count, const int32_t *columns,
                      int64_t column_count, struct ArrowArray *out, lc_error *error) {
  if (row_count < 0 || column_count < 0 || column_count > t->column_count)
    return lc_fail(error, LC_INVALID, -1, -1, "expected up to %d columns, found %lld", t->column_count,
                   (long long)column_count);
  for (int64_t i = 0; i < row_count; i++) {
    if (i + LC_AHEAD < row_count && rows[i + LC_AHEAD] >= 0 && rows[i + LC_AHEAD] < t->next_row)
      __builtin_prefetch(lc_flags(t, (uint32_t)rows[i + LC_AHEAD]));
    if (rows[i] != -1 &&
        (rows[i] < 0 || rows[i] >= t->next_row || !(*lc_flags(t, (uint32_t)rows[i]) & LC_ROW_LIVE)))
      return lc_fail(error, LC_INVALID, i, -1, "expected the number of a row that is there, found %lld",
                     (long long)rows[i]);
  }
  int32_t *of_column = lc_malloc((size_t)t->column_count * sizeof *of_column);
  lc_column *layouts = lc_malloc((size_t)column_count * sizeof *layouts);
  lc_code code = LC_OK;
  if (of_column == NULL || layouts == NULL)
    code = lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld columns", (long long)column_count);
  for (int32_t c = 0; code == LC_OK && c < t->column_count; c++)
    of_column[c] = -1;
  for (int64_t k = 0; code == LC_OK && k < column_count; k++) {
    if (columns[k] < 0 || columns[k] >= t->column_count || of_column[columns[k]] != -1) {
      code = lc_fail(error, LC_INVALID, -1, -1, "expected different columns below %d, found %d", t->column_count,
                     columns[k]);
    } else {
      of_column[columns[k]] = (int32_t)k;
      layouts[k] = t->columns[columns[k]];
    }
  }
  if (code == LC_OK) code = lc_records_write(t, rows, row_count, of_column, layouts, column_count, out, error);
  lc_free(of_column);
  lc_free(layouts);
  return code;
}

/* The live rows of a slot (-1: of all) in one page; how many.  Without a branch, since slots
 * are scattered; `numbers` has room for one more. */
static int64_t live_rows(const lc_table *t, int64_t page, int32_t slot, int64_t *numbers) {
  const uint8_t *flags = lc_row_flags(t, page), *slots = lc_row_slots(t, page);
  int64_t page_rows = (int64_t)1 << t->page_shift, count = 0;
  for (int64_t i = 0; i < page_rows; i++) {
    uint16_t own;
    memcpy(&own, slots + 2 * i, sizeof own);
    numbers[count] = page * page_rows + i;
    count += (flags[i] & LC_ROW_LIVE) & ((slot < 0) | (own == slot));
  }
  return count;
}

lc_code lc_table_whole(const lc_table *t, int32_t slot, struct ArrowArray *out, lc_error *error) {
  if (slot < -1 || slot >= t->slots)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a slot below %d, found %d", t->slots, slot);
  int64_t page_rows = (int64_t)1 << t->page_shift, capacity = 0, count = 0;
  int64_t *numbers = NULL;
  for (int64_t p = 0; p < t->page_count; p++) {
    if (count + page_rows + 1 > capacity) {
      capacity = 2 * capacity + page_rows + 1;
      int64_t *larger = lc_realloc(numbers, (size_t)capacity * sizeof *numbers);
      if (larger == NULL) {
        lc_free(numbers);
        return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld rows", (long long)capacity);
      }
      numbers = larger;
    }
    count += live_rows(t, p, slot, numbers + count);
  }
  lc_code code = lc_records_write(t, numbers, count, t->all, t->columns, t->column_count, out, error);
  lc_free(numbers);
  return code;
}

/* The dirty rows in the order of their numbers, and how many each slot has.  Flags are looked at eight at a time: a
 * store of a million rows with a few changed in each page would else cost more to scan than the changes to write. */
static void collect(const lc_table *t, int64_t *counts, int64_t *numbers) {
  int64_t page_rows = (int64_t)1 << t->page_shift, count = 0;
  for (int64_t p = 0; p < t->page_count; p++) {
    if (t->pages[p].dirty == 0) continue;
    const uint8_t *flags = lc_row_flags(t, p);
    for (int64_t word = 0; word < page_rows; word += LC_FLAGS_WORD) {
      if (!lc_flags_any(flags + word, LC_ROW_DIRTY)) continue;
      for (int64_t i = word; i < word + LC_FLAGS_WORD && i < page_rows; i++) {
        if (!(flags[i] & LC_ROW_DIRTY)) continue;
        numbers[count] = p * page_rows + i;
        counts[lc_row_slot(t, (uint32_t)numbers[count++])]++;
      }
    }
  }
}

int64_t lc_table_changes(const lc_table *t) {
  int64_t count = 0;
  for (int64_t p = 0; p < t->page_count; p++)
    count += t->pages[p].dirty;
  return count;
}

lc_code lc_table_changed(const lc_table *t, struct ArrowArray *out, lc_table_range *ranges, int64_t *range_count,
                         lc_error *error) {
  int64_t count = lc_table_changes(t), first = 0;
  int64_t *found = lc_malloc((size_t)count * sizeof *found), *numbers = lc_malloc((size_t)count * sizeof *numbers);
  int64_t *ends = lc_calloc((size_t)t->slots, sizeof *ends);
  lc_code code = LC_OK;
  if (found == NULL || numbers == NULL || ends == NULL)
    code = lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld changed rows", (long long)count);
  if (code == LC_OK) {
    collect(t, ends, found);
    *range_count = 0;
    for (int32_t slot = 0; slot < t->slots; slot++) {
      int64_t rows = ends[slot];
      if (rows > 0)
        ranges[(*range_count)++] = (lc_table_range){.slot = slot, .first = (int32_t)first, .count = (int32_t)rows};
      ends[slot] = first;
      first += rows;
    }
    for (int64_t i = 0; i < count; i++)
      numbers[ends[lc_row_slot(t, (uint32_t)found[i])]++] = found[i];
    code = lc_records_write(t, numbers, count, t->all, t->columns, t->column_count + 1, out, error);
  }
  if (code == LC_OK) {
    int8_t *ops = lc_child_values(out, t->column_count);
    for (int64_t i = 0; i < count; i++)
      ops[i] = *lc_flags(t, (uint32_t)numbers[i]) & LC_ROW_LIVE ? OP_UPSERT : OP_DELETE;
  }
  lc_free(found);
  lc_free(numbers);
  lc_free(ends);
  return code;
}

/* ---- matches ---- */

/* Pairs found so far. */
typedef struct pairs {
  int32_t *probes;
  int64_t *rows;
  int64_t count, capacity;
} pairs;

static bool pairs_grow(pairs *p) {
  int64_t capacity = p->capacity == 0 ? 1024 : 2 * p->capacity;
  int32_t *probes = lc_realloc(p->probes, (size_t)capacity * sizeof *probes);
  if (probes != NULL) p->probes = probes;
  int64_t *rows = lc_realloc(p->rows, (size_t)capacity * sizeof *rows);
  if (rows != NULL) p->rows = rows;
  if (probes == NULL || rows == NULL) return false;
  p->capacity = capacity;
  return true;
}

static lc_code add_chain(const lc_table *t, pairs *p, int64_t probe, uint32_t row, lc_error *error) {
  while (row != LC_NONE) {
    if (p->count == INT32_MAX - 1)
      return lc_fail(error, LC_CAPACITY, probe, -1, "expected fewer than 2^31-1 matches of one batch");
    if (p->count == p->capacity && !pairs_grow(p))
      return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for more than %lld matches", (long long)p->count);
    p->probes[p->count] = (int32_t)probe;
    p->rows[p->count++] = row;
    row = lc_load_u32(lc_record(t, row) + LC_AT_NEXT);
  }
  return LC_OK;
}

static lc_code find_pairs(const lc_table *t, lc_rows_in *in, pairs *p, lc_error *error) {
  lc_code code = LC_OK;
  for (int64_t start = 0; start < in->rows && code == LC_OK; start += in->step) {
    int64_t end = start + in->step < in->rows ? start + in->step : in->rows;
    lc_rows_in_fill(in, start, end - start);
    for (int64_t row = start; row < end && code == LC_OK; row++) {
      lc_probe probe;
      lc_rows_prefetch(in, row);
      code = add_chain(t, p, row, lc_chain_find(t, in, row, &probe), error);
    }
  }
  return code;
}

lc_code lc_table_matches(const lc_table *t, const struct ArrowArray *values, struct ArrowArray *out,
                         lc_error *error) {
  if (t->index_count == 0) return lc_fail(error, LC_INVALID, -1, -1, "expected a store with an index");
  lc_rows_in in;
  lc_code code = lc_rows_in_make(&in, t, values, LC_GIVEN_INDEX, 0, error);
  if (code != LC_OK) return code;
  pairs found = {0};
  code = find_pairs(t, &in, &found, error);
  lc_rows_in_free(&in);
  const lc_column layouts[2] = {{.type = LC_TYPE_INT32}, {.type = LC_TYPE_INT64}};
  if (code == LC_OK) code = lc_batch_new(out, layouts, 2, found.count, error);
  if (code == LC_OK && found.count > 0) {
    memcpy(lc_child_values(out, 0), found.probes, (size_t)found.count * sizeof *found.probes);
    memcpy(lc_child_values(out, 1), found.rows, (size_t)found.count * sizeof *found.rows);
  }
  if (code == LC_OK) lc_batch_finish(out, found.count);
  lc_free(found.probes);
  lc_free(found.rows);
  return code;
}
