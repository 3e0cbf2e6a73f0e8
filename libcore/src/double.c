/* Text to double or float, correctly rounded: exact in 128 bits for everyday numbers, else in long arithmetic. */
#include <float.h>
#include <math.h>

#include "number.h"
#include "scan.h"

typedef unsigned __int128 u128;

/* A binary format: bits of its mantissa, exponents of its least and greatest normal numbers. */
typedef struct format {
  int bits, least, most;
} format;

static const format DOUBLE = {53, -1022, 1023}, SINGLE = {24, -126, 127};

enum {
  DIGITS_MAX = 800,
  LIMBS = 192
}; /* halfway points have at most 767 digits; 192 * 32 bits hold 10^1125 shifted by 66 */

static double from_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, 8);
  return value;
}

/* The number of that format nearest to (quotient + a fraction where sticky) * 2^exponent; quotient > 0. */
static double round_pack(format to, u128 quotient, bool sticky, int exponent) {
  uint64_t high = (uint64_t)(quotient >> 64);
  if (high != 0) {
    int shift = 64 - __builtin_clzll(high);
    sticky = sticky || (quotient & (((u128)1 << shift) - 1)) != 0;
    quotient >>= shift;
    exponent += shift;
  }
  uint64_t top = (uint64_t)quotient;
  int zeros = __builtin_clzll(top);
  top <<= zeros;
  exponent += 63 - zeros; /* now the value is top / 2^63 * 2^exponent */
  if (exponent > to.most) return HUGE_VAL;
  int drop = 64 - to.bits + (exponent < to.least ? to.least - exponent : 0);
  if (drop > 64) return 0.0; /* below half of the smallest */
  uint64_t kept = drop == 64 ? 0 : top >> drop;
  uint64_t rest = drop == 64 ? top : top & ((1ull << drop) - 1), half = 1ull << (drop - 1);
  if (rest > half || (rest == half && (sticky || (kept & 1)))) kept++;
  if (to.bits < 53) { /* what is kept is exact in a double */
    int unit = (exponent < to.least ? to.least : exponent) - to.bits + 1;
    return (double)kept * from_bits((uint64_t)(unit + 1023) << 52); /* past the last exponent: above all floats */
  }
  /* a carry out of the 52 bits raises the exponent field, which is what it means; past the last exponent it is infinity
   */
  return from_bits(exponent < to.least ? kept : ((uint64_t)(exponent - to.least) << 52) + kept);
}

static uint64_t pow5(int exponent) { /* 0..27: below 2^63 */
  uint64_t power = 1;
  while (exponent-- > 0)
    power *= 5;
  return power;
}

