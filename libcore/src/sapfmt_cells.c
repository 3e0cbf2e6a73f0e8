/* Where the cells of a field stand: by offset, by characters, or between delimiters. */
#include "sapfmt_internal.h"

bool lc_sap_is_ascii(const uint8_t *p, int64_t size) {
  uint64_t seen = 0;
  int64_t i = 0;
  for (; i + 8 <= size; i += 8)
    seen |= lc_load64(p + i);
  if (size >= 8) return ((seen | lc_load64(p + size - 8)) & LC_HIGHS) == 0;
  for (; i < size; i++)
    seen |= p[i];
  return (seen & LC_HIGHS) == 0;
}

/* Whether the reader of a kind wants the cell as it stands. */
static inline bool is_binary(const lc_sap_field *field) { return field->kind == LC_SAP_PACKED; }

/* The cell of `size` bytes at p, its trailing blanks cut. */
static inline lc_sap_cell cell_of(const lc_sap_field *field, const uint8_t *p, int64_t size) {
  return (lc_sap_cell){p, is_binary(field) ? size : lc_sap_trimmed(p, size)};
}

/* A row whose characters are bytes: the cell at the field's offset, as far as the row goes. */
static inline void find_easy(lc_sap_reader *r, int32_t f, const lc_sap_field *field, int32_t i) {
  int64_t size = r->size[i], offset = field->offset;
  if (f > 0 && r->plan->delimiter != 0 && (size < offset || r->row[i][offset - 1] != r->plan->delimiter)) {
    lc_sap_blame(r, i, LC_SAP_DELIMITER, f, r->row[i] + (size < offset ? size : offset - 1));
    r->state[i] = LC_SAP_DEAD;
    r->all_easy = false;
    r->cell[i].p = NULL;
    return;
  }
  int64_t left = size > offset ? size - offset : 0;
  int64_t length = field->length > 0 && field->length < left ? field->length : left;
  r->cell[i] = cell_of(field, r->row[i] + (left > 0 ? offset : size), length);
}

/* Move on by so many UTF-16 code units, or to the row's end; false at a character that would be divided. */
static bool move_on(lc_sap_reader *r, int32_t i, int64_t units) {
  const uint8_t *p = r->row[i] + r->byte[i], *end = r->row[i] + r->size[i];
  r->unit[i] += units;
  while (units > 0 && p < end) {
    int32_t wide = *p >= 0xF0 ? 2 : 1;
    if (wide > units) {
      r->byte[i] = p - r->row[i];
      return false;
    }
    units -= wide;
    p += *p < 0x80 ? 1 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : 4;
  }
  r->byte[i] = p - r->row[i];
  return true;
}

/* No cell of this row can be found any more. */
static void give_up(lc_sap_reader *r, int32_t f, int32_t i, int32_t code, int64_t position) {
  lc_sap_blame(r, i, code, f, r->row[i] + position);
  r->state[i] = LC_SAP_DEAD;
  r->cell[i].p = NULL;
}

/* A row with wide characters, padded. */
static void find_by_units(lc_sap_reader *r, int32_t f, const lc_sap_field *field, int32_t i) {
  int32_t delimiter = f > 0 ? r->plan->delimiter : 0;
  if (!move_on(r, i, field->offset - r->unit[i] - (delimiter != 0))) {
    give_up(r, f, i, LC_SAP_UTF8, r->byte[i]);
    return;
  }
  if (delimiter != 0) {
    if (r->byte[i] >= r->size[i] || r->row[i][r->byte[i]] != delimiter) {
      give_up(r, f, i, LC_SAP_DELIMITER, r->byte[i]);
      return;
    }
    r->byte[i]++;
    r->unit[i]++;
  }
  int64_t start = r->byte[i];
  if (!move_on(r, i, field->length > 0 ? field->length : INT32_MAX)) {
    give_up(r, f, i, LC_SAP_UTF8, r->byte[i]);
    return;
  }
  r->cell[i] = cell_of(field, r->row[i] + start, r->byte[i] - start);
}

