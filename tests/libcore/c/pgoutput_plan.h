/* A plan of a relation with every kind of value, and one without a key, for pgoutput's test and its fuzz driver. */
#ifndef LIBCORE_TEST_PGOUTPUT_PLAN_H
#define LIBCORE_TEST_PGOUTPUT_PLAN_H

#include "libcore/pgoutput.h"

#define EVERY_OID 16384
#define KEYLESS_OID 5

static const lc_pgoutput_column EVERY_COLUMN[] = {
    {.type = LC_TYPE_INT64, .is_key = 1},
    {.type = LC_TYPE_BOOL},
    {.type = LC_TYPE_INT16},
    {.type = LC_TYPE_INT64},
    {.type = LC_TYPE_FLOAT32},
    {.type = LC_TYPE_FLOAT64},
    {.type = LC_TYPE_UTF8},
    {.type = LC_TYPE_UTF8},
    {.type = LC_TYPE_DECIMAL128, .precision = 18, .scale = 4},
    {.type = LC_TYPE_DECIMAL256, .precision = 60, .scale = 5},
    {.type = LC_TYPE_UTF8},
    {.type = LC_TYPE_BINARY},
    {.type = LC_TYPE_DATE32},
    {.type = LC_TYPE_TIME64},
    {.type = LC_TYPE_TIMESTAMP},
    {.type = LC_TYPE_TIMESTAMP},
    {.type = LC_TYPE_UTF8},
    {.type = LC_TYPE_UTF8},
    {.type = LC_TYPE_UTF8},
    {.type = LC_TYPE_UTF8},
    {.type = LC_TYPE_INT32}, /* the relation has it not */
};

static const lc_pgoutput_wire EVERY_WIRE[] = {
    {LC_PGOUTPUT_INT, 0},      {LC_PGOUTPUT_BOOL, 1},  {LC_PGOUTPUT_INT, 2},        {LC_PGOUTPUT_OID, 3},
    {LC_PGOUTPUT_FLOAT, 4},    {LC_PGOUTPUT_FLOAT, 5}, {LC_PGOUTPUT_TEXT, 6},       {LC_PGOUTPUT_JSONB, 7},
    {LC_PGOUTPUT_NUMERIC, 8},  {LC_PGOUTPUT_NUMERIC, 9}, {LC_PGOUTPUT_NUMERIC, 10}, {LC_PGOUTPUT_BYTEA, 11},
    {LC_PGOUTPUT_DATE, 12},    {LC_PGOUTPUT_TIME, 13}, {LC_PGOUTPUT_TIMESTAMP, 14}, {LC_PGOUTPUT_TIMESTAMPTZ, 15},
    {LC_PGOUTPUT_UUID, 16},    {LC_PGOUTPUT_INTERVAL, 17}, {LC_PGOUTPUT_TIMETZ, 18}, {LC_PGOUTPUT_BITS, 19},
    {LC_PGOUTPUT_OTHER, -1},
};

static const lc_pgoutput_column KEYLESS_COLUMN[] = {{.type = LC_TYPE_INT32}, {.type = LC_TYPE_UTF8}};
static const lc_pgoutput_wire KEYLESS_WIRE[] = {{LC_PGOUTPUT_INT, 0}, {LC_PGOUTPUT_TEXT, 1}};

static const lc_pgoutput_relation EVERY_RELATION[] = {
    {.oid = EVERY_OID,
     .wire = EVERY_WIRE,
     .columns = EVERY_COLUMN,
     .description = (const uint8_t *)"\0\0\x40\0",
     .description_size = 4,
     .wire_count = sizeof EVERY_WIRE / sizeof *EVERY_WIRE,
     .column_count = sizeof EVERY_COLUMN / sizeof *EVERY_COLUMN},
    {.oid = KEYLESS_OID, .wire = KEYLESS_WIRE, .columns = KEYLESS_COLUMN, .wire_count = 2, .column_count = 2},
    {.oid = 9, .ignored = 1},
};

static inline lc_pgoutput_plan every_pgoutput_plan(void) {
  return (lc_pgoutput_plan){.relations = EVERY_RELATION, .relation_count = 3, .creates = 1, .transactions = 1};
}

#endif
