/* Inside the envelope decoder: its state, and how members of JSON objects are predicted, entered and skipped. */
#ifndef LIBCORE_ENVELOPE_INTERNAL_H
#define LIBCORE_ENVELOPE_INTERNAL_H

#include "libcore/envelope.h"
#include "number.h"
#include "scan.h"

/* Names of an object's known fields, by hash; open addressing over a power of two slots. */
typedef struct lc_name {
  const char *text;
  uint32_t size;
  uint32_t hash;
} lc_name;

typedef struct lc_names {
  lc_name *fields; /* field -> name; owned */
  int32_t count;
  int32_t *slots; /* field or -1; owned */
  uint32_t mask;
} lc_names;

bool lc_names_init(lc_names *names, int32_t count);
bool lc_names_set(lc_names *names, int32_t field, const char *text,
                  size_t size);                                                 /* false: that name is there already */
int32_t lc_names_find(const lc_names *names, const uint8_t *text, size_t size); /* field or -1 */
void lc_names_free(lc_names *names);

enum { LC_MEMBER_BYTES = 64 };

/* A member as the message before had it at this place: the bytes `"name":`, and for a skipped one the value's too. */
typedef struct lc_member {
  uint8_t raw[LC_MEMBER_BYTES + 16]; /* readable in blocks of 16 */
  uint16_t name_size;                /* bytes of `"name":` */
  uint16_t whole_size;               /* with the value and the comma behind it; 0 where they are not kept */
  int32_t field;                     /* -1 for an unknown one */
} lc_member;

/* The members of one kind of object in the order last seen. */
typedef struct lc_order {
  lc_names names;
  lc_member *members; /* up to one of name_size 0 */
  int32_t capacity;
} lc_order;

typedef struct lc_decode_column {
  const lc_wire_column *wire;
  uint8_t *values; /* fixed width: values; BOOL: bits; UTF8 and BINARY: int32 offsets */
  uint8_t *validity;
  lc_buffer data;
  int32_t width;
  bool variable, is_key;
  bool unset;                         /* the row in work lacks a value here */
  bool good;                          /* the row in work has a value here that is not NULL */
  uint64_t seen;                      /* walk in which the column was last met */
  int32_t place;                      /* how many columns were met before it in that walk */
  const uint8_t *raw[2], *raw_end[2]; /* key columns: the value's bytes in before [0] and after [1] */
  lc_decimal_target decimal;
  int32_t index;                 /* in the table; an element has its array's */
  bool element;                  /* an array's element: no placeholder counts */
  struct lc_decode_column *item; /* ARRAY: the element's column of one row; owned */
} lc_decode_column;

/* What `transaction` says about a message. */
typedef struct lc_transaction {
  bool has_id, has_order;
  int64_t order;
} lc_transaction;

/* What `source` says about a message. */
typedef struct lc_source {
  bool snapshot;                /* a snapshot row: without a position */
  uint32_t has;                 /* bits by field */
  uint64_t commit[2], order[2]; /* low word, high word */
  uint64_t serial;
  int64_t ts_us, ts_ms;
  const uint8_t *ts_ms_at; /* where ts_ms stands */
} lc_source;

typedef struct lc_decoder {
  const lc_envelope_plan *plan;
  const lc_kernels *kernels;
  lc_decode_column *columns;
  int32_t column_count, key_count;
  lc_order top, row, source, transaction;

  int64_t rows, capacity; /* rows kept; rows the buffers hold */
  uint8_t *ops, *positions, *ts_validity, *unset;
  int64_t *ts;
  int32_t *messages;
  int32_t unset_width;
  int32_t *tx_offsets; /* with plan->transactions: each row's transaction */
  uint8_t *tx_validity, *tx_order_validity;
  int64_t *tx_orders;
  lc_buffer tx_data;

  lc_row_error *errors;
  lc_row_event *events;
  int64_t error_count, error_capacity, event_count, event_capacity;
  lc_envelope_state state;

  lc_buffer text, bytes, literal, padded, padded_key; /* scratch: unescaped text, decoded bytes, an array, copies */
  uint8_t *placeholder_base64, *placeholder_list, *placeholder_object,
      *placeholder_array; /* forms of the placeholder */
  size_t placeholder_base64_size, placeholder_list_size, placeholder_object_size, placeholder_array_size;
  lc_code failed; /* LC_NO_MEMORY or LC_CAPACITY ends the call */
  int32_t stop;   /* lc_stop raised by the message in work */

  /* the message in work */
  const uint8_t *start, *end;
  const uint8_t *input_end; /* end of all values: a message that ends near it is copied to be padded */
  int64_t message;
  int depth;                   /* brackets open inside the row object in work, itself counted */
  bool careful;                /* the value is known to be valid JSON; faults are collected instead of giving up */
  int32_t fault, fault_column; /* lc_row_code of the fault with the smallest position, or 0 */
  const uint8_t *fault_at;
  uint64_t walk;
  int32_t row_seen, row_keys; /* columns met; key columns met with a value */
  bool row_unset;
  const uint8_t *unknown; /* quote of the first unknown member's name in a row, or NULL */
  uint64_t surprises;     /* members of rows that were not where the message before had them */
  uint64_t carried_at;    /* d->surprises + 1 when a row without any was last found to carry what the plan says; 0 never
                           */
  lc_source from;
  lc_transaction within;
  lc_buffer tx_id; /* of the message in work, where within.has_id */
  uint8_t op; /* its letter, 0 absent, 1 no known letter */
} lc_decoder;

