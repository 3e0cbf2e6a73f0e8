/* The public face of strict JSON: a column of values judged at once. */
#include "libcore/json.h"

#include "scan.h"

lc_code lc_json_validate(const struct ArrowArray *values, int32_t level, int32_t *codes, int64_t *positions,
                         lc_error *error) {
  static const lc_column layout = {.type = LC_TYPE_BINARY};
  lc_code code = lc_check_batch(values, &layout, 1, error);
  if (code != LC_OK) return code;
  const lc_kernels *kernels = lc_kernels_pick(level);
  if (kernels == NULL) return lc_fail(error, LC_INVALID, -1, -1, "this machine has no vector level %d", level);
  const struct ArrowArray *child = values->children[0];
  for (int64_t i = 0; i < values->length; i++) {
    codes[i] = 0;
    positions[i] = -1;
    if (!lc_is_valid(child, i + values->offset)) continue;
    const int32_t *offsets = (const int32_t *)child->buffers[1] + child->offset + values->offset + i;
    static const uint8_t nothing[1] = {0};
    const uint8_t *data = child->buffers[2] == NULL ? nothing : child->buffers[2];
    const uint8_t *start = data + offsets[0], *end = data + offsets[1];
    int64_t bad = kernels->utf8_fault(start, (size_t)(end - start));
    lc_json_fault fault;
    if (bad >= 0) {
      codes[i] = LC_ROW_UTF8;
      positions[i] = bad;
    } else if (!lc_json_check(start, end, kernels, &fault)) {
      codes[i] = fault.code;
      positions[i] = fault.at - start;
    }
  }
  return LC_OK;
}
