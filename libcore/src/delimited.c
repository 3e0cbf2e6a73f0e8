/* Records of delimited files: where fields and records end, and what is wrong with them. */
#include "libcore/delimited.h"

#include "delimited_cells.h"

typedef struct reader {
  const lc_delimited_plan *plan;
  const uint8_t *data, *end;
  bool final;
  lc_marks marks;
  lc_marker outside, inside; /* delimiters and line ends; quotes, escapes and line ends */
  lc_cells cells;
  lc_text_errors errors;
  lc_text_state state;
  const uint8_t *valid_to; /* no UTF-8 fault in front of it */
  lc_field *fields;
  int64_t capacity; /* fields that are kept: one more than a record may have */

  /* the record in work */
  int64_t count;          /* fields found */
  const uint8_t *window;  /* the record must end in front of it */
  bool bounded;           /* the window is the longest record's, not the input's end */
  const uint8_t *problem; /* the first byte that breaks the rules of quotes, or NULL */
  const uint8_t *stop, *next; /* its end without the line end; the next record */
  bool breaks;            /* a line end inside */
} reader;

typedef enum split { SPLIT_DONE, SPLIT_MORE, SPLIT_UNCLOSED, SPLIT_LONG } split;

static inline bool is_line_end(uint8_t c) { return c == '\n' || c == '\r'; }

/* From p, which `outside` stands on, to the delimiter or line end behind an unquoted piece, or the window. */
static inline const uint8_t *plain_end(reader *r, int32_t *flags) {
  for (;;) {
    const uint8_t *q = lc_marker_next(&r->outside);
    if (LC_UNLIKELY(q >= r->window)) return r->window;
    if (LC_LIKELY(r->plan->escape == 0 || *q != r->plan->escape)) return q;
    *flags |= LC_FIELD_ESCAPED;
    if (q + 1 < r->window && is_line_end(q[1])) r->breaks = true;
    lc_marker_seek(&r->outside, q + 2 < r->end ? q + 2 : r->end);
  }
}

/* p stands on the opening quote.  Fills the field; the delimiter or line end behind it, or the window, or NULL where
 * the quote does not close in front of the window. */
static const uint8_t *quoted_end(reader *r, const uint8_t *p, lc_field *field) {
  const lc_delimited_plan *plan = r->plan;
  *field = (lc_field){p + 1, NULL, LC_FIELD_QUOTED};
  lc_marker_restart(&r->inside, p + 1);
  for (;;) {
    const uint8_t *q = lc_marker_next(&r->inside);
    if (q >= r->window) return NULL;
    if (is_line_end(*q)) {
      r->breaks = true;
      continue;
    }
    bool last = q + 1 >= r->window;
    bool pair = !last && plan->doubled && *q == plan->quote && q[1] == plan->quote;
    if (*q != plan->quote || pair) {
      field->flags |= LC_FIELD_ESCAPED;
      if (!last && is_line_end(q[1])) r->breaks = true;
      lc_marker_seek(&r->inside, q + 2 < r->end ? q + 2 : r->end);
      continue;
    }
    if (last || q[1] == plan->delimiter || is_line_end(q[1])) {
      field->end = q++;
      if (q < r->end) lc_marker_seek(&r->outside, q + 1 < r->end ? q + 1 : r->end);
      return q;
    }
    if (plan->lazy_quotes) continue;
    field->end = q;
    if (r->problem == NULL) r->problem = q + 1;
    lc_marker_seek(&r->outside, q + 1);
    return plain_end(r, &field->flags);
  }
}

/* Where the record ends, and where the next begins. */
static split finish_record(reader *r, const uint8_t *p) {
  r->stop = r->next = p;
  if (p >= r->window) { /* no line end */
    if (r->bounded) return SPLIT_LONG;
    return r->final ? SPLIT_DONE : SPLIT_MORE;
  }
  r->next = p + 1;
  if (*p == '\n') return SPLIT_DONE;
  if (p + 1 == r->end) return r->final ? SPLIT_DONE : SPLIT_MORE; /* whether LF follows is not known yet */
  if (p[1] == '\n') r->next = p + 2;
  return SPLIT_DONE;
}

