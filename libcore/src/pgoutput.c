/* pgoutput: the messages of a slot in order - transactions, changes, and what another has to answer. */
#include <stdio.h>

#include "pgoutput_internal.h"
#include "pgnumeric.h"

bool lc_pg_list_room(lc_pg_decoder *d, void *list, int64_t count, int64_t *capacity, size_t size) {
  if (count < *capacity) return true;
  int64_t more = *capacity == 0 ? 16 : *capacity * 2;
  void *memory;
  memcpy(&memory, list, sizeof memory);
  memory = lc_realloc(memory, (size_t)more * size);
  if (memory == NULL) {
    d->failed = LC_NO_MEMORY;
    return false;
  }
  memcpy(list, &memory, sizeof memory);
  *capacity = more;
  return true;
}

bool lc_pg_fault(lc_pg_decoder *d, int32_t code, const uint8_t *at, int32_t relation, int32_t column) {
  lc_pgoutput_decoded *out = d->out;
  if (!lc_pg_list_room(d, &out->errors, out->error_count, &d->error_capacity, sizeof *out->errors)) return false;
  out->errors[out->error_count++] =
      (lc_pgoutput_error){.message = d->message,
                          .position = at - d->start,
                          .number = relation < 0 ? 0 : d->changes[relation],
                          .commit_lsn = d->state.open ? d->state.commit_lsn : 0,
                          .xid = d->state.open ? d->state.xid : 0,
                          .code = code,
                          .relation = relation,
                          .column = column};
  return true;
}

/* ---- transactions ---- */

static void name_transaction(lc_pg_decoder *d) {
  d->tx_size = snprintf(d->tx, sizeof d->tx, "%lu:%llu", (unsigned long)d->state.xid,
                        (unsigned long long)d->state.commit_lsn);
}

/* The position of the next change, as big-endian words that compare as its bytes do. */
static inline void position_make(lc_pg_decoder *d, uint64_t words[4]) {
  lc_pgoutput_state *s = &d->state;
  s->count = d->lsn > s->lsn || s->count == 0 ? 1 : s->count + 1;
  if (d->lsn > s->lsn) s->lsn = d->lsn;
  unsigned __int128 order = (unsigned __int128)s->lsn << 24;
  order += (uint64_t)(s->count - 1) * 2; /* a counter that is full carries into the order */
  words[0] = (uint64_t)d->plan->generation << 32 | s->commit_lsn >> 48; /* 4 bytes, 10 of the commit, 18 of the order */
  words[1] = s->commit_lsn << 16;
  words[2] = (uint64_t)(order >> 64);
  words[3] = (uint64_t)order;
}

/* Whether a position is not above another, which stands in bytes. */
static inline bool not_above(const uint64_t words[4], const uint8_t other[32]) {
  for (int i = 0; i < 4; i++) {
    uint64_t word = lc_be64(other + 8 * i);
    if (words[i] != word) return words[i] < word;
  }
  return true;
}

static int32_t relation_of(const lc_pg_decoder *d, uint32_t oid) {
  for (uint32_t at = oid * 2654435761u;; at++) {
    int32_t found = d->slots[at & d->slot_mask];
    if (found == 0 || d->plan->relations[found - 1].oid == oid) return found - 1;
  }
}

static bool begin(lc_pg_decoder *d, const uint8_t *p) {
  lc_pgoutput_state *s = &d->state;
  if (d->end - p != 20 || s->open || d->plan->streamed) return false;
  s->commit_lsn = lc_be64(p);
  s->commit_us = (int64_t)(lc_be64(p + 8) + (uint64_t)LC_PG_EPOCH_US);
  s->xid = lc_be32(p + 16);
  s->lsn = 0;
  s->count = 0;
  s->open = 1;
  memset(d->changes, 0, (size_t)d->plan->relation_count * sizeof *d->changes);
  name_transaction(d);
  return true;
}

/* false: d->failed, or a message that cannot be read (then d->failed is LC_OK). */
static bool commit(lc_pg_decoder *d, const uint8_t *p) {
  lc_pgoutput_decoded *out = d->out;
  if (d->end - p != 25 || !d->state.open || d->plan->streamed) return false;
  if (!lc_pg_list_room(d, &out->commits, out->commit_count, &d->commit_capacity, sizeof *out->commits)) return false;
  out->commits[out->commit_count] = (lc_pgoutput_commit){.message = d->message,
                                                         .xid = d->state.xid,
                                                         .commit_lsn = (int64_t)d->state.commit_lsn,
                                                         .end_lsn = (int64_t)lc_be64(p + 9),
                                                         .commit_us = d->state.commit_us};
  for (int32_t r = 0; d->plan->transactions && r < d->plan->relation_count; r++) {
    if (d->changes[r] == 0) continue;
    if (!lc_pg_list_room(d, &out->shares, out->share_count, &d->share_capacity, sizeof *out->shares)) return false;
    out->shares[out->share_count++] =
        (lc_pgoutput_share){.commit = out->commit_count, .relation = r, .count = d->changes[r]};
  }
  out->commit_count++;
  d->state.open = 0;
  return true;
}

