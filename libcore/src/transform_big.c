/* Schoolbook arithmetic on words of 64 bits; division by Knuth's algorithm D (Art of Computer Programming, 4.3.1). */
#include "transform_big.h"

typedef unsigned __int128 u128;

static void settle(lc_big *number, int32_t used) {
  while (used > 0 && number->words[used - 1] == 0)
    used--;
  number->used = used;
}

void lc_big_set(lc_big *to, const uint64_t *words, int32_t count) {
  memcpy(to->words, words, (size_t)count * 8);
  settle(to, count);
}

void lc_big_power_of_ten(lc_big *to, int32_t exponent) {
  to->used = 1;
  to->words[0] = 1;
  for (; exponent > 0; exponent--) {
    u128 carry = 0;
    for (int32_t i = 0; i < to->used; i++) {
      carry += (u128)to->words[i] * 10;
      to->words[i] = (uint64_t)carry;
      carry >>= 64;
    }
    if (carry != 0) to->words[to->used++] = (uint64_t)carry;
  }
}

void lc_big_multiply(const lc_big *a, const lc_big *b, lc_big *to) {
  int32_t count = a->used + b->used;
  memset(to->words, 0, (size_t)count * 8);
  for (int32_t i = 0; i < a->used; i++) {
    u128 carry = 0;
    for (int32_t j = 0; j < b->used; j++) {
      carry += (u128)a->words[i] * b->words[j] + to->words[i + j];
      to->words[i + j] = (uint64_t)carry;
      carry >>= 64;
    }
    to->words[i + b->used] = (uint64_t)carry;
  }
  settle(to, count);
}

void lc_big_add(const lc_big *a, const lc_big *b, lc_big *to) {
  const lc_big *more = a->used >= b->used ? a : b, *less = more == a ? b : a;
  u128 carry = 0;
  for (int32_t i = 0; i < more->used; i++) {
    carry += (u128)more->words[i] + (i < less->used ? less->words[i] : 0);
    to->words[i] = (uint64_t)carry;
    carry >>= 64;
  }
  to->used = more->used;
  if (carry != 0) to->words[to->used++] = (uint64_t)carry;
}

void lc_big_subtract(const lc_big *a, const lc_big *b, lc_big *to) {
  uint64_t borrow = 0;
  for (int32_t i = 0; i < a->used; i++) {
    uint64_t take = i < b->used ? b->words[i] : 0, rest = a->words[i] - take;
    uint64_t below = a->words[i] < take || rest < borrow;
    to->words[i] = rest - borrow;
    borrow = below;
  }
  settle(to, a->used);
}

int lc_big_compare(const lc_big *a, const lc_big *b) {
  if (a->used != b->used) return a->used < b->used ? -1 : 1;
  for (int32_t i = a->used - 1; i >= 0; i--)
    if (a->words[i] != b->words[i]) return a->words[i] < b->words[i] ? -1 : 1;
  return 0;
}

static void compare_rest(const lc_big *rest, const lc_big *divisor, int *half, bool *exact) {
  lc_big left;
  lc_big_subtract(divisor, rest, &left); /* the rest is below the divisor */
  *half = lc_big_compare(rest, &left);
  *exact = rest->used == 0;
}

static void divide_by_word(const lc_big *a, uint64_t b, lc_big *quotient, lc_big *rest) {
  u128 left = 0;
  for (int32_t i = a->used - 1; i >= 0; i--) {
    left = left << 64 | a->words[i];
    quotient->words[i] = (uint64_t)(left / b);
    left %= b;
  }
  settle(quotient, a->used);
  rest->words[0] = (uint64_t)left;
  settle(rest, 1);
}

static void shift_left(const uint64_t *from, int32_t count, int bits, uint64_t *to) {
  uint64_t carry = 0;
  for (int32_t i = 0; i < count; i++) {
    to[i] = bits == 0 ? from[i] : from[i] << bits | carry;
    carry = bits == 0 ? 0 : from[i] >> (64 - bits);
  }
  to[count] = carry;
}

/* u[0..n] -= digit * v[0..n-1]; whether it went below 0. */
static bool multiply_subtract(uint64_t *u, const uint64_t *v, int32_t n, uint64_t digit) {
  uint64_t carry = 0, borrow = 0;
  for (int32_t i = 0; i <= n; i++) {
    u128 product = (u128)digit * (i < n ? v[i] : 0) + carry;
    carry = (uint64_t)(product >> 64);
    uint64_t take = (uint64_t)product, rest = u[i] - take, below = u[i] < take || rest < borrow;
    u[i] = rest - borrow;
    borrow = below;
  }
  return borrow != 0;
}

static void add_back(uint64_t *u, const uint64_t *v, int32_t n) {
  u128 carry = 0;
  for (int32_t i = 0; i < n; i++) {
    carry += (u128)u[i] + v[i];
    u[i] = (uint64_t)carry;
    carry >>= 64;
  }
  u[n] += (uint64_t)carry;
}

void lc_big_divide(const lc_big *a, const lc_big *b, lc_big *quotient, int *half, bool *exact) {
  lc_big rest;
  if (lc_big_compare(a, b) < 0) {
    quotient->used = 0;
    compare_rest(a, b, half, exact);
    return;
  }
  if (b->used == 1) {
    divide_by_word(a, b->words[0], quotient, &rest);
    compare_rest(&rest, b, half, exact);
    return;
  }
  int32_t n = b->used, m = a->used - n;
  int bits = __builtin_clzll(b->words[n - 1]);
  uint64_t u[BIG_WORDS + 1], v[BIG_WORDS + 1];
  shift_left(a->words, a->used, bits, u);
  shift_left(b->words, n, bits, v);
  for (int32_t j = m; j >= 0; j--) {
    u128 top = (u128)u[j + n] << 64 | u[j + n - 1], digit = top / v[n - 1], left = top % v[n - 1];
    while (digit >> 64 != 0 || (u128)(uint64_t)digit * v[n - 2] > (left << 64 | u[j + n - 2])) {
      digit--;
      left += v[n - 1];
      if (left >> 64 != 0) break;
    }
    if (multiply_subtract(u + j, v, n, (uint64_t)digit)) {
      digit--;
      add_back(u + j, v, n);
    }
    quotient->words[j] = (uint64_t)digit;
  }
  settle(quotient, m + 1);
  lc_big divisor;
  lc_big_set(&divisor, v, n); /* rest and divisor are both shifted, so they compare as they were */
  lc_big_set(&rest, u, n);
  compare_rest(&rest, &divisor, half, exact);
}
