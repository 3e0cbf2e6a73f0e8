/* Check a segment's seal: cheap tests first, then one pass of xxh64. */
#include "libcore/segment.h"

#include "libcore/hash.h"

#include "common.h"

#define MAGIC "HRSEG1\r\n"
#define MAGIC_BYTES 8
#define TAIL_BYTES 20 /* footer size, checksum, magic */

/* Little endian on any machine. */
static uint64_t read_le(const uint8_t *at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; i--)
    value = value << 8 | at[i];
  return value;
}

lc_code lc_segment_check(const uint8_t *data, int64_t size, lc_segment_frame *frame, lc_error *error) {
  if (size < MAGIC_BYTES + TAIL_BYTES)
    return lc_fail(error, LC_CORRUPT, -1, size, "segment: expected at least %d bytes, found %lld",
                   MAGIC_BYTES + TAIL_BYTES, (long long)size);
  if (memcmp(data, MAGIC, MAGIC_BYTES) != 0)
    return lc_fail(error, LC_CORRUPT, -1, 0, "segment: the first 8 bytes are not those of a segment");
  if (memcmp(data + size - MAGIC_BYTES, MAGIC, MAGIC_BYTES) != 0)
    return lc_fail(error, LC_CORRUPT, -1, size - MAGIC_BYTES,
                   "segment: the last 8 bytes are not those of a segment; it was cut");
  int64_t footer_size = (int64_t)read_le(data + size - TAIL_BYTES, 4);
  if (footer_size > size - TAIL_BYTES - MAGIC_BYTES)
    return lc_fail(error, LC_CORRUPT, -1, size - TAIL_BYTES, "segment: a footer of %lld bytes does not fit %lld",
                   (long long)footer_size, (long long)size);
  uint64_t expected = read_le(data + size - 16, 8), found = lc_xxh64(data, size - 16, 0);
  if (expected != found)
    return lc_fail(error, LC_CORRUPT, -1, size - 16, "segment: expected checksum %016llx, found %016llx",
                   (unsigned long long)expected, (unsigned long long)found);
  *frame = (lc_segment_frame){.footer_offset = size - TAIL_BYTES - footer_size, .footer_size = footer_size};
  return LC_OK;
}
