/* One message: the fast way through, and the careful way that finds the exact fault. */
#include "envelope_message.h"

enum { BEFORE, AFTER, SOURCE, OP, TS_MS, STATUS, ID, TRANSACTION, FIELD_COUNT };

const char *const *lc_top_fields(int32_t *count) {
  static const char *const names[FIELD_COUNT] = {"before", "after", "source", "op", "ts_ms", "status", "id", "transaction"};
  *count = FIELD_COUNT;
  return names;
}

/* What an envelope's members hold. */
typedef struct envelope {
  const uint8_t *at[FIELD_COUNT]; /* careful: where a member's value starts, NULL where it is missing */
  uint32_t seen;                  /* fast: bits by field */
  bool before, after;             /* fast: objects */
  int32_t before_keys;            /* fast: key columns met in before, not null */
  bool before_unset, after_unset; /* fast, keyless: a placeholder */
} envelope;

static void reset(lc_decoder *d) {
  d->fault = 0;
  d->fault_at = d->unknown = NULL;
  d->op = 0;
  d->from.snapshot = false;
  d->from.has = 0;
}

static uint8_t op_letter(const uint8_t *text, size_t size) {
  return size == 1 && memchr("crudtm", text[0], 6) != NULL ? text[0] : 1;
}

static const uint8_t *before_fast(lc_decoder *d, envelope *e, const uint8_t *p, int depth) {
  if (lc_is4(p, "null")) return p + 4;
  if (*p != '{') return NULL;
  e->before = true;
  if (d->key_count > 0) {
    p = lc_row_walk(d, p + 1, depth + 1, 0, LC_WALK_KEY_BYTES, 0);
    e->before_keys = d->row_keys;
    return p;
  }
  if (e->after) return NULL; /* its row stands where this one must */
  p = lc_row_walk(d, p + 1, depth + 1, d->rows, LC_WALK_ALL, 0);
  e->before_unset = d->row_unset;
  if (p != NULL && d->row_seen < d->column_count) lc_rows_fill(d, d->rows, false);
  return p;
}

static const uint8_t *after_fast(lc_decoder *d, envelope *e, const uint8_t *p, int depth) {
  if (lc_is4(p, "null")) return p + 4;
  if (*p != '{') return NULL;
  e->after = true;
  int64_t row = d->rows + (d->key_count == 0 && e->before);
  p = lc_row_walk(d, p + 1, depth + 1, row, LC_WALK_ALL, 1);
  e->after_unset = d->row_unset;
  if (p == NULL || d->row_keys < d->key_count) return NULL;
  if (d->row_seen < d->column_count || d->row_unset) lc_rows_fill(d, row, d->key_count > 0);
  return p;
}

static const uint8_t *field_fast(lc_decoder *d, envelope *e, int32_t field, const uint8_t *p, int depth) {
  switch (field) {
    case BEFORE: return before_fast(d, e, p, depth);
    case AFTER: return after_fast(d, e, p, depth);
    case SOURCE:
      if (*p == '{') return lc_source_walk(d, p + 1, depth + 1);
      return lc_is4(p, "null") ? p + 4 : NULL;
    case OP:
      if (*p != '"' || p[2] != '"') return NULL;
      d->op = op_letter(p + 1, 1);
      return p + 3;
    default: return lc_value_skip(d, p, depth);
  }
}

/* Read the envelope object at p by prediction: the byte behind it, or NULL where the careful way must look. */
static const uint8_t *envelope_fast(lc_decoder *d, envelope *e, const uint8_t *p, int depth) {
  lc_cursor cursor = {.order = &d->top};
  if (p >= d->end || *p != '{') return NULL;
  p++;
  for (int next = 1; next == 1;) {
    p = lc_member_enter(d, &cursor, p);
    if (LC_UNLIKELY(p == NULL)) return NULL;
    if (cursor.field < 0) {
      p = lc_member_skip(d, &cursor, p, depth);
    } else {
      if (LC_UNLIKELY(e->seen & 1u << cursor.field)) return NULL;
      e->seen |= 1u << cursor.field;
      p = field_fast(d, e, cursor.field, p, depth);
    }
    if (LC_UNLIKELY(p == NULL)) return NULL;
    next = lc_member_next(d, &p);
    if (LC_UNLIKELY(next < 0)) return NULL;
  }
  return p;
}

