/* A row object: its members into columns, and the keys of rows that are deleted. */
#include "envelope_internal.h"

/* Meet a known column again or where it does not matter: 0 skip it, 1 decode it, -1 give up. */
static int column_turn(lc_decoder *d, lc_decode_column *column, lc_walk walk, const lc_cursor *cursor) {
  if (walk != LC_WALK_ALL && !column->is_key) return 0;
  if (column->seen == d->walk) {
    lc_fault(d, LC_ROW_DUPLICATE, cursor->name, column);
    return d->careful ? 0 : -1;
  }
  column->seen = d->walk;
  column->unset = column->good = false;
  d->row_seen++;
  return 1;
}

const uint8_t *lc_row_walk(lc_decoder *d, const uint8_t *p, int depth, int64_t row, lc_walk walk, int side) {
  lc_cursor cursor = {.order = &d->row};
  d->walk++;
  d->depth = depth;
  d->row_seen = d->row_keys = 0;
  d->row_unset = false;
  if (LC_UNLIKELY(*p <= ' ')) p = lc_skip_space(p, d->end);
  if (LC_UNLIKELY(*p == '}')) return p + 1;
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
    if (turn == 0) {
      p = lc_value_skip(d, at, depth);
    } else if (walk == LC_WALK_KEY_BYTES) {
      p = lc_value_skip(d, at, depth);
      d->row_keys += *at != 'n';
    } else {
      p = lc_value_decode(d, column, row, at);
      d->row_keys += column->is_key && column->good;
      d->row_unset = d->row_unset || column->unset;
    }
    if (LC_UNLIKELY(p == NULL)) {
      if (!d->careful || d->failed) return NULL;
      p = lc_value_skip_slow(d, at, depth);
    }
    if (turn == 1 && column->is_key) {
      column->raw[side] = at;
      column->raw_end[side] = p;
    }
    next = lc_member_next(d, &p);
    if (LC_UNLIKELY(next < 0)) return NULL;
  }
  return p;
}
