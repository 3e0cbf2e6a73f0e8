/* OpenLogReplicator's messages split: the changes' texts, table by table, behind their positions. */
#include "libcore/openlogreplicator.h"

#include "openlogreplicator_walk.h"
#include "view.h"

enum { NAME_BYTES_MAX = 1000, TABLES_MAX = 10000 };

static const char HEAD[] = "{\"source\":{\"commit_scn\":\"", MIDDLE[] = "\",\"scn\":\"", TAIL[] = "\"},";

static int32_t digits(int64_t number) {
  int32_t count = 1;
  for (; number > 9; number /= 10)
    count++;
  return count;
}

static uint8_t *number_put(uint8_t *out, int64_t number) {
  int32_t count = digits(number);
  for (int32_t i = count - 1; i >= 0; i--, number /= 10)
    out[i] = (uint8_t)('0' + number % 10);
  return out + count;
}

static uint8_t *bytes_put(uint8_t *out, const void *text, size_t size) {
  memcpy(out, text, size);
  return out + size;
}

static uint8_t *change_put(uint8_t *out, const lc_olr_change *one, int64_t offset) {
  out = number_put(bytes_put(out, HEAD, sizeof HEAD - 1), offset);
  out = number_put(bytes_put(out, MIDDLE, sizeof MIDDLE - 1), one->place);
  return bytes_put(bytes_put(out, TAIL, sizeof TAIL - 1), one->at + 1, one->size - 1);
}

static size_t change_size(const lc_olr_change *one, int64_t offset) {
  return sizeof HEAD + sizeof MIDDLE + sizeof TAIL - 3 + (size_t)digits(offset) + (size_t)digits(one->place) +
         one->size - 1;
}

/* The next row and byte of each table. */
typedef struct place {
  int64_t row, byte;
} place;

/* Leave out the rows of other tables, count the rest; where each table begins, and the bytes of all. */
static int64_t tables_place(lc_olr_walk *w, const lc_view *offsets, int64_t *counts, place *next) {
  int64_t kept = 0, total = 0;
  for (int64_t i = 0; i < w->count; i++) {
    const lc_olr_change one = w->changes[i];
    w->others += one.table < 0;
    if (one.table < 0) continue;
    w->changes[kept++] = one;
    counts[one.table]++;
    next[one.table].byte += (int64_t)change_size(&one, lc_load_i64(offsets->values + 8 * one.message));
  }
  w->count = kept;
  for (int64_t t = 0, row = 0; t < w->table_count; t++) {
    int64_t bytes = next[t].byte;
    next[t] = (place){row, total};
    row += counts[t];
    total += bytes;
  }
  return total;
}

static void rows_put(const lc_olr_walk *w, const lc_view *offsets, const lc_view *times, place *next,
                     struct ArrowArray *batch, uint8_t *data) {
  int32_t *ends = (int32_t *)lc_child_values(batch, 0) + 1;
  int64_t *offset_of = lc_child_values(batch, 1), *time_of = lc_child_values(batch, 2);
  for (int64_t i = 0; i < w->count; i++) {
    const lc_olr_change *one = &w->changes[i];
    place *at = &next[one->table];
    offset_of[at->row] = lc_load_i64(offsets->values + 8 * one->message);
    time_of[at->row] = lc_load_i64(times->values + 8 * one->message);
    at->byte = change_put(data + at->byte, one, offset_of[at->row]) - data;
    ends[at->row++] = (int32_t)at->byte;
  }
}

