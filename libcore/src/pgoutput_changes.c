/* One change message (I, U, D) to its rows: the tuples taken apart, their values decoded, or the fault. */
#include "group.h"
#include "pgoutput_internal.h"

/* A change in work. */
typedef struct change {
  lc_pg_builder *builder;
  int32_t relation;
  bool has_old, old_whole; /* K or O; O */
  bool has_new;
} change;

/* What came of a step. */
typedef enum outcome { GOOD, BAD_ROW, FAILED } outcome;

static bool is_value(const lc_pg_cell *cell) { return cell->form == 't' || cell->form == 'b'; }

/* A tuple's cells; the byte behind it, or NULL with *at where it cannot be read. */
static const uint8_t *tuple_read(const lc_pg_decoder *d, const lc_pgoutput_relation *r, const uint8_t *p,
                                 lc_pg_cell *cells, const uint8_t **at) {
  const uint8_t *end = d->end;
  *at = p;
  if (end - p < 2 || lc_be16(p) != r->wire_count) return NULL;
  p += 2;
  for (int32_t i = 0; i < r->wire_count; i++) {
    *at = p;
    if (p >= end) return NULL;
    uint8_t form = *p++;
    cells[i] = (lc_pg_cell){p, 0, form};
    if (form == 'n' || form == 'u') continue;
    if (form != 't' && form != 'b') return NULL;
    *at = p;
    if (end - p < 4 || lc_be32(p) > (uint32_t)INT32_MAX || end - p - 4 < (int64_t)lc_be32(p)) return NULL;
    cells[i].size = (int32_t)lc_be32(p);
    cells[i].at = p + 4;
    p += 4 + cells[i].size;
  }
  return p;
}

/* The message's tuples, up to its very end.  false: *at cannot be read. */
static bool message_read(lc_pg_decoder *d, change *m, uint8_t kind, const uint8_t *p, const uint8_t **at) {
  const lc_pgoutput_relation *r = m->builder->relation;
  *at = p;
  if (p >= d->end) return false;
  if (kind != 'I' && (*p == 'K' || *p == 'O')) {
    m->has_old = true;
    m->old_whole = *p == 'O';
    p = tuple_read(d, r, p + 1, d->old_cells, at);
    if (p == NULL) return false;
  }
  if (kind == 'D' ? m->has_old : (p < d->end && *p == 'N')) {
    m->has_new = kind != 'D';
    if (m->has_new) p = tuple_read(d, r, p + 1, d->new_cells, at);
    if (p == NULL || p == d->end) return p != NULL;
  }
  *at = p;
  return false;
}

/* A value into the table's column.  *failed_at is where it is bad. */
static outcome cell_put(lc_pg_decoder *d, const change *m, int32_t wire, int64_t row, const lc_pg_cell *cell) {
  const lc_pgoutput_wire *w = &m->builder->relation->wire[wire];
  lc_pg_builder_column *c = &m->builder->columns[w->column];
  int code;
  if (LC_LIKELY(cell->form == 't')) {
    code = lc_pg_text(d, w->kind, c, row, cell->at, cell->size);
  } else if (cell->form == 'b') {
    code = lc_pg_binary(d, w->kind, c, row, cell->at, cell->size);
  } else {
    lc_pg_cell_null(c, row);
    return GOOD;
  }
  if (LC_LIKELY(code == 0)) return GOOD;
  if (code < 0) {
    d->failed = code == LC_PG_CAPACITY ? LC_CAPACITY : LC_NO_MEMORY;
    return FAILED;
  }
  return lc_pg_fault(d, code, cell->at, m->relation, wire) ? BAD_ROW : FAILED;
}