/* The key columns of before, found by envelope_fast, into the row as a delete; false: look carefully. */
static bool delete_fast(lc_decoder *d) {
  d->walk++;
  for (int32_t c = 0; c < d->column_count; c++) {
    lc_decode_column *column = &d->columns[c];
    if (!column->is_key) continue;
    column->seen = d->walk;
    if (lc_value_decode(d, column, d->rows, column->raw[0]) != column->raw_end[0] || !column->good) return false;
  }
  lc_rows_fill(d, d->rows, false);
  return true;
}

static bool same_key_bytes(const lc_decoder *d) {
  for (int32_t c = 0; c < d->column_count; c++) {
    const lc_decode_column *column = &d->columns[c];
    if (!column->is_key) continue;
    size_t size = (size_t)(column->raw_end[0] - column->raw[0]);
    if ((size_t)(column->raw_end[1] - column->raw[1]) != size || memcmp(column->raw[0], column->raw[1], size) != 0) return false;
  }
  return true;
}

/* Keep the one or two rows that a keyless change left at d->rows; false: look carefully. */
static bool keyless_fast(lc_decoder *d, const envelope *e, bool real, const uint8_t position[32]) {
  bool update = d->op == 'u', delete = d->op == 'd';
  if (!update && !delete && d->op != 'c' && d->op != 'r') return false;
  if (e->before != (update || delete) || e->after == delete || e->before_unset || e->after_unset) return false;
  lc_envelope_state state = d->state;
  bool first = lc_row_drops(d, &state, real, position), second = update ? lc_row_drops(d, &state, real, position) : first;
  if (first || second) return false;
  if (e->before) lc_row_commit(d, d->rows, LC_OP_DELETE, real, position);
  if (e->after) lc_row_commit(d, d->rows, LC_OP_UPSERT, real, position);
  return true;
}

bool lc_message_fast(lc_decoder *d, const uint8_t *p, int depth) {
  envelope e = {.seen = 0};
  reset(d);
  p = envelope_fast(d, &e, p, depth);
  if (p != NULL && depth == 2) { /* the bracket of the wrapper */
    p = lc_skip_space(p, d->end);
    p = p < d->end && *p == '}' ? p + 1 : NULL;
  }
  bool good = p != NULL && lc_skip_space(p, d->end) == d->end && (d->unknown == NULL || !d->plan->stop_on_unknown);
  uint8_t position[32];
  bool real = good && lc_source_position(d, position);
  bool upsert = d->op == 'c' || d->op == 'u' || d->op == 'r';
  if (good && d->key_count == 0) {
    good = keyless_fast(d, &e, real, position);
  } else if (good && upsert) {
    good = e.after && (d->op != 'u' || !e.before || (e.before_keys == d->key_count && same_key_bytes(d)));
    if (good) lc_row_commit(d, d->rows, LC_OP_UPSERT, real, position);
  } else if (good) {
    good = d->op == 'd' && !e.after && e.before_keys == d->key_count && delete_fast(d);
    if (good) lc_row_commit(d, d->rows, LC_OP_DELETE, real, position);
  }
  if (!good) lc_rows_undo(d, d->rows, 2);
  return good;
}

/* ---- the careful way ---- */

void lc_message_error(lc_decoder *d, int32_t code, int64_t position, int32_t column) {
  if (d->error_count == d->error_capacity) {
    int64_t capacity = d->error_capacity * 2 + 16;
    lc_row_error *grown = lc_realloc(d->errors, (size_t)capacity * sizeof *grown);
    if (grown == NULL) {
      lc_decoder_fails(d, LC_NO_MEMORY);
      return;
    }
    d->errors = grown;
    d->error_capacity = capacity;
  }
  d->errors[d->error_count++] = (lc_row_error){d->message, position, code, column};
}

void lc_message_event(lc_decoder *d, int32_t kind) {
  if (d->event_count == d->event_capacity) {
    int64_t capacity = d->event_capacity * 2 + 16;
    lc_row_event *grown = lc_realloc(d->events, (size_t)capacity * sizeof *grown);
    if (grown == NULL) {
      lc_decoder_fails(d, LC_NO_MEMORY);
      return;
    }
    d->events = grown;
    d->event_capacity = capacity;
  }
  d->events[d->event_count++] = (lc_row_event){d->message, kind};
}