/* M: flags, lsn, prefix, length, bytes. */
static bool event(lc_pg_decoder *d, const uint8_t *p) {
  if (d->end - p < 9) return false;
  const uint8_t *zero = memchr(p + 9, 0, (size_t)(d->end - p - 9));
  if (zero == NULL || d->end - zero < 5 || d->end - zero - 5 != (int64_t)lc_be32(zero + 1)) return false;
  if (!lc_pg_list_room(d, &d->out->events, d->out->event_count, &d->event_capacity, sizeof *d->out->events))
    return false;
  d->out->events[d->out->event_count++] = d->message;
  return true;
}

/* ---- messages ---- */

static bool is_aborted(const lc_pg_decoder *d, uint32_t xid) {
  int64_t low = 0, high = d->plan->aborted_count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (d->plan->aborted[middle] == xid) return true;
    if (d->plan->aborted[middle] < xid)
      low = middle + 1;
    else
      high = middle;
  }
  return false;
}

/* What a message asks for. */
typedef enum answer { DONE, STOPPED, BROKEN, FAILED } answer;

static answer stop(lc_pg_decoder *d, int32_t why) {
  d->out->stop = why;
  return STOPPED;
}

static answer change(lc_pg_decoder *d, uint8_t kind, const uint8_t *p) {
  if (!d->state.open || d->end - p < 4) return BROKEN;
  int32_t r = relation_of(d, lc_be32(p));
  if (LC_UNLIKELY(r < 0)) return stop(d, LC_PGOUTPUT_STOP_UNKNOWN);
  uint64_t words[4];
  uint8_t position[32];
  position_make(d, words);
  for (int i = 0; i < 4; i++)
    lc_put_u64(position + 8 * i, words[i]);
  d->changes[r]++;
  if (d->plan->relations[r].ignored == LC_PGOUTPUT_IGNORED) return DONE;
  if (LC_UNLIKELY(not_above(words, d->state.after))) {
    d->out->redelivered++;
    return DONE;
  }
  if (LC_UNLIKELY(d->plan->relations[r].ignored == LC_PGOUTPUT_REFUSED)) {
    memcpy(d->state.after, position, 32);
    return lc_pg_fault(d, LC_ROW_OP, d->start, r, -1) ? DONE : FAILED;
  }
  return lc_pg_change(d, r, kind, p + 4, position) ? DONE : FAILED;
}

static answer relation(lc_pg_decoder *d, const uint8_t *p) {
  if (d->end - p < 4) return BROKEN;
  int32_t r = relation_of(d, lc_be32(p));
  const lc_pgoutput_relation *known = r < 0 ? NULL : &d->plan->relations[r];
  if (known != NULL && known->description_size == d->end - p &&
      memcmp(known->description, p, (size_t)known->description_size) == 0)
    return DONE;
  return stop(d, LC_PGOUTPUT_STOP_RELATION);
}

static answer message(lc_pg_decoder *d) {
  const uint8_t *p = d->start;
  if (d->end == p) return BROKEN;
  uint8_t kind = *p++;
  if (d->plan->streamed && kind != 'S' && kind != 'E') {
    if (d->end - p < 4) return BROKEN;
    uint32_t xid = lc_be32(p);
    p += 4;
    if (kind != 'R' && kind != 'Y' && is_aborted(d, xid)) return DONE; /* what a relation is outlives a rollback */
  }
  switch (kind) {
    case 'I':
    case 'U':
    case 'D': return change(d, kind, p);
    case 'B': return begin(d, p) ? DONE : BROKEN;
    case 'C': return commit(d, p) ? DONE : d->failed != LC_OK ? FAILED : BROKEN;
    case 'M': return event(d, p) ? DONE : d->failed != LC_OK ? FAILED : BROKEN;
    case 'O': return DONE;
    case 'Y': return stop(d, LC_PGOUTPUT_STOP_RELATION);
    case 'R': return relation(d, p);
    case 'T': return d->state.open ? stop(d, LC_PGOUTPUT_STOP_TRUNCATE) : BROKEN;
    case 'S':
    case 'E':
      if (d->plan->streamed) return DONE;
      /* fall through */
    case 'A':
    case 'c': return d->plan->streamed ? BROKEN : stop(d, LC_PGOUTPUT_STOP_STREAM);
    case 'b':
    case 'P':
    case 'K':
    case 'r':
    case 'p': return stop(d, LC_PGOUTPUT_STOP_PREPARED);
    default: return BROKEN;
  }
}

