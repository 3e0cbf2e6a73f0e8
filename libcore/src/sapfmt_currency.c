/* Amounts and their currencies: CURR fields are stored as if every currency had two decimals. */
#include "libcore/json.h"
#include "sapfmt_internal.h"
#include "view.h"

enum { SLOTS = 4096, TABLE_MAX = SLOTS / 2 };

/* The decimals of currencies by their key, open addressing. */
typedef struct currencies {
  uint64_t keys[SLOTS];
  int8_t decimals[SLOTS]; /* -1: a free slot */
} currencies;

static uint32_t slot_of(uint64_t key) { return (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 52); }

static bool fill(currencies *known, const lc_sap_currency *table, int32_t count) {
  memset(known->decimals, -1, sizeof known->decimals);
  for (int32_t i = 0; i < count; i++) {
    if (table[i].decimals < 0 || table[i].decimals > 9) return false;
    uint64_t key = lc_load_u64(table[i].key);
    uint32_t slot = slot_of(key);
    for (; known->decimals[slot] >= 0; slot = (slot + 1) % SLOTS)
      if (known->keys[slot] == key) return false;
    known->keys[slot] = key;
    known->decimals[slot] = (int8_t)table[i].decimals;
  }
  return true;
}

static int32_t decimals_of(const currencies *known, const uint8_t *p, int64_t size) {
  size = lc_sap_trimmed(p, size);
  if (size > 8) return 2;
  uint64_t key = 0;
  if (size > 0) memcpy(&key, p, (size_t)size);
  for (uint32_t slot = slot_of(key); known->decimals[slot] >= 0; slot = (slot + 1) % SLOTS)
    if (known->keys[slot] == key) return known->decimals[slot];
  return 2;
}

/* A magnitude times 10^by into the target's cell; 0, or SCALE or RANGE. */
static int32_t move_point(lc_u256 magnitude, bool negative, int32_t by, const lc_decimal_target *target, uint8_t *out) {
  bool small = (magnitude.words[1] | magnitude.words[2] | magnitude.words[3]) == 0;
  if (small && by >= 0 && by < 20) {
    unsigned __int128 product = (unsigned __int128)magnitude.words[0] * lc_pow10((unsigned)by);
    magnitude.words[0] = (uint64_t)product;
    magnitude.words[1] = (uint64_t)(product >> 64);
  } else {
    for (; by > 0; by--)
      if (!lc_u256_mul_add(&magnitude, 10, 0)) return LC_SAP_RANGE;
    for (; by < 0; by++)
      if (lc_u256_divide(&magnitude, 10) != 0) return LC_SAP_SCALE;
  }
  if (lc_u256_compare(&magnitude, &target->limit) >= 0) return LC_SAP_RANGE;
  bool zero = (magnitude.words[0] | magnitude.words[1] | magnitude.words[2] | magnitude.words[3]) == 0;
  lc_decimal_store(&magnitude, negative && !zero, target->width, out);
  return 0;
}

static int32_t shift(const lc_view *amounts, const lc_view *keys, int64_t row, const currencies *known, int32_t sign,
                     int32_t by, const lc_decimal_target *target, uint8_t *out) {
  lc_u256 magnitude;
  bool negative = lc_load_decimal(amounts->values + row * amounts->width, amounts->width, magnitude.words);
  if (!lc_view_valid(keys, row)) {
    bool zero = (magnitude.words[0] | magnitude.words[1] | magnitude.words[2] | magnitude.words[3]) == 0;
    return zero ? 0 : LC_SAP_CURRENCY; /* the cell is 0 already */
  }
  int32_t decimals = decimals_of(known, lc_view_bytes(keys, row), lc_view_size(keys, row));
  return move_point(magnitude, negative, by + sign * (2 - decimals), target, out);
}

static bool is_decimal(const lc_column *layout) {
  return layout->type == LC_TYPE_DECIMAL128 || layout->type == LC_TYPE_DECIMAL256;
}

static lc_code check(const struct ArrowArray *amounts, const lc_column *layouts, const lc_sap_currency *table,
                     int32_t table_count, const lc_column *target, lc_error *error) {
  if (layouts == NULL || target == NULL || !is_decimal(&layouts[0]) || !lc_type_is_variable(&layouts[1]) ||
      !is_decimal(target) || !lc_column_valid(target))
    return lc_fail(error, LC_INVALID, -1, -1, "expected decimals and texts, and a decimal for the result");
  if (table_count < 0 || table_count > TABLE_MAX || (table == NULL && table_count > 0))
    return lc_fail(error, LC_INVALID, -1, -1, "expected 0 to %d currencies, found %d", TABLE_MAX, table_count);
  return lc_check_batch(amounts, layouts, 2, error);
}

static lc_code shift_all(const struct ArrowArray *amounts, const lc_column *layouts, const currencies *known,
                         int32_t to_real, const lc_column *target, lc_sap_result *made) {
  lc_view values = lc_view_of(amounts, layouts, 0), keys = lc_view_of(amounts, layouts, 1);
  lc_decimal_target decimal =
      lc_decimal_target_make(target->precision, target->scale, target->type == LC_TYPE_DECIMAL256);
  uint8_t *out = lc_child_values(&made->batch, 0), *validity = lc_child_validity(&made->batch, 0);
  int32_t sign = to_real ? 1 : -1, by = target->scale - layouts[0].scale;
  int64_t capacity = 0;
  for (int64_t row = 0; row < values.rows; row++) {
    int32_t code = 0;
    if (lc_view_valid(&values, row)) {
      code = shift(&values, &keys, row, known, sign, by, &decimal, out + row * decimal.width);
      if (code == 0) continue;
    }
    lc_bit_clear(validity, row);
    lc_sap_error fault = {.row = row, .position = 0, .code = code, .field = 0};
    if (code != 0 && lc_sap_errors_add(made, &capacity, &fault) != LC_OK) return LC_NO_MEMORY;
  }
  lc_batch_finish(&made->batch, values.rows);
  return LC_OK;
}

lc_code lc_sap_shift(const struct ArrowArray *amounts, const lc_column *layouts, const lc_sap_currency *table,
                     int32_t table_count, int32_t to_real, const lc_column *target, lc_sap_result *out,
                     lc_error *error) {
  lc_code code = check(amounts, layouts, table, table_count, target, error);
  if (code != LC_OK) return code;
  lc_sap_result made = {0};
  currencies *known = lc_malloc(sizeof *known);
  if (known == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for the currencies");
  if (!fill(known, table, table_count)) {
    lc_free(known);
    return lc_fail(error, LC_INVALID, -1, -1, "expected each currency once, with 0 to 9 decimals");
  }
  code = lc_batch_new(&made.batch, target, 1, amounts->length, error);
  if (code == LC_OK) code = shift_all(amounts, layouts, known, to_real, target, &made);
  lc_free(known);
  if (code != LC_OK) {
    lc_sap_result_free(&made);
    return lc_fail(error, code, -1, -1, "no memory for %lld amounts", (long long)amounts->length);
  }
  *out = made;
  return LC_OK;
}
