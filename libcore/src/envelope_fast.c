/* One message the fast way: by prediction, in one pass; what surprises is left to the careful way. */
#include "envelope_message.h"

const char *const *lc_top_fields(int32_t *count) {
  static const char *const names[FIELD_COUNT] = {"before", "after",  "source", "op",
                                                 "ts_ms",  "status", "id",     "transaction"};
  *count = FIELD_COUNT;
  return names;
}

/* What an envelope's members hold. */
typedef struct envelope {
  uint32_t seen;                  /* bits by field */
  bool before, after;             /* they are objects */
  int32_t before_keys;            /* key columns met in before, not null */
  bool before_unset, after_unset; /* keyless: a placeholder stands there */
} envelope;

void lc_message_reset(lc_decoder *d) {
  d->fault = 0;
  d->fault_at = d->unknown = NULL;
  d->op = 0;
  d->from.snapshot = false;
  d->from.has = 0;
  d->within.has_id = d->within.has_order = false;
}

uint8_t lc_op_letter(const uint8_t *text, size_t size) {
  if (size != 1) return 1;
  switch (text[0]) {
    case 'c':
    case 'r':
    case 'u':
    case 'd':
    case 't':
    case 'm': return text[0];
    default: return 1;
  }
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
  uint64_t surprises = d->surprises;
  p = lc_row_walk(d, p + 1, depth + 1, row, LC_WALK_ALL, 1);
  e->after_unset = d->row_unset;
  if (p == NULL || d->row_keys < d->key_count || lc_row_carries_others(d, surprises)) return NULL;
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
    case TRANSACTION:
      if (LC_LIKELY(!d->plan->transactions)) return lc_value_skip(d, p, depth);
      if (*p == '{') return lc_transaction_walk(d, p + 1, depth + 1);
      return lc_is4(p, "null") ? p + 4 : NULL;
    case OP:
      if (*p != '"' || p[2] != '"') return NULL;
      d->op = lc_op_letter(p + 1, 1);
      return p + 3;
    default: return lc_value_skip(d, p, depth);
  }
}

/* Read the envelope object at p by prediction: the byte behind it, or NULL where the careful way must look. */
static const uint8_t *envelope_fast(lc_decoder *d, envelope *e, const uint8_t *p, int depth) {
  lc_cursor cursor = lc_cursor_start(&d->top);
  if (p >= d->end || *p != '{') return NULL;
  p++;
  for (int next = 1; next == 1;) {
    p = lc_member_enter(d, &cursor, lc_members_pass(d, &cursor, p));
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
    if ((size_t)(column->raw_end[1] - column->raw[1]) != size || memcmp(column->raw[0], column->raw[1], size) != 0)
      return false;
  }
  return true;
}

/* Keep the one or two rows that a keyless change left at d->rows; false: look carefully. */
static bool keyless_fast(lc_decoder *d, const envelope *e, bool real, const uint8_t position[32]) {
  bool update = d->op == 'u', delete = d->op == 'd';
  if (!update && !delete && d->op != 'c' && d->op != 'r') return false;
  if (e->before != (update || delete) || e->after == delete || e->before_unset || e->after_unset) return false;
  lc_envelope_state state = d->state;
  bool first = lc_row_drops(d, &state, real, position),
       second = update ? lc_row_drops(d, &state, real, position) : first;
  if (first || second) return false;
  if (e->before) lc_row_commit(d, d->rows, LC_OP_DELETE, real, position);
  if (e->after) lc_row_commit(d, d->rows, LC_OP_UPSERT, real, position);
  return true;
}

bool lc_message_fast(lc_decoder *d, const uint8_t *p, int depth) {
  envelope e = {.seen = 0};
  lc_message_reset(d);
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
    if (good) lc_row_commit(d, d->rows, lc_op_of_upsert(d), real, position);
  } else if (good) {
    good = d->op == 'd' && !e.after && e.before_keys == d->key_count && delete_fast(d);
    if (good) lc_row_commit(d, d->rows, LC_OP_DELETE, real, position);
  }
  if (!good) lc_rows_undo(d, d->rows, 2);
  return good;
}