/* ---- faults ---- */

void lc_fault_note(lc_decoder *d, int32_t code, const uint8_t *at, const lc_decode_column *column);

/* A value fault: remembered where it is the first by position.  NULL for the caller to return. */
static inline const uint8_t *lc_fault(lc_decoder *d, int32_t code, const uint8_t *at, const lc_decode_column *column) {
  lc_fault_note(d, code, at, column);
  return NULL;
}

/* The call cannot go on.  NULL for the caller to return. */
static inline const uint8_t *lc_decoder_fails(lc_decoder *d, lc_code code) {
  if (d->failed == LC_OK) d->failed = code;
  return NULL;
}

/* ---- members ---- */

/* Whether p starts with the `size` (1..LC_MEMBER_BYTES) bytes of raw; reads in blocks of 16. */
static inline bool lc_same_start(const uint8_t *p, const uint8_t *raw, unsigned size) {
#ifdef LC_SSE2
  for (;; size -= 16, p += 16, raw += 16) {
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)p),
            b = _mm_loadu_si128((const __m128i *)(const void *)raw);
    unsigned differ = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) ^ 0xffffu;
    if (LC_LIKELY(size <= 16)) return differ << (32 - size) == 0; /* the bytes behind `size` are shifted out */
    if (differ != 0) return false;
  }
#else
  return memcmp(p, raw, size) == 0;
#endif
}

/* A cursor over an object's members. */
typedef struct lc_cursor {
  lc_order *order;
  lc_member *next;     /* the member to come, as last time had it */
  int32_t field;       /* of the member entered; -1 unknown */
  lc_member *member;   /* its memory, or NULL */
  const uint8_t *name; /* its quote */
} lc_cursor;

static inline lc_cursor lc_cursor_start(lc_order *order) { return (lc_cursor){.order = order, .next = order->members}; }

const uint8_t *lc_member_enter_slow(lc_decoder *d, lc_cursor *cursor, const uint8_t *p);

/* Pass by members that nobody asks for and that are byte for byte those of last time, with the comma behind each. */
static inline const uint8_t *lc_members_pass(const lc_decoder *d, lc_cursor *cursor, const uint8_t *p) {
  /* whole_size of the member behind the last one is 0 */
  while (cursor->next->whole_size != 0 && p < d->end && lc_same_start(p, cursor->next->raw, cursor->next->whole_size)) {
    p += cursor->next->whole_size;
    cursor->next++;
  }
  return p;
}

/* Enter the member at p (behind `{` or `,`): the value's first byte, or NULL where this is no member. */
static inline const uint8_t *lc_member_enter(lc_decoder *d, lc_cursor *cursor, const uint8_t *p) {
  lc_member *member = cursor->next;
  if (LC_LIKELY(member->name_size != 0 && lc_same_start(p, member->raw, member->name_size))) {
    cursor->next++;
    cursor->member = member;
    cursor->field = member->field;
    cursor->name = p;
    p += member->name_size;
    if (LC_UNLIKELY(*p <= ' ')) p = lc_skip_space(p, d->end);
    return LC_LIKELY(p < d->end) ? p : NULL;
  }
  lc_cursor copy = *cursor; /* so that the cursor itself can live in registers */
  p = lc_member_enter_slow(d, &copy, p);
  *cursor = copy;
  return p;
}

/* Behind a value: 1 another member follows (*p behind the comma), 0 the object ends (*p behind the bracket), -1
 * neither. */
static inline int lc_member_next(const lc_decoder *d, const uint8_t **p) {
  if (LC_UNLIKELY(**p <= ' ')) *p = lc_skip_space(*p, d->end);
  if (LC_UNLIKELY(*p >= d->end)) return -1;
  uint8_t c = *(*p)++;
  return c == ',' ? 1 : c == '}' ? 0 : -1;
}

const uint8_t *lc_value_skip_slow(lc_decoder *d, const uint8_t *p, int depth);

/* The end of a JSON number at p, or NULL; may read and point past the message's end. */
static inline const uint8_t *lc_number_skip(const lc_decoder *d, const uint8_t *p) {
  if (*p == '-') p++;
  const uint8_t *first = p;
  p = lc_digits_end(p, d->end);
  if (p == first || (*first == '0' && p - first > 1)) return NULL;
  if (LC_LIKELY(*p == ',' || *p == '}' || *p == ']')) return p;
  if (*p == '.') {
    first = p + 1;
    p = lc_digits_end(first, d->end);
    if (p == first) return NULL;
  }
  if ((*p | 0x20) == 'e') {
    p++;
    if (*p == '+' || *p == '-') p++;
    first = p;
    p = lc_digits_end(first, d->end);
    if (p == first) return NULL;
  }
  return p;
}

