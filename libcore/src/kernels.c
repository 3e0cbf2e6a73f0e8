/* The vector functions and their choice: UTF-8 validation and the search for a string's end, by what the CPU offers. */
#include "scan.h"

#if defined(__x86_64__) && !defined(LC_NO_SIMD)
#define LC_X86 1
#include <immintrin.h>
#endif

/* One sequence at data[i]: its length, or 0 where it is malformed (Unicode 3.9, table 3-7). */
static size_t sequence_length(const uint8_t *data, size_t left) {
  uint8_t c = data[0];
  if (c < 0x80) return 1;
  if (c < 0xC2 || c > 0xF4) return 0;
  size_t length = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
  if (left < length) return 0;
  uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
  if (data[1] < low || data[1] > high) return 0;
  for (size_t k = 2; k < length; k++)
    if ((data[k] & 0xC0) != 0x80) return 0;
  return length;
}

static int64_t utf8_fault_from(const uint8_t *data, size_t size, size_t i) {
  while (i < size) {
    if (size - i >= 8 && (lc_load64(data + i) & LC_HIGHS) == 0) {
      i += 8;
      continue;
    }
    size_t length = sequence_length(data + i, size - i);
    if (length == 0) return (int64_t)i;
    i += length;
  }
  return -1;
}

static int64_t utf8_fault_scalar(const uint8_t *data, size_t size) { return utf8_fault_from(data, size, 0); }

static const uint8_t *string_end_scalar(const uint8_t *p, const uint8_t *end) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  for (; end - p >= 8; p += 8) {
    uint64_t marks = lc_string_marks(lc_load64(p));
    if (marks != 0) return p + (__builtin_ctzll(marks) >> 3);
  }
#endif
  while (p < end && *p != '"' && *p != '\\' && *p >= 0x20)
    p++;
  return p;
}

static const lc_kernels scalar = {utf8_fault_scalar, string_end_scalar};

#ifdef LC_X86
/* Validation by three table lookups over nibbles, after Keiser and Lemire, "Validating UTF-8 In Less Than One
 * Instruction Per Byte" (2020): each bit is a class of error that the two nibbles of the byte before and the high
 * nibble of this byte must agree on. */
enum {
  TOO_SHORT = 1 << 0,
  TOO_LONG = 1 << 1,
  OVERLONG_3 = 1 << 2,
  TOO_LARGE = 1 << 3,
  SURROGATE = 1 << 4,
  OVERLONG_2 = 1 << 5,
  TOO_LARGE_1000 = 1 << 6,
  OVERLONG_4 = 1 << 6,
  TWO_CONTS = 1 << 7,
  CARRY = TOO_SHORT | TOO_LONG | TWO_CONTS
};
#define T(...) {__VA_ARGS__}
static const uint8_t BYTE_1_HIGH[16] =
    T(TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TWO_CONTS, TWO_CONTS, TWO_CONTS,
      TWO_CONTS, TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,
      TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4);
static const uint8_t BYTE_1_LOW[16] =
    T(CARRY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4, CARRY | OVERLONG_2, CARRY, CARRY, CARRY | TOO_LARGE,
      CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
      CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
      CARRY | TOO_LARGE | TOO_LARGE_1000, CARRY | TOO_LARGE | TOO_LARGE_1000,
      CARRY | TOO_LARGE | TOO_LARGE_1000 | SURROGATE, CARRY | TOO_LARGE | TOO_LARGE_1000,
      CARRY | TOO_LARGE | TOO_LARGE_1000);
static const uint8_t BYTE_2_HIGH[16] =
    T(TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
      TOO_LONG | OVERLONG_2 | TWO_CONTS | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4,
      TOO_LONG | OVERLONG_2 | TWO_CONTS | OVERLONG_3 | TOO_LARGE,
      TOO_LONG | OVERLONG_2 | TWO_CONTS | SURROGATE | TOO_LARGE,
      TOO_LONG | OVERLONG_2 | TWO_CONTS | SURROGATE | TOO_LARGE, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT);

#define SSE __attribute__((target("sse4.2")))
SSE static inline __m128i utf8_errors_16(__m128i bytes, __m128i before) {
  __m128i nibble = _mm_set1_epi8(0x0F), prev1 = _mm_alignr_epi8(bytes, before, 15);
  __m128i high1 =
      _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)BYTE_1_HIGH), _mm_and_si128(_mm_srli_epi16(prev1, 4), nibble));
  __m128i low1 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)BYTE_1_LOW), _mm_and_si128(prev1, nibble));
  __m128i high2 =
      _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)BYTE_2_HIGH), _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
  __m128i special = _mm_and_si128(_mm_and_si128(high1, low1), high2);
  __m128i third = _mm_subs_epu8(_mm_alignr_epi8(bytes, before, 14), _mm_set1_epi8((char)(0xE0 - 0x80)));
  __m128i fourth = _mm_subs_epu8(_mm_alignr_epi8(bytes, before, 13), _mm_set1_epi8((char)(0xF0 - 0x80)));
  __m128i must_continue = _mm_and_si128(_mm_or_si128(third, fourth), _mm_set1_epi8((char)0x80));
  return _mm_xor_si128(must_continue, special);
}

