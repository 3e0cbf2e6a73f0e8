/* The source block of a message: its position in the source's order, its time; and the place of a row in that order. */
#include "envelope_shared.h"

enum {
  TS_MS,
  TS_US,
  SNAPSHOT,
  LSN,
  SEQUENCE,
  SCN = LSN,
  COMMIT_SCN = SEQUENCE,
  CHANGE_LSN = LSN,
  COMMIT_LSN = SEQUENCE,
  SERIAL
};

const char *const *lc_source_fields(int32_t position, int32_t *count) {
  static const char *const none[] = {"ts_ms", "ts_us"};
  static const char *const postgresql[] = {"ts_ms", "ts_us", "snapshot", "lsn", "sequence"};
  static const char *const oracle[] = {"ts_ms", "ts_us", "snapshot", "scn", "commit_scn"};
  static const char *const sqlserver[] = {"ts_ms", "ts_us", "snapshot", "change_lsn", "commit_lsn", "event_serial_no"};
  *count = position == LC_POSITION_NONE ? 2 : position == LC_POSITION_SQLSERVER ? 6 : 5;
  return position == LC_POSITION_NONE         ? none
         : position == LC_POSITION_POSTGRESQL ? postgresql
         : position == LC_POSITION_ORACLE     ? oracle
                                              : sqlserver;
}

/* An integer literal from `least` up; the byte behind it, or NULL with TYPE or RANGE. */
static const uint8_t *integer(lc_decoder *d, const uint8_t *p, int64_t least, int64_t *value) {
  const uint8_t *first = p, *digits = *p == '-' ? ++p : p;
  uint64_t magnitude;
  unsigned count;
  p = lc_digits(p, &magnitude, &count);
  if (count == 0 || (*digits == '0' && count > 1)) return lc_fault(d, LC_ROW_TYPE, first, NULL);
  while (lc_is_digit(*p) && p < d->end)
    p++;
  if (*p == '.' || (*p | 0x20) == 'e') return lc_fault(d, LC_ROW_TYPE, first, NULL);
  bool negative = digits > first;
  if (p - digits > 19 || magnitude > (uint64_t)INT64_MAX + negative) return lc_fault(d, LC_ROW_RANGE, first, NULL);
  *value = (int64_t)(negative ? 0 - magnitude : magnitude);
  return *value >= least ? p : lc_fault(d, LC_ROW_RANGE, first, NULL);
}

/* Decimal digits that fill text..end to at most 80 bits (a SCN has up to 20 digits). */
bool lc_source_big_number(const uint8_t *text, const uint8_t *end, uint64_t number[2]) {
  unsigned __int128 value = 0;
  if (text == end || end - text > 24) return false;
  for (; text < end; text++) {
    if (!lc_is_digit(*text)) return false;
    value = value * 10 + (unsigned)(*text - '0');
  }
  number[0] = (uint64_t)value;
  number[1] = (uint64_t)(value >> 64);
  return number[1] < 1 << 16;
}

/* "vvvvvvvv:bbbbbbbb:ssss" in hexadecimal: 10 bytes. */
bool lc_source_server_lsn(const uint8_t *text, size_t size, uint64_t number[2]) {
  if (size != 22) return false;
  number[0] = number[1] = 0;
  for (size_t i = 0; i < size; i++) {
    uint8_t c = text[i], low = (uint8_t)(c | 0x20);
    if (i == 8 || i == 17) {
      if (c != ':') return false;
      continue;
    }
    uint64_t digit;
    if (lc_is_digit(c))
      digit = (uint64_t)(c - '0');
    else if (low >= 'a' && low <= 'f')
      digit = (uint64_t)(low - 'a' + 10);
    else
      return false;
    number[1] = number[1] << 4 | number[0] >> 60;
    number[0] = number[0] << 4 | digit;
  }
  return true;
}

/* One element of `sequence`, unescaped: null or digits in quotes; NULL where it is neither. */
static const uint8_t *sequence_element(const uint8_t *p, const uint8_t *end, uint64_t number[2]) {
  number[0] = number[1] = 0;
  if (end - p >= 4 && lc_is4(p, "null")) return p + 4;
  if (p >= end || *p != '"') return NULL;
  const uint8_t *close = memchr(p + 1, '"', (size_t)(end - p - 1));
  return close != NULL && lc_source_big_number(p + 1, close, number) ? close + 1 : NULL;
}

