/* Walking over JSON bytes: loads, whitespace, string ends, runs of digits.
 *
 * Bounds: the inline functions here may read up to LC_PADDING bytes past `end`, never more, and may return a pointer
 * past `end`; what they saw there means nothing.  So a caller keeps LC_PADDING readable bytes behind a message and
 * trusts a walk only once it ends exactly at `end`.  The functions of json.h and scan.c stay inside their bounds.
 */
#ifndef LIBCORE_SCAN_H
#define LIBCORE_SCAN_H

#include "common.h"

#if defined(__SSE2__) && !defined(LC_NO_SIMD)
#define LC_SSE2 1
#include <emmintrin.h>
#endif

#define LC_PADDING 256
#define LC_JSON_DEPTH_MAX 64

#define LC_LIKELY(x) __builtin_expect(!!(x), 1)
#define LC_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The vector functions a machine offers; lc_kernels_pick chooses once a call. */
typedef struct lc_kernels {
  /* Index of the byte that starts the first malformed UTF-8 sequence, or -1. */
  int64_t (*utf8_fault)(const uint8_t *data, size_t size);
  /* First byte at or after p that is '"', '\\' or below 0x20; `end` where there is none. */
  const uint8_t *(*string_end)(const uint8_t *p, const uint8_t *end);
} lc_kernels;

/* level: 0 the best here, 1 scalar, 2 SSE4.2, 3 AVX2.  NULL where the machine lacks that level. */
const lc_kernels *lc_kernels_pick(int32_t level);

static inline uint64_t lc_load64(const uint8_t *p) {
  uint64_t word;
  memcpy(&word, p, 8);
  return word;
}

static inline uint32_t lc_load32(const uint8_t *p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return word;
}

/* The words of JSON, as the first four bytes in memory of little- and big-endian machines alike. */
static inline bool lc_is4(const uint8_t *p, const char *text) { return memcmp(p, text, 4) == 0; }

static inline bool lc_is_space(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
static inline bool lc_is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

static inline const uint8_t *lc_skip_space(const uint8_t *p, const uint8_t *end) {
  while (p < end && lc_is_space(*p))
    p++;
  return p;
}

#define LC_ONES 0x0101010101010101ull
#define LC_HIGHS 0x8080808080808080ull

/* Bit 7 of each byte that is '"', '\\' or below 0x20; exact up to the first such byte (a borrow may mark later ones).
 */
static inline uint64_t lc_string_marks(uint64_t word) {
  uint64_t quote = word ^ (LC_ONES * '"'), slash = word ^ (LC_ONES * '\\');
  return (((quote - LC_ONES) & ~quote) | ((slash - LC_ONES) & ~slash) | ((word - LC_ONES * 0x20) & ~word)) & LC_HIGHS;
}

/* As lc_kernels.string_end, tuned for short strings: reads past `end`, may return past it. */
static inline const uint8_t *lc_short_string_end(const uint8_t *p, const uint8_t *end, const lc_kernels *kernels) {
#ifdef LC_SSE2
  for (int block = 0; block < 4; block++) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    int marks = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), control));
    if (LC_LIKELY(marks != 0)) return p + __builtin_ctz((unsigned)marks);
    p += 16;
    if (p >= end) return p;
  }
#elif __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  for (int block = 0; block < 8; block++) {
    uint64_t marks = lc_string_marks(lc_load64(p));
    if (LC_LIKELY(marks != 0)) return p + (__builtin_ctzll(marks) >> 3);
    p += 8;
    if (p >= end) return p;
  }
#endif
  return kernels->string_end(p, end);
}

/* Count of leading ASCII digits of 8 bytes, 0..8 (little-endian load). */
static inline unsigned lc_digit_count(uint64_t word) {
  uint64_t shifted = word ^ (LC_ONES * '0');
  uint64_t marks = (shifted | ((shifted & ~LC_HIGHS) + LC_ONES * 0x76)) & LC_HIGHS;
  return marks == 0 ? 8 : (unsigned)__builtin_ctzll(marks) >> 3;
}

/* Value of the first `count` (1..8) digits of a little-endian load. */
static inline uint32_t lc_digits_value(uint64_t word, unsigned count) {
  word = (word ^ (LC_ONES * '0')) << (64 - 8 * count); /* the missing leading digits become zeros */
  word = (word * 10) + (word >> 8);
  return (uint32_t)((((word & 0x000000FF000000FFull) * 0x000F424000000064ull) +
                     (((word >> 16) & 0x000000FF000000FFull) * 0x0000271000000001ull)) >>
                    32);
}