/* Columns of the table that `row` gets nothing for. */
static bool others_null(lc_pg_decoder *d, lc_pg_builder *b, int64_t row, bool all_but_keys, bool unset) {
  for (int32_t i = 0; i < b->relation->column_count; i++) {
    lc_pg_builder_column *c = &b->columns[i];
    if (all_but_keys ? c->column->is_key && c->filled : c->filled) continue;
    lc_pg_cell_null(c, row);
    if (unset && !lc_pg_mark_unset(d, b, row, i)) return false;
  }
  return true;
}

/* The old tuple as a row: its key columns, or all of a table without a key. */
static outcome old_row(lc_pg_decoder *d, const change *m, int64_t row) {
  lc_pg_builder *b = m->builder;
  const lc_pgoutput_relation *r = b->relation;
  bool keyless = b->key_count == 0;
  for (int32_t i = 0; i < r->wire_count; i++) {
    int32_t at = r->wire[i].column;
    if (at < 0 || !(keyless || r->columns[at].is_key)) continue;
    outcome done = cell_put(d, m, i, row, &d->old_cells[i]);
    if (LC_UNLIKELY(done != GOOD)) return done;
  }
  if (!keyless || b->lacks) others_null(d, b, row, !keyless, false);
  return GOOD;
}

/* A fault of the message as a whole. */
static outcome bad_message(lc_pg_decoder *d, const change *m, int32_t code) {
  return lc_pg_fault(d, code, d->start, m->relation, -1) ? BAD_ROW : FAILED;
}

/* The new tuple as a row; unchanged values from the old one where it has them. */
static outcome new_row(lc_pg_decoder *d, const change *m, int64_t row) {
  lc_pg_builder *b = m->builder;
  const lc_pgoutput_relation *r = b->relation;
  bool keyless = b->key_count == 0;
  int32_t keys = 0;
  for (int32_t i = 0; i < r->wire_count; i++) {
    int32_t at = r->wire[i].column;
    if (at < 0) continue;
    const lc_pg_cell *cell = &d->new_cells[i];
    if (LC_UNLIKELY(cell->form == 'u')) {
      if (m->has_old && is_value(&d->old_cells[i]))
        cell = &d->old_cells[i];
      else if (!keyless && !lc_pg_mark_unset(d, b, row, at))
        return FAILED;
    }
    keys += r->columns[at].is_key && is_value(cell);
    outcome done = cell_put(d, m, i, row, cell);
    if (LC_UNLIKELY(done != GOOD)) return done;
  }
  if (LC_UNLIKELY(b->lacks) && !others_null(d, b, row, false, !keyless)) return FAILED;
  if (LC_UNLIKELY(keys != b->key_count)) return bad_message(d, m, LC_ROW_KEY);
  return GOOD;
}

static bool old_has_key(const lc_pg_decoder *d, const lc_pg_builder *b) {
  const lc_pgoutput_relation *r = b->relation;
  int32_t keys = 0;
  for (int32_t i = 0; i < r->wire_count; i++) {
    int32_t at = r->wire[i].column;
    keys += at >= 0 && r->columns[at].is_key && is_value(&d->old_cells[i]);
  }
  return keys == b->key_count;
}

/* Whether a key column's bytes are others than before. */
static bool key_bytes_differ(const lc_pg_decoder *d, const lc_pgoutput_relation *r) {
  for (int32_t i = 0; i < r->wire_count; i++) {
    int32_t at = r->wire[i].column;
    const lc_pg_cell *old = &d->old_cells[i], *new = &d->new_cells[i];
    if (at < 0 || !r->columns[at].is_key || new->form == 'u') continue;
    if (old->form != new->form || old->size != new->size || memcmp(old->at, new->at, (size_t)old->size) != 0)
      return true;
  }
  return false;
}

/* A table without a key needs every value of each tuple that the message gives. */
static bool is_whole(const lc_pg_decoder *d, const change *m, uint8_t kind) {
  const lc_pgoutput_relation *r = m->builder->relation;
  if (kind != 'I' && !m->old_whole) return false;
  for (int32_t i = 0; i < r->wire_count; i++) {
    if (r->wire[i].column < 0) continue;
    if (m->has_old ? d->old_cells[i].form == 'u' : d->new_cells[i].form == 'u') return false;
  }
  return true;
}