static double from_small(format to, uint64_t mantissa, int exponent) { /* -27..27, mantissa > 0 */
#if FLT_EVAL_METHOD == 0
  if (to.bits == 53 && mantissa <= 1ull << 53 && exponent >= -22 && exponent <= 22) {
    /* both factors are exact doubles, so one rounding is made (Clinger 1990) */
    static const double powers[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    return exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
  }
#endif
  if (exponent >= 0) return round_pack(to, (u128)mantissa * pow5(exponent), false, exponent);
  int zeros = __builtin_clzll(mantissa);
  u128 numerator = (u128)(mantissa << zeros) << 64;
  uint64_t divisor = pow5(-exponent);
  return round_pack(to, numerator / divisor, numerator % divisor != 0, exponent - 64 - zeros);
}

typedef struct big {
  int size; /* limbs in use; the top one is not 0 */
  uint32_t limbs[LIMBS];
} big;

static void big_mul_add(big *value, uint32_t factor, uint32_t addend) {
  uint64_t carry = addend;
  for (int i = 0; i < value->size; i++) {
    carry += (uint64_t)value->limbs[i] * factor;
    value->limbs[i] = (uint32_t)carry;
    carry >>= 32;
  }
  if (carry != 0) value->limbs[value->size++] = (uint32_t)carry;
}

static void big_mul_pow10(big *value, int exponent) {
  for (; exponent >= 9; exponent -= 9)
    big_mul_add(value, 1000000000u, 0);
  for (; exponent > 0; exponent--)
    big_mul_add(value, 10, 0);
}

static int big_bits(const big *value) { return value->size * 32 - __builtin_clz(value->limbs[value->size - 1]); }

static void big_shift_left(big *value, int bits) {
  int whole = bits / 32, part = bits % 32;
  memset(value->limbs + value->size, 0, (size_t)(whole + 1) * 4);
  for (int i = value->size; i >= 0; i--) {
    uint64_t two = ((uint64_t)(i < value->size ? value->limbs[i] : 0) << 32) | (i > 0 ? value->limbs[i - 1] : 0);
    value->limbs[i + whole] = (uint32_t)(two >> (32 - part));
  }
  memset(value->limbs, 0, (size_t)whole * 4);
  value->size += whole + 1;
  while (value->limbs[value->size - 1] == 0)
    value->size--;
}

static void big_halve(big *value) {
  for (int i = 0; i < value->size; i++)
    value->limbs[i] = value->limbs[i] >> 1 | (i + 1 < value->size ? value->limbs[i + 1] << 31 : 0);
  if (value->limbs[value->size - 1] == 0) value->size--;
}

static bool big_take(big *value, const big *other) { /* value -= other where it stays >= 0 */
  if (value->size < other->size) return false;
  if (value->size == other->size)
    for (int i = value->size - 1; i >= 0 && value->limbs[i] <= other->limbs[i]; i--)
      if (value->limbs[i] < other->limbs[i]) return false;
  int64_t borrow = 0;
  for (int i = 0; i < value->size; i++) {
    borrow += (int64_t)value->limbs[i] - (i < other->size ? other->limbs[i] : 0);
    value->limbs[i] = (uint32_t)borrow;
    borrow >>= 32;
  }
  while (value->size > 0 && value->limbs[value->size - 1] == 0)
    value->size--;
  return true;
}

/* digits[0] is not '0'; the value is 0.d1d2d3... * 10^point with -325 <= point - 1 <= 308. */
static double from_digits(format to, const uint8_t *digits, int count, bool more, int point) {
  big number = {.size = 1, .limbs = {(uint32_t)(digits[0] - '0')}}, divisor = {.size = 1, .limbs = {1}};
  for (int i = 1; i < count; i++)
    big_mul_add(&number, 10, (uint32_t)(digits[i] - '0'));
  int exponent = point - count;
  if (more) { /* dropped digits only matter as "a bit more": a last digit 1 says that */
    big_mul_add(&number, 10, 1);
    exponent--;
  }
  big_mul_pow10(exponent < 0 ? &divisor : &number, exponent < 0 ? -exponent : exponent);
  int shift = 66 - (big_bits(&number) - big_bits(&divisor)); /* then the quotient has 66 or 67 bits */
  if (shift > 0)
    big_shift_left(&number, shift);
  else if (shift < 0)
    big_shift_left(&divisor, -shift);
  big_shift_left(&divisor, 66);
  u128 quotient = 0;
  for (int i = 0; i <= 66; i++) {
    quotient = quotient << 1 | (number.size > 0 && big_take(&number, &divisor));
    big_halve(&divisor);
  }
  return round_pack(to, quotient, number.size > 0, -shift);
}

static inline double from_text(format to, const uint8_t *p, const uint8_t *end) {
  bool negative = p < end && *p == '-', point_seen = false, more = false;
  if (negative) p++;
  uint8_t digits[DIGITS_MAX];
  uint64_t mantissa = 0;
  int count = 0;
  int64_t point = 0, exponent = 0; /* digits before the point, without leading zeros */
  for (; p < end && (lc_is_digit(*p) || *p == '.'); p++) {
    if (*p == '.') {
      point_seen = true;
      continue;
    }
    if (count == 0 && *p == '0') {
      if (point_seen) point--;
      continue;
    }
    if (!point_seen) point++;
    if (count < 19) mantissa = mantissa * 10 + (uint64_t)(*p - '0');
    if (count < DIGITS_MAX)
      digits[count++] = *p;
    else
      more = more || *p != '0';
  }
  if (p < end) { /* e or E */
    p++;
    bool down = *p == '-';
    if (*p == '-' || *p == '+') p++;
    for (; p < end; p++)
      if (exponent < 1ll << 40) exponent = exponent * 10 + (*p - '0');
    if (down) exponent = -exponent;
  }
  point += exponent; /* both are below 2^44 */
  double value = 0.0;
  if (count > 0 && point > 309) value = HUGE_VAL;
  if (count > 0 && point <= 309 && point >= -324) {
    int64_t small = point - count;
    value = count <= 19 && small >= -27 && small <= 27 ? from_small(to, mantissa, (int)small)
                                                       : from_digits(to, digits, count, more, (int)point);
  }
  return negative ? -value : value;
}

double lc_double_from_text(const uint8_t *p, const uint8_t *end) { return from_text(DOUBLE, p, end); }

/* Whether a double lies midway between two floats: there alone rounding a text to it has forgotten on which side. */
static bool is_midway(double value) {
  double size = fabs(value), units = size * 0x1p149; /* of the least float, for those below the normal ones */
  if (size < 0x1p-126) return units - (double)(int64_t)units == 0.5;
  uint64_t bits;
  memcpy(&bits, &size, 8);
  return (bits & 0x1FFFFFFF) == 0x10000000;
}

float lc_float_of_text(double value, const uint8_t *p, const uint8_t *end) {
  return (float)(LC_UNLIKELY(is_midway(value)) ? from_text(SINGLE, p, end) : value);
}