/* Take the record at p apart; `outside` stands on p. */
static split split_record(reader *r, const uint8_t *p) {
  const lc_delimited_plan *plan = r->plan;
  int64_t left = r->end - p;
  r->bounded = left > plan->record_bytes_max;
  r->window = r->bounded ? p + plan->record_bytes_max + 1 : r->end;
  r->problem = NULL;
  r->breaks = false;
  r->count = 0;
  for (;; p++) {
    lc_field field = {p, p, 0};
    if (plan->quote != 0 && p < r->window && *p == plan->quote) {
      const uint8_t *open = p;
      p = quoted_end(r, p, &field);
      if (p == NULL) {
        if (!r->bounded && !r->final) return SPLIT_MORE;
        r->problem = open;
        return SPLIT_UNCLOSED;
      }
    } else {
      field.end = p = plain_end(r, &field.flags);
    }
    if (LC_LIKELY(r->count < r->capacity)) r->fields[r->count] = field;
    r->count++;
    if (p >= r->window || *p != plan->delimiter) return finish_record(r, p);
  }
}

static lc_code add_error(reader *r, const uint8_t *start, int64_t size, int32_t code, int64_t position,
                         int32_t column) {
  lc_text_error entry = {r->state.line, start - r->data, size, position, code, column, -1};
  return lc_text_error_add(&r->errors, entry) ? LC_OK : LC_NO_MEMORY;
}

/* An unclosed quote or an overlong record: its first line is to blame, and passed by. */
static lc_code give_up(reader *r, const uint8_t *start, split why) {
  const uint8_t *line = lc_line_end(start, r->window, r->marks);
  int64_t size = line - start, most = r->plan->record_bytes_max;
  if (size > most) size = most;
  int64_t position = why == SPLIT_UNCLOSED ? r->problem - start : 0;
  r->state.skipping = 1;
  return add_error(r, start, size, why == SPLIT_UNCLOSED ? LC_TEXT_QUOTE : LC_TEXT_LONG, position, -1);
}

/* The whole record's fields into a row, or an error. */
static lc_code take_record(reader *r, const uint8_t *start) {
  const lc_delimited_plan *plan = r->plan;
  int64_t size = r->stop - start, count = r->count;
  if (r->problem != NULL) return add_error(r, start, size, LC_TEXT_QUOTE, r->problem - start, -1);
  if (plan->trailing && plan->fields > 0 && count == plan->fields + 1) {
    const lc_field *last = &r->fields[plan->fields];
    if (last->start == last->end && last->flags == 0) count--;
  }
  int64_t needed = plan->fields > 0 ? plan->fields : r->capacity - 1;
  if (count < needed) return add_error(r, start, size, LC_TEXT_FIELDS, size, -1);
  if (plan->fields > 0 && count > needed) {
    const lc_field *first = &r->fields[needed];
    return add_error(r, start, size, LC_TEXT_FIELDS, first->start - start, -1);
  }
  int32_t checked = r->stop <= r->valid_to ? LC_FIELD_CHECKED : 0;
  for (int64_t c = 0; c < r->cells.count; c++) {
    lc_field field = r->fields[plan->columns[c].field];
    field.flags |= checked;
    int code = lc_cell_set(&r->cells, c, field);
    if (LC_UNLIKELY(code != 0)) {
      lc_cells_undo(&r->cells);
      return code < 0 ? (lc_code)-code : add_error(r, start, size, code, field.start - start, (int32_t)c);
    }
  }
  lc_cells_keep(&r->cells, r->state.line, start - r->data);
  return LC_OK;
}

/* Lines that are no records: 1 passed by (or in the middle of one), 0 a record begins, -1 more bytes are needed. */
static int pass_by(reader *r, const uint8_t **p) {
  const uint8_t *start = *p;
  if (!r->state.skipping) {
    if (r->state.skip > 0) {
      r->state.skip--;
    } else if (!(r->plan->comment != 0 && *start == r->plan->comment)) {
      if (!r->plan->skip_blank || !is_line_end(*start)) return 0;
      if (*start == '\r' && start + 1 == r->end && !r->final) return -1;
    }
    r->state.skipping = 1;
  }
  lc_line_skip(p, r->end, r->final, r->marks, &r->state);
  if (r->state.skipping) return -1;
  lc_marker_restart(&r->outside, *p); /* not a seek: a record that was given up stands behind */
  return 1;
}

static lc_code read_records(reader *r, int64_t rows_max, const uint8_t **at) {
  const uint8_t *p = r->data;
  lc_marker_restart(&r->outside, p);
  while (p < r->end && r->cells.rows < rows_max) {
    int passed = pass_by(r, &p);
    if (passed < 0) break;
    if (passed > 0) continue;
    split how = split_record(r, p);
    if (how == SPLIT_MORE) break;
    lc_code code = how == SPLIT_DONE ? take_record(r, p) : give_up(r, p, how);
    if (code != LC_OK) return code;
    if (how != SPLIT_DONE) continue; /* passed by as a line */
    if (r->next > r->stop) r->state.line++;
    if (LC_UNLIKELY(r->breaks)) r->state.line += lc_line_ends(p, r->stop);
    p = r->next;
    if (p < r->end) lc_marker_seek(&r->outside, p);
  }
  if (p == r->end && r->final) r->state.skipping = 0;
  *at = p;
  return LC_OK;
}