/* The end of the value at p (< end), or NULL where it is not valid.  `depth` brackets are open. */
static inline const uint8_t *lc_value_skip(lc_decoder *d, const uint8_t *p, int depth) {
  if (*p == '"') {
    const uint8_t *q = lc_short_string_end(p + 1, d->end, d->kernels);
    if (LC_LIKELY(*q == '"')) return q + 1;
  } else if (*p == 'n') {
    return lc_is4(p, "null") ? p + 4 : NULL;
  } else if (lc_is_digit(*p) || *p == '-') {
    return lc_number_skip(d, p);
  }
  return lc_value_skip_slow(d, p, depth);
}

/* As lc_value_skip, for the unknown member just entered: its bytes are kept for the next message, unless it is a
 * number. */
static inline const uint8_t *lc_member_skip(lc_decoder *d, lc_cursor *cursor, const uint8_t *p, int depth) {
  const uint8_t *after = lc_value_skip(d, p, depth);
  lc_member *member = cursor->member;
  if (LC_LIKELY(lc_is_digit(*p) || member == NULL || after == NULL || after >= d->end)) return after;
  size_t size = (size_t)(after - p) + 1;
  member->whole_size = 0;
  if (*after == ',' && *p != '-' && member->name_size + size <= LC_MEMBER_BYTES) {
    memcpy(member->raw + member->name_size, p, size);
    member->whole_size = (uint16_t)(member->name_size + size);
  }
  return after;
}

/* ---- rows and values (envelope_rows.c, envelope_columns.c, envelope_array.c, envelope_source.c) ---- */

bool lc_rows_init(lc_decoder *d, int64_t capacity);
bool lc_rows_reserve(lc_decoder *d, int64_t more);            /* room for `more` rows after d->rows; else d->failed */
void lc_rows_undo(lc_decoder *d, int64_t row, int64_t count); /* forget what was written into uncommitted rows */
void lc_rows_fill(lc_decoder *d, int64_t row,
                  bool missing_is_unset); /* give the columns not met in this walk their NULLs */
bool lc_row_keys_differ(const lc_decoder *d, int64_t a, int64_t b);
lc_code lc_rows_finish(lc_decoder *d, lc_decoded *out, lc_error *error);
void lc_rows_free(lc_decoder *d);
void lc_row_transaction(lc_decoder *d, int64_t row); /* what the message says of its transaction, into a kept row */

static inline void lc_cell_null(lc_decode_column *column, int64_t row) {
  lc_bit_clear(column->validity, row);
  if (column->variable) ((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->data.size;
}

/* Decode the value at p into a cell: the byte behind it, or NULL with a fault. */
const uint8_t *lc_value_decode(lc_decoder *d, lc_decode_column *column, int64_t row, const uint8_t *p);
const uint8_t *lc_array_decode(lc_decoder *d, lc_decode_column *column, int64_t row, const uint8_t *p);

/* A JSON string at p (at its quote): its text (in the message, or unescaped in d->text) and the byte behind it, or NULL
 * where the string is not valid.  *surrogate is the backslash of a lone surrogate, which ends the text, or NULL. */
const uint8_t *lc_text_read(lc_decoder *d, const uint8_t *p, const uint8_t **text, size_t *size,
                            const uint8_t **surrogate);

/* The same for a value: NULL with a fault where a lone surrogate stands in it; `column` is to blame. */
const uint8_t *lc_text_take(lc_decoder *d, const lc_decode_column *column, const uint8_t *p, const uint8_t **text,
                            size_t *size);

/* Walk a row object; p stands behind its `{`, `depth` counts it.  Decodes all columns, or the key columns only, into
 * `row`; side 0 is before, 1 is after.  The byte behind `}`, or NULL to give up. */
typedef enum lc_walk { LC_WALK_ALL, LC_WALK_KEYS, LC_WALK_KEY_BYTES } lc_walk;
const uint8_t *lc_row_walk(lc_decoder *d, const uint8_t *p, int depth, int64_t row, lc_walk walk, int side);

/* Whether the `after` just walked (LC_WALK_ALL) carries other columns than the plan says, or in another order;
 * `surprises` is d->surprises from before the walk. */
bool lc_row_carries_others(lc_decoder *d, uint64_t surprises);

const char *const *lc_source_fields(int32_t position, int32_t *count);
const uint8_t *lc_source_walk(lc_decoder *d, const uint8_t *p, int depth);
const char *const *lc_transaction_fields(int32_t *count);
const uint8_t *lc_transaction_walk(lc_decoder *d, const uint8_t *p, int depth);
bool lc_source_position(const lc_decoder *d, uint8_t position[32]); /* false: the message has none */
bool lc_source_ts(const lc_decoder *d, int64_t *ts_us);

/* Keep a row: give it its place in the order.  false: a redelivered row of a keyless table, dropped. */
/* What lc_row_commit would answer; *state takes part in the count. */
bool lc_row_drops(const lc_decoder *d, lc_envelope_state *state, bool real, const uint8_t position[32]);
bool lc_row_commit(lc_decoder *d, int64_t row, int32_t op, bool real, const uint8_t position[32]);

#endif