/* Whether the text of the name in quotes at `name` is `text`. */
static bool is_name(lc_decoder *d, const uint8_t *name, const char *text) {
  const uint8_t *inside, *surrogate;
  size_t size;
  return lc_text_read(d, name, &inside, &size, &surrogate) != NULL && surrogate == NULL && size == strlen(text) &&
         memcmp(inside, text, size) == 0;
}

/* The member behind its name at `name`, in valid JSON: where its value starts. */
static const uint8_t *value_of(lc_decoder *d, const uint8_t *name) {
  const uint8_t *p = lc_skip_space(lc_value_skip_slow(d, name, 0), d->end);
  return lc_skip_space(p + 1, d->end);
}

/* Behind the value at p, in valid JSON: the next member's name, or NULL at the end. */
static const uint8_t *next_name(lc_decoder *d, const uint8_t *p) {
  p = lc_skip_space(lc_value_skip_slow(d, p, 0), d->end);
  return *p == ',' ? lc_skip_space(p + 1, d->end) : NULL;
}

static const uint8_t *first_name(const lc_decoder *d, const uint8_t *p) {
  p = lc_skip_space(p + 1, d->end);
  return *p == '"' ? p : NULL;
}

/* The payload of a wrapped document (whose first member is `schema`), the document itself where it is not wrapped, NULL
 * where a wrapper has none.  *schema gets the schema part's first byte, or NULL. */
static const uint8_t *unwrap(lc_decoder *d, const uint8_t *p, const uint8_t **schema) {
  *schema = NULL;
  const uint8_t *name = *p == '{' ? first_name(d, p) : NULL;
  if (name == NULL || !is_name(d, name, "schema")) return p;
  *schema = value_of(d, name);
  for (name = next_name(d, *schema); name != NULL; name = next_name(d, value_of(d, name)))
    if (is_name(d, name, "payload")) return value_of(d, name);
  return NULL;
}

/* A delete by the message's key into the row at d->rows; false: the key does not give all key columns. */
static bool delete_by_key(lc_decoder *d, const uint8_t *key, size_t size) {
  const uint8_t *start = d->start, *end = d->end, *schema;
  lc_json_fault fault;
  int32_t kept = d->fault;
  const uint8_t *padded = lc_message_padded(d, key, size, true);
  if (key == NULL || padded == NULL) return false;
  d->start = padded;
  d->end = padded + size;
  bool good = d->kernels->utf8_fault(d->start, size) < 0 && lc_json_check(d->start, d->end, d->kernels, &fault);
  if (good) {
    const uint8_t *document = lc_skip_space(d->start, d->end), *p = unwrap(d, document, &schema);
    if (p == NULL) p = document; /* a key column may have the name "schema", too */
    good = d->failed == LC_OK && *p == '{' && lc_row_walk(d, p + 1, 1, d->rows, LC_WALK_KEYS, 0) != NULL && d->fault == kept &&
           d->row_keys == d->key_count;
  }
  if (good) lc_rows_fill(d, d->rows, false);
  d->start = start;
  d->end = end;
  d->fault = kept; /* positions in the key say nothing about the value */
  return good;
}

/* Find the envelope's members; DUPLICATE where one stands twice. */
static void envelope_index(lc_decoder *d, envelope *e, const uint8_t *p) {
  lc_cursor cursor = {.order = &d->top};
  for (const uint8_t *name = first_name(d, p); name != NULL;) {
    const uint8_t *at = lc_member_enter_slow(d, &cursor, name);
    if (at == NULL) return; /* no memory */
    if (cursor.field >= 0 && e->at[cursor.field] != NULL)
      lc_fault(d, LC_ROW_DUPLICATE, name, NULL);
    else if (cursor.field >= 0)
      e->at[cursor.field] = at;
    name = next_name(d, at);
  }
}

static bool is_null(const uint8_t *p) { return p == NULL || *p == 'n'; }

