/* Changes on their way into a store: one row a key, what they lack taken from state, compared with what is there. */
#include "gather.h"
#include "group.h"
#include "join_columns.h"
#include "libcore/compact.h"

enum { CONTROL_COLUMNS = 3 };

static lc_code no_memory(int64_t rows, lc_error *error) {
  return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld changes", (long long)rows);
}

/* ---- in ---- */

static void zero_behind(const lc_changes *changes, uint8_t *bits) {
  if (changes->count % 8 != 0) bits[changes->count / 8] &= (uint8_t)((1 << changes->count % 8) - 1);
}

/* A copy of __unset without the bits of deletes and those of no column; `lacks` stays NULL where no bit is set. */
static lc_code read_lacks(lc_changes *changes, const lc_view *unset, lc_error *error) {
  bool any = false;
  for (int64_t i = 0; !any && i < changes->rows * unset->width; i++)
    any = unset->values[i] != 0;
  if (!any) return LC_OK;
  changes->lacks = lc_calloc((size_t)changes->rows, (size_t)changes->width);
  if (changes->lacks == NULL) return no_memory(changes->rows, error);
  any = false;
  for (int64_t row = 0; row < changes->rows; row++) {
    uint8_t *bits = changes->lacks + row * changes->width;
    if (changes->ops[row] == LC_OP_DELETE || !lc_view_valid(unset, row)) continue;
    memcpy(bits, unset->values + row * changes->width, (size_t)changes->width);
    zero_behind(changes, bits);
    for (int32_t byte = 0; byte < changes->width; byte++)
      any = any || bits[byte] != 0;
  }
  if (any) return LC_OK;
  lc_free(changes->lacks);
  changes->lacks = NULL;
  return LC_OK;
}

/* Point at the columns of a batch. control: the places of __op, __source_ts, __unset behind the table's columns. */
static lc_code read_batch(lc_changes *changes, const struct ArrowArray *batch, const lc_column *layout,
                          const int32_t control[3], bool with_unset, lc_error *error) {
  changes->rows = batch->length;
  if (changes->table.columns == NULL && !lc_borrowed_make(&changes->table, changes->count, batch->length))
    return no_memory(changes->rows, error);
  changes->table.array.length = batch->length;
  for (int32_t c = 0; c < changes->count; c++)
    changes->table.columns[c] = lc_column_of(batch, c);
  changes->ops = lc_view_of(batch, layout, changes->count + control[0]).values;
  changes->stamps = lc_view_of(batch, layout, changes->count + control[1]);
  if (!with_unset || batch->length == 0) return LC_OK;
  lc_view unset = lc_view_of(batch, layout, changes->count + control[2]);
  return read_lacks(changes, &unset, error);
}

/* The layout of a batch: the table's columns, then control ones. */
static lc_column *whole_layout(const lc_changes *changes, const lc_column control[CONTROL_COLUMNS]) {
  size_t count = (size_t)changes->count;
  lc_column *layout = lc_malloc((count + CONTROL_COLUMNS + 1) * sizeof *layout);
  if (layout == NULL) return NULL;
  memcpy(layout, changes->layout, count * sizeof *layout);
  memcpy(layout + count, control, CONTROL_COLUMNS * sizeof *layout);
  layout[count + CONTROL_COLUMNS] = (lc_column){.type = LC_TYPE_FIXED, .width = changes->width};
  return layout;
}

static lc_code check(const struct ArrowArray *batch, const lc_column *layout, int64_t columns, lc_error *error) {
  lc_code code = lc_check_batch(batch, layout, columns, error);
  if (code == LC_OK && batch->length >= INT32_MAX / 2)
    return lc_fail(error, LC_INVALID, -1, -1, "expected fewer than 2^30 rows, found %lld", (long long)batch->length);
  return code;
}

static void begin(lc_changes *changes, const lc_column *layout, int32_t count) {
  *changes = (lc_changes){.layout = layout, .count = count, .width = (count + 7) / 8};
}

