/* The records of a message that mean something: the row, the source block, the transaction. */
#include "avro_internal.h"

/* The columns of the record at p that `keys_only` lets through. */
__attribute__((always_inline)) static inline const uint8_t *row_walk(lc_avro *a, const lc_avro_node *node,
                                                                     const uint8_t *p, int depth, int64_t row,
                                                                     bool keys_only) {
  lc_decoder *d = &a->d;
  int32_t seen = 0, keys = 0;
  bool unset = false;
  const lc_avro_part *field = a->schema->parts + node->first, *last = field + node->count;
  for (; field < last; field++) {
    const lc_avro_node *value = lc_avro_node_at(a, field->node);
    lc_decode_column *column = field->role >= 0 ? &d->columns[field->role] : NULL;
    if (column == NULL || (keys_only && !column->is_key)) {
      p = lc_avro_skip(a, value, p, depth);
      if (LC_UNLIKELY(p == NULL)) return NULL;
      continue;
    }
    column->seen = d->walk;
    column->unset = column->good = false;
    p = lc_avro_cell(a, column, row, value, p, depth);
    if (LC_UNLIKELY(p == NULL)) return NULL;
    seen++;
    unset = unset || column->unset;
    keys += column->is_key && column->good;
  }
  d->row_seen = seen;
  d->row_keys = keys;
  d->row_unset = unset;
  return p;
}

const uint8_t *lc_avro_row(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth, int64_t row,
                           bool keys_only) {
  a->d.walk++;
  a->d.row_seen = a->d.row_keys = 0;
  a->d.row_unset = false;
  return keys_only ? row_walk(a, node, p, depth, row, true) : row_walk(a, node, p, depth, row, false);
}

static const uint8_t *type_fault(lc_avro *a, const uint8_t *p, const uint8_t *after) {
  if (after != NULL) lc_fault_note(&a->d, LC_ROW_TYPE, p, NULL);
  return after;
}

/* An int or a long from `least` up; *good: it is one. */
static const uint8_t *number_take(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth, int64_t least,
                                  int64_t *value, bool *good) {
  *good = false;
  if (node->kind != LC_AVRO_INT && node->kind != LC_AVRO_LONG)
    return type_fault(a, p, lc_avro_skip(a, node, p, depth));
  const uint8_t *after = lc_avro_number(a, node->kind, p, value);
  if (after == NULL) return NULL;
  *good = *value >= least;
  if (!*good) lc_fault_note(&a->d, LC_ROW_RANGE, p, NULL);
  return after;
}

/* A string, or NULL text with a fault where the value is none; NULL where the bytes break. */
static const uint8_t *string_take(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth,
                                  const uint8_t **text, size_t *size) {
  *text = NULL;
  if (node->kind == LC_AVRO_STRING) return lc_avro_bytes(a, node, p, text, size);
  return type_fault(a, p, lc_avro_skip(a, node, p, depth));
}

enum { TS_MS, TS_US, SNAPSHOT, ORDER, COMMIT, SERIAL }; /* the roles of `source`; the bits of lc_source.has */

static const uint8_t *snapshot_read(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth) {
  const uint8_t *text = p, *after = lc_avro_skip(a, node, p, depth);
  size_t size = 0;
  int64_t index = 0;
  if (after == NULL) return NULL;
  a->d.from.snapshot = true;
  if (node->kind == LC_AVRO_BOOLEAN) {
    a->d.from.snapshot = *p != 0;
  } else if (node->kind == LC_AVRO_STRING || node->kind == LC_AVRO_ENUM) {
    if (node->kind == LC_AVRO_STRING) {
      lc_avro_bytes(a, node, p, &text, &size);
    } else {
      lc_avro_index(a, node, p, &index);
      text = (const uint8_t *)lc_avro_part_at(a, node, index)->name;
      size = (size_t)lc_avro_part_at(a, node, index)->name_size;
    }
    a->d.from.snapshot = size != 5 || memcmp(text, "false", 5) != 0;
  }
  return after;
}