/* What a careful look at before and after left. */
typedef struct rows {
  int64_t count;    /* rows at d->rows: 0..2 */
  int32_t error;    /* KEY or BEFORE, which stand behind all value faults */
  bool by_key;      /* the delete needs the message's key */
  const uint8_t *first, *second; /* the objects of the rows */
} rows;

/* A full row from the object at p (or nothing) into d->rows + r->count. */
static void full_row(lc_decoder *d, rows *r, const uint8_t *p, int depth, int side) {
  if (is_null(p)) {
    r->error = d->key_count > 0 ? LC_ROW_KEY : LC_ROW_BEFORE;
    return;
  }
  if (*p != '{') {
    lc_fault(d, LC_ROW_TYPE, p, NULL);
    return;
  }
  int64_t row = d->rows + r->count;
  if (lc_row_walk(d, p + 1, depth + 1, row, LC_WALK_ALL, side) == NULL) return;
  if (d->row_keys < d->key_count) r->error = LC_ROW_KEY;
  if (d->key_count == 0 && d->row_unset) r->error = LC_ROW_BEFORE;
  lc_rows_fill(d, row, d->key_count > 0);
  *(r->count == 0 ? &r->first : &r->second) = p;
  r->count++;
}

/* The key columns of before as a delete at d->rows; whether it has them all. */
static bool before_keys(lc_decoder *d, const uint8_t *p, int depth) {
  if (is_null(p)) return false;
  if (*p != '{') {
    lc_fault(d, LC_ROW_TYPE, p, NULL);
    return false;
  }
  if (lc_row_walk(d, p + 1, depth + 1, d->rows, LC_WALK_KEYS, 0) == NULL || d->row_keys < d->key_count) {
    lc_rows_undo(d, d->rows, 1);
    return false;
  }
  lc_rows_fill(d, d->rows, false);
  return true;
}

static rows keyed_rows(lc_decoder *d, const envelope *e, int depth) {
  rows r = {.count = 0};
  if (d->op == 'd') {
    r.by_key = !before_keys(d, e->at[BEFORE], depth);
    r.count = 1;
    return r;
  }
  bool old = d->op == 'u' && before_keys(d, e->at[BEFORE], depth);
  r.count = old;
  full_row(d, &r, e->at[AFTER], depth, 1);
  if (old && d->fault == 0 && r.error == 0 && !lc_row_keys_differ(d, d->rows, d->rows + 1)) { /* one row, at the first's place */
    lc_rows_undo(d, d->rows, 2);
    r.count = 0;
    full_row(d, &r, e->at[AFTER], depth, 1);
  }
  return r;
}

static rows keyless_rows(lc_decoder *d, const envelope *e, int depth) {
  rows r = {.count = 0};
  if (d->op == 'u' || d->op == 'd') full_row(d, &r, e->at[BEFORE], depth, 0);
  if (d->op != 'd') full_row(d, &r, e->at[AFTER], depth, 1);
  return r;
}

/* Commit one or two rows; a redelivered first one leaves its place to the second. */
static void rows_commit(lc_decoder *d, const rows *r, int depth) {
  uint8_t position[32];
  bool real = lc_source_position(d, position), delete = d->op == 'd' || r->count == 2;
  bool kept = lc_row_commit(d, d->rows, delete ? LC_OP_DELETE : LC_OP_UPSERT, real, position);
  if (!kept) lc_message_event(d, LC_EVENT_REDELIVERED);
  if (!kept) lc_rows_undo(d, d->rows, 2);
  if (r->count < 2) return;
  if (!kept) {
    lc_row_walk(d, r->second + 1, depth + 1, d->rows, LC_WALK_ALL, 1);
    lc_rows_fill(d, d->rows, false);
  }
  if (lc_row_commit(d, d->rows, LC_OP_UPSERT, real, position)) return;
  lc_message_event(d, LC_EVENT_REDELIVERED);
  lc_rows_undo(d, d->rows, 2);
}

