/* Texts of a code page as UTF-8. */
#include "sapfmt_internal.h"
#include "view.h"

enum { PAGE_UTF8 = 1, PAGE_UTF16_LE = 2, PAGE_UTF16_BE = 3, PAGE_TABLE = 4 };

/* UTF-8 of a code point; at most 4 bytes. */
static inline uint8_t *put_point(uint8_t *out, uint32_t point) {
  if (point < 0x80) {
    *out++ = (uint8_t)point;
    return out;
  }
  if (point < 0x800) {
    *out++ = (uint8_t)(0xC0 | point >> 6);
  } else {
    if (point < 0x10000) {
      *out++ = (uint8_t)(0xE0 | point >> 12);
    } else {
      *out++ = (uint8_t)(0xF0 | point >> 18);
      *out++ = (uint8_t)(0x80 | (point >> 12 & 0x3F));
    }
    *out++ = (uint8_t)(0x80 | (point >> 6 & 0x3F));
  }
  *out++ = (uint8_t)(0x80 | (point & 0x3F));
  return out;
}

/* These append to out (room for 4 bytes a character) and give the place of the first byte that is none, or -1. */
static int64_t from_table(const uint8_t *p, int64_t size, const uint32_t *table, uint8_t **out) {
  for (int64_t i = 0; i < size; i++) {
    if (table[p[i]] == UINT32_MAX) return i;
    *out = put_point(*out, table[p[i]]);
  }
  return -1;
}

static int64_t from_utf16(const uint8_t *p, int64_t size, bool big, uint8_t **out) {
  int64_t i = 0;
  for (; i + 2 <= size; i += 2) {
    uint32_t unit = big ? (uint32_t)p[i] << 8 | p[i + 1] : (uint32_t)p[i + 1] << 8 | p[i];
    if (unit >= 0xDC00 && unit < 0xE000) return i;
    if (unit >= 0xD800 && unit < 0xDC00) {
      if (i + 4 > size) return i;
      uint32_t low = big ? (uint32_t)p[i + 2] << 8 | p[i + 3] : (uint32_t)p[i + 3] << 8 | p[i + 2];
      if (low < 0xDC00 || low >= 0xE000) return i;
      unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
      i += 2;
    }
    *out = put_point(*out, unit);
  }
  return i < size ? i : -1;
}

static lc_code transcode(const struct ArrowArray *values, const lc_column *input, int32_t code_page,
                         const uint32_t *table, lc_buffer *data, lc_sap_result *made) {
  lc_view view = lc_view_of(values, input, 0);
  const lc_kernels *kernels = lc_kernels_pick(0);
  int32_t *offsets = lc_child_values(&made->batch, 0);
  int64_t capacity = 0, bad = -1;
  for (int64_t row = 0; row < view.rows; row++, bad = -1) {
    bool valid = lc_view_valid(&view, row);
    const uint8_t *p = valid ? lc_view_bytes(&view, row) : NULL;
    int64_t size = valid ? lc_view_size(&view, row) : 0;
    size_t room = (size_t)size * (code_page == PAGE_TABLE ? 4 : 2) + 1; /* a unit of UTF-16 takes at most 3 bytes */
    if (!lc_buffer_reserve(data, room)) return data->size + room > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY;
    uint8_t *out = data->data + data->size;
    if (code_page == PAGE_TABLE)
      bad = from_table(p, size, table, &out);
    else if (code_page != PAGE_UTF8)
      bad = from_utf16(p, size, code_page == PAGE_UTF16_BE, &out);
    else if (size > 0 && (bad = kernels->utf8_fault(p, (size_t)size)) < 0) {
      memcpy(out, p, (size_t)size);
      out += size;
    }
    if (!valid || bad >= 0) lc_bit_clear(lc_child_validity(&made->batch, 0), row);
    lc_sap_error fault = {.row = row, .position = bad, .code = LC_SAP_UTF8, .field = 0};
    if (bad < 0)
      data->size = (size_t)(out - data->data);
    else if (lc_sap_errors_add(made, &capacity, &fault) != LC_OK)
      return LC_NO_MEMORY;
    offsets[row + 1] = (int32_t)data->size;
  }
  lc_child_give_data(&made->batch, 0, data);
  lc_batch_finish(&made->batch, view.rows);
  return LC_OK;
}

lc_code lc_sap_transcode(const struct ArrowArray *values, int32_t code_page, const uint32_t *table, lc_sap_result *out,
                         lc_error *error) {
  static const lc_column input = {.type = LC_TYPE_BINARY}, text = {.type = LC_TYPE_UTF8};
  if (code_page < PAGE_UTF8 || code_page > PAGE_TABLE || (table == NULL) != (code_page != PAGE_TABLE))
    return lc_fail(error, LC_INVALID, -1, -1, "expected a code page 1 to 4, with a table for 4 alone");
  for (int32_t i = 0; table != NULL && i < 256; i++)
    if (table[i] != UINT32_MAX && (table[i] > 0x10FFFF || (table[i] >= 0xD800 && table[i] < 0xE000)))
      return lc_fail(error, LC_INVALID, -1, -1, "byte %d: %u is no character", i, table[i]);
  lc_code code = lc_check_batch(values, &input, 1, error);
  if (code != LC_OK) return code;
  lc_sap_result made = {0};
  lc_buffer data = {0};
  code = lc_batch_new(&made.batch, &text, 1, values->length, error);
  if (code == LC_OK) code = transcode(values, &input, code_page, table, &data, &made);
  if (code != LC_OK) {
    lc_buffer_free(&data);
    lc_sap_result_free(&made);
    return lc_fail(error, code, -1, -1, "no room for the text of %lld values", (long long)values->length);
  }
  *out = made;
  return LC_OK;
}
