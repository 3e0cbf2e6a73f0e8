/* One Avro message: its frame, the members of the envelope, and the rows that they make. */
#include "avro_internal.h"
#include "envelope_message.h"

/* What an envelope's members hold; a body is where its record's fields begin, NULL where it is null or missing. */
typedef struct envelope {
  const uint8_t *body[FIELD_COUNT];
  const lc_avro_node *node[FIELD_COUNT];
  bool there[FIELD_COUNT];
  lc_avro_fault row, source, transaction; /* value faults, kept aside until `op` says what counts */
  bool ready;                             /* `after` stands at d->rows already */
  int32_t keys;                           /* then: its key columns with a value */
  bool unset;                             /* then: it lacks a value */
} envelope;

static void fault_aside(lc_decoder *d, lc_avro_fault *kept) {
  *kept = (lc_avro_fault){d->fault, d->fault_column, d->fault_at};
  d->fault = 0;
}

static void fault_counts(lc_decoder *d, const lc_avro_fault *kept) {
  if (kept->code == 0 || (d->fault != 0 && d->fault_at <= kept->at)) return;
  d->fault = kept->code;
  d->fault_at = kept->at;
  d->fault_column = kept->column;
}

/* ---- the parts of a row ---- */

/* Give a row its missing columns. */
static void row_fill(lc_avro *a, int64_t row, bool missing_is_unset) {
  lc_decoder *d = &a->d;
  if (d->row_seen == d->column_count && !d->row_unset) return;
  lc_rows_fill(d, row, missing_is_unset);
  for (int32_t c = 0; missing_is_unset && d->unset != NULL && a->plan->defaulted != NULL && c < d->column_count; c++)
    if (a->plan->defaulted[c] && d->columns[c].seen != d->walk) lc_bit_clear(d->unset + row * d->unset_width, c);
}

typedef struct rows {
  int64_t count; /* rows at d->rows: 0..2 */
  int32_t error; /* KEY or BEFORE, which stand behind all value faults */
  bool by_key;   /* the delete needs the message's key */
} rows;

/* A member as a record: false where it is null or missing, or of another kind, which is a fault. */
static bool is_record(lc_avro *a, const envelope *e, int member) {
  if (e->body[member] == NULL) return false;
  if (e->node[member]->kind == LC_AVRO_RECORD) return true;
  lc_fault_note(&a->d, LC_ROW_TYPE, e->body[member], NULL);
  return false;
}

static void full_row(lc_avro *a, rows *r, const envelope *e, int member) {
  lc_decoder *d = &a->d;
  if (!is_record(a, e, member)) {
    if (e->body[member] == NULL) r->error = d->key_count > 0 ? LC_ROW_KEY : LC_ROW_BEFORE;
    return;
  }
  int64_t row = d->rows + r->count;
  if (lc_avro_row(a, e->node[member], e->body[member], 2, row, false) == NULL) return;
  if (d->row_keys < d->key_count) r->error = LC_ROW_KEY;
  if (d->key_count == 0 && d->row_unset) r->error = LC_ROW_BEFORE;
  row_fill(a, row, d->key_count > 0);
  r->count++;
}

/* The key columns of before into `row` as a delete; whether it has them all. */
static bool before_keys(lc_avro *a, const envelope *e, int64_t row) {
  lc_decoder *d = &a->d;
  if (!is_record(a, e, BEFORE)) return false;
  if (lc_avro_row(a, e->node[BEFORE], e->body[BEFORE], 2, row, true) == NULL) return false;
  lc_rows_fill(d, row, false);
  return d->row_keys == d->key_count;
}

/* The body behind the frame: its first byte; NULL with *other where the id is another than the plan's, or broken. */
static const uint8_t *unframed(lc_avro *a, bool *other) {
  size_t bytes = (size_t)a->plan->framing;
  const uint8_t *p = a->d.start;
  uint64_t id = 0;
  *other = false;
  if (bytes == 0) return p;
  if (p == a->d.end || *p != 0) return lc_avro_breaks(a, LC_ROW_SYNTAX, p);
  if ((size_t)(a->d.end - p) <= bytes) return lc_avro_breaks(a, LC_ROW_SYNTAX, a->d.end);
  for (size_t i = 1; i <= bytes; i++)
    id = id << 8 | p[i];
  *other = id != a->schema->id || a->schema->node_count == 0;
  return *other ? NULL : p + 1 + bytes;
}