/* Which rows are the last of their keys; no row lacks anything. */
static lc_code choose(lc_changes *changes, const struct ArrowArray *batch, const lc_column *layout, int32_t columns,
                      const int32_t *key, int32_t key_count, lc_error *error) {
  lc_groups groups;
  lc_view op = lc_view_of(batch, layout, changes->count), position = lc_view_of(batch, layout, changes->count + 1);
  for (int64_t row = 0; row < batch->length; row++)
    if (op.values[row] != LC_OP_UPSERT && op.values[row] != LC_OP_DELETE && op.values[row] != LC_OP_INSERT)
      return lc_fail(error, LC_DATA, row, -1, "expected an upsert (1), delete (2) or insert (6), found op %d",
                     (int8_t)op.values[row]);
  lc_code code = lc_groups_make(&groups, batch, layout, columns, key, key_count, &op, &position, false, error);
  if (code != LC_OK) return code;
  if (groups.count < batch->length) {
    changes->stays = lc_malloc((size_t)batch->length);
    if (changes->stays == NULL) code = no_memory(batch->length, error);
    for (int64_t row = 0; code == LC_OK && row < batch->length; row++)
      changes->stays[row] = groups.winner[groups.group[row]] == (int32_t)row;
  }
  lc_groups_free(&groups);
  return code;
}

lc_code lc_changes_compact(lc_changes *changes, const lc_column *layout, int32_t count, const int32_t *key,
                           int32_t key_count, struct ArrowArray *batch, bool with_unset, lc_error *error) {
  static const lc_column control[] = {
      {.type = LC_TYPE_INT8}, {.type = LC_TYPE_FIXED, .width = 32}, {.type = LC_TYPE_TIMESTAMP}};
  static const int32_t places[] = {0, 2, 3};
  begin(changes, layout, count);
  lc_column *whole = whole_layout(changes, control);
  if (whole == NULL) return no_memory(batch->length, error);
  int32_t columns = count + CONTROL_COLUMNS + with_unset;
  lc_code code = check(batch, whole, columns, error);
  if (code == LC_OK) code = read_batch(changes, batch, whole, places, with_unset, error);
  if (code == LC_OK && changes->lacks == NULL && batch->length > 0) {
    code = choose(changes, batch, whole, columns, key, key_count, error);
  } else if (code == LC_OK && batch->length > 0) {
    lc_compact_result result;
    code = lc_compact(batch, whole, columns, count, key, key_count, &changes->compacted, &result, error);
    lc_free(changes->lacks);
    changes->lacks = NULL;
    if (code == LC_OK)
      code = read_batch(changes, result.unchanged ? batch : &changes->compacted, whole, places, true, error);
  }
  lc_free(whole);
  return code;
}

lc_code lc_changes_take(lc_changes *changes, const lc_column *layout, int32_t count, struct ArrowArray *batch,
                        bool with_unset, lc_error *error) {
  static const lc_column control[] = {{.type = LC_TYPE_INT8}, {.type = LC_TYPE_INT64}, {.type = LC_TYPE_TIMESTAMP}};
  static const int32_t places[] = {0, 2, 3};
  begin(changes, layout, count);
  lc_column *whole = whole_layout(changes, control);
  if (whole == NULL) return no_memory(batch->length, error);
  lc_code code = check(batch, whole, count + CONTROL_COLUMNS + with_unset, error);
  if (code == LC_OK) code = read_batch(changes, batch, whole, places, with_unset, error);
  lc_free(whole);
  return code;
}

void lc_changes_free(lc_changes *changes) {
  lc_borrowed_free(&changes->table);
  lc_release(&changes->compacted);
  lc_release(&changes->filled);
  lc_free(changes->stays);
  lc_free(changes->lacks);
  *changes = (lc_changes){0};
}

/* ---- complete ---- */

/* Where column `column`, held as number s, comes from: this batch, or `old`; its bits are cleared where it does. */
static bool choose_sources(lc_changes *changes, const int64_t *numbers, const lc_view *gone, int32_t column, int32_t s,
                           int32_t *rows) {
  bool any = false;
  for (int64_t row = 0; row < changes->rows; row++) {
    rows[row] = (int32_t)row;
    if (numbers[row] < 0 || !lc_changes_lack(changes, row, column)) continue;
    if (lc_view_valid(gone, row) && lc_bit_get(gone->values + row * gone->width, s)) continue;
    rows[row] = (int32_t)(-2 - row);
    lc_bit_clear(changes->lacks + row * changes->width, column);
    any = true;
  }
  return any;
}