/* The text of `sequence`, "[commit,lsn]": its first element. */
bool lc_source_sequence(const uint8_t *p, const uint8_t *end, uint64_t commit[2]) {
  uint64_t lsn[2];
  if (p >= end || *p != '[') return false;
  p = sequence_element(lc_skip_space(p + 1, end), end, commit);
  if (p == NULL) return false;
  p = lc_skip_space(p, end);
  if (p >= end || *p != ',') return false;
  p = sequence_element(lc_skip_space(p + 1, end), end, lsn);
  if (p == NULL) return false;
  p = lc_skip_space(p, end);
  return p < end && *p == ']' && lc_skip_space(p + 1, end) == end;
}

/* The usual form, `"[\"123\",\"456\"]"` as it stands in the message, without unescaping; NULL: take the long way. */
static const uint8_t *sequence_short(const uint8_t *p, uint64_t commit[2]) {
  uint64_t number;
  unsigned count;
  commit[0] = commit[1] = 0;
  if (memcmp(p, "\"[null,", 7) == 0) {
    p += 7;
  } else {
    if (memcmp(p, "\"[\\\"", 4) != 0) return NULL;
    p = lc_digits(p + 4, commit, &count);
    if (count == 0 || count > 19 || memcmp(p, "\\\",", 3) != 0) return NULL;
    p += 3;
  }
  if (memcmp(p, "\\\"", 2) != 0) return NULL;
  p = lc_digits(p + 2, &number, &count);
  return count > 0 && count <= 19 && memcmp(p, "\\\"]\"", 4) == 0 ? p + 4 : NULL;
}

static const uint8_t *sequence_decode(lc_decoder *d, const uint8_t *p) {
  lc_source *from = &d->from;
  const uint8_t *after = sequence_short(p, from->commit), *text, *surrogate;
  size_t size;
  if (after == NULL) {
    if (*p != '"') return lc_fault(d, LC_ROW_TYPE, p, NULL);
    after = lc_text_read(d, p, &text, &size, &surrogate);
    if (after == NULL || after > d->end) return NULL;
    if (surrogate != NULL || !lc_source_sequence(text, text + size, from->commit))
      return lc_fault(d, LC_ROW_TYPE, p, NULL);
  }
  from->has |= 1u << SEQUENCE;
  return after;
}

static const uint8_t *text_number_decode(lc_decoder *d, const uint8_t *p, int32_t field, uint64_t number[2]) {
  const uint8_t *text, *surrogate;
  size_t size;
  if (*p != '"') return lc_fault(d, LC_ROW_TYPE, p, NULL);
  const uint8_t *after = lc_text_read(d, p, &text, &size, &surrogate);
  if (after == NULL || after > d->end) return NULL;
  bool good = surrogate != NULL                         ? false
              : d->plan->position == LC_POSITION_ORACLE ? lc_source_big_number(text, text + size, number)
                                                        : lc_source_server_lsn(text, size, number);
  if (!good) return lc_fault(d, LC_ROW_TYPE, p, NULL);
  d->from.has |= 1u << field;
  return after;
}

static const uint8_t *snapshot_decode(lc_decoder *d, const uint8_t *p, int depth) {
  if (memcmp(p, "\"false\"", 7) == 0) return p + 7;
  if (memcmp(p, "false", 5) == 0) return p + 5;
  d->from.snapshot = true;
  if (*p == '"') {
    const uint8_t *text, *surrogate;
    size_t size;
    const uint8_t *after = lc_text_read(d, p, &text, &size, &surrogate);
    if (after == NULL || after > d->end) return NULL;
    d->from.snapshot = surrogate != NULL || size != 5 || memcmp(text, "false", 5) != 0;
    return after;
  }
  return lc_value_skip(d, p, depth);
}

