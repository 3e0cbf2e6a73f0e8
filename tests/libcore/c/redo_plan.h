/* A plan with a column of every kind that the redo parser fills; shared by its unit test and its fuzz driver. */
#ifndef LIBCORE_TEST_REDO_PLAN_H
#define LIBCORE_TEST_REDO_PLAN_H

#include "libcore/redo.h"

#define REDO_NAMED(text) .name = text, .name_size = sizeof text - 1

static const lc_redo_column REDO_COLUMN[] = {
    {REDO_NAMED("ID"), .is_key = 1, .type = LC_TYPE_INT64},
    {REDO_NAMED("S"), .type = LC_TYPE_UTF8},
    {REDO_NAMED("D"), .type = LC_TYPE_DECIMAL128, .precision = 10, .scale = 2},
    {REDO_NAMED("R"), .type = LC_TYPE_BINARY},
    {REDO_NAMED("N"), .type = LC_TYPE_UTF8, .form = LC_REDO_NUMERIC},
    {REDO_NAMED("I"), .type = LC_TYPE_UTF8, .form = LC_REDO_INTERVAL},
    {REDO_NAMED("L"), .type = LC_TYPE_UTF8, .form = LC_REDO_LITERAL},
    {REDO_NAMED("W"), .type = LC_TYPE_DECIMAL256, .precision = 60, .scale = 5},
    {REDO_NAMED("T"), .type = LC_TYPE_TIMESTAMP, .scale = 6},
    {REDO_NAMED("Z"), .type = LC_TYPE_TIMESTAMP, .scale = 9, .form = LC_REDO_ZONED},
    {REDO_NAMED("U"), .type = LC_TYPE_INT64, .form = LC_REDO_INTERVAL_US},
    {REDO_NAMED("A"), .type = LC_TYPE_DATE32},
    {REDO_NAMED("C"), .type = LC_TYPE_TIME64, .scale = 6},
    {REDO_NAMED("F"), .type = LC_TYPE_FLOAT32},
    {REDO_NAMED("G"), .type = LC_TYPE_FLOAT64},
    {REDO_NAMED("B"), .type = LC_TYPE_BOOL},
    {REDO_NAMED("H"), .type = LC_TYPE_INT16},
    {REDO_NAMED("E"), .type = LC_TYPE_UTF8, .empty_is_unset = 1}};

enum { REDO_COLUMN_COUNT = sizeof REDO_COLUMN / sizeof *REDO_COLUMN };

static inline lc_redo_plan redo_plan(void) {
  return (lc_redo_plan){.columns = REDO_COLUMN, .column_count = REDO_COLUMN_COUNT, .relaxed = 1, .creates = 1};
}

#endif
