/* Inside the Avro decoder: its state, the reading of single items, and the list of its parts. */
#ifndef LIBCORE_AVRO_INTERNAL_H
#define LIBCORE_AVRO_INTERNAL_H

#include "envelope_shared.h"
#include "libcore/avro.h"

enum { LC_AVRO_DEPTH_MAX = 64, LC_STOP_KEY_SCHEMA = 5 };

/* A value fault, kept aside until it is known whether it counts. */
typedef struct lc_avro_fault {
  int32_t code, column;
  const uint8_t *at;
} lc_avro_fault;

/* The rows are built by the JSON decoder's state: `d` has columns, row buffers, scratch, faults and source block. */
typedef struct lc_avro {
  lc_decoder d;
  const lc_avro_plan *plan;
  const lc_avro_schema *schema; /* of the value or the key in work */
  int32_t broken;               /* SYNTAX or DEPTH where reading ended, else 0 */
  const uint8_t *broken_at;
} lc_avro;

/* The bytes cannot be read on.  NULL for the caller to return. */
static inline const uint8_t *lc_avro_breaks(lc_avro *a, int32_t code, const uint8_t *at) {
  if (a->broken == 0) {
    a->broken = code;
    a->broken_at = at;
  }
  return NULL;
}

static inline const lc_avro_node *lc_avro_node_at(const lc_avro *a, int32_t node) { return &a->schema->nodes[node]; }
static inline const lc_avro_part *lc_avro_part_at(const lc_avro *a, const lc_avro_node *node, int64_t i) {
  return &a->schema->parts[node->first + i];
}

/* A long of two bytes or more; p is the byte behind it, or NULL: cut short (*p was end), or of more than 64 bits. */
const uint8_t *lc_avro_long_slow(lc_avro *a, const uint8_t *p, int64_t *value);

static inline const uint8_t *lc_avro_long(lc_avro *a, const uint8_t *p, int64_t *value) {
  if (LC_LIKELY(p < a->d.end && *p < 0x80)) {
    *value = (int64_t)(*p >> 1) ^ -(int64_t)(*p & 1);
    return p + 1;
  }
  if (LC_LIKELY(a->d.end - p > 1 && p[1] < 0x80)) {
    uint64_t bits = (uint64_t)(p[0] & 0x7f) | (uint64_t)p[1] << 7;
    *value = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
    return p + 2;
  }
  return lc_avro_long_slow(a, p, value);
}

/* The number of an int or a long. */
static inline const uint8_t *lc_avro_number(lc_avro *a, int32_t kind, const uint8_t *p, int64_t *value) {
  const uint8_t *after = lc_avro_long(a, p, value);
  if (kind == LC_AVRO_INT && after != NULL && *value != (int32_t)*value) return lc_avro_breaks(a, LC_ROW_SYNTAX, p);
  return after;
}

/* The bytes of a string, bytes or fixed. */
static inline const uint8_t *lc_avro_bytes(lc_avro *a, const lc_avro_node *node, const uint8_t *p, const uint8_t **text,
                                           size_t *size) {
  int64_t length = node->count;
  const uint8_t *first = p;
  if (node->kind != LC_AVRO_FIXED) {
    p = lc_avro_long(a, p, &length);
    if (LC_UNLIKELY(p == NULL)) return NULL;
    if (LC_UNLIKELY(length < 0 || length > a->d.end - p)) return lc_avro_breaks(a, LC_ROW_SYNTAX, first);
  } else if (LC_UNLIKELY(length > a->d.end - p)) {
    return lc_avro_breaks(a, LC_ROW_SYNTAX, a->d.end);
  }
  *text = p;
  *size = (size_t)length;
  return p + length;
}

/* An index below node->count: of a union's branch or an enum's symbol. */
static inline const uint8_t *lc_avro_index(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int64_t *index) {
  const uint8_t *after = lc_avro_long(a, p, index);
  if (LC_UNLIKELY(after != NULL && (*index < 0 || *index >= node->count))) return lc_avro_breaks(a, LC_ROW_SYNTAX, p);
  return after;
}

/* Little endian on the wire, whatever the machine. */
static inline float lc_avro_float(const uint8_t *p) {
  uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
static inline double lc_avro_double(const uint8_t *p) {
  uint64_t bits = 0;
  for (int i = 7; i >= 0; i--)
    bits = bits << 8 | p[i];
  double value;
  memcpy(&value, &bits, 8);
  return value;
}

/* The branch that a value has: *node becomes its node, which is no union. */
static inline const uint8_t *lc_avro_resolve(lc_avro *a, const lc_avro_node **node, const uint8_t *p) {
  while ((*node)->kind == LC_AVRO_UNION) {
    int64_t index;
    p = lc_avro_index(a, *node, p, &index);
    if (LC_UNLIKELY(p == NULL)) return NULL;
    *node = lc_avro_node_at(a, lc_avro_part_at(a, *node, index)->node);
  }
  return p;
}

/* The head of a block of an array or a map: how many items follow, 0 at the end. */
const uint8_t *lc_avro_block(lc_avro *a, const uint8_t *p, int64_t *count);

/* Behind a value of the node, or NULL where its bytes break.  `depth` records, arrays and maps are open. */
const uint8_t *lc_avro_skip(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth);

/* Whether text is UTF-8; else the fault UTF8 is noted. */
bool lc_avro_utf8(lc_avro *a, const lc_decode_column *column, const uint8_t *text, size_t size);

/* A value as JSON text behind what is in d->literal. */
const uint8_t *lc_avro_json(lc_avro *a, const lc_decode_column *column, const lc_avro_node *node, const uint8_t *p,
                            int depth);

/* The shortest text that reads back as the same double, or as the same float where `single`; at most 32 bytes. */
size_t lc_avro_double_text(double value, bool single, char *out);

/* A value into a cell: the byte behind it, or NULL where its bytes break.  Value faults are noted in a->d. */
const uint8_t *lc_avro_cell(lc_avro *a, lc_decode_column *column, int64_t row, const lc_avro_node *node,
                            const uint8_t *p, int depth);
const uint8_t *lc_avro_array(lc_avro *a, lc_decode_column *column, int64_t row, const lc_avro_node *node,
                             const uint8_t *p, int depth);

/* Walk a row's record: all columns, or the key columns alone, into `row`. */
const uint8_t *lc_avro_row(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth, int64_t row,
                           bool keys_only);
const uint8_t *lc_avro_source(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth);
const uint8_t *lc_avro_transaction(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth);

/* Key and value of one message; sets d.stop where the call must end before it. */
void lc_avro_message(lc_avro *a, const uint8_t *value, size_t size, const uint8_t *key, size_t key_size);

#endif
