/* Records of fixed width: lines or blocks of bytes, of one kind or told apart by a marker. */
#include "libcore/fixed_width.h"

#include "delimited_cells.h"

typedef struct reader {
  const lc_fixed_plan *plan;
  const uint8_t *data, *end;
  bool final;
  lc_marks marks;
  lc_marker lines;
  lc_cells *kinds; /* one a kind; owned */
  int64_t *counts; /* records of each kind, at most; owned */
  lc_text_errors errors;
  lc_text_state state;
  const uint8_t *valid_to; /* no UTF-8 fault in front of it */
  int64_t rows, ignored, last_kind;
} reader;

typedef enum found { FOUND_RECORD, FOUND_MORE, FOUND_LONG } found;

static inline bool is_line_end(uint8_t c) { return c == '\n' || c == '\r'; }

/* The record at p: its end, and where the next begins.  `lines` stands on p. */
static found find_record(reader *r, const uint8_t *p, const uint8_t **stop, const uint8_t **next) {
  int64_t left = r->end - p, most = r->plan->record_bytes_max;
  if (r->plan->record_bytes > 0) {
    if (left < r->plan->record_bytes && !r->final) return FOUND_MORE;
    *stop = *next = left < r->plan->record_bytes ? r->end : p + r->plan->record_bytes;
    return FOUND_RECORD;
  }
  const uint8_t *q = lc_marker_next(&r->lines);
  if (q - p > most) {
    *stop = p + most;
    return FOUND_LONG;
  }
  *stop = *next = q;
  if (q == r->end) return r->final ? FOUND_RECORD : FOUND_MORE;
  *next = q + 1;
  if (*q == '\r') {
    if (q + 1 == r->end) return r->final ? FOUND_RECORD : FOUND_MORE;
    if (q[1] == '\n') ++*next;
  }
  return FOUND_RECORD;
}

static bool fits(const lc_fixed_kind *kind, const uint8_t *p, const uint8_t *stop) {
  return stop - p >= kind->marker_size &&
         (kind->marker_size == 0 || memcmp(p, kind->marker, (size_t)kind->marker_size) == 0);
}

static int64_t find_kind(reader *r, const uint8_t *p, const uint8_t *stop) {
  for (int64_t k = 0; k < r->plan->kind_count; k++)
    if (fits(&r->plan->kinds[k], p, stop)) return k;
  return -1;
}

/* The byte where character `index` begins, or the end; the bytes that continue a character do not count. */
static const uint8_t *character(const uint8_t *p, const uint8_t *stop, int64_t index) {
  for (; p < stop; p++)
    if ((*p & 0xC0) != 0x80 && index-- == 0) return p;
  return stop;
}

/* The same in UTF-16 code units, of which a character of four bytes has two; *split: the place is inside of one, which
 * is then the answer. */
static const uint8_t *unit(const uint8_t *p, const uint8_t *stop, int64_t index, bool *split) {
  *split = false;
  for (; p < stop; p++) {
    if ((*p & 0xC0) == 0x80) continue;
    if (index == 0) return p;
    if (*p >= 0xF0 && index-- == 1) {
      *split = true;
      return p;
    }
    index--;
  }
  return stop;
}

static bool has_wide(const uint8_t *p, const uint8_t *stop) {
  for (; p < stop; p++)
    if (*p >= 0xF0) return true;
  return false;
}

static bool is_ascii(const uint8_t *p, const uint8_t *stop) {
  for (; stop - p >= 8; p += 8)
    if (lc_load64(p) & LC_HIGHS) return false;
  for (; p < stop; p++)
    if (*p & 0x80) return false;
  return true;
}

/* The byte of offset `index` of the record at p, or its end; `walk`: offsets count characters, `wide`: units. */
static inline const uint8_t *place(const uint8_t *p, const uint8_t *stop, int64_t index, bool walk, bool wide,
                                   bool *split) {
  if (!walk) return stop - p < index ? stop : p + index;
  return wide ? unit(p, stop, index, split) : character(p, stop, index);
}

static lc_code add_error(reader *r, const uint8_t *p, int64_t size, int32_t code, int64_t position, int64_t column,
                         int64_t kind) {
  lc_text_error entry = {r->state.line, p - r->data, size, position, code, (int32_t)column, (int32_t)kind};
  return lc_text_error_add(&r->errors, entry) ? LC_OK : LC_NO_MEMORY;
}