/* ---- the call ---- */

static bool fills(int32_t kind, int32_t type) {
  switch (kind) {
    case LC_PGOUTPUT_BOOL: return type == LC_TYPE_BOOL;
    case LC_PGOUTPUT_INT: return type >= LC_TYPE_INT16 && type <= LC_TYPE_INT64;
    case LC_PGOUTPUT_OID: return type == LC_TYPE_INT64;
    case LC_PGOUTPUT_FLOAT: return type == LC_TYPE_FLOAT32 || type == LC_TYPE_FLOAT64;
    case LC_PGOUTPUT_NUMERIC:
      return type == LC_TYPE_DECIMAL128 || type == LC_TYPE_DECIMAL256 || type == LC_TYPE_UTF8;
    case LC_PGOUTPUT_BYTEA: return type == LC_TYPE_BINARY;
    case LC_PGOUTPUT_DATE: return type == LC_TYPE_DATE32;
    case LC_PGOUTPUT_TIME: return type == LC_TYPE_TIME64;
    case LC_PGOUTPUT_TIMESTAMP:
    case LC_PGOUTPUT_TIMESTAMPTZ: return type == LC_TYPE_TIMESTAMP;
    default: return kind >= LC_PGOUTPUT_TEXT && kind <= LC_PGOUTPUT_OTHER && type == LC_TYPE_UTF8;
  }
}

