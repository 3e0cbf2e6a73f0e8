/* Copy chosen rows of one column: a loop a width, so that the compiler turns each copy into one or two moves. */
#include "gather.h"

/* Room behind the last byte of a variable column, so that short values are copied as one block of this size. */
#define SLACK_BYTES 16

static void gather_validity(const lc_view *view, const int32_t *rows, int64_t count, bool optional, uint8_t *bits) {
  if (view->validity == NULL && !optional) return; /* lc_batch_new set all bits */
  uint8_t byte = 0;
  for (int64_t i = 0; i < count; i++) {
    bool valid = !(optional && rows[i] < 0) && lc_view_valid(view, rows[i]);
    byte |= (uint8_t)(valid << (i & 7));
    if ((i & 7) == 7) {
      bits[i >> 3] = byte;
      byte = 0;
    }
  }
  if (count & 7) bits[count >> 3] = byte;
}

#define GATHER_WIDTH(bytes)           \
  for (int64_t i = 0; i < count; i++) \
  memcpy(to + i * (bytes), from + (int64_t)rows[i] * (bytes), (bytes))

static void gather_fixed(const uint8_t *from, int32_t width, const int32_t *rows, int64_t count, uint8_t *to) {
  switch (width) {
    case 1: GATHER_WIDTH(1); break;
    case 2: GATHER_WIDTH(2); break;
    case 4: GATHER_WIDTH(4); break;
    case 8: GATHER_WIDTH(8); break;
    case 16: GATHER_WIDTH(16); break;
    case 32: GATHER_WIDTH(32); break;
    default: GATHER_WIDTH((int64_t)width); break;
  }
}

static void gather_fixed_optional(const lc_view *view, const int32_t *rows, int64_t count, uint8_t *to) {
  for (int64_t i = 0; i < count; i++, to += view->width)
    if (rows[i] >= 0) memcpy(to, view->values + (int64_t)rows[i] * view->width, (size_t)view->width);
}

static void gather_bool(const lc_view *view, const int32_t *rows, int64_t count, bool optional, uint8_t *bits) {
  uint8_t byte = 0;
  for (int64_t i = 0; i < count; i++) {
    bool value = !(optional && rows[i] < 0) && lc_view_bool(view, rows[i]);
    byte |= (uint8_t)(value << (i & 7));
    if ((i & 7) == 7) {
      bits[i >> 3] = byte;
      byte = 0;
    }
  }
  if (count & 7) bits[count >> 3] = byte;
}

static void copy_bytes(const lc_view *view, const int32_t *rows, int64_t count, bool optional, const int32_t *offsets,
                       const uint8_t *limit, uint8_t *to) {
  for (int64_t i = 0; i < count; i++) {
    if (optional && rows[i] < 0) continue;
    int32_t size = offsets[i + 1] - offsets[i];
    const uint8_t *from = view->data + view->offsets[rows[i]];
    /* Both sides have the room: what is written too far is overwritten by the next value or lies in the slack. */
    if (size <= SLACK_BYTES && limit - from >= SLACK_BYTES)
      memcpy(to + offsets[i], from, SLACK_BYTES);
    else
      memcpy(to + offsets[i], from, (size_t)size);
  }
}

static lc_code gather_variable(const lc_view *view, const int32_t *rows, int64_t count, bool optional,
                               struct ArrowArray *out, int64_t c, lc_error *error) {
  int32_t *offsets = lc_child_values(out, c);
  int64_t total = 0;
  for (int64_t i = 0; i < count; i++) {
    offsets[i] = (int32_t)total;
    if (!(optional && rows[i] < 0)) total += lc_view_size(view, rows[i]);
    if (total > INT32_MAX - SLACK_BYTES)
      return lc_fail(error, LC_CAPACITY, i, -1, "column %lld: expected at most 2^31-1 bytes in one batch",
                     (long long)c);
  }
  offsets[count] = (int32_t)total;
  lc_buffer data = {0};
  data.data = lc_malloc((size_t)total + SLACK_BYTES);
  if (data.data == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld bytes of column %lld", (long long)total,
                   (long long)c);
  if (view->data != NULL)
    copy_bytes(view, rows, count, optional, offsets, view->data + view->offsets[view->rows], data.data);
  lc_child_give_data(out, c, &data);
  return LC_OK;
}

lc_code lc_gather(const lc_view *view, const int32_t *rows, int64_t count, bool optional, struct ArrowArray *out,
                  int64_t c, lc_error *error) {
  gather_validity(view, rows, count, optional, lc_child_validity(out, c));
  if (view->offsets != NULL) return gather_variable(view, rows, count, optional, out, c, error);
  if (view->values == NULL) return LC_OK; /* no rows, or values of width 0 */
  uint8_t *to = lc_child_values(out, c);
  if (view->type == LC_TYPE_BOOL)
    gather_bool(view, rows, count, optional, to);
  else if (optional)
    gather_fixed_optional(view, rows, count, to);
  else
    gather_fixed(view->values, view->width, rows, count, to);
  return LC_OK;
}