static lc_code take_record(reader *r, const uint8_t *p, const uint8_t *stop) {
  const lc_fixed_plan *plan = r->plan;
  int64_t size = stop - p, k = find_kind(r, p, stop);
  if (k < 0 && plan->ignore_kinds) {
    r->ignored++;
    return LC_OK;
  }
  if (k < 0) return add_error(r, p, size, LC_TEXT_KIND, 0, -1, -1);
  const lc_fixed_kind *kind = &plan->kinds[k];
  bool ascii = is_ascii(p, stop), walk = plan->characters != 0 && !ascii;
  bool wide = walk && plan->characters == 2 && has_wide(p, stop), split = false;
  const uint8_t *expected = place(p, stop, kind->width, walk, wide, &split);
  if (!plan->pad_short && kind->width > 0 && place(p, stop, kind->width - 1, walk, wide, &split) == stop)
    return add_error(r, p, size, LC_TEXT_FIELDS, size, -1, k);
  for (const uint8_t *q = expected; q < stop && !plan->ignore_rest; q++)
    if (*q != ' ') return add_error(r, p, size, LC_TEXT_FIELDS, expected - p, -1, k);
  for (int64_t c = 0; wide && c < kind->column_count; c++) { /* before any value is read */
    const lc_text_column *column = &kind->columns[c];
    const uint8_t *at = unit(p, stop, column->offset, &split);
    if (!split) at = unit(p, stop, column->offset + column->length, &split);
    if (split) return add_error(r, p, size, LC_TEXT_UTF8, at - p, c, k);
  }
  /* columns of bytes may cut a character in two */
  int32_t checked = stop <= r->valid_to && (ascii || walk) ? LC_FIELD_CHECKED : 0;
  lc_cells *cells = &r->kinds[k];
  for (int64_t c = 0; c < kind->column_count; c++) {
    const lc_text_column *column = &kind->columns[c];
    int64_t from = column->offset, to = column->offset + column->length;
    lc_field field = {.flags = checked};
    field.start = place(p, stop, from, walk, wide, &split);
    field.end = place(walk ? field.start : p, stop, walk ? column->length : to, walk, wide, &split);
    int code = lc_cell_set(cells, c, field);
    if (LC_UNLIKELY(code != 0)) {
      lc_cells_undo(cells);
      return code < 0 ? (lc_code)-code : add_error(r, p, size, code, field.start - p, c, k);
    }
  }
  lc_cells_keep(cells, r->state.line, p - r->data);
  r->rows++;
  return LC_OK;
}

/* Lines that are no records: 1 passed by, 0 a record begins, -1 more bytes are needed. */
static int pass_by(reader *r, const uint8_t **p) {
  if (r->plan->record_bytes > 0) return 0;
  if (!r->state.skipping) {
    if (r->state.skip > 0) {
      r->state.skip--;
    } else {
      if (!r->plan->skip_blank || !is_line_end(**p)) return 0;
      if (**p == '\r' && *p + 1 == r->end && !r->final) return -1;
    }
    r->state.skipping = 1;
  }
  lc_line_skip(p, r->end, r->final, r->marks, &r->state);
  if (r->state.skipping) return -1;
  lc_marker_restart(&r->lines, *p);
  return 1;
}

static lc_code read_records(reader *r, int64_t rows_max, const uint8_t **at) {
  const uint8_t *p = r->data;
  lc_marker_restart(&r->lines, p);
  while (p < r->end && r->rows < rows_max) {
    int passed = pass_by(r, &p);
    if (passed < 0) break;
    if (passed > 0) continue;
    const uint8_t *stop, *next;
    found how = find_record(r, p, &stop, &next);
    if (how == FOUND_MORE) break;
    lc_code code = how == FOUND_LONG ? add_error(r, p, stop - p, LC_TEXT_LONG, 0, -1, -1) : take_record(r, p, stop);
    if (code != LC_OK) return code;
    if (how == FOUND_LONG) {
      r->state.skipping = 1;
      continue;
    }
    if (next > stop || r->plan->record_bytes > 0) r->state.line++;
    p = next;
    if (p < r->end && r->plan->record_bytes == 0) lc_marker_seek(&r->lines, p);
  }
  if (p == r->end && r->final) r->state.skipping = 0;
  *at = p;
  return LC_OK;
}