static const uint8_t *field_decode(lc_decoder *d, int32_t field, const uint8_t *p, int depth) {
  lc_source *from = &d->from;
  int64_t number;
  if (*p == 'n') return lc_is4(p, "null") ? p + 4 : NULL;
  switch (field) {
    case TS_MS:
    case TS_US:
      if (field == TS_MS) from->ts_ms_at = p;
      p = integer(d, p, INT64_MIN, field == TS_MS ? &from->ts_ms : &from->ts_us);
      break;
    case SNAPSHOT: return snapshot_decode(d, p, depth);
    case LSN:
      if (d->plan->position != LC_POSITION_POSTGRESQL) return text_number_decode(d, p, field, from->order);
      p = integer(d, p, 0, &number);
      from->order[0] = (uint64_t)number;
      break;
    case SEQUENCE:
      return d->plan->position == LC_POSITION_POSTGRESQL ? sequence_decode(d, p)
                                                         : text_number_decode(d, p, field, from->commit);
    default: {
      const uint8_t *first = p;
      p = integer(d, p, 0, &number);
      if (p != NULL && number > UINT32_MAX) return lc_fault(d, LC_ROW_RANGE, first, NULL);
      from->serial = (uint64_t)number;
    }
  }
  if (p != NULL) from->has |= 1u << field;
  return p;
}

typedef const uint8_t *field_decoder(lc_decoder *d, int32_t field, const uint8_t *p, int depth);

/* The members of an object that is no row: known ones by `decode`, a constant, others skipped. */
__attribute__((always_inline)) static inline const uint8_t *members_walk(lc_decoder *d, lc_order *order,
                                                                         const uint8_t *p, int depth,
                                                                         field_decoder *decode) {
  lc_cursor cursor = lc_cursor_start(order);
  uint32_t seen = 0;
  p = lc_skip_space(p, d->end);
  if (*p == '}') return p + 1;
  for (int next = 1; next == 1;) {
    const uint8_t *at = lc_member_enter(d, &cursor, lc_members_pass(d, &cursor, p));
    if (at == NULL) return NULL;
    if (cursor.field < 0) {
      p = lc_member_skip(d, &cursor, at, depth);
    } else if (seen & 1u << cursor.field) {
      p = lc_fault(d, LC_ROW_DUPLICATE, cursor.name, NULL);
    } else {
      seen |= 1u << cursor.field;
      p = decode(d, cursor.field, at, depth);
    }
    if (LC_UNLIKELY(p == NULL)) {
      if (!d->careful || d->failed) return NULL;
      p = lc_value_skip_slow(d, at, depth);
    }
    next = lc_member_next(d, &p);
    if (next < 0) return NULL;
  }
  return p;
}

const uint8_t *lc_source_walk(lc_decoder *d, const uint8_t *p, int depth) {
  p = members_walk(d, &d->source, p, depth, field_decode);
  if (p == NULL) return NULL;
  int64_t ignored;
  if ((d->from.has & (1u << TS_US | 1u << TS_MS)) == 1u << TS_MS &&
      __builtin_mul_overflow(d->from.ts_ms, 1000, &ignored))
    if (lc_fault(d, LC_ROW_RANGE, d->from.ts_ms_at, NULL) == NULL && !d->careful) return NULL;
  return p;
}

enum { TX_ID, TX_ORDER };

const char *const *lc_transaction_fields(int32_t *count) {
  static const char *const names[] = {"id", "data_collection_order"};
  *count = 2;
  return names;
}

static const uint8_t *transaction_field(lc_decoder *d, int32_t field, const uint8_t *p, int depth) {
  lc_transaction *within = &d->within;
  if (*p == 'n') return lc_is4(p, "null") ? p + 4 : NULL;
  if (field == TX_ORDER) {
    p = integer(d, p, 0, &within->order);
    within->has_order = p != NULL;
    return p;
  }
  const uint8_t *text;
  size_t size;
  if (*p != '"') return lc_fault(d, LC_ROW_TYPE, p, NULL);
  const uint8_t *after = lc_text_take(d, NULL, p, &text, &size);
  if (after == NULL || after > d->end) return NULL;
  d->tx_id.size = 0;
  if (size > 0 && !lc_buffer_append(&d->tx_id, text, size)) return lc_decoder_fails(d, LC_NO_MEMORY);
  within->has_id = true;
  return after;
}

