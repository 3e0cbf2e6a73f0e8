/* The seal of a segment: an immutable file of Arrow IPC streams that knows whether its bytes are still the same.
 *
 *   0          8                                                        size-20   size-16    size-8
 *   | magic | stream | pad | stream | pad | ... | footer (JSON, UTF-8) | u32      | u64      | magic |
 *                                                                       footer     checksum
 *                                                                       bytes
 *
 * magic is "HRSEG1\r\n" at both ends, so a cut or a text-mode copy shows.  Streams begin at multiples of 64 bytes; each
 * is a whole Arrow IPC stream that pyarrow opens at its offset.  Numbers are little endian.  checksum is xxh64 (hash.h,
 * seed 0) of all bytes before it.  The footer names format version, ranges and metadata; libcore/segment.py reads it.
 *
 * Contract: Any bytes may come; a segment that passes has the bytes that were written.
 * Units: Offsets and sizes in bytes from the segment's start.
 * Ownership: Data is read in place; nothing is allocated.
 * Errors: What does not fit is LC_CORRUPT with one sentence, never a crash.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_SEGMENT_H
#define LIBCORE_SEGMENT_H

#include "libcore/types.h"

/* cdef */
/* Where the footer stands; the streams lie in [8, footer_offset). */
typedef struct lc_segment_frame {
  int64_t footer_offset; /* bytes from the start */
  int64_t footer_size;   /* bytes */
} lc_segment_frame;

/* Check magic, lengths and checksum of a whole segment.  Reads all bytes once; allocates nothing; takes any bytes.
 *
 * Returns LC_OK and *frame, or LC_CORRUPT with *error saying which part is wrong.
 */
lc_code lc_segment_check(const uint8_t *data, int64_t size, lc_segment_frame *frame, lc_error *error);
/* end cdef */

#endif
