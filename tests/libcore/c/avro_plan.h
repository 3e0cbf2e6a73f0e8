/* An Avro schema that writes every column of envelope_plan.h, for the Avro decoder's test and its fuzz driver. */
#ifndef LIBCORE_TEST_AVRO_PLAN_H
#define LIBCORE_TEST_AVRO_PLAN_H

#include "libcore/avro.h"

#include "check.h"
#include "envelope_plan.h"

enum { ROW_FIELDS_MAX = 64, NODES_MAX = 128, PARTS_MAX = 256 };

typedef struct every_avro {
  lc_avro_node nodes[NODES_MAX];
  lc_avro_part parts[PARTS_MAX];
  int32_t node_count, part_count;
  int32_t null, integer, bytes, string, numeric;
} every_avro;

static inline int32_t every_add(every_avro *s, int32_t kind, int32_t count, int32_t first) {
  if (s->node_count == NODES_MAX) abort();
  s->nodes[s->node_count] = (lc_avro_node){kind, count, first};
  return s->node_count++;
}

static inline lc_avro_part every_field(const char *name, int32_t node, int32_t role) {
  return (lc_avro_part){.node = node, .role = role, .name = name, .name_size = (int32_t)strlen(name)};
}

static inline int32_t every_record(every_avro *s, int32_t kind, const lc_avro_part *parts, int32_t count) {
  int32_t first = s->part_count;
  if (first + count > PARTS_MAX) abort();
  memcpy(s->parts + first, parts, (size_t)count * sizeof *parts);
  s->part_count += count;
  return every_add(s, kind, count, first);
}

static inline int32_t every_nullable(every_avro *s, int32_t node) {
  lc_avro_part branches[2] = {every_field("", s->null, -1), every_field("", node, -1)};
  return every_record(s, LC_AVRO_UNION, branches, 2);
}

/* The type that writes a column. */
static inline int32_t every_type(every_avro *s, const lc_wire_column *column) {
  switch (column->encoding) {
    case LC_ENCODING_BOOL: return every_add(s, LC_AVRO_BOOLEAN, 0, 0);
    case LC_ENCODING_FLOAT: return every_add(s, column->type == LC_TYPE_FLOAT32 ? LC_AVRO_FLOAT : LC_AVRO_DOUBLE, 0, 0);
    case LC_ENCODING_BASE64:
    case LC_ENCODING_BITS:
    case LC_ENCODING_DECIMAL_BASE64: return s->bytes;
    case LC_ENCODING_NUMERIC_STRUCT:
    case LC_ENCODING_DECIMAL_STRUCT: return s->numeric;
    case LC_ENCODING_RAW_JSON: { /* {"n": [self or null], "m": {string: [double]}, "e": symbol, "f": 3 bytes} */
      int32_t at = every_add(s, LC_AVRO_RECORD, 0, 0), item = every_add(s, LC_AVRO_DOUBLE, 0, 0);
      int32_t lists = every_add(s, LC_AVRO_ARRAY, 0, item);
      lc_avro_part symbols[2] = {every_field("A", 0, -1), every_field("B\"", 0, -1)};
      lc_avro_part fields[5] = {every_field("n", every_nullable(s, at), -1),
                                every_field("m", every_add(s, LC_AVRO_MAP, 0, lists), -1),
                                every_field("e", every_record(s, LC_AVRO_ENUM, symbols, 2), -1),
                                every_field("f", every_add(s, LC_AVRO_FIXED, 3, 0), -1),
                                every_field("s", s->string, -1)};
      int32_t made = every_record(s, LC_AVRO_RECORD, fields, 5);
      s->nodes[at] = s->nodes[made];
      return at;
    }
    case LC_ENCODING_ARRAY:
      return every_add(s, LC_AVRO_ARRAY, 0, every_nullable(s, every_type(s, column->item)));
    case LC_ENCODING_INT:
    case LC_ENCODING_DATE_DAYS:
    case LC_ENCODING_TIME_MS:
    case LC_ENCODING_TIMESTAMP_NS: return s->integer;
    default: return s->string;
  }
}

/* Debezium's envelope around EVERY_COLUMN; `flat`: the row alone.  The schema points into *s. */
static inline lc_avro_schema every_avro_schema(every_avro *s, bool flat) {
  *s = (every_avro){.node_count = 0};
  s->null = every_add(s, LC_AVRO_NULL, 0, 0);
  s->integer = every_add(s, LC_AVRO_LONG, 0, 0);
  s->bytes = every_add(s, LC_AVRO_BYTES, 0, 0);
  s->string = every_add(s, LC_AVRO_STRING, 0, 0);
  lc_avro_part number[2] = {every_field("scale", every_add(s, LC_AVRO_INT, 0, 0), 0),
                            every_field("value", s->bytes, 1)};
  s->numeric = every_record(s, LC_AVRO_RECORD, number, 2);
  lc_avro_part fields[ROW_FIELDS_MAX];
  for (int32_t c = 0; c < EVERY_COUNT; c++)
    fields[c] = every_field(EVERY_COLUMN[c].name, every_nullable(s, every_type(s, &EVERY_COLUMN[c])), c);
  int32_t row = every_record(s, LC_AVRO_RECORD, fields, EVERY_COUNT), root = row;
  if (!flat) {
    int32_t maybe = every_nullable(s, row), lsn = every_nullable(s, s->integer), text = every_nullable(s, s->string);
    lc_avro_part source[5] = {every_field("ts_ms", s->integer, 0), every_field("ts_us", lsn, 1),
                              every_field("snapshot", text, 2), every_field("lsn", lsn, 3),
                              every_field("sequence", text, 4)};
    lc_avro_part block[2] = {every_field("id", s->string, 0), every_field("data_collection_order", s->integer, 1)};
    lc_avro_part top[5] = {every_field("before", maybe, 0), every_field("after", maybe, 1),
                           every_field("source", every_record(s, LC_AVRO_RECORD, source, 5), 2),
                           every_field("transaction", every_nullable(s, every_record(s, LC_AVRO_RECORD, block, 2)), 7),
                           every_field("op", s->string, 3)};
    root = every_record(s, LC_AVRO_RECORD, top, 5);
  }
  return (lc_avro_schema){.nodes = s->nodes,
                          .parts = s->parts,
                          .node_count = s->node_count,
                          .part_count = s->part_count,
                          .root = root,
                          .id = 7};
}

/* The key {"id": long} as writer 8. */
static inline lc_avro_schema every_avro_key(every_avro *s) {
  *s = (every_avro){.node_count = 0};
  lc_avro_part fields[1] = {every_field("id", every_add(s, LC_AVRO_LONG, 0, 0), 0)};
  int32_t root = every_record(s, LC_AVRO_RECORD, fields, 1);
  return (lc_avro_schema){s->nodes, s->parts, s->node_count, s->part_count, root, 8};
}

#endif