static lc_code fill_from(lc_changes *changes, const lc_table *store, const int32_t *in_store, int32_t held,
                         const int64_t *numbers, const struct ArrowArray *old, int32_t *rows, lc_error *error) {
  lc_view gone = lc_view_of(old, store->columns, store->column_count - 1);
  lc_code code = lc_batch_new(&changes->filled, store->columns, held, changes->rows, error);
  uint8_t *chosen = code == LC_OK ? lc_calloc((size_t)held, 1) : NULL;
  if (code == LC_OK && chosen == NULL) code = no_memory(changes->rows, error);
  for (int32_t s = 0; s < held && code == LC_OK; s++) {
    if (!choose_sources(changes, numbers, &gone, in_store[s], s, rows)) continue;
    lc_view first = lc_view_of(&changes->table.array, changes->layout, in_store[s]);
    lc_view second = lc_view_of(old, store->columns, s);
    code = lc_pick(&first, &second, rows, changes->rows, &changes->filled, s, error);
    chosen[s] = 1;
  }
  if (code == LC_OK) lc_batch_finish(&changes->filled, changes->rows);
  for (int32_t s = 0; s < held && code == LC_OK; s++)
    if (chosen[s]) changes->table.columns[in_store[s]] = lc_column_of(&changes->filled, s);
  lc_free(chosen);
  return code;
}

lc_code lc_changes_fill(lc_changes *changes, const lc_table *store, const int32_t *in_store, int32_t held,
                        lc_error *error) {
  if (changes->lacks == NULL) return LC_OK;
  lc_borrowed keys;
  struct ArrowArray old = {0};
  int64_t *numbers = lc_malloc((size_t)changes->rows * sizeof *numbers);
  int32_t *rows = lc_malloc((size_t)changes->rows * sizeof *rows);
  bool good = lc_borrowed_make(&keys, store->key_count, changes->rows) && numbers != NULL && rows != NULL;
  lc_code code = good ? LC_OK : no_memory(changes->rows, error);
  for (int32_t k = 0; good && k < store->key_count; k++)
    keys.columns[k] = changes->table.columns[in_store[store->key[k]]];
  if (code == LC_OK) code = lc_table_find(store, &keys.array, numbers, error);
  if (code == LC_OK) code = lc_table_take(store, numbers, changes->rows, store->all, store->column_count, &old, error);
  if (code == LC_OK) code = fill_from(changes, store, in_store, held, numbers, &old, rows, error);
  lc_release(&old);
  lc_borrowed_free(&keys);
  lc_free(numbers);
  lc_free(rows);
  return code;
}

/* ---- as rows of a store ---- */

/* __unset of the store: a bit for each held column; NULL where a row has none. */
static void write_unset(const lc_changes *changes, const int32_t *in_store, int32_t held, struct ArrowArray *out) {
  uint8_t *valid = lc_child_validity(out, 0), *bits = lc_child_values(out, 0);
  int32_t width = (held + 7) / 8;
  lc_child_nulls(out, 0, changes->rows);
  for (int64_t row = 0; changes->lacks != NULL && row < changes->rows; row++, bits += width)
    for (int32_t s = 0; s < held; s++) {
      if (!lc_changes_lack(changes, row, in_store[s])) continue;
      lc_bit_set(bits, s);
      lc_bit_set(valid, row);
    }
}

lc_code lc_store_rows_make(lc_store_rows *rows, const lc_changes *changes, const lc_table *store,
                           const int32_t *in_store, int32_t held, const struct ArrowArray *version, lc_error *error) {
  *rows = (lc_store_rows){0};
  lc_column unset = {.type = LC_TYPE_FIXED, .width = (held + 7) / 8};
  if (store->column_count != held + (version != NULL) + 1 ||
      store->columns[store->column_count - 1].width != unset.width)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a store of %d columns and __unset, found %d", held,
                   store->column_count);
  if (!lc_borrowed_make(&rows->batch, store->column_count, changes->rows)) return no_memory(changes->rows, error);
  lc_code code = lc_batch_new(&rows->unset, &unset, 1, changes->rows, error);
  if (code != LC_OK) return code;
  write_unset(changes, in_store, held, &rows->unset);
  for (int32_t s = 0; s < held; s++)
    rows->batch.columns[s] = changes->table.columns[in_store[s]];
  if (version != NULL) rows->batch.columns[held] = *version;
  rows->batch.columns[store->column_count - 1] = lc_column_of(&rows->unset, 0);
  return lc_rows_in_make(&rows->in, store, &rows->batch.array, LC_GIVEN_ROW, 0, error);
}

