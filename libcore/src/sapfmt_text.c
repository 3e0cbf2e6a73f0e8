/* Cells that stay text or bytes: CHAR, NUMC, ALPHA in and out, RAW, Base64; and the boolean of one character. */
#include "sapfmt_internal.h"

/* End the value of a row where the data now ends. */
static inline void close_row(lc_sap_column *column, int64_t row) {
  ((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->data.size;
}

/* Append bytes for which room was made. */
static inline void put(lc_sap_column *column, const uint8_t *p, int64_t size) {
  memcpy(column->data.data + column->data.size, p, (size_t)size);
  column->data.size += (size_t)size;
}

static inline bool all_digits(const uint8_t *p, int64_t size) {
  int64_t i = 0;
  for (; i + 8 <= size; i += 8)
    if (lc_digit_count(lc_load64(p + i)) != 8) return false;
  for (; i < size; i++)
    if (!lc_is_digit(p[i])) return false;
  return true;
}

static inline bool all_zeros(const uint8_t *p, int64_t size) {
  for (int64_t i = 0; i < size; i++)
    if (p[i] != '0') return false;
  return true;
}

/* ALPHA_IN: without blanks in front, digits alone filled up with zeros; ALPHA_OUT: digits alone without them. */
static void put_alpha(lc_sap_column *column, const uint8_t *p, int64_t size) {
  bool in = column->field->kind == LC_SAP_ALPHA_IN;
  for (; in && size > 0 && *p == ' '; size--)
    p++;
  if (size > 0 && all_digits(p, size)) {
    int64_t zeros = in ? column->field->length - size : 0;
    if (zeros > 0) {
      memset(column->data.data + column->data.size, '0', (size_t)zeros);
      column->data.size += (size_t)zeros;
    }
    for (; !in && size > 1 && *p == '0'; size--)
      p++;
  }
  put(column, p, size);
}

/* Copy short texts 16 bytes at a time: `from_end` and the room behind the data allow it. */
static inline void put_short(lc_sap_column *column, const uint8_t *p, int64_t size, const uint8_t *from_end) {
  uint8_t *out = column->data.data + column->data.size;
  if (size <= 16 && from_end - p >= 16)
    memcpy(out, p, 16);
  else
    memcpy(out, p, (size_t)size);
  column->data.size += (size_t)size;
}

void lc_sap_read_text(lc_sap_reader *r, lc_sap_column *column) {
  const lc_sap_field *field = column->field;
  bool alpha = field->kind != LC_SAP_CHAR;
  /* cells are parts of the rows; ALPHA_IN may make each as long as the field */
  int64_t room = r->bytes + (field->kind == LC_SAP_ALPHA_IN ? (int64_t)r->count * field->length : 0);
  if (r->failed != LC_OK || !lc_sap_reserve(r, column, room)) return;
  bool slack = column->data.capacity - column->data.size >= (size_t)room + 16;
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    int64_t bad = -1;
    if (cell->p == NULL || (cell->size == 0 && field->initial_null)) {
      lc_sap_null(r, column, i);
    } else if (!r->units && !lc_sap_is_ascii(cell->p, cell->size) &&
               (bad = r->kernels->utf8_fault(cell->p, (size_t)cell->size)) >= 0) {
      lc_sap_blame(r, i, LC_SAP_UTF8, column->index, cell->p + bad);
      lc_sap_null(r, column, i);
    } else if (alpha) {
      put_alpha(column, cell->p, cell->size);
    } else if (slack) {
      put_short(column, cell->p, cell->size, r->row[i] + r->size[i]);
    } else {
      put(column, cell->p, cell->size);
    }
    close_row(column, r->first + i);
  }
}

/* NUMC as an integer. */
static void numc_to_int(lc_sap_reader *r, lc_sap_column *column, int32_t i) {
  const lc_sap_cell *cell = &r->cell[i];
  int64_t value = 0;
  bool fits = true;
  for (int64_t k = 0; k < cell->size && fits; k++)
    fits = !__builtin_mul_overflow(value, 10, &value) && !__builtin_add_overflow(value, cell->p[k] - '0', &value);
  if (!fits || !lc_sap_store_int(column, r->first + i, value)) lc_sap_reject(r, column, i, LC_SAP_RANGE);
}

void lc_sap_read_numc(lc_sap_reader *r, lc_sap_column *column) {
  const lc_sap_field *field = column->field;
  bool text = field->type == LC_TYPE_UTF8;
  if (r->failed != LC_OK || (text && !lc_sap_reserve(r, column, r->bytes))) return;
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    if (cell->p == NULL || (cell->size == 0 && !text) || (field->initial_null && all_zeros(cell->p, cell->size)))
      lc_sap_null(r, column, i);
    else if (!all_digits(cell->p, cell->size))
      lc_sap_reject(r, column, i, LC_SAP_TYPE);
    else if (text)
      put(column, cell->p, cell->size);
    else
      numc_to_int(r, column, i);
    if (text) close_row(column, r->first + i);
  }
}

static int32_t hex_digit(uint8_t c) {
  if (lc_is_digit(c)) return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void lc_sap_read_raw(lc_sap_reader *r, lc_sap_column *column) {
  if (r->failed != LC_OK || !lc_sap_reserve(r, column, r->bytes)) return;
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    uint8_t *out = column->data.data + column->data.size;
    int32_t bad = cell->size & 1, seen = 0;
    for (int64_t k = 0; cell->p != NULL && k + 1 < cell->size; k += 2) {
      int32_t high = hex_digit(cell->p[k]), low = hex_digit(cell->p[k + 1]);
      bad |= high | low; /* negative as soon as one is */
      *out = (uint8_t)((uint32_t)high << 4 | (uint32_t)low);
      seen |= *out++;
    }
    if (cell->p == NULL || cell->size == 0 || (bad == 0 && seen == 0 && column->field->initial_null))
      lc_sap_null(r, column, i);
    else if (bad < 0 || (cell->size & 1))
      lc_sap_reject(r, column, i, LC_SAP_TYPE);
    else
      column->data.size = (size_t)(out - column->data.data);
    close_row(column, r->first + i);
  }
}

void lc_sap_read_base64(lc_sap_reader *r, lc_sap_column *column) {
  if (r->failed != LC_OK || !lc_sap_reserve(r, column, r->bytes)) return;
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    if (cell->p == NULL || cell->size == 0) {
      lc_sap_null(r, column, i);
    } else {
      int64_t size = lc_base64_decode(cell->p, (size_t)cell->size, column->data.data + column->data.size);
      if (size < 0)
        lc_sap_reject(r, column, i, LC_SAP_TYPE);
      else
        column->data.size += (size_t)size;
    }
    close_row(column, r->first + i);
  }
}

void lc_sap_read_bool(lc_sap_reader *r, lc_sap_column *column) {
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    if (cell->p == NULL || (cell->size == 1 && *cell->p == '-'))
      lc_sap_null(r, column, i);
    else if (cell->size == 1 && *cell->p == 'X')
      lc_bit_set(column->values, r->first + i);
    else if (cell->size != 0)
      lc_sap_reject(r, column, i, LC_SAP_TYPE);
  }
}
