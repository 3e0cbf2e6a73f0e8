/* A column as the kernels read it: pointers that already stand on the first row, whatever the slice. */
#ifndef LIBCORE_VIEW_H
#define LIBCORE_VIEW_H

#include "common.h"

typedef struct lc_view {
  const uint8_t *validity; /* bits, to be read at row + offset; NULL: no NULL in the column */
  const uint8_t *values;   /* fixed width: the first row's value; BOOL: bits, to be read at row + offset */
  const int32_t *offsets;  /* variable width: the first row's offset */
  const uint8_t *data;     /* variable width: the bytes that offsets point into */
  int64_t offset, rows;    /* rows to add for bitmaps; rows in the batch */
  int32_t type, width;     /* lc_type; bytes a value, 0 for BOOL and variable width */
} lc_view;

/* The view of column c of a batch that lc_check_batch accepted. */
static inline lc_view lc_view_of(const struct ArrowArray *batch, const lc_column *columns, int64_t c) {
  const struct ArrowArray *child = batch->children[c];
  lc_view view = {.offset = child->offset + batch->offset,
                  .rows = batch->length,
                  .type = columns[c].type,
                  .width = lc_type_width(&columns[c])};
  if (batch->length == 0) return view;
  view.validity = child->null_count == 0 ? NULL : child->buffers[0];
  if (lc_type_is_variable(&columns[c])) {
    view.offsets = (const int32_t *)child->buffers[1] + view.offset;
    view.data = child->buffers[2];
  } else {
    view.values = child->buffers[1];
    if (view.width > 0) view.values += view.offset * view.width;
  }
  return view;
}

static inline bool lc_view_valid(const lc_view *view, int64_t row) {
  return view->validity == NULL || lc_bit_get(view->validity, row + view->offset);
}
static inline bool lc_view_bool(const lc_view *view, int64_t row) {
  return lc_bit_get(view->values, row + view->offset);
}
static inline int64_t lc_view_size(const lc_view *view, int64_t row) {
  return (int64_t)view->offsets[row + 1] - view->offsets[row];
}
/* The bytes of a variable value; not NULL even where it is empty and the column has no data buffer. */
static inline const uint8_t *lc_view_bytes(const lc_view *view, int64_t row) {
  return view->data == NULL ? (const uint8_t *)"" : view->data + view->offsets[row];
}

/* Loads that need no alignment: a column may stand anywhere in a buffer that somebody sliced. */
static inline int16_t lc_load_i16(const uint8_t *at) {
  int16_t v;
  memcpy(&v, at, sizeof v);
  return v;
}
static inline int32_t lc_load_i32(const uint8_t *at) {
  int32_t v;
  memcpy(&v, at, sizeof v);
  return v;
}
static inline int64_t lc_load_i64(const uint8_t *at) {
  int64_t v;
  memcpy(&v, at, sizeof v);
  return v;
}
static inline uint64_t lc_load_u64(const uint8_t *at) {
  uint64_t v;
  memcpy(&v, at, sizeof v);
  return v;
}
static inline uint32_t lc_load_u32(const uint8_t *at) {
  uint32_t v;
  memcpy(&v, at, sizeof v);
  return v;
}
static inline float lc_load_f32(const uint8_t *at) {
  float v;
  memcpy(&v, at, sizeof v);
  return v;
}
static inline double lc_load_f64(const uint8_t *at) {
  double v;
  memcpy(&v, at, sizeof v);
  return v;
}

/* The magnitude of a decimal as 64-bit limbs, lowest first; upper limbs are 0 for a decimal128. */
static inline bool lc_load_decimal(const uint8_t *at, int32_t width, uint64_t limbs[4]) {
  int32_t count = width / 8;
  limbs[2] = limbs[3] = 0;
  for (int32_t i = 0; i < count; i++)
    limbs[i] = lc_load_u64(at + 8 * i);
  bool negative = limbs[count - 1] >> 63;
  if (!negative) return false;
  uint64_t carry = 1;
  for (int32_t i = 0; i < count; i++) {
    limbs[i] = ~limbs[i] + carry;
    carry = carry && limbs[i] == 0;
  }
  return true;
}

#endif