static lc_code no_memory(lc_error *error) { return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for the changes"); }

static lc_code batch_make(lc_olr_walk *w, const lc_view *offsets, const lc_view *times, int64_t *counts, place *next,
                          struct ArrowArray *batch, lc_error *error) {
  static const lc_column layouts[3] = {{.type = LC_TYPE_BINARY}, {.type = LC_TYPE_INT64}, {.type = LC_TYPE_INT64}};
  int64_t total = tables_place(w, offsets, counts, next);
  if (total > INT32_MAX) return lc_fail(error, LC_CAPACITY, -1, -1, "the changes' texts pass 2^31-1 bytes");
  lc_buffer data = {0};
  if (!lc_buffer_reserve(&data, (size_t)total)) return no_memory(error);
  lc_code code = lc_batch_room(batch, layouts, 3, w->count, error);
  if (code != LC_OK) {
    lc_buffer_free(&data);
    return code;
  }
  rows_put(w, offsets, times, next, batch, data.data);
  lc_child_give_data(batch, 0, &data);
  lc_batch_finish(batch, w->count);
  return LC_OK;
}

static lc_code tables_check(const lc_olr_table *tables, int32_t table_count, lc_error *error) {
  if (tables == NULL || table_count < 1 || table_count > TABLES_MAX)
    return lc_fail(error, LC_INVALID, -1, -1, "expected 1..%d tables, found %d", TABLES_MAX, table_count);
  for (int32_t t = 0; t < table_count; t++) {
    const lc_olr_table *one = &tables[t];
    if (one->name == NULL || one->name_size < 1 || one->name_size > NAME_BYTES_MAX)
      return lc_fail(error, LC_INVALID, -1, -1, "table %d: expected a name of 1..%d bytes", t, NAME_BYTES_MAX);
    if (t > 0 && lc_olr_compare((const uint8_t *)tables[t - 1].name, (size_t)tables[t - 1].name_size, one->name,
                                (size_t)one->name_size) >= 0)
      return lc_fail(error, LC_INVALID, -1, -1, "table %d: expected names in ascending order, each once", t);
  }
  return LC_OK;
}

static lc_code offsets_check(const lc_view *offsets, lc_error *error) {
  for (int64_t i = 0; i < offsets->rows; i++)
    if (lc_load_i64(offsets->values + 8 * i) < 0)
      return lc_fail(error, LC_INVALID, i, -1, "expected an offset from 0 up, found %lld",
                     (long long)lc_load_i64(offsets->values + 8 * i));
  return LC_OK;
}

lc_code lc_openlogreplicator_split(const lc_olr_table *tables, int32_t table_count, const struct ArrowArray *messages,
                                   int32_t level, lc_olr_split *out, lc_error *error) {
  static const lc_column layouts[4] = {
      {.type = LC_TYPE_BINARY}, {.type = LC_TYPE_BINARY}, {.type = LC_TYPE_INT64}, {.type = LC_TYPE_INT64}};
  lc_olr_walk w = {.tables = tables, .table_count = table_count, .kernels = lc_kernels_pick(level)};
  lc_code code = tables_check(tables, table_count, error);
  if (code == LC_OK) code = lc_check_batch(messages, layouts, 4, error);
  if (code != LC_OK) return code;
  if (out == NULL || w.kernels == NULL)
    return lc_fail(error, LC_INVALID, -1, -1, "out is NULL, or this machine has no vector level %d", level);
  lc_view values = lc_view_of(messages, layouts, 1), offsets = lc_view_of(messages, layouts, 2),
          times = lc_view_of(messages, layouts, 3);
  code = offsets_check(&offsets, error);
  if (code != LC_OK) return code;
  for (w.message = 0; w.message < values.rows && !w.failed; w.message++)
    if (lc_view_valid(&values, w.message))
      lc_olr_message(&w, lc_view_bytes(&values, w.message), lc_view_size(&values, w.message));
  *out = (lc_olr_split){.counts = lc_calloc((size_t)table_count, sizeof *out->counts)};
  place *next = lc_calloc((size_t)table_count, sizeof *next);
  code = w.failed || out->counts == NULL || next == NULL
             ? no_memory(error)
             : batch_make(&w, &offsets, &times, out->counts, next, &out->batch, error);
  lc_free(next);
  if (code == LC_OK) {
    out->others = w.others;
    out->ddl_count = w.ddl_count;
    out->ddl = w.ddls;
    out->error_count = w.error_count;
    out->errors = w.errors;
    w.ddls = NULL;
    w.errors = NULL;
  } else {
    lc_free(out->counts);
    *out = (lc_olr_split){0};
  }
  lc_olr_walk_free(&w);
  return code;
}

void lc_openlogreplicator_free(lc_olr_split *split) {
  if (split->batch.release != NULL) split->batch.release(&split->batch);
  lc_free(split->counts);
  lc_free(split->ddl);
  lc_free(split->errors);
  *split = (lc_olr_split){0};
}
