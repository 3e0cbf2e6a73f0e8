/* Finding delimiters, quotes and line ends 64 bytes at a time, by what the CPU offers. */
#include "delimited_cells.h"

#if defined(__x86_64__) && !defined(LC_NO_SIMD)
#define LC_X86 1
#include <immintrin.h>
#endif

/* Bit 0 of each byte of the word that equals the byte repeated in `pattern`; exact, no borrow between bytes. */
static inline uint64_t equal_bytes(uint64_t word, uint64_t pattern) {
  uint64_t differ = word ^ pattern;
  return (~(((differ & ~LC_HIGHS) + ~LC_HIGHS) | differ | ~LC_HIGHS)) >> 7;
}

static uint64_t marks_scalar(const uint8_t *p, const uint8_t set[4]) {
  uint64_t marks = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  uint64_t a = LC_ONES * set[0], b = LC_ONES * set[1], c = LC_ONES * set[2], d = LC_ONES * set[3];
  for (int i = 0; i < 8; i++) {
    uint64_t word = lc_load64(p + 8 * i);
    uint64_t ones = equal_bytes(word, a) | equal_bytes(word, b) | equal_bytes(word, c) | equal_bytes(word, d);
    marks |= (ones * 0x0102040810204080ull >> 56) << (8 * i); /* gathers bit 0 of each byte into one byte */
  }
#else
  for (int i = 0; i < 64; i++)
    if (p[i] == set[0] || p[i] == set[1] || p[i] == set[2] || p[i] == set[3]) marks |= 1ull << i;
#endif
  return marks;
}

#ifdef LC_X86
__attribute__((target("sse4.2"))) static uint64_t marks_sse(const uint8_t *p, const uint8_t set[4]) {
  __m128i a = _mm_set1_epi8((char)set[0]), b = _mm_set1_epi8((char)set[1]), c = _mm_set1_epi8((char)set[2]),
          d = _mm_set1_epi8((char)set[3]);
  uint64_t marks = 0;
  for (int i = 0; i < 4; i++) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
    __m128i found = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, a), _mm_cmpeq_epi8(bytes, b)),
                                 _mm_or_si128(_mm_cmpeq_epi8(bytes, c), _mm_cmpeq_epi8(bytes, d)));
    marks |= (uint64_t)(uint32_t)_mm_movemask_epi8(found) << (16 * i);
  }
  return marks;
}

__attribute__((target("avx2"))) static uint64_t marks_avx2(const uint8_t *p, const uint8_t set[4]) {
  __m256i a = _mm256_set1_epi8((char)set[0]), b = _mm256_set1_epi8((char)set[1]), c = _mm256_set1_epi8((char)set[2]),
          d = _mm256_set1_epi8((char)set[3]);
  uint64_t marks = 0;
  for (int i = 0; i < 2; i++) {
    __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * i));
    __m256i found = _mm256_or_si256(_mm256_or_si256(_mm256_cmpeq_epi8(bytes, a), _mm256_cmpeq_epi8(bytes, b)),
                                    _mm256_or_si256(_mm256_cmpeq_epi8(bytes, c), _mm256_cmpeq_epi8(bytes, d)));
    marks |= (uint64_t)(uint32_t)_mm256_movemask_epi8(found) << (32 * i);
  }
  return marks;
}
#endif

lc_marks lc_marks_pick(int32_t level) {
  if (level < 0 || level > 3) return NULL;
#ifdef LC_X86
  __builtin_cpu_init();
  if ((level == 0 || level == 3) && __builtin_cpu_supports("avx2")) return marks_avx2;
  if ((level == 0 || level == 2) && __builtin_cpu_supports("sse4.2")) return marks_sse;
#endif
  return level <= 1 ? marks_scalar : NULL;
}

uint64_t lc_marker_tail(const lc_marker *marker, const uint8_t *at) {
  if (at >= marker->end) return 0;
  size_t left = (size_t)(marker->end - at); /* below 64 */
  uint8_t block[64] = {0};
  memcpy(block, at, left);
  return marker->marks(block, marker->set) & ((1ull << left) - 1);
}

static lc_marker line_marker(const uint8_t *p, const uint8_t *end, lc_marks marks) {
  lc_marker marker = {.end = end, .marks = marks, .set = {'\n', '\r', '\n', '\r'}};
  lc_marker_restart(&marker, p);
  return marker;
}

int64_t lc_lines_most(const uint8_t *data, int64_t size, lc_marks marks) {
  if (size == 0) return 1;
  const uint8_t feed[4] = {'\n', '\n', '\n', '\n'}, back[4] = {'\r', '\r', '\r', '\r'};
  int64_t count = 1, i = 0;
  for (; size - i >= 64; i += 64) { /* a CR whose LF stands in the next block counts twice */
    uint64_t feeds = marks(data + i, feed), backs = marks(data + i, back);
    count += __builtin_popcountll(feeds | (backs & ~(feeds >> 1)));
  }
  for (; i < size; i++)
    count += data[i] == '\n' || data[i] == '\r';
  return count;
}

int64_t lc_line_ends(const uint8_t *p, const uint8_t *end) {
  int64_t count = 0;
  for (; p < end; p++)
    count += *p == '\n' || (*p == '\r' && !(p + 1 < end && p[1] == '\n'));
  return count;
}

const uint8_t *lc_line_end(const uint8_t *p, const uint8_t *end, lc_marks marks) {
  if (p >= end) return end;
  lc_marker marker = line_marker(p, end, marks);
  return lc_marker_next(&marker);
}

void lc_line_skip(const uint8_t **p, const uint8_t *end, bool final, lc_marks marks, lc_text_state *state) {
  const uint8_t *stop = lc_line_end(*p, end, marks);
  *p = stop;
  if (stop == end) {
    if (final) state->skipping = 0;
    return;
  }
  if (*stop == '\r') {
    if (stop + 1 == end && !final) return; /* whether LF follows is not known yet */
    if (stop + 1 < end && stop[1] == '\n') stop++;
  }
  *p = stop + 1;
  state->skipping = 0;
  state->line++;
}