/* The message's key as a delete at d->rows; false: it does not give all key columns, or d->stop is set. */
static bool delete_by_key(lc_avro *a, const uint8_t *key, size_t size) {
  lc_decoder *d = &a->d;
  const uint8_t *start = d->start, *end = d->end, *p;
  int32_t noted = d->fault;
  bool other = false, good = false;
  if (key == NULL) return false;
  d->start = key;
  d->end = key + size;
  a->schema = &a->plan->key;
  p = unframed(a, &other);
  if (a->plan->framing == 0 && a->schema->node_count == 0) p = NULL;
  if (other) d->stop = LC_STOP_KEY_SCHEMA;
  if (p != NULL) {
    const lc_avro_node *root = lc_avro_node_at(a, a->schema->root);
    p = lc_avro_resolve(a, &root, p);
    good = p != NULL && root->kind == LC_AVRO_RECORD && lc_avro_row(a, root, p, 1, d->rows, true) == d->end &&
           d->fault == noted && a->broken == 0 && d->row_keys == d->key_count;
  }
  if (good) lc_rows_fill(d, d->rows, false);
  a->schema = &a->plan->value;
  a->broken = 0;
  d->start = start;
  d->end = end;
  d->fault = noted;
  return good;
}

/* ---- changes ---- */

static rows keyed_rows(lc_avro *a, envelope *e) {
  lc_decoder *d = &a->d;
  rows r = {.count = 0};
  if (d->op == 'd') {
    r.by_key = !before_keys(a, e, d->rows);
    if (r.by_key) lc_rows_undo(d, d->rows, 1);
    r.count = 1;
    return r;
  }
  bool old = false;
  if (d->op == 'u' && e->body[BEFORE] != NULL) {
    old = before_keys(a, e, d->rows + e->ready);
    if (old && e->ready && lc_row_keys_differ(d, d->rows, d->rows + 1)) {
      lc_rows_undo(d, d->rows, 2); /* the delete comes first, and `after` is read again behind it */
      e->ready = false;
      before_keys(a, e, d->rows);
    } else if (e->ready || !old) {
      lc_rows_undo(d, d->rows + e->ready, 1);
      old = false;
    }
  }
  if (e->ready) {
    r.error = e->keys < d->key_count ? LC_ROW_KEY : 0;
    r.count = 1;
    return r;
  }
  r.count = old;
  full_row(a, &r, e, AFTER);
  if (old && d->fault == 0 && r.error == 0 && !lc_row_keys_differ(d, d->rows, d->rows + 1)) {
    lc_rows_undo(d, d->rows, 2);
    r.count = 0;
    full_row(a, &r, e, AFTER);
  }
  return r;
}

static rows keyless_rows(lc_avro *a, envelope *e) {
  lc_decoder *d = &a->d;
  rows r = {.count = 0};
  if (e->ready && (d->op == 'c' || d->op == 'r')) {
    r.error = e->unset ? LC_ROW_BEFORE : 0;
    r.count = 1;
    return r;
  }
  if (e->ready) lc_rows_undo(d, d->rows, 1);
  if (d->op == 'u' || d->op == 'd') full_row(a, &r, e, BEFORE);
  if (d->op != 'd') full_row(a, &r, e, AFTER);
  return r;
}

/* Commit one or two rows; a redelivered first one leaves its place to the second. */
static void rows_commit(lc_avro *a, const rows *r, const envelope *e) {
  lc_decoder *d = &a->d;
  uint8_t position[32];
  bool real = lc_source_position(d, position), delete = d->op == 'd' || r->count == 2;
  uint8_t op = delete ? LC_OP_DELETE : d->key_count > 0 ? lc_op_of_upsert(d) : LC_OP_UPSERT;
  bool kept = lc_row_commit(d, d->rows, op, real, position);
  if (!kept) {
    lc_message_event(d, LC_EVENT_REDELIVERED);
    lc_rows_undo(d, d->rows, 2);
  }
  if (r->count < 2) return;
  if (!kept) {
    rows again = {.count = 0};
    full_row(a, &again, e, AFTER);
  }
  if (lc_row_commit(d, d->rows, LC_OP_UPSERT, real, position)) return;
  lc_message_event(d, LC_EVENT_REDELIVERED);
  lc_rows_undo(d, d->rows, 2);
}