/* A change (op c, r, u, d). */
static void change_careful(lc_decoder *d, const envelope *e, int depth, const lc_message *m) {
  const uint8_t *source = e->at[SOURCE];
  if (!is_null(source)) {
    if (*source == '{')
      lc_source_walk(d, source + 1, depth + 1);
    else
      lc_fault(d, LC_ROW_TYPE, source, NULL);
  }
  rows r = d->key_count > 0 ? keyed_rows(d, e, depth) : keyless_rows(d, e, depth);
  if (d->failed) return;
  if (d->fault == 0 && r.by_key && !delete_by_key(d, m->key, m->key_size)) r.error = LC_ROW_KEY;
  if (d->fault != 0)
    lc_message_error(d, d->fault, d->fault_at - d->start, d->fault_column);
  else if (d->unknown != NULL && d->plan->stop_on_unknown)
    d->stop = LC_STOP_UNKNOWN;
  else if (r.error != 0)
    lc_message_error(d, r.error, 0, -1);
  else {
    rows_commit(d, &r, depth);
    return;
  }
  lc_rows_undo(d, d->rows, 2);
}

void lc_message_null(lc_decoder *d, const lc_message *m) {
  if (d->key_count == 0 || m->key == NULL) {
    lc_message_event(d, LC_EVENT_TOMBSTONE);
    return;
  }
  reset(d);
  if (delete_by_key(d, m->key, m->key_size)) {
    lc_row_commit(d, d->rows, LC_OP_DELETE, false, d->state.last_position);
    return;
  }
  if (!d->failed) lc_message_error(d, LC_ROW_KEY, 0, -1);
  lc_rows_undo(d, d->rows, 1);
}

static void op_read(lc_decoder *d, const envelope *e) {
  const uint8_t *p = e->at[OP], *text, *surrogate;
  size_t size;
  if (p == NULL) return;
  bool known = *p == '"' && lc_text_read(d, p, &text, &size, &surrogate) != NULL && surrogate == NULL;
  d->op = known ? op_letter(text, size) : 1;
}

static void envelope_careful(lc_decoder *d, const lc_message *m, const uint8_t *p, int depth) {
  envelope e = {.seen = 0};
  if (*p != '{') {
    lc_message_error(d, LC_ROW_TYPE, p - d->start, -1);
    return;
  }
  envelope_index(d, &e, p);
  op_read(d, &e);
  if (d->failed) return;
  if (d->op > 1 && strchr("crud", d->op) != NULL)
    change_careful(d, &e, depth, m);
  else if (d->fault != 0)
    lc_message_error(d, d->fault, d->fault_at - d->start, -1);
  else if (d->op == 't')
    d->stop = LC_STOP_TRUNCATE;
  else if (d->op == 'm')
    lc_message_event(d, LC_EVENT_MESSAGE);
  else if (d->op == 0 && e.at[STATUS] != NULL && e.at[ID] != NULL)
    lc_message_event(d, LC_EVENT_TRANSACTION);
  else if (d->op == 0 && e.at[TS_MS] != NULL)
    lc_message_event(d, LC_EVENT_HEARTBEAT);
  else
    lc_message_error(d, LC_ROW_OP, 0, -1);
}

void lc_message_careful(lc_decoder *d, const lc_message *m) {
  reset(d);
  lc_json_fault fault;
  int64_t bad = d->kernels->utf8_fault(d->start, (size_t)(d->end - d->start));
  if (bad >= 0) {
    lc_message_error(d, LC_ROW_UTF8, bad, -1);
    return;
  }
  if (!lc_json_check(d->start, d->end, d->kernels, &fault)) {
    lc_message_error(d, fault.code, fault.at - d->start, -1);
    return;
  }
  const uint8_t *schema, *p = unwrap(d, lc_skip_space(d->start, d->end), &schema);
  if (d->failed) return;
  if ((schema != NULL) != (d->plan->schema != NULL)) {
    d->stop = LC_STOP_SCHEMA;
    return;
  }
  if (schema != NULL) {
    size_t size = (size_t)(lc_value_skip_slow(d, schema, 0) - schema);
    if (size != (size_t)d->plan->schema_size || memcmp(schema, d->plan->schema, size) != 0) {
      d->stop = LC_STOP_SCHEMA;
      return;
    }
  }
  d->careful = true;
  if (p == NULL)
    lc_message_error(d, LC_ROW_OP, 0, -1);
  else if (*p == 'n')
    lc_message_null(d, m);
  else
    envelope_careful(d, m, p, schema != NULL ? 2 : 1);
  d->careful = false;
}
