/* Strict JSON: the exact byte of each kind of fault, at every vector level, and reading never past the end. */
#include "libcore/json.h"

#include "check.h"
#include "scan.h"

typedef struct claim {
  const char *text;
  int32_t code;
  int64_t position;
} claim;

static const claim CLAIMS[] = {
    {"{\"a\":[1,-0.5e+3,true,false,null,\"x\\u00e9\\n\"]}", 0, -1},
    {" \n5\t", 0, -1},
    {"\"\\ud800\"", 0, -1},
    {"", LC_ROW_SYNTAX, 0},
    {"{\"a\":1", LC_ROW_SYNTAX, 6},
    {"{\"a\":01}", LC_ROW_SYNTAX, 6},
    {"[1,]", LC_ROW_SYNTAX, 3},
    {"{\"a\" 1}", LC_ROW_SYNTAX, 5},
    {"{a:1}", LC_ROW_SYNTAX, 1},
    {"\"\\x\"", LC_ROW_SYNTAX, 2},
    {"\"\\u12g4\"", LC_ROW_SYNTAX, 5},
    {"\"a\nb\"", LC_ROW_SYNTAX, 2},
    {"nul", LC_ROW_SYNTAX, 3},
    {"nulx", LC_ROW_SYNTAX, 3},
    {"-", LC_ROW_SYNTAX, 1},
    {"1.", LC_ROW_SYNTAX, 2},
    {"1e+", LC_ROW_SYNTAX, 3},
    {"NaN", LC_ROW_SYNTAX, 0},
    {"1 2", LC_ROW_SYNTAX, 2},
    {"{\"a\":1]", LC_ROW_SYNTAX, 6},
    {"\xEF\xBB\xBF{}", LC_ROW_SYNTAX, 0},
    {"{\"a\xff\":x", LC_ROW_UTF8, 3},
    {"\"\xC0\x80\"", LC_ROW_UTF8, 1},
    {"\"\xED\xA0\x80\"", LC_ROW_UTF8, 1},
    {"\"\xF4\x90\x80\x80\"", LC_ROW_UTF8, 1},
    {"\"\xE2\x82\"", LC_ROW_UTF8, 1},
};

/* One value as a struct array over exactly `size` bytes of memory, so that a sanitizer sees one byte too far. */
static void judge(const char *text, size_t size, int32_t level, int32_t *code, int64_t *position) {
  uint8_t *exact = malloc(size ? size : 1);
  memcpy(exact, text, size);
  int32_t offsets[2] = {0, (int32_t)size};
  check_batch batch;
  check_batch_start(&batch, 1);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, offsets, exact);
  lc_error error;
  CHECK_EQUAL(LC_OK, lc_json_validate(&batch.array, level, code, position, &error));
  free(exact);
}

static void test_faults(int32_t level) {
  for (size_t i = 0; i < sizeof CLAIMS / sizeof *CLAIMS; i++) {
    int32_t code;
    int64_t position;
    judge(CLAIMS[i].text, strlen(CLAIMS[i].text), level, &code, &position);
    CHECK_EQUAL(CLAIMS[i].code, code);
    CHECK_EQUAL(CLAIMS[i].position, position);
  }
}

static void test_nul_byte(int32_t level) {
  int32_t code;
  int64_t position;
  judge("\"a\0b\"", 5, level, &code, &position);
  CHECK_EQUAL(LC_ROW_SYNTAX, code);
  CHECK_EQUAL(2, position);
}

static void test_depth(int32_t level) {
  char text[200];
  for (int depth = 64; depth <= 65; depth++) {
    for (int i = 0; i < depth; i++) {
      text[i] = '[';
      text[2 * depth - 1 - i] = ']';
    }
    int32_t code;
    int64_t position;
    judge(text, 2 * (size_t)depth, level, &code, &position);
    CHECK_EQUAL(depth == 64 ? 0 : LC_ROW_DEPTH, code);
    CHECK_EQUAL(depth == 64 ? -1 : 64, position);
  }
}

/* A fault at each place of a long string is found at that place, whatever block of a vector it falls into. */
static void test_places(int32_t level) {
  char text[150];
  for (size_t at = 1; at < sizeof text - 1; at++) {
    memset(text, 'x', sizeof text);
    text[0] = text[sizeof text - 1] = '"';
    int32_t code;
    int64_t position;
    text[at] = 0x1f;
    judge(text, sizeof text, level, &code, &position);
    CHECK_EQUAL(LC_ROW_SYNTAX, code);
    CHECK_EQUAL(at, position);
    text[at] = (char)0x80;
    judge(text, sizeof text, level, &code, &position);
    CHECK_EQUAL(LC_ROW_UTF8, code);
    CHECK_EQUAL(at, position);
    text[at] = (char)0xC3; /* followed by a letter or the quote */
    judge(text, sizeof text, level, &code, &position);
    CHECK_EQUAL(at, position);
  }
}

static void test_unescape(void) {
  static const char text[] = "a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\u0000z";
  static const char plain[] = "a\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\0z";
  uint8_t out[sizeof text];
  lc_unescaped made = lc_json_unescape((const uint8_t *)text, (const uint8_t *)text + sizeof text - 1, out);
  CHECK(made.surrogate == NULL);
  CHECK_EQUAL(sizeof plain - 1, made.size);
  CHECK(memcmp(out, plain, sizeof plain - 1) == 0);
  static const char lone[] = "ab\\udc00";
  made = lc_json_unescape((const uint8_t *)lone, (const uint8_t *)lone + sizeof lone - 1, out);
  CHECK(made.surrogate == (const uint8_t *)lone + 2);
}

static void test_refusals(void) {
  int32_t offsets[2] = {0, 0}, code;
  int64_t position;
  lc_error error;
  check_batch batch;
  check_batch_start(&batch, 1);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, offsets, "");
  CHECK_EQUAL(LC_INVALID, lc_json_validate(&batch.array, 4, &code, &position, &error));
  CHECK_EQUAL(LC_INVALID, lc_json_validate(NULL, 0, &code, &position, &error));
  batch.array.n_children = 0;
  CHECK_EQUAL(LC_INVALID, lc_json_validate(&batch.array, 0, &code, &position, &error));
}

int main(void) {
  for (int32_t level = 0; level <= 3; level++) {
    if (lc_kernels_pick(level) == NULL) continue;
    test_faults(level);
    test_nul_byte(level);
    test_depth(level);
    test_places(level);
  }
  test_unescape();
  test_refusals();
  return check_result("json");
}
