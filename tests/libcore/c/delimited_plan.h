/* Columns of every kind and a plan of delimited files, for the C tests and the fuzz driver. */
#ifndef LIBCORE_TEST_DELIMITED_PLAN_H
#define LIBCORE_TEST_DELIMITED_PLAN_H

#include "libcore/fixed_width.h"

enum { PLAN_COLUMNS = 11 };

static const uint8_t PLAN_NULL[] = {4, 0, 'N', 'U', 'L', 'L', 0, 0};
static const uint8_t PLAN_TRUE[] = {1, 0, 'X'}, PLAN_FALSE[] = {1, 0, '-'};
static const uint8_t PLAN_DAY[] = {'%', 'd', 0, '.', '%', 'b', 0, '.', '%', 'Y'};
static const uint8_t PLAN_TIME[] = {'%', 'Y', '%', 'm', '%', 'd', '%', 'H', '%', 'M',
                                    '%', 'S', 0,   '.', '%', 'f', '%', 'z'};

/* Columns of `width` bytes each for fixed width. */
static inline void plan_columns(lc_text_column columns[PLAN_COLUMNS], int64_t width) {
  static const struct {
    lc_column layout;
    int32_t kind;
  } kinds[PLAN_COLUMNS] = {
      {{.type = LC_TYPE_UTF8}, LC_TEXT_KIND_TEXT},
      {{.type = LC_TYPE_INT64}, LC_TEXT_KIND_INT},
      {{.type = LC_TYPE_FLOAT32}, LC_TEXT_KIND_FLOAT},
      {{.type = LC_TYPE_BOOL}, LC_TEXT_KIND_BOOL},
      {{.type = LC_TYPE_BINARY}, LC_TEXT_KIND_HEX},
      {{.type = LC_TYPE_BINARY}, LC_TEXT_KIND_BASE64},
      {{.type = LC_TYPE_DECIMAL128, .precision = 20, .scale = 3}, LC_TEXT_KIND_DECIMAL},
      {{.type = LC_TYPE_UTF8}, LC_TEXT_KIND_NUMERIC},
      {{.type = LC_TYPE_DATE32}, LC_TEXT_KIND_DATE},
      {{.type = LC_TYPE_TIMESTAMP}, LC_TEXT_KIND_TIMESTAMPTZ},
      {{.type = LC_TYPE_TIMESTAMP}, LC_TEXT_KIND_TIMESTAMP},
  };
  for (int32_t c = 0; c < PLAN_COLUMNS; c++) {
    columns[c] = (lc_text_column){.layout = kinds[c].layout,
                                  .kind = kinds[c].kind,
                                  .digits = 6,
                                  .decimal = ',',
                                  .trailing_sign = 1,
                                  .field = c,
                                  .thousands = (const uint8_t *)".",
                                  .thousands_size = 1,
                                  .null_words = PLAN_NULL,
                                  .null_size = sizeof PLAN_NULL,
                                  .true_words = PLAN_TRUE,
                                  .true_size = sizeof PLAN_TRUE,
                                  .false_words = PLAN_FALSE,
                                  .false_size = sizeof PLAN_FALSE,
                                  .offset = c * width,
                                  .length = width};
  }
  columns[8].pattern = PLAN_DAY;
  columns[8].pattern_size = sizeof PLAN_DAY;
  columns[9].pattern = PLAN_TIME;
  columns[9].pattern_size = sizeof PLAN_TIME;
}

static inline lc_delimited_plan plan_delimited(const lc_text_column columns[PLAN_COLUMNS]) {
  return (lc_delimited_plan){.columns = columns,
                             .column_count = PLAN_COLUMNS,
                             .fields = PLAN_COLUMNS,
                             .record_bytes_max = 400,
                             .delimiter = ';',
                             .quote = '"',
                             .doubled = 1,
                             .skip_blank = 1};
}

#endif