/* UTF-16 code units of valid UTF-8, counted only as far as above `most`. */
static bool is_longer(const uint8_t *p, int64_t size, int64_t most, bool units) {
  if (!units) return size > most;
  int64_t count = 0;
  for (int64_t i = 0; i < size && count <= most; i++)
    count += (p[i] & 0xC0) == 0x80 ? 0 : p[i] >= 0xF0 ? 2 : 1;
  return count > most;
}

/* A row of too many or too few cells: told before what is wrong with the cells that it was cut into, as these may be
 * none.  (The fault of a whole value, UTF8, makes its row DEAD before any cell.) */
static void give_up_divided(lc_sap_reader *r, int32_t f, int32_t i, int64_t position) {
  r->fault[i].code = 0;
  give_up(r, f, i, LC_SAP_DELIMITER, position);
}

/* A row whose cells end at the delimiter. */
static void find_by_delimiter(lc_sap_reader *r, int32_t f, const lc_sap_field *field, int32_t i) {
  if (r->byte[i] < 0) {
    give_up_divided(r, f, i, r->size[i]);
    return;
  }
  const uint8_t *start = r->row[i] + r->byte[i], *end = r->row[i] + r->size[i];
  const uint8_t *stop = start == end ? NULL : memchr(start, r->plan->delimiter, (size_t)(end - start));
  if (f == r->plan->field_count - 1 && stop != NULL) {
    give_up_divided(r, f, i, stop - r->row[i]);
    return;
  }
  r->byte[i] = stop == NULL ? -1 : stop + 1 - r->row[i];
  r->cell[i] = cell_of(field, start, (stop == NULL ? end : stop) - start);
  if (field->length > 0 && is_longer(start, r->cell[i].size, field->length, r->units)) {
    lc_sap_blame(r, i, LC_SAP_LENGTH, f, start);
    r->cell[i].p = NULL;
  }
}

void lc_sap_find_cells(lc_sap_reader *r, int32_t f) {
  const lc_sap_field *field = &r->plan->fields[f];
  if (r->all_easy && !(f > 0 && r->plan->delimiter != 0)) { /* the whole block without a question a row */
    int64_t offset = field->offset, most = field->length > 0 ? field->length : INT32_MAX;
    bool binary = is_binary(field);
    for (int32_t i = 0; i < r->count; i++) {
      int64_t size = r->size[i], start = size < offset ? size : offset, left = size - start;
      left = left < most ? left : most;
      const uint8_t *p = r->row[i] + start;
      r->cell[i] = (lc_sap_cell){p, binary ? left : lc_sap_trimmed(p, left)};
    }
    return;
  }
  for (int32_t i = 0; i < r->count; i++) {
    if (r->state[i] == LC_SAP_DEAD)
      r->cell[i].p = NULL;
    else if (r->state[i] == LC_SAP_EASY)
      find_easy(r, f, field, i);
    else if (r->plan->padded)
      find_by_units(r, f, field, i);
    else
      find_by_delimiter(r, f, field, i);
  }
}

void lc_sap_check_rest(lc_sap_reader *r) {
  const lc_sap_field *last = &r->plan->fields[r->plan->field_count - 1];
  if (!r->plan->padded || last->length == 0) return;
  int64_t end = (int64_t)last->offset + last->length;
  for (int32_t i = 0; i < r->count; i++) {
    if (r->state[i] == LC_SAP_DEAD) continue;
    int64_t at = r->state[i] == LC_SAP_EASY ? end : r->byte[i];
    if (at >= r->size[i]) continue;
    const uint8_t *p = r->row[i] + at;
    int64_t left = lc_sap_trimmed(p, r->size[i] - at);
    if (left == 0) continue;
    while (*p == ' ')
      p++;
    lc_sap_blame(r, i, LC_SAP_LENGTH, -1, p);
  }
}