/* A position written as text. */
static const uint8_t *place_read(lc_avro *a, int32_t role, const lc_avro_node *node, const uint8_t *p, int depth) {
  lc_source *from = &a->d.from;
  const uint8_t *text;
  size_t size = 0;
  const uint8_t *after = string_take(a, node, p, depth, &text, &size);
  if (after == NULL || text == NULL) return after;
  uint64_t *number = role == ORDER ? from->order : from->commit;
  bool good = a->d.plan->position == LC_POSITION_POSTGRESQL ? lc_source_sequence(text, text + size, number)
              : a->d.plan->position == LC_POSITION_ORACLE   ? lc_source_big_number(text, text + size, number)
                                                            : lc_source_server_lsn(text, size, number);
  if (!good) return type_fault(a, p, after);
  from->has |= 1u << role;
  return after;
}

static const uint8_t *source_field(lc_avro *a, int32_t role, const lc_avro_node *node, const uint8_t *p, int depth) {
  lc_source *from = &a->d.from;
  int64_t value = 0;
  bool good, times = role == TS_MS || role == TS_US;
  p = lc_avro_resolve(a, &node, p);
  if (p == NULL || node->kind == LC_AVRO_NULL) return p;
  if (!times && a->d.plan->position == LC_POSITION_NONE) return lc_avro_skip(a, node, p, depth);
  if (role == SNAPSHOT) return snapshot_read(a, node, p, depth);
  if (role == COMMIT || (role == ORDER && a->d.plan->position != LC_POSITION_POSTGRESQL))
    return place_read(a, role, node, p, depth);
  const uint8_t *first = p;
  p = number_take(a, node, p, depth, times ? INT64_MIN : 0, &value, &good);
  if (p == NULL || !good) return p;
  if (role == SERIAL && value > UINT32_MAX) {
    lc_fault_note(&a->d, LC_ROW_RANGE, first, NULL);
    return p;
  }
  if (role == TS_MS) {
    from->ts_ms = value;
    from->ts_ms_at = first;
  } else if (role == TS_US) {
    from->ts_us = value;
  } else if (role == ORDER) {
    from->order[0] = (uint64_t)value;
    from->order[1] = 0;
  } else {
    from->serial = (uint64_t)value;
  }
  from->has |= 1u << role;
  return p;
}

const uint8_t *lc_avro_source(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth) {
  lc_source *from = &a->d.from;
  for (int32_t f = 0; f < node->count && p != NULL; f++) {
    const lc_avro_part *field = lc_avro_part_at(a, node, f);
    const lc_avro_node *value = lc_avro_node_at(a, field->node);
    bool known = field->role >= 0 && (field->role != SERIAL || a->d.plan->position == LC_POSITION_SQLSERVER);
    p = known ? source_field(a, field->role, value, p, depth) : lc_avro_skip(a, value, p, depth);
  }
  int64_t ignored;
  if (p != NULL && (from->has & (1u << TS_US | 1u << TS_MS)) == 1u << TS_MS &&
      __builtin_mul_overflow(from->ts_ms, 1000, &ignored))
    lc_fault_note(&a->d, LC_ROW_RANGE, from->ts_ms_at, NULL);
  return p;
}

enum { TX_ID, TX_ORDER };

const uint8_t *lc_avro_transaction(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth) {
  lc_transaction *within = &a->d.within;
  for (int32_t f = 0; f < node->count && p != NULL; f++) {
    const lc_avro_part *field = lc_avro_part_at(a, node, f);
    const lc_avro_node *value = lc_avro_node_at(a, field->node);
    const uint8_t *text;
    size_t size = 0;
    if (field->role < 0) {
      p = lc_avro_skip(a, value, p, depth);
      continue;
    }
    p = lc_avro_resolve(a, &value, p);
    if (p == NULL || value->kind == LC_AVRO_NULL) continue;
    if (field->role == TX_ORDER) {
      p = number_take(a, value, p, depth, 0, &within->order, &within->has_order);
      continue;
    }
    p = string_take(a, value, p, depth, &text, &size);
    if (p == NULL || text == NULL || !lc_avro_utf8(a, NULL, text, size)) continue;
    a->d.tx_id.size = 0;
    if (size > 0 && !lc_buffer_append(&a->d.tx_id, text, size)) return lc_decoder_fails(&a->d, LC_NO_MEMORY);
    within->has_id = true;
  }
  return p;
}
