/* How Debezium writes an array whose value was not sent, in the forms of its elements. */
#include <stdio.h>

#include "envelope_shared.h"

static uint32_t rotated(uint32_t word, unsigned bits) { return word << bits | word >> (32 - bits); }

/* One block of 64 bytes into the state (RFC 1321). */
static void md5_block(uint32_t state[4], const uint8_t *block) {
  static const uint32_t sines[64] = {
      0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
      0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
      0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
      0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
      0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
      0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
      0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
      0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
  };
  static const uint8_t turns[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  for (unsigned i = 0; i < 64; i++) {
    unsigned round = i / 16, word = (round == 0 ? i : round == 1 ? 5 * i + 1 : round == 2 ? 3 * i + 5 : 7 * i) % 16;
    uint32_t mixed = round == 0   ? (b & c) | (~b & d)
                     : round == 1 ? (d & b) | (~d & c)
                     : round == 2 ? b ^ c ^ d
                                  : c ^ (b | ~d);
    const uint8_t *p = block + 4 * word;
    mixed += a + sines[i] + ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
    a = d;
    d = c;
    c = b;
    b += rotated(mixed, turns[round][i % 4]);
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
}

static void md5(const uint8_t *data, size_t size, uint8_t out[16]) {
  uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  uint8_t tail[128] = {0};
  size_t whole = size / 64 * 64, rest = size - whole, all = rest < 56 ? 64 : 128;
  for (size_t i = 0; i < whole; i += 64)
    md5_block(state, data + i);
  memcpy(tail, data + whole, rest);
  tail[rest] = 0x80;
  for (unsigned i = 0; i < 8; i++)
    tail[all - 8 + i] = (uint8_t)((uint64_t)size * 8 >> (8 * i));
  for (size_t i = 0; i < all; i += 64)
    md5_block(state, tail + i);
  for (unsigned i = 0; i < 16; i++)
    out[i] = (uint8_t)(state[i / 4] >> (8 * (i % 4)));
}

static bool is_hex(const uint8_t *text, const uint8_t *bytes, size_t size) {
  static const char hex[] = "0123456789abcdef";
  for (size_t i = 0; i < size; i++)
    if (text[2 * i] != (uint8_t)hex[bytes[i] >> 4] || text[2 * i + 1] != (uint8_t)hex[bytes[i] & 15]) return false;
  return true;
}

/* Whether 36 characters are the placeholder's UUID: that of its name, of version 3 (RFC 4122). */
static bool is_uuid(const lc_decoder *d, const uint8_t *text) {
  static const uint8_t sizes[5] = {4, 2, 2, 2, 6};
  uint8_t bytes[16], *at = bytes;
  if (text[14] != '3') return false; /* nearly every array of one text ends here */
  md5(d->plan->placeholder, (size_t)d->plan->placeholder_size, bytes);
  bytes[6] = (bytes[6] & 0x0f) | 0x30;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  for (unsigned part = 0; part < 5; at += sizes[part++]) {
    if (!is_hex(text, at, sizes[part])) return false;
    text += 2 * sizes[part];
    if (part < 4 && *text++ != '-') return false;
  }
  return true;
}

/* A byte of the placeholder as an element: of decimals the integer at the scale of the wire; 0: it is none. */
static int number_text(const lc_wire_column *item, unsigned byte, char out[256]) {
  if (item->encoding == LC_ENCODING_FLOAT) return snprintf(out, 256, "%u.0", byte);
  if (item->encoding == LC_ENCODING_NUMERIC_STRUCT || item->encoding == LC_ENCODING_NUMERIC_TEXT)
    return snprintf(out, 256, "%u", byte);
  int scale = item->scale, zeros = item->encoding == LC_ENCODING_DECIMAL_BASE64 ? scale - item->wire_scale : 0;
  if (zeros < 0 || zeros > 76) return 0;
  char digits[256];
  int count = snprintf(digits, sizeof digits, "%0*u%0*d", scale + 1 > zeros ? scale + 1 - zeros : 1, byte, zeros, 0);
  if (zeros == 0) count--; /* "%00d" has one digit */
  return scale == 0 ? snprintf(out, 256, "%.*s", count, digits)
                    : snprintf(out, 256, "%.*s.%.*s", count - scale, digits, scale, digits + count - scale);
}

static bool is_list(const lc_decoder *d, const lc_wire_column *item) {
  const uint8_t *p = d->literal.data + 1, *end = d->literal.data + d->literal.size;
  char text[256];
  for (int64_t i = 0; i < d->plan->placeholder_size; i++) {
    int size = number_text(item, d->plan->placeholder[i], text);
    if (size <= 0 || end - p <= size || memcmp(p, text, (size_t)size) != 0) return false;
    p += size;
    if (*p++ != (i + 1 < d->plan->placeholder_size ? ',' : '}')) return false;
  }
  return p == end;
}

bool lc_literal_unsent(const lc_decoder *d, const lc_wire_column *item) {
  size_t size = d->literal.size, wanted = (size_t)d->plan->placeholder_size;
  switch (item->encoding) {
    case LC_ENCODING_STRING: return size == 40 && is_uuid(d, d->literal.data + 2);
    case LC_ENCODING_BASE64:
      return size == 2 * wanted + 7 && is_hex(d->literal.data + 5, d->plan->placeholder, wanted);
    case LC_ENCODING_FLOAT:
    case LC_ENCODING_NUMERIC_STRUCT:
    case LC_ENCODING_NUMERIC_TEXT:
    case LC_ENCODING_DECIMAL_TEXT:
    case LC_ENCODING_DECIMAL_BASE64: return is_list(d, item);
    default: return false;
  }
}
