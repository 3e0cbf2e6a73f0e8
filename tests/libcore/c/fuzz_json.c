/* Hostile bytes into strict JSON and the number readers: all vector levels give one answer, inside the input. */
#include "libcore/json.h"

#include "common.h"
#include "number.h"
#include "scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void numbers(const uint8_t *data, size_t size) {
  lc_decimal_target narrow = lc_decimal_target_make(38, 10, false), wide = lc_decimal_target_make(76, 20, true);
  uint8_t out[32], *decoded = malloc(size ? size : 1);
  lc_buffer text = {0};
  if (decoded == NULL) abort();
  lc_decimal_from_text(data, data + size, &narrow, out);
  lc_decimal_from_text(data, data + size, &wide, out);
  lc_decimal_from_bytes(data, size, 5, &wide, out);
  lc_numeric_from_text(data, data + size, &text);
  lc_numeric_from_bytes(data, size, 3, &text);
  if (lc_base64_decode(data, size, decoded) > (int64_t)size) abort();
  lc_json_fault fault;
  if (size > 0 && (data[0] == '-' || lc_is_digit(data[0])) &&
      lc_json_check(data, data + size, lc_kernels_pick(1), &fault)) {
    const uint8_t *end = data + size;
    while (lc_is_space(end[-1]))
      end--;
    lc_double_from_text(data, end);
  }
  lc_buffer_free(&text);
  free(decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  int64_t first_bad = 0;
  const uint8_t *first_at = NULL;
  for (int32_t level = 1; level <= 3; level++) {
    const lc_kernels *kernels = lc_kernels_pick(level);
    if (kernels == NULL) continue;
    int64_t bad = kernels->utf8_fault(data, size);
    lc_json_fault fault = {0, NULL};
    bool valid = lc_json_check(data, data + size, kernels, &fault);
    if (!valid && (fault.at < data || fault.at > data + size)) abort();
    if (level > 1 && (bad != first_bad || fault.at != first_at)) abort();
    first_bad = bad;
    first_at = fault.at;
  }
  numbers(data, size);
  return 0;
}

#include "fuzz_driver.h"