const uint8_t *lc_transaction_walk(lc_decoder *d, const uint8_t *p, int depth) {
  return members_walk(d, &d->transaction, p, depth, transaction_field);
}

/* The lower 8 bytes of a big-endian number at out, the `width` - 8 higher ones before them. */
static void put_big_endian(uint8_t *out, int width, uint64_t low, uint64_t high) {
  if (LC_LIKELY(high == 0)) /* one store where the width is a constant */
    memset(out, 0, (size_t)width - 8);
  else
    for (int i = width - 9; i >= 0; i--, high >>= 8)
      out[i] = (uint8_t)high;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  low = __builtin_bswap64(low);
#endif
  memcpy(out + width - 8, &low, 8);
}

bool lc_source_position(const lc_decoder *d, uint8_t position[32]) {
  const lc_source *from = &d->from;
  uint32_t needed = 1u << LSN | 1u << SEQUENCE | (d->plan->position == LC_POSITION_SQLSERVER ? 1u << SERIAL : 0);
  if (d->plan->position == LC_POSITION_NONE || from->snapshot || (from->has & needed) != needed) return false;
  uint64_t low = from->order[0], high = from->order[1];
  if (d->plan->position == LC_POSITION_SQLSERVER) {
    high = high << 32 | low >> 32;
    low = low << 32 | from->serial;
  }
  uint32_t generation = d->plan->generation;
  for (int i = 3; i >= 0; i--, generation >>= 8)
    position[i] = (uint8_t)generation;
  put_big_endian(position + 4, 10, from->commit[0], from->commit[1]);
  put_big_endian(position + 14, 15, low, high);
  memset(position + 29, 0, 3);
  return true;
}

bool lc_source_ts(const lc_decoder *d, int64_t *ts_us) {
  if (d->from.has & 1u << TS_US)
    *ts_us = d->from.ts_us;
  else if (d->from.has & 1u << TS_MS)
    *ts_us = d->from.ts_ms * 1000; /* lc_source_walk has checked the product */
  else
    return false;
  return true;
}

static void raise_position(uint8_t position[32]) {
  for (int i = 31; i >= 0; i--)
    if (++position[i] != 0) return;
}

/* Whether a keyless table has this row already: a redelivered tail repeats what stood at or below the last position. */
static bool redelivered(lc_envelope_state *state, const uint8_t position[32]) {
  int order = memcmp(position, state->last_position, 29);
  if (order > 0) {
    state->redelivered = -1;
    return false;
  }
  if (order < 0) {
    state->redelivered = 0;
    return true;
  }
  if (state->redelivered < 0) return false; /* a further row of the same record of the source */
  const uint8_t *counter = state->last_position + 29;
  int64_t rows_there = ((int64_t)counter[0] << 16 | counter[1] << 8 | counter[2]) + 1;
  if (++state->redelivered <= rows_there) return true;
  state->redelivered = -1;
  return false;
}

bool lc_row_drops(const lc_decoder *d, lc_envelope_state *state, bool real, const uint8_t position[32]) {
  return real && d->key_count == 0 && redelivered(state, position);
}

bool lc_row_commit(lc_decoder *d, int64_t row, int32_t op, bool real, const uint8_t position[32]) {
  lc_envelope_state *state = &d->state;
  if (lc_row_drops(d, state, real, position)) return false;
  uint8_t *place = d->positions + row * 32;
  if (real && memcmp(position, state->last_position, 32) > 0) {
    memcpy(place, position, 32);
  } else {
    memcpy(place, state->last_position, 32);
    raise_position(place);
  }
  memcpy(state->last_position, place, 32);
  d->ops[row] = (uint8_t)op;
  d->messages[row] = (int32_t)d->message;
  int64_t ts;
  if (lc_source_ts(d, &ts))
    d->ts[row] = ts;
  else
    lc_bit_clear(d->ts_validity, row);
  if (LC_UNLIKELY(d->plan->transactions)) lc_row_transaction(d, row);
  d->rows = row + 1;
  return true;
}