/* A change (op c, r, u, d) whose members are known. */
static void change(lc_avro *a, envelope *e, const uint8_t *key, size_t key_size) {
  lc_decoder *d = &a->d;
  fault_counts(d, &e->source);
  if (d->plan->transactions) fault_counts(d, &e->transaction);
  if (e->ready && d->op != 'd') fault_counts(d, &e->row);
  if (e->ready && d->op == 'd') {
    lc_rows_undo(d, d->rows, 1);
    e->ready = false;
  }
  rows r = d->key_count > 0 ? keyed_rows(a, e) : keyless_rows(a, e);
  if (d->failed) return;
  if (d->fault == 0 && r.by_key && !delete_by_key(a, key, key_size) && d->stop == LC_STOP_NONE) r.error = LC_ROW_KEY;
  if (d->failed) return;
  if (d->fault != 0)
    lc_message_error(d, d->fault, d->fault_at - d->start, d->fault_column);
  else if (r.error != 0)
    lc_message_error(d, r.error, 0, -1);
  else if (d->stop == LC_STOP_NONE) {
    rows_commit(a, &r, e);
    return;
  }
  lc_rows_undo(d, d->rows, 2);
}

static void tombstone(lc_avro *a, const uint8_t *key, size_t size) {
  lc_decoder *d = &a->d;
  if (d->key_count == 0 || key == NULL || d->plan->transactions) {
    lc_message_event(d, LC_EVENT_TOMBSTONE);
    return;
  }
  lc_message_reset(d);
  if (delete_by_key(a, key, size)) {
    lc_row_commit(d, d->rows, LC_OP_DELETE, false, d->state.last_position);
    return;
  }
  if (!d->failed && d->stop == LC_STOP_NONE) lc_message_error(d, LC_ROW_KEY, 0, -1);
  lc_rows_undo(d, d->rows, 1);
}

/* ---- the envelope ---- */

static const uint8_t *op_read(lc_avro *a, const lc_avro_node *node, const uint8_t *p) {
  const uint8_t *text = p, *after = lc_avro_skip(a, node, p, 1);
  size_t size = 0;
  int64_t index = 0;
  if (after == NULL) return NULL;
  if (node->kind == LC_AVRO_STRING) {
    lc_avro_bytes(a, node, p, &text, &size);
  } else if (node->kind == LC_AVRO_ENUM) {
    lc_avro_index(a, node, p, &index);
    text = (const uint8_t *)lc_avro_part_at(a, node, index)->name;
    size = (size_t)lc_avro_part_at(a, node, index)->name_size;
  }
  a->d.op = lc_op_letter(text, size);
  return after;
}

/* `after` as a row at once, in the hope that nothing else must stand there. */
static const uint8_t *after_read(lc_avro *a, envelope *e, const lc_avro_node *node, const uint8_t *p) {
  lc_decoder *d = &a->d;
  if (node->kind != LC_AVRO_RECORD) return lc_avro_skip(a, node, p, 1);
  p = lc_avro_row(a, node, p, a->plan->mode == LC_AVRO_FLAT ? 1 : 2, d->rows, false);
  if (p == NULL) return NULL;
  e->keys = d->row_keys;
  e->unset = d->row_unset;
  e->ready = true;
  row_fill(a, d->rows, d->key_count > 0);
  fault_aside(d, &e->row);
  return p;
}

static const uint8_t *member_read(lc_avro *a, envelope *e, int member, const lc_avro_node *node, const uint8_t *p) {
  lc_decoder *d = &a->d;
  bool blocks = member == SOURCE || (member == TRANSACTION && d->plan->transactions);
  e->there[member] = true;
  p = lc_avro_resolve(a, &node, p);
  if (p == NULL) return NULL;
  if (member == OP) return op_read(a, node, p);
  if (node->kind == LC_AVRO_NULL) return p;
  e->body[member] = p;
  e->node[member] = node;
  if (member == AFTER) return after_read(a, e, node, p);
  if (!blocks) return lc_avro_skip(a, node, p, 1);
  const uint8_t *after;
  if (node->kind != LC_AVRO_RECORD) {
    after = lc_avro_skip(a, node, p, 1);
    if (after != NULL) lc_fault_note(d, LC_ROW_TYPE, p, NULL);
  } else {
    after = member == SOURCE ? lc_avro_source(a, node, p, 2) : lc_avro_transaction(a, node, p, 2);
  }
  fault_aside(d, member == SOURCE ? &e->source : &e->transaction);
  return after;
}

