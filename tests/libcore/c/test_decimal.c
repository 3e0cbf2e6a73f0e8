/* Exact decimals, canonical numeric text, doubles and base64: borders, refusals, failing allocations. */
#include "libcore/decimal.h"

#include <math.h>

#include "libcore/json.h"

#include "check.h"
#include "number.h"

static const uint8_t *bytes(const char *text) { return (const uint8_t *)text; }

static int read_text(const char *text, int precision, int scale, lc_u256 *value) {
  lc_decimal_target target = lc_decimal_target_make(precision, scale, precision > 38);
  uint8_t out[32] = {0};
  int code = lc_decimal_from_text(bytes(text), bytes(text) + strlen(text), &target, out);
  memset(value, 0, sizeof *value);
  memcpy(value, out, (size_t)target.width);
  return code;
}

static void test_text(void) {
  lc_u256 value;
  CHECK_EQUAL(0, read_text("123.45", 5, 2, &value));
  CHECK_EQUAL(12345, value.words[0]);
  CHECK_EQUAL(0, read_text("-1", 18, 4, &value));
  CHECK_EQUAL(-10000, (int64_t)value.words[0]);
  CHECK_EQUAL(-1, (int64_t)value.words[1]);
  CHECK_EQUAL(0, read_text("1.5000e2", 5, 0, &value));
  CHECK_EQUAL(150, value.words[0]);
  CHECK_EQUAL(0, read_text("-0.00", 5, 2, &value));
  CHECK_EQUAL(0, value.words[0] | value.words[1]);
  CHECK_EQUAL(0, read_text("0e999999999999999999", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_SCALE, read_text("1.005", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_SCALE, read_text("123456.005", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_RANGE, read_text("1000.00", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_RANGE, read_text("1e999999999999999999", 38, 0, &value));
  CHECK_EQUAL(LC_ROW_RANGE, read_text("NaN", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_RANGE, read_text("-Infinity", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_TYPE, read_text("", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_TYPE, read_text(".", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_TYPE, read_text("1e", 5, 2, &value));
  CHECK_EQUAL(LC_ROW_TYPE, read_text("1 ", 5, 2, &value));
  char nines[80];
  memset(nines, '9', 77);
  nines[76] = 0;
  CHECK_EQUAL(0, read_text(nines, 76, 0, &value));
  nines[76] = '9';
  nines[77] = 0;
  CHECK_EQUAL(LC_ROW_RANGE, read_text(nines, 76, 0, &value));
}

static void test_bytes(void) {
  lc_decimal_target target = lc_decimal_target_make(18, 2, false);
  int64_t value[2];
  CHECK_EQUAL(0, lc_decimal_from_bytes(bytes("\x80\x00"), 2, 2, &target, (uint8_t *)value));
  CHECK_EQUAL(-32768, value[0]);
  CHECK_EQUAL(0, lc_decimal_from_bytes(bytes("\x00\x7f"), 2, 0, &target, (uint8_t *)value));
  CHECK_EQUAL(12700, value[0]);
  CHECK_EQUAL(0, lc_decimal_from_bytes(bytes(""), 0, 0, &target, (uint8_t *)value));
  CHECK_EQUAL(0, value[0]);
  CHECK_EQUAL(LC_ROW_SCALE, lc_decimal_from_bytes(bytes("\x05"), 1, 3, &target, (uint8_t *)value));
  uint8_t large[40] = {1}; /* 256^39 */
  CHECK_EQUAL(LC_ROW_RANGE, lc_decimal_from_bytes(large, sizeof large, 0, &target, (uint8_t *)value));
  CHECK_EQUAL(LC_ROW_SCALE, lc_decimal_from_bytes(large, sizeof large, 900, &target, (uint8_t *)value));
}

static void check_numeric(const char *text, const char *expected) {
  lc_buffer out = {0};
  int code = lc_numeric_from_text(bytes(text), bytes(text) + strlen(text), &out);
  CHECK_EQUAL(0, code);
  CHECK(out.size == strlen(expected) && memcmp(out.data, expected, out.size) == 0);
  lc_buffer_free(&out);
}

static void test_numeric(void) {
  static const char *const pairs[][2] = {
      {"1.50", "1.50"},
      {"-0", "0"},
      {"-0.00", "0.00"},
      {"007.5", "7.5"},
      {"1.5e3", "1500"},
      {"1.50e1", "15.0"},
      {"5e-3", "0.005"},
      {"+.5", "0.5"},
      {"-12.e0", "-12"},
      {"NAN", "NaN"},
      {"-Infinity", "-Infinity"},
      {"0e-3", "0.000"},
      {"POSITIVE_INFINITY", "Infinity"},
  };
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
    check_numeric(pairs[i][0], pairs[i][1]);
  lc_buffer out = {0};
  CHECK_EQUAL(LC_ROW_RANGE, lc_numeric_from_text(bytes("1e20000"), bytes("1e20000") + 7, &out));
  CHECK_EQUAL(0, lc_numeric_from_text(bytes("1e19999"), bytes("1e19999") + 7, &out));
  CHECK_EQUAL(20000, out.size);
  out.size = 0;
  CHECK_EQUAL(0, lc_numeric_from_bytes(bytes("\xff"), 1, -3, &out));
  CHECK(out.size == 5 && memcmp(out.data, "-1000", 5) == 0);
  lc_buffer_free(&out);
}

static void test_doubles(void) {
  static const struct {
    const char *text;
    double value;
  } claims[] = {
      {"0.1", 0x1.999999999999ap-4},
      {"1234567890123.4567", 0x1.1f71fb04cb74fp+40},
      {"1.7976931348623157e308", 0x1.fffffffffffffp+1023},
      {"1e309", INFINITY},
      {"5e-324", 0x1p-1074},
      {"2.4703282292062327e-324", 0.0},
      {"2.4703282292062328e-324", 0x1p-1074},
      {"2.2250738585072011e-308", 0x1.ffffffffffffep-1023},
      {"9007199254740993", 0x1p53},
      {"1.00000000000000011102230246251565404236316680908203125", 1.0},
      {"1.00000000000000011102230246251565404236316680908203126", 0x1.0000000000001p+0},
      {"-123456789012345678901234567890e-10", -0x1.56a95319d63e1p+63},
  };
  for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
    CHECK(lc_double_from_text(bytes(claims[i].text), bytes(claims[i].text) + strlen(claims[i].text)) ==
          claims[i].value);
  CHECK(signbit(lc_double_from_text(bytes("-0.0"), bytes("-0.0") + 4)));
}

/* The float of a text is rounded once: not the one of its nearest double, which may lie midway between two. */
static void test_float_text(void) {
  static const struct {
    const char *text;
    float value;
  } claims[] = {
      {"7.038531e-26", 0x1.5c87fap-84f},
      {"1.000000059604644775390625", 1.0f},
      {"1.0000000596046447753906250000000000000001", 0x1.000002p+0f},
      {"-1.0000000596046447753906249999999999999999", -1.0f},
      {"3.40282356779733661637539395458142568447e38", 0x1.fffffep+127f},
      {"3.40282356779733661637539395458142568448e38", INFINITY},
      {"7.006492321624085e-46", 0.0f},
      {"7.006492321624086e-46", 0x1p-149f},
      {"0.1", 0x1.99999ap-4f},
  };
  for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
    const uint8_t *text = bytes(claims[i].text), *end = text + strlen(claims[i].text);
    CHECK(lc_float_of_text(lc_double_from_text(text, end), text, end) == claims[i].value);
  }
}

static void test_base64(void) {
  uint8_t out[16];
  CHECK_EQUAL(3, lc_base64_decode(bytes("AP8Q"), 4, out));
  CHECK(memcmp(out, "\x00\xff\x10", 3) == 0);
  CHECK_EQUAL(1, lc_base64_decode(bytes("fw=="), 4, out));
  CHECK_EQUAL(0, lc_base64_decode(bytes(""), 0, out));
  static const char *const bad[] = {"A", "AA==AA==", "AB==", "AAB=", "A===", "====", "AA=A", "AA A", "AA_-", "AAA"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    CHECK_EQUAL(-1, lc_base64_decode(bytes(bad[i]), strlen(bad[i]), out));
}

/* Text to decimals and back over a column with a NULL and an error, through the public calls. */
static lc_code columns(void *context) {
  static const char data[] = "1.50-2abc";
  static const int32_t offsets[] = {0, 4, 6, 9, 9};
  static const uint8_t validity[] = {0x07};
  check_batch batch;
  check_batch_start(&batch, 4);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_UTF8}, validity, offsets, data);
  struct ArrowArray decimals, text;
  int32_t codes[4];
  lc_error error;
  lc_code code = lc_decimal_read_text(&batch.array, 40, 2, &decimals, codes, &error);
  if (code != LC_OK) return code;
  CHECK_EQUAL(LC_ROW_TYPE, codes[2]);
  CHECK_EQUAL(2, decimals.children[0]->null_count);
  lc_column layout = {LC_TYPE_DECIMAL256, 0, 40, 2};
  code = lc_decimal_write_text(&decimals, &layout, &text, &error);
  decimals.release(&decimals);
  if (code != LC_OK) return code;
  const char *made = text.children[0]->buffers[2];
  CHECK(memcmp(made, "1.50-2.00", 9) == 0);
  text.release(&text);
  return LC_OK;
}

int main(void) {
  test_text();
  test_bytes();
  test_numeric();
  test_doubles();
  test_float_text();
  test_base64();
  check_allocation_failures(columns, NULL);
  return check_result("decimal");
}
