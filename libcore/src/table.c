/* The row store from outside: made, written, looked up, marked; bounds are checked before anything changes. */
#include "table.h"

#include "libcore/hash.h"

enum { OP_NONE = 0, OP_UPSERT = 1, OP_DELETE = 2, MOVED_PER_ROW = 16 };

/* ---- made ---- */

static bool numbers_valid(const int32_t *numbers, int64_t count, int64_t below) {
  if (count < 0 || count > below) return false;
  for (int64_t i = 0; i < count; i++) {
    if (numbers[i] < 0 || numbers[i] >= below) return false;
    for (int64_t j = 0; j < i; j++)
      if (numbers[j] == numbers[i]) return false;
  }
  return true;
}

static int32_t place_of(const int32_t *numbers, int64_t count, int32_t number) {
  for (int64_t i = 0; i < count; i++)
    if (numbers[i] == number) return (int32_t)i;
  return -1;
}

static bool copy_numbers(int32_t **to, const int32_t *from, int64_t count) {
  *to = lc_malloc((size_t)count * sizeof **to);
  if (*to != NULL && count > 0) memcpy(*to, from, (size_t)count * sizeof **to);
  return *to != NULL;
}

static bool allocate(lc_table *t, const lc_column *columns, const int32_t *key, const int32_t *index,
                     const int32_t *slot_by) {
  size_t count = (size_t)t->column_count;
  t->columns = lc_malloc((count + 1) * sizeof *t->columns);
  t->fields = lc_calloc(count, sizeof *t->fields);
  t->texts = lc_malloc(count * sizeof *t->texts);
  t->all = lc_malloc((count + 1) * sizeof *t->all);
  t->key_columns = lc_malloc((size_t)t->key_count * sizeof *t->key_columns);
  t->index_columns = lc_malloc((size_t)t->index_count * sizeof *t->index_columns);
  t->slot_in_key = lc_malloc((size_t)t->slot_by_count * sizeof *t->slot_in_key);
  if (t->columns == NULL || t->fields == NULL || t->texts == NULL || t->all == NULL || t->key_columns == NULL ||
      t->index_columns == NULL || t->slot_in_key == NULL || !copy_numbers(&t->key, key, t->key_count) ||
      !copy_numbers(&t->index, index, t->index_count) || !copy_numbers(&t->slot_by, slot_by, t->slot_by_count))
    return false;
  memcpy(t->columns, columns, count * sizeof *columns);
  t->columns[count] = (lc_column){.type = LC_TYPE_INT8};
  for (int32_t c = 0; c <= t->column_count; c++)
    t->all[c] = c;
  for (int32_t k = 0; k < t->key_count; k++)
    t->key_columns[k] = columns[key[k]];
  for (int32_t k = 0; k < t->index_count; k++)
    t->index_columns[k] = columns[index[k]];
  t->slots_by_key = t->slot_by_count == t->key_count;
  for (int32_t k = 0; k < t->slot_by_count; k++) {
    t->slot_in_key[k] = place_of(key, t->key_count, slot_by[k]);
    if (t->slot_in_key[k] != k) t->slots_by_key = false;
  }
  return lc_places_init(&t->by_key) && (t->index_count == 0 || lc_places_init(&t->by_index));
}