static lc_code check_relation(const lc_pgoutput_relation *r, lc_error *error) {
  if (r->wire_count < 0 || r->wire_count > 65000 || r->column_count < 0 || r->column_count > 65000)
    return lc_fail(error, LC_INVALID, -1, -1, "relation %u: expected 0..65000 columns, found %d and %d", r->oid,
                   r->wire_count, r->column_count);
  for (int32_t c = 0; c < r->column_count; c++) {
    lc_column layout = {r->columns[c].type, 0, r->columns[c].precision, r->columns[c].scale};
    if (!lc_column_valid(&layout) || layout.type == LC_TYPE_FIXED)
      return lc_fail(error, LC_INVALID, -1, -1, "relation %u: column %d: unknown layout", r->oid, c);
  }
  uint8_t *filled = lc_calloc((size_t)r->column_count, 1);
  if (filled == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %d columns", r->column_count);
  int32_t bad = -1;
  for (int32_t w = 0; bad < 0 && w < r->wire_count; w++) {
    int32_t c = r->wire[w].column;
    if (c < 0) continue;
    if (c >= r->column_count || filled[c] || !fills(r->wire[w].kind, r->columns[c].type))
      bad = w;
    else
      filled[c] = 1;
  }
  lc_free(filled);
  if (bad < 0) return LC_OK;
  return lc_fail(error, LC_INVALID, -1, -1, "relation %u: its column %d does not fill column %d", r->oid, bad,
                 r->wire[bad].column);
}

static lc_code decoder_init(lc_pg_decoder *d, lc_error *error) {
  const lc_pgoutput_plan *plan = d->plan;
  int32_t widest = 0;
  if (plan->relation_count < 0 || plan->relation_count > 1 << 24 || plan->aborted_count < 0)
    return lc_fail(error, LC_INVALID, -1, -1, "expected 0..2^24 relations, found %d", plan->relation_count);
  uint32_t slots = 16;
  while (slots < 2 * (uint32_t)plan->relation_count)
    slots *= 2;
  d->slot_mask = slots - 1;
  d->slots = lc_calloc(slots, sizeof *d->slots);
  d->builders = lc_calloc((size_t)plan->relation_count, sizeof *d->builders);
  d->used = lc_calloc((size_t)plan->relation_count, sizeof *d->used);
  if (d->slots == NULL || d->builders == NULL || d->used == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %d relations", plan->relation_count);
  for (int32_t r = 0; r < plan->relation_count; r++) {
    const lc_pgoutput_relation *relation = &plan->relations[r];
    lc_code code = check_relation(relation, error);
    if (code != LC_OK) return code;
    if (relation_of(d, relation->oid) >= 0)
      return lc_fail(error, LC_INVALID, -1, -1, "relation %u stands in the plan twice", relation->oid);
    uint32_t at = relation->oid * 2654435761u;
    while (d->slots[at & d->slot_mask] != 0)
      at++;
    d->slots[at & d->slot_mask] = r + 1;
    if (relation->wire_count > widest) widest = relation->wire_count;
  }
  d->old_cells = lc_calloc((size_t)widest, sizeof *d->old_cells);
  d->new_cells = lc_calloc((size_t)widest, sizeof *d->new_cells);
  if (d->old_cells == NULL || d->new_cells == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %d values", widest);
  return LC_OK;
}

/* One message after the other; what stopped the call, or LC_OK. */
static lc_code run(lc_pg_decoder *d, const lc_view *payloads, const lc_view *lsns, int64_t start, lc_error *error) {
  bool bytes = payloads->rows > 0 && payloads->data != NULL;
  const uint8_t *input_end = bytes ? payloads->data + payloads->offsets[payloads->rows] : NULL;
  answer done = DONE;
  for (d->message = start; d->message < payloads->rows; d->message++) {
    d->start = lc_view_bytes(payloads, d->message);
    d->end = d->start + lc_view_size(payloads, d->message);
    d->lsn = lc_load_u64(lsns->values + 8 * d->message);
    if (LC_UNLIKELY(!bytes || input_end - d->end < LC_PG_PADDING)) { /* reads behind a message stay inside a copy */
      size_t size = (size_t)(d->end - d->start);
      d->padded.size = 0;
      if (!lc_buffer_reserve(&d->padded, size + LC_PG_PADDING)) {
        d->failed = LC_NO_MEMORY;
        break;
      }
      if (size > 0) memcpy(d->padded.data, d->start, size);
      memset(d->padded.data + size, 0, LC_PG_PADDING);
      d->start = d->padded.data;
      d->end = d->start + size;
    }
    done = message(d);
    if (LC_UNLIKELY(done != DONE)) break;
  }
  if (done == BROKEN) {
    d->out->stop = LC_PGOUTPUT_STOP_BROKEN;
    lc_pg_fault(d, LC_ROW_OP, d->start, -1, -1);
  }
  if (d->failed != LC_OK)
    return lc_fail(error, d->failed, d->message, -1, "message %lld: %s", (long long)d->message,
                   d->failed == LC_CAPACITY ? "a column's text would pass 2^31-1 bytes" : "no memory");
  d->out->consumed = d->message;
  return LC_OK;
}

lc_code lc_pgoutput_decode(const lc_pgoutput_plan *plan, const struct ArrowArray *messages, int64_t start,
                           const lc_pgoutput_state *state, int64_t *changes, int32_t level, lc_pgoutput_decoded *out,
                           lc_error *error) {
  static const lc_column layouts[2] = {{.type = LC_TYPE_BINARY}, {.type = LC_TYPE_INT64}};
  *out = (lc_pgoutput_decoded){0};
  lc_code code = lc_check_batch(messages, layouts, 2, error);
  if (code != LC_OK) return code;
  lc_pg_decoder d = {.plan = plan, .kernels = lc_kernels_pick(level), .changes = changes, .out = out};
  if (start < 0 || start > messages->length || d.kernels == NULL)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a start of 0..%lld and a level of this machine, found %lld, %d",
                   (long long)messages->length, (long long)start, level);
  d.state = *state;
  d.message_count = messages->length;
  if (d.state.open) name_transaction(&d);
  lc_view payloads = lc_view_of(messages, layouts, 0), lsns = lc_view_of(messages, layouts, 1);
  code = decoder_init(&d, error);
  if (code == LC_OK) code = run(&d, &payloads, &lsns, start, error);
  if (code == LC_OK) code = lc_pg_rows_finish(&d, error);
  out->state = d.state;
  lc_pg_rows_free(&d);
  lc_free(d.slots);
  lc_free(d.used);
  lc_free(d.old_cells);
  lc_free(d.new_cells);
  lc_buffer_free(&d.padded);
  lc_buffer_free(&d.scratch);
  if (code != LC_OK) lc_pgoutput_free(out);
  return code;
}

void lc_pgoutput_free(lc_pgoutput_decoded *decoded) {
  for (int64_t i = 0; i < decoded->row_sets; i++)
    if (decoded->rows[i].batch.release != NULL) decoded->rows[i].batch.release(&decoded->rows[i].batch);
  lc_free(decoded->rows);
  lc_free(decoded->errors);
  lc_free(decoded->commits);
  lc_free(decoded->shares);
  lc_free(decoded->events);
  *decoded = (lc_pgoutput_decoded){0};
}