void lc_store_rows_free(lc_store_rows *rows) {
  lc_rows_in_free(&rows->in);
  lc_release(&rows->unset);
  lc_borrowed_free(&rows->batch);
}

/* ---- compared ---- */

static const uint8_t *text_of(const lc_table *t, const uint8_t *record, int32_t column) {
  const uint8_t *text = lc_text(t, record, lc_text_size(t, record));
  for (int32_t i = 0; t->texts[i] != column; i++)
    text += lc_load_u32(record + t->fields[t->texts[i]].same);
  return text;
}

/* Whether a column of a record equals the row's; NULL equals NULL, floats by their bits. */
static bool column_same(const lc_rows_in *in, int64_t row, const uint8_t *mine, const uint8_t *record,
                        int32_t column) {
  const lc_table *t = in->table;
  const lc_field *field = &t->fields[column];
  if (lc_field_null(field, mine) != lc_field_null(field, record)) return false;
  if (field->stored == 8) return lc_load_u64(mine + field->given) == lc_load_u64(record + field->given);
  if (memcmp(mine + field->given, record + field->given, (size_t)field->stored) != 0) return false;
  if (!field->variable) return true;
  uint32_t size = lc_load_u32(mine + field->same);
  return size == 0 || memcmp(text_of(t, record, column), lc_view_bytes(&in->views[column], row), size) == 0;
}

/* Bit `column` of a record's __unset, its last column. */
static bool record_lacks(const lc_table *t, const uint8_t *record, int32_t column) {
  const lc_field *unset = &t->fields[t->column_count - 1];
  return !lc_field_null(unset, record) && lc_bit_get(record + unset->given, column);
}

static bool no_null(const lc_table *t, const uint8_t *record, const int32_t *columns, int32_t count) {
  for (int32_t i = 0; i < count; i++)
    if (lc_field_null(&t->fields[columns[i]], record)) return false;
  return true;
}

static uint8_t compare(const lc_rows_in *in, int64_t row, uint32_t found, const int32_t *compared, int32_t count) {
  const lc_table *t = in->table;
  const uint8_t *mine = lc_rows_in_record(in, row);
  uint8_t flags = no_null(t, mine, compared, count) ? LC_JOIN_COMPLETE : 0;
  if (found == LC_NONE || !(*lc_flags(t, found) & LC_ROW_LIVE)) return flags;
  const uint8_t *record = lc_record(t, found);
  flags |= LC_JOIN_KNOWN | LC_JOIN_SAME | (no_null(t, record, compared, count) ? LC_JOIN_LEFT : 0);
  for (int32_t i = 0; i < count; i++) {
    if (record_lacks(t, mine, compared[i])) continue;
    if (record_lacks(t, record, compared[i]) || !column_same(in, row, mine, record, compared[i]))
      return flags & (uint8_t)~LC_JOIN_SAME;
  }
  return flags;
}

void lc_join_look_up(lc_rows_in *in, const uint8_t *stays, const int32_t *compared, int32_t compared_count,
                     uint32_t *found, uint8_t *flags) {
  for (int64_t start = 0; start < in->rows; start += in->step) {
    int64_t end = start + in->step < in->rows ? start + in->step : in->rows;
    lc_rows_in_fill(in, start, end - start);
    for (int64_t row = start; row < end; row++) {
      lc_rows_prefetch(in, row);
      found[row] = LC_NONE;
      if (stays != NULL && !stays[row]) continue;
      lc_probe probe;
      found[row] = lc_row_find(in->table, in, row, &probe);
      flags[row] = compare(in, row, found[row], compared, compared_count);
    }
  }
}