static lc_code check_arguments(const lc_column *columns, int64_t column_count, const int32_t *key, int64_t key_count,
                               const int32_t *index, int64_t index_count, const int32_t *slot_by,
                               int64_t slot_by_count, int32_t slots, int64_t bytes_max, lc_error *error) {
  if (column_count < 1 || column_count > 1 << 16)
    return lc_fail(error, LC_INVALID, -1, -1, "expected 1 to 65536 columns, found %lld", (long long)column_count);
  for (int64_t c = 0; c < column_count; c++)
    if (!lc_column_valid(&columns[c]))
      return lc_fail(error, LC_INVALID, -1, -1, "column %lld: unknown layout %d", (long long)c, columns[c].type);
  if (key_count < 1 || slot_by_count < 1 || !numbers_valid(key, key_count, column_count) ||
      !numbers_valid(index, index_count, column_count) || !numbers_valid(slot_by, slot_by_count, column_count))
    return lc_fail(error, LC_INVALID, -1, -1, "expected different columns of a key, an index and slot_by");
  for (int64_t k = 0; k < slot_by_count; k++)
    if (place_of(key, key_count, slot_by[k]) < 0)
      return lc_fail(error, LC_INVALID, -1, -1, "expected slot_by among the key columns, found %d", slot_by[k]);
  if (slots < 1 || slots > 65536 || bytes_max < 0)
    return lc_fail(error, LC_INVALID, -1, -1, "expected 1 to 65536 slots and bytes_max from 0 on, found %d, %lld",
                   slots, (long long)bytes_max);
  return LC_OK;
}

