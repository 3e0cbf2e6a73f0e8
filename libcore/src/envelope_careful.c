/* One message the careful way: the exact fault by the order of precedence, or the rows that a fast look could not make.
 */
#include "envelope_message.h"

/* Where the value of each known member starts; NULL where it is missing. */
typedef struct envelope {
  const uint8_t *at[FIELD_COUNT];
} envelope;

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
    good = d->failed == LC_OK && *p == '{' && lc_row_walk(d, p + 1, 1, d->rows, LC_WALK_KEYS, 0) != NULL &&
           d->fault == kept && d->row_keys == d->key_count;
  }
  if (good) lc_rows_fill(d, d->rows, false);
  d->start = start;
  d->end = end;
  d->fault = kept; /* positions in the key say nothing about the value */
  return good;
}

/* Find the envelope's members; DUPLICATE where one stands twice. */
static void envelope_index(lc_decoder *d, envelope *e, const uint8_t *p) {
  lc_cursor cursor = lc_cursor_start(&d->top);
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
  int64_t count;                 /* rows at d->rows: 0..2 */
  int32_t error;                 /* KEY or BEFORE, which stand behind all value faults */
  bool by_key;                   /* the delete needs the message's key */
  bool others;                   /* after carries other columns than the plan says */
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
  uint64_t surprises = d->surprises;
  if (lc_row_walk(d, p + 1, depth + 1, row, LC_WALK_ALL, side) == NULL) return;
  r->others = side == 1 && lc_row_carries_others(d, surprises);
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
  if (old && d->fault == 0 && r.error == 0 &&
      !lc_row_keys_differ(d, d->rows, d->rows + 1)) { /* one row, at the first's place */
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
  uint8_t op = delete ? LC_OP_DELETE : d->key_count > 0 ? lc_op_of_upsert(d) : LC_OP_UPSERT;
  bool kept = lc_row_commit(d, d->rows, op, real, position);
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

/* The object at p, or nothing, by `walk`. */
static void block_walk(lc_decoder *d, const uint8_t *p, int depth,
                       const uint8_t *(*walk)(lc_decoder *d, const uint8_t *p, int depth)) {
  if (is_null(p)) return;
  if (*p == '{')
    walk(d, p + 1, depth + 1);
  else
    lc_fault(d, LC_ROW_TYPE, p, NULL);
}

/* A change (op c, r, u, d). */
static void change_careful(lc_decoder *d, const envelope *e, int depth, const lc_message *m) {
  block_walk(d, e->at[SOURCE], depth, lc_source_walk);
  if (d->plan->transactions) block_walk(d, e->at[TRANSACTION], depth, lc_transaction_walk);
  rows r = d->key_count > 0 ? keyed_rows(d, e, depth) : keyless_rows(d, e, depth);
  if (d->failed) return;
  if (d->fault == 0 && r.by_key && !delete_by_key(d, m->key, m->key_size)) r.error = LC_ROW_KEY;
  if (d->fault != 0)
    lc_message_error(d, d->fault, d->fault_at - d->start, d->fault_column);
  else if (d->unknown != NULL && d->plan->stop_on_unknown)
    d->stop = LC_STOP_UNKNOWN;
  else if (r.others)
    d->stop = LC_STOP_COLUMNS;
  else if (r.error != 0)
    lc_message_error(d, r.error, 0, -1);
  else {
    rows_commit(d, &r, depth);
    return;
  }
  lc_rows_undo(d, d->rows, 2);
}

void lc_message_null(lc_decoder *d, const lc_message *m) {
  if (d->key_count == 0 || m->key == NULL || d->plan->transactions) {
    lc_message_event(d, LC_EVENT_TOMBSTONE);
    return;
  }
  lc_message_reset(d);
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
  d->op = known ? lc_op_letter(text, size) : 1;
}

static void envelope_careful(lc_decoder *d, const lc_message *m, const uint8_t *p, int depth) {
  envelope e = {{NULL}};
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
  lc_message_reset(d);
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
