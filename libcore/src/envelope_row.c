/* A row object: its members into columns, and the keys of rows that are deleted. */
#include "envelope_internal.h"

/* Meet a known column again or where it does not matter: 0 skip it, 1 decode it, -1 give up. */
static inline int column_turn(lc_decoder *d, lc_decode_column *column, lc_walk walk, const lc_cursor *cursor) {
  if (walk != LC_WALK_ALL && !column->is_key) return 0;
  if (column->seen == d->walk) {
    lc_fault(d, LC_ROW_DUPLICATE, cursor->name, column);
    return d->careful ? 0 : -1;
  }
  column->seen = d->walk;
  column->unset = column->good = false;
  return 1;
}

/* The walk, once for each constant `walk`. */
__attribute__((always_inline)) static inline const uint8_t *row_walk(lc_decoder *d, const uint8_t *p, int64_t row,
                                                                     lc_walk walk, int side) {
  lc_cursor cursor = lc_cursor_start(&d->row);
  int32_t seen = 0, keys = 0;
  bool unset = false;
  for (int next = 1; next == 1;) {
    const uint8_t *at = lc_member_enter(d, &cursor, p);
    if (LC_UNLIKELY(at == NULL)) return NULL;
    int turn = 0;
    lc_decode_column *column = NULL;
    if (LC_LIKELY(cursor.field >= 0)) {
      column = &d->columns[cursor.field];
      turn = column_turn(d, column, walk, &cursor);
      if (LC_UNLIKELY(turn < 0)) return NULL;
    } else if (d->unknown == NULL && walk == LC_WALK_ALL) {
      d->unknown = cursor.name;
    }
    if (turn == 0 || walk == LC_WALK_KEY_BYTES)
      p = lc_value_skip(d, at, d->depth);
    else
      p = lc_value_decode(d, column, row, at);
    if (LC_UNLIKELY(p == NULL)) {
      if (!d->careful || d->failed) return NULL;
      p = lc_value_skip_slow(d, at, d->depth);
    }
    if (turn == 1) {
      column->place = seen++;
      unset = unset || column->unset;
      if (column->is_key) {
        keys += walk == LC_WALK_KEY_BYTES ? *at != 'n' : column->good;
        column->raw[side] = at;
        column->raw_end[side] = p;
      }
    }
    next = lc_member_next(d, &p);
    if (LC_UNLIKELY(next < 0)) return NULL;
  }
  d->row_seen = seen;
  d->row_keys = keys;
  d->row_unset = unset;
  return p;
}

const uint8_t *lc_row_walk(lc_decoder *d, const uint8_t *p, int depth, int64_t row, lc_walk walk, int side) {
  d->walk++;
  d->depth = depth;
  d->row_seen = d->row_keys = 0;
  d->row_unset = false;
  if (LC_UNLIKELY(*p <= ' ')) p = lc_skip_space(p, d->end);
  if (LC_UNLIKELY(*p == '}')) return p + 1;
  switch (walk) {
    case LC_WALK_ALL: return row_walk(d, p, row, LC_WALK_ALL, side);
    case LC_WALK_KEYS: return row_walk(d, p, row, LC_WALK_KEYS, side);
    default: return row_walk(d, p, row, LC_WALK_KEY_BYTES, side);
  }
}

bool lc_row_carries_others(lc_decoder *d, uint64_t surprises) {
  const lc_envelope_plan *plan = d->plan;
  if (plan->carried == NULL) return false;
  if (d->row_seen != plan->carried_count) return true;
  /* Without a surprise a row's members are the first ones of those remembered: as many columns are the same columns. */
  if (d->carried_at == d->surprises + 1) return false;
  for (int32_t i = 0; i < plan->carried_count; i++) {
    const lc_decode_column *column = &d->columns[plan->carried[i]];
    if (column->seen != d->walk || column->place != i) return true;
  }
  if (d->surprises == surprises) d->carried_at = surprises + 1;
  return false;
}