/* With one kind a bound is quickly counted; with more, each record is looked at, so that no kind gets room for all. */
static void count_records(reader *r, int64_t size) {
  const lc_fixed_plan *plan = r->plan;
  int64_t bytes = plan->record_bytes;
  if (plan->kind_count == 1) {
    r->counts[0] = bytes > 0 ? size / bytes + 1 : lc_lines_most(r->data, size, r->marks);
    return;
  }
  const uint8_t *p = r->data;
  lc_marker_restart(&r->lines, p);
  while (p < r->end) {
    const uint8_t *stop = bytes == 0 ? lc_marker_next(&r->lines) : r->end - p < bytes ? r->end : p + bytes;
    int64_t k = find_kind(r, p, stop);
    if (k >= 0) r->counts[k]++;
    p = bytes == 0 ? stop + (stop < r->end) : stop;
  }
}

static bool plan_valid(const lc_fixed_plan *plan) {
  if (plan->kind_count < 1 || plan->kind_count > 1 << 15 || plan->record_bytes < 0 || plan->record_bytes >= 1 << 30 ||
      plan->record_bytes_max < 1 || plan->record_bytes_max >= 1 << 30)
    return false;
  for (int64_t k = 0; k < plan->kind_count; k++) {
    const lc_fixed_kind *kind = &plan->kinds[k];
    if (kind->width < 0 || kind->width >= 1 << 30 || kind->marker_size < 0 || kind->column_count < 0) return false;
    for (int64_t c = 0; c < kind->column_count; c++) {
      const lc_text_column *column = &kind->columns[c];
      if (column->offset < 0 || column->length < 0 || column->offset > kind->width ||
          column->length > kind->width - column->offset)
        return false;
    }
  }
  return true;
}

static lc_code prepare(reader *r, int64_t size, int64_t rows_max, const lc_kernels *kernels, lc_error *error) {
  const lc_fixed_plan *plan = r->plan;
  r->kinds = lc_calloc((size_t)plan->kind_count, sizeof *r->kinds);
  r->counts = lc_calloc((size_t)plan->kind_count, sizeof *r->counts);
  if (r->kinds == NULL || r->counts == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld kinds", (long long)plan->kind_count);
  r->lines = (lc_marker){.end = r->end, .marks = r->marks, .set = {'\n', '\r', '\n', '\r'}};
  int64_t fault = plan->encoding == NULL ? kernels->utf8_fault(r->data, (size_t)size) : -1;
  r->valid_to = fault < 0 ? r->end : r->data + fault;
  count_records(r, size);
  lc_code code = LC_OK;
  for (int64_t k = 0; k < plan->kind_count && code == LC_OK; k++) {
    int64_t rows = r->counts[k] < rows_max ? r->counts[k] : rows_max;
    r->kinds[k].kernels = kernels;
    r->kinds[k].encoding = plan->encoding;
    code = lc_cells_init(&r->kinds[k], plan->kinds[k].columns, plan->kinds[k].column_count, rows, error);
  }
  return code;
}

lc_code lc_fixed_read(const lc_fixed_plan *plan, const uint8_t *data, int64_t size, int32_t final, int64_t rows_max,
                      const lc_text_state *state, int32_t level, struct ArrowArray *out, lc_text_read *read,
                      lc_error *error) {
  if (plan == NULL || state == NULL || (data == NULL && size != 0) || size < 0 || rows_max < 1)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a plan, a state, size >= 0 and rows_max >= 1");
  if (!plan_valid(plan)) return lc_fail(error, LC_INVALID, -1, -1, "a column reaches behind its record, or no kinds");
  static const uint8_t nothing[1] = {0};
  if (data == NULL) data = nothing;
  reader r = {.plan = plan, .data = data, .end = data + size, .final = final != 0, .state = *state};
  r.marks = lc_marks_pick(level);
  const lc_kernels *kernels = lc_kernels_pick(level);
  if (r.marks == NULL || kernels == NULL)
    return lc_fail(error, LC_INVALID, -1, -1, "this machine has no code of level %d", (int)level);
  lc_code code = prepare(&r, size, rows_max, kernels, error);
  const uint8_t *at = data;
  if (code == LC_OK) {
    code = read_records(&r, rows_max, &at);
    if (code != LC_OK) lc_fail(error, code, r.rows, -1, "no room for the rows of %lld bytes of text", (long long)size);
  }
  if (code == LC_OK) {
    for (int64_t k = 0; k < plan->kind_count; k++)
      lc_cells_finish(&r.kinds[k], &out[k]);
    *read = (lc_text_read){at - data, r.ignored, r.state, r.errors.list, r.errors.count};
  } else {
    lc_free(r.errors.list);
  }
  for (int64_t k = 0; r.kinds != NULL && k < plan->kind_count; k++)
    lc_cells_free(&r.kinds[k]);
  lc_free(r.kinds);
  lc_free(r.counts);
  return code;
}