/* The rows of the message, behind the builder's last.  *count of them, the first is a DELETE where `deletes`. */
static outcome rows_make(lc_pg_decoder *d, const change *m, uint8_t kind, int *count, bool *deletes) {
  lc_pg_builder *b = m->builder;
  bool keyless = b->key_count == 0;
  if (keyless && !is_whole(d, m, kind)) return bad_message(d, m, LC_ROW_BEFORE);
  if (kind == 'D' && !keyless && !old_has_key(d, b))
    return bad_message(d, m, LC_ROW_KEY);
  *deletes = kind == 'D' || (kind == 'U' && (keyless || (m->has_old && old_has_key(d, b) &&
                                                         key_bytes_differ(d, b->relation))));
  *count = *deletes + m->has_new;
  outcome done = *deletes ? old_row(d, m, b->rows) : GOOD;
  if (done == GOOD && m->has_new) done = new_row(d, m, b->rows + *deletes);
  if (done != GOOD || *count < 2 || keyless || lc_pg_keys_differ(b, b->rows, b->rows + 1)) return done;
  lc_pg_rows_undo(b); /* other bytes of the same key */
  *deletes = false;
  *count = 1;
  return new_row(d, m, b->rows);
}

/* A message of a new tuple alone into a row, kept. */
static lc_pg_fast change_fast(lc_pg_decoder *d, lc_pg_builder *b, int32_t relation, uint8_t kind, const uint8_t *p,
                              const uint8_t position[32]) {
  bool keyed = b->key_count > 0;
  if (p >= d->end || *p != 'N' || kind == 'D' || b->lacks || (kind == 'U' && !keyed)) return LC_PG_SURPRISED;
  lc_pg_fast done = lc_pg_row_fast(d, b, p + 1);
  if (LC_UNLIKELY(done != LC_PG_DONE)) {
    lc_pg_rows_undo(b);
    return done;
  }
  bool creates = kind == 'I' && d->plan->creates && keyed;
  return lc_pg_row_commit(d, b, relation, creates ? LC_OP_INSERT : LC_OP_UPSERT, position) ? LC_PG_DONE : LC_PG_FAILED;
}

bool lc_pg_change(lc_pg_decoder *d, int32_t relation, uint8_t kind, const uint8_t *p, uint8_t position[32]) {
  change m = {.builder = lc_pg_builder_get(d, relation), .relation = relation};
  if (m.builder == NULL || !lc_pg_rows_reserve(d, m.builder, 2)) return false;
  lc_pg_fast fast = change_fast(d, m.builder, relation, kind, p, position);
  if (LC_LIKELY(fast != LC_PG_SURPRISED)) return fast == LC_PG_DONE;
  const uint8_t *at;
  int count = 0;
  bool deletes = false;
  outcome done;
  if (LC_UNLIKELY(!message_read(d, &m, kind, p, &at)))
    done = lc_pg_fault(d, LC_ROW_SYNTAX, at, relation, -1) ? BAD_ROW : FAILED;
  else
    done = rows_make(d, &m, kind, &count, &deletes);
  if (LC_UNLIKELY(done != GOOD)) {
    lc_pg_rows_undo(m.builder);
    memcpy(d->state.after, position, 32); /* its error is told once */
    return done == BAD_ROW;
  }
  bool creates = kind == 'I' && d->plan->creates && m.builder->key_count > 0;
  if (deletes) {
    if (!lc_pg_row_commit(d, m.builder, relation, LC_OP_DELETE, position)) return false;
    position[31] |= 1; /* the counter of a message's first row is even */
  }
  return !m.has_new || lc_pg_row_commit(d, m.builder, relation, creates ? LC_OP_INSERT : LC_OP_UPSERT, position);
}
