/* Allocation, errors, buffers and Arrow arrays: the ground the kernels stand on. */
#include "common.h"

#include <stdarg.h>
#include <stdio.h>

#ifdef LC_TEST_ALLOC
int64_t lc_test_alloc_fail_at = 0;
int lc_test_alloc_persist = 0;
int64_t lc_test_alloc_count = 0;

static bool alloc_fails(void) {
  lc_test_alloc_count++;
  if (lc_test_alloc_fail_at <= 0) return false;
  if (lc_test_alloc_fail_at > 1) {
    lc_test_alloc_fail_at--;
    return false;
  }
  if (!lc_test_alloc_persist) lc_test_alloc_fail_at = 0;
  return true;
}
#else
static inline bool alloc_fails(void) { return false; }
#endif

void* lc_malloc(size_t size) { return alloc_fails() ? NULL : malloc(size ? size : 1); }
void* lc_calloc(size_t count, size_t size) { return alloc_fails() ? NULL : calloc(count ? count : 1, size ? size : 1); }
void* lc_realloc(void* old, size_t size) { return alloc_fails() ? NULL : realloc(old, size ? size : 1); }
void lc_free(void* memory) { free(memory); }

lc_code lc_fail(lc_error* error, lc_code code, int64_t row, int64_t position, const char* format, ...) {
  if (error != NULL) {
    error->row = row;
    error->position = position;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
  }
  return code;
}

bool lc_buffer_reserve(lc_buffer* buffer, size_t more) {
  if (more > INT32_MAX || buffer->size + more > INT32_MAX) return false; /* int32 offsets end here */
  size_t need = buffer->size + more;
  if (need <= buffer->capacity) return true;
  size_t capacity = buffer->capacity < 128 ? 256 : buffer->capacity * 2; /* at most 2^32: cannot overflow size_t */
  if (capacity < need) capacity = need;
  uint8_t* data = lc_realloc(buffer->data, capacity);
  if (data == NULL) return false;
  buffer->data = data;
  buffer->capacity = capacity;
  return true;
}

bool lc_buffer_append(lc_buffer* buffer, const void* data, size_t size) {
  if (!lc_buffer_reserve(buffer, size)) return false;
  if (size > 0) memcpy(buffer->data + buffer->size, data, size);
  buffer->size += size;
  return true;
}

void lc_buffer_free(lc_buffer* buffer) {
  lc_free(buffer->data);
  *buffer = (lc_buffer){0};
}

int32_t lc_type_width(const lc_column* column) {
  switch (column->type) {
    case LC_TYPE_INT8:
      return 1;
    case LC_TYPE_INT16:
      return 2;
    case LC_TYPE_INT32:
    case LC_TYPE_FLOAT32:
    case LC_TYPE_DATE32:
      return 4;
    case LC_TYPE_INT64:
    case LC_TYPE_FLOAT64:
    case LC_TYPE_TIME64:
    case LC_TYPE_TIMESTAMP:
      return 8;
    case LC_TYPE_DECIMAL128:
      return 16;
    case LC_TYPE_DECIMAL256:
      return 32;
    case LC_TYPE_FIXED:
      return column->width;
    default:
      return 0;
  }
}

bool lc_column_valid(const lc_column* column) {
  if (column->type < LC_TYPE_BOOL || column->type > LC_TYPE_FIXED) return false;
  if (column->type == LC_TYPE_FIXED && (column->width < 0 || column->width > 1 << 20)) return false;
  if (column->type == LC_TYPE_DECIMAL128 || column->type == LC_TYPE_DECIMAL256) {
    int32_t most = column->type == LC_TYPE_DECIMAL128 ? 38 : 76;
    if (column->precision < 1 || column->precision > most || column->scale < 0 || column->scale > column->precision)
      return false;
  }
  return true;
}

lc_code lc_check_batch(const struct ArrowArray* batch, const lc_column* columns, int64_t column_count,
                       lc_error* error) {
  if (batch == NULL || (columns == NULL && column_count > 0))
    return lc_fail(error, LC_INVALID, -1, -1, "batch or columns is NULL");
  if (batch->n_children != column_count)
    return lc_fail(error, LC_INVALID, -1, -1, "expected %lld columns, found %lld", (long long)column_count,
                   (long long)batch->n_children);
  if (batch->null_count > 0) return lc_fail(error, LC_INVALID, -1, -1, "a batch with NULL rows is not a record batch");
  for (int64_t c = 0; c < column_count; c++) {
    const struct ArrowArray* child = batch->children[c];
    if (!lc_column_valid(&columns[c]))
      return lc_fail(error, LC_INVALID, -1, -1, "column %lld: unknown layout %d", (long long)c, columns[c].type);
    if (child->length < batch->length + batch->offset)
      return lc_fail(error, LC_INVALID, -1, -1, "column %lld: expected %lld rows, found %lld", (long long)c,
                     (long long)(batch->length + batch->offset), (long long)child->length);
    int64_t buffers = lc_type_is_variable(&columns[c]) ? 3 : 2;
    if (child->n_buffers != buffers)
      return lc_fail(error, LC_INVALID, -1, -1, "column %lld: expected %lld buffers, found %lld", (long long)c,
                     (long long)buffers, (long long)child->n_buffers);
    if (batch->length > 0 && child->buffers[1] == NULL && !(columns[c].type == LC_TYPE_FIXED && columns[c].width == 0))
      return lc_fail(error, LC_INVALID, -1, -1, "column %lld: no value buffer", (long long)c);
  }
  return LC_OK;
}