static bool plan_valid(const lc_delimited_plan *plan) {
  int32_t special[4] = {plan->delimiter, plan->quote, plan->escape, plan->comment};
  for (int i = 0; i < 4; i++) {
    if (special[i] < (i == 0 ? 1 : 0) || special[i] > 127 || is_line_end((uint8_t)special[i])) return false;
    for (int k = 0; k < i; k++)
      if (special[i] != 0 && special[i] == special[k]) return false;
  }
  for (int64_t c = 0; c < plan->column_count; c++) {
    int32_t field = plan->columns[c].field;
    if (field < 0 || field >= 1 << 20 || (plan->fields > 0 && field >= plan->fields)) return false;
  }
  return plan->record_bytes_max > 0 && plan->record_bytes_max < 1 << 30 && plan->fields >= 0 && plan->fields < 1 << 20;
}

static lc_code prepare(reader *r, int64_t size, int64_t rows_max, lc_error *error) {
  const lc_delimited_plan *plan = r->plan;
  uint8_t delimiter = (uint8_t)plan->delimiter, quote = (uint8_t)plan->quote;
  uint8_t escape = plan->escape ? (uint8_t)plan->escape : delimiter;
  r->outside = (lc_marker){.end = r->end, .marks = r->marks, .set = {delimiter, '\n', '\r', escape}};
  r->inside = (lc_marker){.end = r->end, .marks = r->marks, .set = {quote, '\n', '\r', quote}};
  if (plan->escape) r->inside.set[3] = escape;
  int64_t fault = r->cells.encoding == NULL ? r->cells.kernels->utf8_fault(r->data, (size_t)size) : -1;
  r->valid_to = fault < 0 ? r->end : r->data + fault;
  r->capacity = plan->fields + 1;
  for (int64_t c = 0; c < plan->column_count && plan->fields == 0; c++)
    if (r->capacity < plan->columns[c].field + 2) r->capacity = plan->columns[c].field + 2;
  r->fields = lc_malloc((size_t)r->capacity * sizeof *r->fields);
  if (r->fields == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld fields", (long long)r->capacity);
  int64_t rows = lc_lines_most(r->data, size, r->marks);
  return lc_cells_init(&r->cells, plan->columns, plan->column_count, rows < rows_max ? rows : rows_max, error);
}

lc_code lc_delimited_read(const lc_delimited_plan *plan, const uint8_t *data, int64_t size, int32_t final,
                          int64_t rows_max, const lc_text_state *state, int32_t level, struct ArrowArray *out,
                          lc_text_read *read, lc_error *error) {
  if (plan == NULL || state == NULL || (data == NULL && size != 0) || size < 0 || rows_max < 1)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a plan, a state, size >= 0 and rows_max >= 1");
  if (!plan_valid(plan)) return lc_fail(error, LC_INVALID, -1, -1, "the dialect or a column's field is no valid one");
  static const uint8_t nothing[1] = {0};
  if (data == NULL) data = nothing;
  reader r = {.plan = plan, .data = data, .end = data + size, .final = final != 0, .state = *state};
  r.marks = lc_marks_pick(level);
  r.cells.kernels = lc_kernels_pick(level);
  if (r.marks == NULL || r.cells.kernels == NULL)
    return lc_fail(error, LC_INVALID, -1, -1, "this machine has no code of level %d", (int)level);
  r.cells.encoding = plan->encoding;
  r.cells.quoted_nulls = plan->quoted_nulls;
  r.cells.escapes = (lc_escapes){plan->quote, plan->escape, plan->doubled, plan->c_escapes};
  lc_code code = prepare(&r, size, rows_max, error);
  const uint8_t *at = data;
  if (code == LC_OK) {
    code = read_records(&r, rows_max, &at);
    if (code != LC_OK)
      lc_fail(error, code, r.cells.rows, -1, "no room for the rows of %lld bytes of text", (long long)size);
  }
  if (code == LC_OK) {
    lc_cells_finish(&r.cells, out);
    *read = (lc_text_read){at - data, 0, r.state, r.errors.list, r.errors.count};
  } else {
    lc_free(r.errors.list);
  }
  lc_cells_free(&r.cells);
  lc_free(r.fields);
  return code;
}
