/* A plan of every encoding, for the envelope's test and its fuzz driver. */
#ifndef LIBCORE_TEST_ENVELOPE_PLAN_H
#define LIBCORE_TEST_ENVELOPE_PLAN_H

#include "libcore/envelope.h"

#define COLUMN(text, code, layout, ...) \
  {.name = text, .name_size = sizeof(text) - 1, .encoding = LC_ENCODING_##code, .type = LC_TYPE_##layout, __VA_ARGS__}

static const lc_wire_column ITEM_INT = {.encoding = LC_ENCODING_INT, .type = LC_TYPE_INT32};
static const lc_wire_column ITEM_TEXT = {.encoding = LC_ENCODING_STRING, .type = LC_TYPE_UTF8};
static const lc_wire_column ITEM_DECIMAL = {
    .encoding = LC_ENCODING_DECIMAL_TEXT, .type = LC_TYPE_DECIMAL128, .precision = 10, .scale = 2};

#define UNSENT_DECIMALS "{95.00,95.00,112.00,104.00}" /* the bytes of the placeholder below */

static const lc_wire_column EVERY_COLUMN[] = {
    COLUMN("id", INT, INT64, .is_key = 1),
    COLUMN("s", STRING, UTF8, .is_key = 0),
    COLUMN("i2", INT, INT16, .is_key = 0),
    COLUMN("b", BOOL, BOOL, .is_key = 0),
    COLUMN("f4", FLOAT, FLOAT32, .is_key = 0),
    COLUMN("f8", FLOAT, FLOAT64, .is_key = 0),
    COLUMN("by", BASE64, BINARY, .is_key = 0),
    COLUMN("dt", DECIMAL_TEXT, DECIMAL128, .precision = 18, .scale = 4),
    COLUMN("dw", DECIMAL_TEXT, DECIMAL256, .precision = 50, .scale = 4),
    COLUMN("db", DECIMAL_BASE64, DECIMAL128, .precision = 18, .scale = 2, .wire_scale = 2),
    COLUMN("nt", NUMERIC_TEXT, UTF8, .is_key = 0),
    COLUMN("ns", NUMERIC_STRUCT, UTF8, .is_key = 0),
    COLUMN("ds", DECIMAL_STRUCT, DECIMAL128, .precision = 20, .scale = 5),
    COLUMN("dd", DATE_DAYS, DATE32, .is_key = 0),
    COLUMN("tm", TIME_MS, TIME64, .scale = 6),
    COLUMN("sn", TIMESTAMP_NS, TIMESTAMP, .scale = 6),
    COLUMN("z", ZONED_TIMESTAMP, TIMESTAMP, .scale = 6),
    COLUMN("it", ISO_TIME, TIME64, .scale = 9),
    COLUMN("bits", BITS, UTF8, .bit_length = 5),
    COLUMN("rj", RAW_JSON, UTF8, .is_key = 0),
    COLUMN("ai", ARRAY, UTF8, .item = &ITEM_INT),
    COLUMN("at", ARRAY, UTF8, .item = &ITEM_TEXT),
    COLUMN("ad", ARRAY, UTF8, .item = &ITEM_DECIMAL, .unsent = (const uint8_t *)UNSENT_DECIMALS,
           .unsent_size = sizeof UNSENT_DECIMALS - 1),
};

#define EVERY_COUNT ((int32_t)(sizeof EVERY_COLUMN / sizeof *EVERY_COLUMN))

static inline lc_envelope_plan every_plan(void) {
  return (lc_envelope_plan){.columns = EVERY_COLUMN,
                            .column_count = EVERY_COUNT,
                            .position = LC_POSITION_POSTGRESQL,
                            .placeholder = (const uint8_t *)"__ph",
                            .placeholder_size = 4};
}

#endif