SSE static int64_t utf8_fault_sse(const uint8_t *data, size_t size) {
  __m128i before = _mm_setzero_si128(), errors = _mm_setzero_si128();
  bool open = false; /* the block before was not pure ASCII, so a sequence may reach into this one */
  size_t i = 0;
  for (; size - i >= 16; i += 16) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + i));
    bool ascii = _mm_movemask_epi8(bytes) == 0;
    if (!ascii || open) errors = _mm_or_si128(errors, utf8_errors_16(bytes, before));
    open = !ascii;
    before = bytes;
  }
  if (!open && size >= 16) { /* the last 16 bytes, some of them a second time: ASCII needs no table */
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + size - 16));
    if (_mm_movemask_epi8(bytes) == 0) return _mm_testz_si128(errors, errors) ? -1 : utf8_fault_from(data, size, 0);
  }
  uint8_t tail[16] = {0};
  memcpy(tail, data + i, size - i); /* zeros behind the end show a truncated sequence: at least one always follows */
  errors = _mm_or_si128(errors, utf8_errors_16(_mm_loadu_si128((const __m128i *)(const void *)tail), before));
  return _mm_testz_si128(errors, errors) ? -1 : utf8_fault_from(data, size, 0);
}

SSE static const uint8_t *string_end_sse(const uint8_t *p, const uint8_t *end) {
  for (; end - p >= 16; p += 16) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    int marks = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), control));
    if (marks != 0) return p + __builtin_ctz((unsigned)marks);
  }
  return string_end_scalar(p, end);
}

#define AVX __attribute__((target("avx2,bmi")))
AVX static inline __m256i table(const uint8_t *bytes) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)bytes));
}

AVX static inline __m256i utf8_errors_32(__m256i bytes, __m256i before) {
  __m256i nibble = _mm256_set1_epi8(0x0F), joint = _mm256_permute2x128_si256(before, bytes, 0x21);
  __m256i prev1 = _mm256_alignr_epi8(bytes, joint, 15);
  __m256i high1 = _mm256_shuffle_epi8(table(BYTE_1_HIGH), _mm256_and_si256(_mm256_srli_epi16(prev1, 4), nibble));
  __m256i low1 = _mm256_shuffle_epi8(table(BYTE_1_LOW), _mm256_and_si256(prev1, nibble));
  __m256i high2 = _mm256_shuffle_epi8(table(BYTE_2_HIGH), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
  __m256i special = _mm256_and_si256(_mm256_and_si256(high1, low1), high2);
  __m256i third = _mm256_subs_epu8(_mm256_alignr_epi8(bytes, joint, 14), _mm256_set1_epi8((char)(0xE0 - 0x80)));
  __m256i fourth = _mm256_subs_epu8(_mm256_alignr_epi8(bytes, joint, 13), _mm256_set1_epi8((char)(0xF0 - 0x80)));
  __m256i must_continue = _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8((char)0x80));
  return _mm256_xor_si256(must_continue, special);
}

AVX static int64_t utf8_fault_avx2(const uint8_t *data, size_t size) {
  __m256i before = _mm256_setzero_si256(), errors = _mm256_setzero_si256();
  bool open = false;
  size_t i = 0;
  for (; size - i >= 128; i += 128) { /* messages are ASCII for the most part */
    const __m256i *block = (const __m256i *)(const void *)(data + i);
    __m256i last = _mm256_loadu_si256(block + 3);
    __m256i all = _mm256_or_si256(_mm256_or_si256(_mm256_loadu_si256(block), _mm256_loadu_si256(block + 1)),
                                  _mm256_or_si256(_mm256_loadu_si256(block + 2), last));
    if (_mm256_movemask_epi8(all) != 0) break;
  }
  for (; size - i >= 32; i += 32) {
    __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(data + i));
    bool ascii = _mm256_movemask_epi8(bytes) == 0;
    if (!ascii || open) errors = _mm256_or_si256(errors, utf8_errors_32(bytes, before));
    open = !ascii;
    before = bytes;
  }
  if (!open && size >= 32) { /* the last 32 bytes, some of them a second time: ASCII needs no table */
    __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(data + size - 32));
    if (_mm256_movemask_epi8(bytes) == 0)
      return _mm256_testz_si256(errors, errors) ? -1 : utf8_fault_from(data, size, 0);
  }
  uint8_t tail[32] = {0};
  memcpy(tail, data + i, size - i);
  errors = _mm256_or_si256(errors, utf8_errors_32(_mm256_loadu_si256((const __m256i *)(const void *)tail), before));
  return _mm256_testz_si256(errors, errors) ? -1 : utf8_fault_from(data, size, 0);
}

AVX static const uint8_t *string_end_avx2(const uint8_t *p, const uint8_t *end) {
  for (; end - p >= 32; p += 32) {
    __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i quote = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('"')),
            slash = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('\\'));
    __m256i control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
    unsigned marks = (unsigned)_mm256_movemask_epi8(_mm256_or_si256(_mm256_or_si256(quote, slash), control));
    if (marks != 0) return p + __builtin_ctz(marks);
  }
  return string_end_scalar(p, end);
}

static const lc_kernels sse = {utf8_fault_sse, string_end_sse}, avx2 = {utf8_fault_avx2, string_end_avx2};
#endif

const lc_kernels *lc_kernels_pick(int32_t level) {
  if (level < 0 || level > 3) return NULL;
#ifdef LC_X86
  __builtin_cpu_init();
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi"),
       has_sse = __builtin_cpu_supports("sse4.2");
  if ((level == 0 || level == 3) && has_avx2) return &avx2;
  if ((level == 0 || level == 2) && has_sse) return &sse;
#endif
  return level <= 1 ? &scalar : NULL;
}
