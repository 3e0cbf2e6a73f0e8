/* Base64, strict: the standard alphabet, padded, nothing else. */
#include "number.h"

static int sextet(uint8_t c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int64_t lc_base64_decode(const uint8_t *p, size_t size, uint8_t *out) {
  if (size % 4 != 0) return -1;
  if (size == 0) return 0;
  uint8_t *start = out;
  int bad = 0;
  for (size_t i = 0; i + 4 < size; i += 4) { /* all groups but the last one, which may be padded */
    int a = sextet(p[i]), b = sextet(p[i + 1]), c = sextet(p[i + 2]), d = sextet(p[i + 3]);
    bad |= a | b | c | d; /* negative as soon as one is */
    uint32_t bits = ((uint32_t)a << 18) | ((uint32_t)b << 12) | ((uint32_t)c << 6) | (uint32_t)d;
    out[0] = (uint8_t)(bits >> 16);
    out[1] = (uint8_t)(bits >> 8);
    out[2] = (uint8_t)bits;
    out += 3;
  }
  const uint8_t *last = p + size - 4;
  int pads = last[3] != '=' ? 0 : last[2] != '=' ? 1 : 2;
  int a = sextet(last[0]), b = sextet(last[1]), c = pads == 2 ? 0 : sextet(last[2]), d = pads > 0 ? 0 : sextet(last[3]);
  if ((bad | a | b | c | d) < 0) return -1;
  uint32_t bits = ((uint32_t)a << 18) | ((uint32_t)b << 12) | ((uint32_t)c << 6) | (uint32_t)d;
  if ((pads == 1 && (bits & 0xFF)) || (pads == 2 && (bits & 0xFFFF))) return -1; /* bits that no encoder writes */
  *out++ = (uint8_t)(bits >> 16);
  if (pads < 2) *out++ = (uint8_t)(bits >> 8);
  if (pads < 1) *out++ = (uint8_t)bits;
  return out - start;
}
