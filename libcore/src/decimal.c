/* The public face of decimals: columns of text or bytes to decimals and back. */
#include "libcore/decimal.h"

#include "libcore/json.h"
#include "number.h"

static lc_code check(const struct ArrowArray *values, int32_t type, int32_t precision, int32_t scale, lc_error *error) {
  lc_column layout = {.type = type};
  lc_column decimal = {precision <= 38 ? LC_TYPE_DECIMAL128 : LC_TYPE_DECIMAL256, 0, precision, scale};
  if (!lc_column_valid(&decimal)) return lc_fail(error, LC_INVALID, -1, -1, "no decimal(%d,%d)", precision, scale);
  return lc_check_batch(values, &layout, 1, error);
}

static const uint8_t *bytes_at(const struct ArrowArray *values, int64_t i, const uint8_t **end) {
  static const uint8_t nothing[1] = {0};
  const struct ArrowArray *child = values->children[0];
  const int32_t *offsets = (const int32_t *)child->buffers[1] + child->offset + values->offset + i;
  const uint8_t *data = child->buffers[2] == NULL ? nothing : child->buffers[2];
  *end = data + offsets[1];
  return data + offsets[0];
}

static lc_code read_all(const struct ArrowArray *values, bool text, int32_t wire_scale, int32_t precision,
                        int32_t scale, struct ArrowArray *out, int32_t *codes, lc_error *error) {
  lc_code code = check(values, LC_TYPE_BINARY, precision, scale, error);
  if (code != LC_OK) return code;
  lc_decimal_target target = lc_decimal_target_make(precision, scale, precision > 38);
  lc_column layout = {precision > 38 ? LC_TYPE_DECIMAL256 : LC_TYPE_DECIMAL128, 0, precision, scale};
  code = lc_batch_new(out, &layout, 1, values->length, error);
  if (code != LC_OK) return code;
  uint8_t *cells = lc_child_values(out, 0), *validity = lc_child_validity(out, 0);
  for (int64_t i = 0; i < values->length; i++) {
    codes[i] = 0;
    const uint8_t *end, *p = bytes_at(values, i, &end);
    bool valid = lc_is_valid(values->children[0], i + values->offset);
    if (valid) {
      uint8_t *cell = cells + i * target.width;
      codes[i] = text ? lc_decimal_from_text(p, end, &target, cell)
                      : lc_decimal_from_bytes(p, (size_t)(end - p), wire_scale, &target, cell);
      if (codes[i] < 0) {
        out->release(out);
        return lc_fail(error, LC_NO_MEMORY, i, -1, "no memory for a number of %lld bytes", (long long)(end - p));
      }
    }
    if (!valid || codes[i] != 0) lc_bit_clear(validity, i);
  }
  lc_batch_finish(out, values->length);
  return LC_OK;
}

lc_code lc_decimal_read_text(const struct ArrowArray *values, int32_t precision, int32_t scale, struct ArrowArray *out,
                             int32_t *codes, lc_error *error) {
  return read_all(values, true, 0, precision, scale, out, codes, error);
}

lc_code lc_decimal_read_bytes(const struct ArrowArray *values, int32_t wire_scale, int32_t precision, int32_t scale,
                              struct ArrowArray *out, int32_t *codes, lc_error *error) {
  return read_all(values, false, wire_scale, precision, scale, out, codes, error);
}

lc_code lc_decimal_write_text(const struct ArrowArray *values, const lc_column *layout, struct ArrowArray *out,
                              lc_error *error) {
  static const lc_column text = {.type = LC_TYPE_UTF8};
  if (layout == NULL || (layout->type != LC_TYPE_DECIMAL128 && layout->type != LC_TYPE_DECIMAL256))
    return lc_fail(error, LC_INVALID, -1, -1, "expected a decimal column");
  lc_code code = lc_check_batch(values, layout, 1, error);
  if (code == LC_OK) code = lc_batch_new(out, &text, 1, values->length, error);
  if (code != LC_OK) return code;
  const struct ArrowArray *child = values->children[0];
  int32_t width = lc_type_width(layout), *offsets = lc_child_values(out, 0);
  const uint8_t *cells = (const uint8_t *)child->buffers[1] + (child->offset + values->offset) * width;
  lc_buffer data = {0};
  for (int64_t i = 0; i < values->length; i++) {
    if (lc_is_valid(child, i + values->offset)) {
      if (!lc_buffer_reserve(&data, 80)) {
        code = data.size + 80 > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY;
        lc_buffer_free(&data);
        out->release(out);
        return lc_fail(error, code, i, -1, "no room for the text of %lld decimals", (long long)values->length);
      }
      data.size += lc_decimal_text(cells + i * width, width, layout->scale, data.data + data.size);
    } else {
      lc_bit_clear(lc_child_validity(out, 0), i);
    }
    offsets[i + 1] = (int32_t)data.size;
  }
  lc_child_give_data(out, 0, &data);
  lc_batch_finish(out, values->length);
  return LC_OK;
}