lc_code lc_table_new(const lc_column *columns, int64_t column_count, const int32_t *key, int64_t key_count,
                     const int32_t *index, int64_t index_count, const int32_t *slot_by, int64_t slot_by_count,
                     int32_t slots, int64_t bytes_max, lc_table **out, lc_error *error) {
  lc_code code = check_arguments(columns, column_count, key, key_count, index, index_count, slot_by, slot_by_count,
                                 slots, bytes_max, error);
  if (code != LC_OK) return code;
  lc_table *t = lc_calloc(1, sizeof *t);
  if (t == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for a store");
  t->column_count = (int32_t)column_count;
  t->key_count = (int32_t)key_count;
  t->index_count = (int32_t)index_count;
  t->slot_by_count = (int32_t)slot_by_count;
  t->slots = slots;
  t->bytes_max = bytes_max;
  t->free_row = LC_NONE;
  lc_heap_init(&t->heap);
  if (!allocate(t, columns, key, index, slot_by))
    code = lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for a store of %lld columns", (long long)column_count);
  if (code == LC_OK) code = lc_table_layout(t, error);
  if (code != LC_OK) {
    lc_table_free(t);
    return code;
  }
  *out = t;
  return LC_OK;
}

void lc_table_free(lc_table *t) {
  if (t == NULL) return;
  for (int64_t p = 0; p < t->page_count; p++)
    lc_free(t->pages[p].data);
  lc_free(t->pages);
  lc_heap_free(&t->heap);
  lc_places_free(&t->by_key);
  lc_places_free(&t->by_index);
  lc_free(t->columns);
  lc_free(t->key_columns);
  lc_free(t->index_columns);
  lc_free(t->fields);
  lc_free(t->key);
  lc_free(t->index);
  lc_free(t->slot_by);
  lc_free(t->slot_in_key);
  lc_free(t->all);
  lc_free(t->texts);
  lc_free(t->nothing);
  lc_free(t);
}

/* ---- bounds ---- */

int64_t lc_table_rows(const lc_table *t) { return t->rows; }

int64_t lc_table_bytes(const lc_table *t) {
  return (int64_t)sizeof *t + t->page_count * (int64_t)lc_page_bytes(t) +
         t->page_capacity * (int64_t)sizeof *t->pages + t->heap.bytes + lc_places_bytes(&t->by_key) +
         lc_places_bytes(&t->by_index);
}

/* What rows still to be put need. */
typedef struct needs {
  int64_t rows;                     /* new ones */
  int64_t blocks[LC_HEAP_CLASSES];  /* of the heap */
  int64_t large_bytes;              /* of texts with a page of their own */
} needs;

static int64_t needed_bytes(const lc_table *t, const needs *n, int64_t rows) {
  int64_t there = t->free_rows + (t->page_count << t->page_shift) - t->next_row;
  int64_t fresh = n->rows > there ? n->rows - there : 0;
  int64_t pages = (fresh + ((int64_t)1 << t->page_shift) - 1) >> t->page_shift;
  int64_t bytes = pages * (int64_t)lc_page_bytes(t) + lc_places_growth(&t->by_key, n->rows) + n->large_bytes;
  if (t->index_count > 0) bytes += lc_places_growth(&t->by_index, rows);
  if (t->page_count + pages > t->page_capacity)
    bytes += (2 * (t->page_count + pages) - t->page_capacity) * (int64_t)sizeof *t->pages;
  int64_t heap_pages = n->large_bytes / LC_HEAP_SMALL;
  for (int32_t c = 0; c < LC_HEAP_CLASSES; c++) {
    if (n->blocks[c] <= t->heap.open[c]) continue;
    int64_t in_page = LC_HEAP_PAGE / lc_heap_class_bytes(c);
    heap_pages += (n->blocks[c] - t->heap.open[c] + in_page - 1) / in_page;
    bytes += (n->blocks[c] - t->heap.open[c] + in_page - 1) / in_page * LC_HEAP_PAGE;
  }
  if (heap_pages + t->heap.count > t->heap.capacity)
    bytes += (2 * (heap_pages + t->heap.count) - t->heap.capacity) * (int64_t)sizeof *t->heap.pages;
  return bytes;
}

/* Count what the rows need by looking each one up. */
static void count_needs(const lc_table *t, lc_rows_in *in, const uint8_t *ops, needs *n) {
  for (int64_t row = 0; row < in->rows; row++) {
    if (row % in->step == 0) {
      int64_t left = in->rows - row;
      lc_rows_in_fill(in, row, left < in->step ? left : in->step);
    }
    lc_rows_prefetch(in, row);
    if (ops != NULL && (ops[row] == OP_DELETE || ops[row] == OP_NONE)) continue;
    lc_probe probe;
    uint32_t number = lc_row_find(t, in, row, &probe);
    uint32_t size = lc_text_size(t, lc_rows_in_record(in, row));
    if (number == LC_NONE) n->rows++;
    if (size <= LC_INLINE_BYTES) continue;
    int32_t class = lc_heap_class(size);
    if (class == LC_HEAP_CLASSES) {
      n->large_bytes += size;
      continue;
    }
    uint32_t old = number == LC_NONE ? 0 : lc_text_size(t, lc_record(t, number));
    if (old <= LC_INLINE_BYTES || lc_heap_class(old) != class) n->blocks[class]++;
  }
}

/* Refuse rows that could lead above a bound; nothing has changed yet. */
static lc_code check_room(const lc_table *t, lc_rows_in *in, const uint8_t *ops, lc_error *error) {
  if (t->rows + t->kept + in->rows > LC_ROWS_MAX)
    return lc_fail(error, LC_CAPACITY, -1, -1,
                   "state: expected at most 2^31-2 rows, found %lld and %lld more; use more processes",
                   (long long)(t->rows + t->kept), (long long)in->rows);
  if (t->bytes_max == 0) return LC_OK;
  int64_t texts = 0, held = lc_table_bytes(t);
  for (int32_t i = 0; i < t->text_count; i++)
    texts += (int64_t)in->views[t->texts[i]].offsets[in->rows] - in->views[t->texts[i]].offsets[0];
  /* More than enough: rounded to a size class, the rest of each page lost, and a page begun in every class. */
  needs most = {.rows = in->rows, .large_bytes = texts + texts / 2 + 32 * in->rows + LC_HEAP_CLASSES * LC_HEAP_PAGE};
  if (held + needed_bytes(t, &most, in->rows) <= t->bytes_max) return LC_OK;
  needs exact = {0};
  count_needs(t, in, ops, &exact);
  int64_t more = needed_bytes(t, &exact, in->rows);
  if (more == 0 || held + more <= t->bytes_max) return LC_OK;
  return lc_fail(error, LC_CAPACITY, -1, -1,
                 "state: expected at most %lld bytes, found %lld and %lld more needed for %lld rows; use more "
                 "processes, or raise state_bytes",
                 (long long)t->bytes_max, (long long)held, (long long)more, (long long)in->rows);
}

/* ---- written ---- */

static lc_code no_memory(lc_code code, int64_t row, lc_error *error) {
  if (code == LC_CAPACITY)
    return lc_fail(error, code, row, -1, "state: the heap has its 2^20 pages; use more processes");
  return lc_fail(error, code, row, -1, "no memory for row %lld of the batch; those before it are in", (long long)row);
}

/* Make the records of the next rows, and room for them in the indexes. */
static bool begin_step(lc_table *t, lc_rows_in *in, int64_t start, int64_t count) {
  lc_rows_in_fill(in, start, count);
  if (!lc_places_reserve(&t->by_key, count)) return false;
  lc_places_move(&t->by_key, MOVED_PER_ROW * count);
  if (t->index_count == 0) return true;
  if (!lc_places_reserve(&t->by_index, count)) return false;
  lc_places_move(&t->by_index, MOVED_PER_ROW * count);
  return true;
}

static lc_code apply(lc_table *t, lc_rows_in *in, const uint8_t *ops, bool durable, lc_error *error) {
  for (int64_t start = 0; start < in->rows; start += in->step) {
    int64_t end = start + in->step < in->rows ? start + in->step : in->rows;
    if (!begin_step(t, in, start, end - start)) return no_memory(LC_NO_MEMORY, start, error);
    for (int64_t row = start; row < end; row++) {
      lc_rows_prefetch(in, row);
      if (ops != NULL && ops[row] == OP_NONE) continue;
      if (ops != NULL && ops[row] == OP_DELETE) {
        lc_probe probe;
        uint32_t number = in->found != NULL ? in->found[row] : lc_row_find(t, in, row, &probe);
        if (number != LC_NONE) lc_row_drop(t, number, durable);
        continue;
      }
      lc_code code = lc_row_put(t, in, row, durable);
      if (code != LC_OK) return no_memory(code, row, error);
    }
  }
  return LC_OK;
}

lc_code lc_rows_write(lc_table *t, lc_rows_in *in, const uint8_t *ops, bool durable, lc_error *error) {
  lc_code code = check_room(t, in, ops, error);
  return code == LC_OK ? apply(t, in, ops, durable, error) : code;
}

static lc_code write_rows(lc_table *t, const struct ArrowArray *batch, bool with_op, bool durable, lc_error *error) {
  lc_rows_in in;
  lc_code code = lc_rows_in_make(&in, t, batch, LC_GIVEN_ROW, with_op, error);
  if (code != LC_OK || in.rows == 0) return code;
  const uint8_t *ops = with_op ? lc_view_of(batch, t->columns, t->column_count).values : NULL;
  for (int64_t row = 0; ops != NULL && row < in.rows && code == LC_OK; row++)
    if (ops[row] != OP_UPSERT && ops[row] != OP_DELETE)
      code = lc_fail(error, LC_DATA, row, -1, "expected an upsert (1) or delete (2), found op %d", (int8_t)ops[row]);
  if (code == LC_OK) code = lc_rows_write(t, &in, ops, durable, error);
  lc_rows_in_free(&in);
  return code;
}

lc_code lc_table_upsert(lc_table *t, const struct ArrowArray *batch, lc_error *error) {
  return write_rows(t, batch, false, false, error);
}

lc_code lc_table_load(lc_table *t, const struct ArrowArray *batch, int32_t with_op, lc_error *error) {
  return write_rows(t, batch, with_op != 0, true, error);
}

/* Look each key up.  rows: out, its number or -1; NULL: what is found is removed from `changed`, the same table. */
static int64_t each_key(const lc_table *t, lc_table *changed, lc_rows_in *in, int64_t *rows) {
  int64_t count = 0;
  for (int64_t start = 0; start < in->rows; start += in->step) {
    int64_t end = start + in->step < in->rows ? start + in->step : in->rows;
    lc_rows_in_fill(in, start, end - start);
    for (int64_t row = start; row < end; row++) {
      lc_rows_prefetch(in, row);
      lc_probe probe;
      uint32_t number = lc_row_find(t, in, row, &probe);
      if (rows == NULL)
        count += number != LC_NONE && lc_row_drop(changed, number, false);
      else
        rows[row] = number != LC_NONE && (*lc_flags(t, number) & LC_ROW_LIVE) ? (int64_t)number : -1;
    }
  }
  return count;
}

lc_code lc_table_delete(lc_table *t, const struct ArrowArray *keys, int64_t *count, lc_error *error) {
  lc_rows_in in;
  lc_code code = lc_rows_in_make(&in, t, keys, LC_GIVEN_KEY, 0, error);
  if (code != LC_OK) return code;
  *count = each_key(t, t, &in, NULL);
  lc_rows_in_free(&in);
  return LC_OK;
}

lc_code lc_table_find(const lc_table *t, const struct ArrowArray *keys, int64_t *rows, lc_error *error) {
  lc_rows_in in;
  lc_code code = lc_rows_in_make(&in, t, keys, LC_GIVEN_KEY, 0, error);
  if (code != LC_OK) return code;
  each_key(t, NULL, &in, rows);
  lc_rows_in_free(&in);
  return LC_OK;
}

lc_code lc_table_slots_of(const lc_table *t, const struct ArrowArray *keys, int32_t *slots, lc_error *error) {
  if (keys == NULL || keys->length == 0) return LC_OK;
  uint64_t *hashes = lc_malloc((size_t)keys->length * sizeof *hashes);
  if (hashes == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to hash %lld rows", (long long)keys->length);
  lc_code code =
      lc_hash_rows(keys, t->key_columns, t->key_count, t->slot_in_key, t->slot_by_count, hashes, error);
  for (int64_t row = 0; code == LC_OK && row < keys->length; row++)
    slots[row] = (int32_t)lc_slot(t, hashes[row]);
  lc_free(hashes);
  return code;
}

/* ---- marked ---- */

/* One changed row is changed no more; a deleted one is forgotten. */
static void mark_row(lc_table *t, const uint8_t *flags, uint32_t in_page, uint32_t row) {
  uint32_t page_rows = 1u << t->page_shift;
  if (in_page + LC_AHEAD < page_rows && (flags[in_page + LC_AHEAD] & (LC_ROW_USED | LC_ROW_LIVE)) == LC_ROW_USED)
    lc_places_prefetch(&t->by_key, lc_load_u32(lc_record(t, row + LC_AHEAD) + LC_AT_TAG));
  if (flags[in_page] & LC_ROW_LIVE) {
    lc_row_flag(t, row, LC_ROW_USED | LC_ROW_LIVE);
  } else {
    lc_row_forget(t, row);
    t->kept--;
  }
}

void lc_table_mark(lc_table *t) {
  uint32_t page_rows = 1u << t->page_shift;
  for (int64_t p = 0; p < t->page_count; p++) {
    if (t->pages[p].dirty == 0) continue;
    const uint8_t *flags = lc_row_flags(t, p);
    for (uint32_t word = 0; word < page_rows; word += LC_FLAGS_WORD) {
      if (!lc_flags_any(flags + word, LC_ROW_DIRTY)) continue;
      for (uint32_t i = word; i < word + LC_FLAGS_WORD && i < page_rows; i++)
        if (flags[i] & LC_ROW_DIRTY) mark_row(t, flags, i, (uint32_t)p * page_rows + i);
    }
  }
  if (t->rows == 0 && t->kept == 0 && t->next_row > 0) lc_rows_reset(t);
}

void lc_table_clear(lc_table *t) {
  uint32_t page_rows = 1u << t->page_shift;
  for (int64_t p = 0; p < t->page_count && t->rows > 0; p++) {
    const uint8_t *flags = lc_row_flags(t, p);
    for (uint32_t i = 0; i < page_rows; i++)
      if (flags[i] & LC_ROW_LIVE) lc_row_drop(t, (uint32_t)p * page_rows + i, false);
  }
}
