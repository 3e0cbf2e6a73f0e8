/* Hostile bytes into the segment check: it answers, stays inside its input, and gives frames that lie inside. */
#include "libcore/segment.h"

#include "libcore/hash.h"

#include "common.h"

static void check_frame(const uint8_t *data, size_t size) {
  lc_segment_frame frame = {-1, -1};
  lc_error error = {0};
  if (lc_segment_check(data, (int64_t)size, &frame, &error) != LC_OK) {
    if (error.message[0] == 0) abort(); /* a refusal says why */
    return;
  }
  if (frame.footer_offset < 8 || frame.footer_size < 0 || frame.footer_offset + frame.footer_size + 20 != (int64_t)size)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  check_frame(data, size);
  if (size < 28) return 0;
  uint8_t *sealed =
      malloc(size); /* the same bytes with a right seal, so that the tests behind the checksum are met too */
  if (sealed == NULL) return 0;
  memcpy(sealed, data, size);
  memcpy(sealed, "HRSEG1\r\n", 8);
  memcpy(sealed + size - 8, "HRSEG1\r\n", 8);
  uint64_t checksum = lc_xxh64(sealed, (int64_t)size - 16, 0);
  for (int i = 0; i < 8; i++)
    sealed[size - 16 + (size_t)i] = (uint8_t)(checksum >> (8 * i));
  check_frame(sealed, size);
  free(sealed);
  return 0;
}

#include "fuzz_driver.h"