/* A message that is no change. */
static void other(lc_avro *a, const envelope *e) {
  lc_decoder *d = &a->d;
  if (e->ready) lc_rows_undo(d, d->rows, 1);
  if (d->op == 't')
    d->stop = LC_STOP_TRUNCATE;
  else if (d->op == 'm')
    lc_message_event(d, LC_EVENT_MESSAGE);
  else if (d->op == 0 && e->there[STATUS] && e->there[ID])
    lc_message_event(d, LC_EVENT_TRANSACTION);
  else if (d->op == 0 && e->there[TS_MS])
    lc_message_event(d, LC_EVENT_HEARTBEAT);
  else
    lc_message_error(d, LC_ROW_OP, 0, -1);
}

/* The record at p as an envelope; whether its bytes hold together. */
static bool envelope_read(lc_avro *a, envelope *e, const lc_avro_node *root, const uint8_t *p) {
  for (int32_t f = 0; f < root->count && p != NULL; f++) {
    const lc_avro_part *field = lc_avro_part_at(a, root, f);
    const lc_avro_node *node = lc_avro_node_at(a, field->node);
    p = field->role >= 0 ? member_read(a, e, field->role, node, p) : lc_avro_skip(a, node, p, 1);
  }
  if (p != NULL && p != a->d.end) lc_avro_breaks(a, LC_ROW_SYNTAX, p);
  return p == a->d.end && a->broken == 0;
}

/* Behind the root: whether its bytes hold together. */
static bool flat_read(lc_avro *a, envelope *e, const lc_avro_node *root, const uint8_t *p) {
  a->d.op = 'u'; /* neither known to be new nor gone */
  e->body[AFTER] = p;
  e->node[AFTER] = root;
  p = after_read(a, e, root, p);
  if (p != NULL && p != a->d.end) lc_avro_breaks(a, LC_ROW_SYNTAX, p);
  return p == a->d.end && a->broken == 0;
}

static void body_read(lc_avro *a, const uint8_t *p, const uint8_t *key, size_t key_size) {
  lc_decoder *d = &a->d;
  const lc_avro_node *root = lc_avro_node_at(a, a->schema->root);
  envelope e = {.ready = false};
  bool good;
  p = lc_avro_resolve(a, &root, p);
  if (p != NULL && p == d->end && root->kind == LC_AVRO_NULL) {
    tombstone(a, key, key_size);
    return;
  }
  if (p == NULL) {
    good = false;
  } else if (root->kind != LC_AVRO_RECORD) {
    const uint8_t *after = lc_avro_skip(a, root, p, 0);
    if (after != NULL && after != d->end) lc_avro_breaks(a, LC_ROW_SYNTAX, after);
    good = after == d->end;
    if (good) {
      lc_message_error(d, LC_ROW_TYPE, p - d->start, -1);
      return;
    }
  } else {
    good = a->plan->mode == LC_AVRO_FLAT ? flat_read(a, &e, root, p) : envelope_read(a, &e, root, p);
  }
  if (d->failed) return;
  if (!good) {
    lc_rows_undo(d, d->rows, 1);
    lc_message_error(d, a->broken, a->broken_at - d->start, -1);
  } else if (a->plan->mode == LC_AVRO_FLAT || (d->op > 1 && strchr("crud", d->op) != NULL)) {
    if (a->plan->mode == LC_AVRO_FLAT && d->key_count == 0) d->op = 'r'; /* a copy of the row, nothing taken away */
    change(a, &e, key, key_size);
  } else {
    other(a, &e);
  }
}

void lc_avro_message(lc_avro *a, const uint8_t *value, size_t size, const uint8_t *key, size_t key_size) {
  lc_decoder *d = &a->d;
  bool other_schema;
  if (!lc_rows_reserve(d, 2)) return;
  a->schema = &a->plan->value;
  a->broken = 0;
  if (value == NULL) {
    tombstone(a, key, key_size);
    return;
  }
  lc_message_reset(d);
  d->start = value;
  d->end = value + size;
  const uint8_t *p = unframed(a, &other_schema);
  if (other_schema)
    d->stop = LC_STOP_SCHEMA;
  else if (p == NULL)
    lc_message_error(d, a->broken, a->broken_at - d->start, -1);
  else
    body_read(a, p, key, key_size);
}