static inline uint64_t lc_pow10(unsigned exponent) { /* exponent 0..19 */
  static const uint64_t powers[20] = {1ull,
                                      10ull,
                                      100ull,
                                      1000ull,
                                      10000ull,
                                      100000ull,
                                      1000000ull,
                                      10000000ull,
                                      100000000ull,
                                      1000000000ull,
                                      10000000000ull,
                                      100000000000ull,
                                      1000000000000ull,
                                      10000000000000ull,
                                      100000000000000ull,
                                      1000000000000000ull,
                                      10000000000000000ull,
                                      100000000000000000ull,
                                      1000000000000000000ull,
                                      10000000000000000000ull};
  return powers[exponent];
}

#ifdef LC_SSE2
/* Count of leading ASCII digits of 16 bytes, 0..16. */
static inline unsigned lc_digit_count16(const uint8_t *p) {
  __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
  __m128i values = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
  __m128i are = _mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values);
  return (unsigned)__builtin_ctz((unsigned)_mm_movemask_epi8(are) ^ 0x1ffffu);
}
#endif

/* Read a run of digits, at most 24 of them looked at; *value is their value where *count <= 19.
 * Returns the first byte that is no digit; with *count == 24 the run may go on. */
static inline const uint8_t *lc_digits(const uint8_t *p, uint64_t *value, unsigned *count) {
#ifdef LC_SSE2
  unsigned n = lc_digit_count16(p); /* known before a digit is read, so that no step waits for the one before */
  uint64_t total = 0;
  if (n > 8) {
    total = lc_digits_value(lc_load64(p), n - 8) * 100000000ull + lc_digits_value(lc_load64(p + n - 8), 8);
    if (n == 16) {
      uint64_t word = lc_load64(p + 16);
      unsigned more = lc_digit_count(word);
      if (more > 0) total = total * lc_pow10(more) + lc_digits_value(word, more); /* wraps above 19: *count says so */
      n += more;
    }
  } else if (n > 0) {
    total = lc_digits_value(lc_load64(p), n);
  }
  *value = total;
  *count = n;
  return p + n;
#else
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  uint64_t word = lc_load64(p);
  unsigned n = lc_digit_count(word);
  if (n == 0) {
    *value = 0;
    *count = 0;
    return p;
  }
  uint64_t total = lc_digits_value(word, n);
  unsigned all = n;
  p += n;
  for (int more = 0; n == 8 && more < 2; more++) {
    word = lc_load64(p);
    n = lc_digit_count(word);
    if (n == 0) break;
    total = total * lc_pow10(n) + lc_digits_value(word, n); /* wraps above 19 digits: *count says so */
    all += n;
    p += n;
  }
#else
  uint64_t total = 0;
  unsigned all = 0;
  for (; all < 24 && lc_is_digit(*p); all++)
    total = total * 10 + (uint64_t)(*p++ - '0');
#endif
  *value = total;
  *count = all;
  return p;
#endif
}

/* The first byte that is no digit; reads past `end`, may return past it. */
static inline const uint8_t *lc_digits_end(const uint8_t *p, const uint8_t *end) {
#ifdef LC_SSE2
  for (;;) {
    unsigned n = lc_digit_count16(p);
    p += n;
    if (LC_LIKELY(n < 16) || p >= end) return p;
  }
#else
  uint64_t value;
  unsigned count = 24;
  while (count == 24 && p < end)
    p = lc_digits(p, &value, &count);
  return p;
#endif
}

/* ---- strict walking, inside bounds (scan.c) ---- */

typedef struct lc_json_fault {
  int32_t code;      /* LC_ROW_SYNTAX or LC_ROW_DEPTH */
  const uint8_t *at; /* first byte that cannot go on; `end` where the input is truncated; the bracket for DEPTH */
} lc_json_fault;

/* The end of the JSON value that starts at p, or NULL with *fault set.  `depth` brackets are already open. */
const uint8_t *lc_json_skip(const uint8_t *p, const uint8_t *end, int depth, const lc_kernels *kernels,
                            lc_json_fault *fault);

/* A whole document: one value with whitespace around it.  true: valid. */
bool lc_json_check(const uint8_t *p, const uint8_t *end, const lc_kernels *kernels, lc_json_fault *fault);

/* What unescaping met. */
typedef struct lc_unescaped {
  size_t size;              /* bytes written */
  const uint8_t *surrogate; /* backslash of the first lone surrogate, or NULL; nothing after it is written */
} lc_unescaped;

/* Unescape the inside of a valid JSON string; `out` has room for end - p bytes (the text never grows). */
lc_unescaped lc_json_unescape(const uint8_t *p, const uint8_t *end, uint8_t *out);

#endif