static void release_child(struct ArrowArray* array) {
  for (int64_t b = 0; b < array->n_buffers; b++) lc_free((void*)(uintptr_t)array->buffers[b]);
  lc_free(array->buffers);
  array->release = NULL;
}

static void release_batch(struct ArrowArray* array) {
  for (int64_t c = 0; c < array->n_children; c++) {
    struct ArrowArray* child = array->children[c];
    if (child != NULL && child->release != NULL) child->release(child);
    lc_free(child);
  }
  lc_free(array->children);
  lc_free(array->buffers);
  array->release = NULL;
}

static bool child_new(struct ArrowArray* child, const lc_column* column, int64_t row_count, bool zeroed) {
  bool variable = lc_type_is_variable(column);
  *child = (struct ArrowArray){
      .length = row_count, .null_count = -1, .n_buffers = variable ? 3 : 2, .release = release_child};
  child->buffers = lc_calloc((size_t)child->n_buffers, sizeof(void*));
  if (child->buffers == NULL) {
    child->n_buffers = 0;
    return false;
  }
  size_t rows = (size_t)row_count;
  size_t size = variable                       ? (rows + 1) * 4
                : column->type == LC_TYPE_BOOL ? LC_BITMAP_BYTES(rows)
                                               : rows * (size_t)lc_type_width(column);
  uint8_t* validity = lc_malloc(LC_BITMAP_BYTES(rows));
  child->buffers[0] = validity;
  child->buffers[1] = zeroed || variable ? lc_calloc(size, 1) : lc_malloc(size);
  if (validity == NULL || child->buffers[1] == NULL) return false;
  memset(validity, 0xff, LC_BITMAP_BYTES(rows));
  return true;
}

static lc_code batch_new(struct ArrowArray* out, const lc_column* columns, int64_t column_count, int64_t row_count,
                         bool zeroed, lc_error* error) {
  if (row_count < 0 || row_count >= INT32_MAX || column_count < 0 || column_count > 1 << 16)
    return lc_fail(error, LC_INVALID, -1, -1, "expected 0..2^31-2 rows and 0..65536 columns, found %lld and %lld",
                   (long long)row_count, (long long)column_count);
  struct ArrowArray batch = {
      .length = row_count, .null_count = 0, .n_buffers = 1, .n_children = column_count, .release = release_batch};
  batch.buffers = lc_calloc(1, sizeof(void*));
  batch.children = lc_calloc((size_t)column_count, sizeof(struct ArrowArray*));
  bool good = batch.buffers != NULL && batch.children != NULL;
  if (batch.children == NULL) batch.n_children = 0;
  for (int64_t c = 0; good && c < column_count; c++) {
    batch.children[c] = lc_calloc(1, sizeof(struct ArrowArray));
    good = batch.children[c] != NULL && child_new(batch.children[c], &columns[c], row_count, zeroed);
  }
  if (!good) {
    release_batch(&batch);
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld rows of %lld columns", (long long)row_count,
                   (long long)column_count);
  }
  *out = batch;
  return LC_OK;
}

lc_code lc_batch_new(struct ArrowArray* out, const lc_column* columns, int64_t column_count, int64_t row_count,
                     lc_error* error) {
  return batch_new(out, columns, column_count, row_count, true, error);
}

lc_code lc_batch_room(struct ArrowArray* out, const lc_column* columns, int64_t column_count, int64_t row_count,
                      lc_error* error) {
  return batch_new(out, columns, column_count, row_count, false, error);
}

void lc_child_give_data(struct ArrowArray* batch, int64_t c, lc_buffer* data) {
  struct ArrowArray* child = batch->children[c];
  lc_free((void*)(uintptr_t)child->buffers[2]);
  child->buffers[2] = data->data;
  *data = (lc_buffer){0};
}

void lc_batch_finish(struct ArrowArray* batch, int64_t row_count) {
  batch->length = row_count;
  for (int64_t c = 0; c < batch->n_children; c++) {
    struct ArrowArray* child = batch->children[c];
    child->length = row_count;
    const uint8_t* validity = child->buffers[0];
    int64_t valid = 0;
    int64_t words = row_count >> 6;
    for (int64_t i = 0; i < words; i++) {
      uint64_t word;
      memcpy(&word, validity + 8 * i, 8);
      valid += __builtin_popcountll(word);
    }
    for (int64_t i = 8 * words; i < row_count >> 3; i++) valid += __builtin_popcount(validity[i]);
    for (int64_t i = row_count & ~(int64_t)7; i < row_count; i++) valid += lc_bit_get(validity, i);
    child->null_count = row_count - valid;
  }
}
