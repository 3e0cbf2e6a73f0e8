/* Numeric digits: a fast way for what fits 64 bits, which is nearly all money, and a general one. */
#include "pgnumeric.h"

#include "libcore/pgcopy.h"
#include "view.h"

#define SIGN_POSITIVE 0x0000
#define SIGN_NEGATIVE 0x4000
#define SIGN_NAN 0xC000
#define SIGN_INFINITY 0xD000
#define SIGN_MINUS_INFINITY 0xF000
#define DSCALE_MAX 0x3FFF         /* numeric_recv refuses more */
#define INTEGER_DIGITS_MAX 131072 /* before the point, by PostgreSQL's manual */
#define GROUPS_MAX 24             /* 80 digits of a scaled decimal256 are 20 groups; chunks come in fours */

static const uint64_t POWERS[4] = {1, 10, 100, 1000};

static uint8_t *put_head(uint8_t *at, int64_t groups, int64_t weight, int sign, int64_t dscale) {
  at = lc_put_u32(at, (uint32_t)(8 + 2 * groups));
  at = lc_put_u16(at, (uint16_t)groups);
  at = lc_put_u16(at, (uint16_t)(int16_t)weight);
  at = lc_put_u16(at, (uint16_t)sign);
  return lc_put_u16(at, (uint16_t)dscale);
}

/* Groups come lowest first; zero groups at both ends are left out, as numeric_send does. */
static uint8_t *put_groups(uint8_t *at, const uint16_t *groups, int count, int fraction_groups, bool negative,
                           int32_t scale) {
  while (count > 0 && groups[count - 1] == 0)
    count--;
  int low = 0;
  while (low < count && groups[low] == 0)
    low++;
  if (count == low) return put_head(at, 0, 0, SIGN_POSITIVE, scale);
  at = put_head(at, count - low, count - 1 - fraction_groups, negative ? SIGN_NEGATIVE : SIGN_POSITIVE, scale);
  for (int i = count - 1; i >= low; i--)
    at = lc_put_u16(at, groups[i]);
  return at;
}

/* limbs = limbs * factor + 0, five limbs. */
static void multiply(uint64_t limbs[5], uint64_t factor) {
  unsigned __int128 carry = 0;
  for (int i = 0; i < 5; i++) {
    carry += (unsigned __int128)limbs[i] * factor;
    limbs[i] = (uint64_t)carry;
    carry >>= 64;
  }
}

static int wide_groups(const uint64_t magnitude[4], uint64_t factor, uint16_t *groups) {
  uint64_t limbs[5] = {magnitude[0], magnitude[1], magnitude[2], magnitude[3], 0};
  multiply(limbs, factor);
  int used = 5, count = 0;
  while (used > 0 && limbs[used - 1] == 0)
    used--;
  while (used > 0) {
    unsigned __int128 rest = 0;
    for (int i = used - 1; i >= 0; i--) { /* four groups at a time: 10^16 fits one limb */
      rest = rest << 64 | limbs[i];
      limbs[i] = (uint64_t)(rest / 10000000000000000ULL);
      rest %= 10000000000000000ULL;
    }
    uint64_t chunk = (uint64_t)rest;
    for (int i = 0; i < 4; i++, chunk /= 10000)
      groups[count++] = (uint16_t)(chunk % 10000);
    while (used > 0 && limbs[used - 1] == 0)
      used--;
  }
  return count;
}

uint8_t *lc_put_decimal(uint8_t *at, const uint8_t *value, int32_t width, int32_t scale) {
  uint64_t limbs[4];
  uint16_t groups[GROUPS_MAX];
  bool negative = lc_load_decimal(value, width, limbs);
  int pad = (4 - scale % 4) % 4; /* digits to append, so that the point stands between two groups */
  int count = 0;
  if ((limbs[1] | limbs[2] | limbs[3]) == 0 && limbs[0] < UINT64_MAX / 1000) {
    for (uint64_t rest = limbs[0] * POWERS[pad]; rest > 0; rest /= 10000)
      groups[count++] = (uint16_t)(rest % 10000);
  } else {
    count = wide_groups(limbs, POWERS[pad], groups);
  }
  return put_groups(at, groups, count, (scale + pad) / 4, negative, scale);
}

static bool is_word(const uint8_t *text, int64_t size, const char *word) {
  return size == (int64_t)strlen(word) && memcmp(text, word, (size_t)size) == 0;
}

static uint8_t *put_special(uint8_t *at, const uint8_t *text, int64_t size) {
  if (is_word(text, size, "NaN")) return put_head(at, 0, 0, SIGN_NAN, 0);
  if (is_word(text, size, "Infinity")) return put_head(at, 0, 0, SIGN_INFINITY, 0);
  if (is_word(text, size, "-Infinity")) return put_head(at, 0, 0, SIGN_MINUS_INFINITY, 0);
  return NULL;
}

static int64_t digits_at(const uint8_t *text, int64_t from, int64_t size) {
  int64_t end = from;
  while (end < size && text[end] >= '0' && text[end] <= '9')
    end++;
  return end - from;
}

/* The group whose first digit stands `first` digits before (> 0) or behind the point; missing digits are 0. */
static uint16_t group_of(const uint8_t *integer, int64_t integer_digits, const uint8_t *fraction,
                         int64_t fraction_digits, int64_t first) {
  unsigned value = 0;
  for (int64_t place = first; place > first - 4; place--) {
    unsigned digit = 0;
    if (place > 0 && place <= integer_digits) digit = integer[integer_digits - place] - '0';
    if (place <= 0 && -place < fraction_digits) digit = fraction[-place] - '0';
    value = value * 10 + digit;
  }
  return (uint16_t)value;
}

uint8_t *lc_put_numeric(uint8_t *at, const uint8_t *text, int64_t size, int32_t *reason) {
  uint8_t *special = put_special(at, text, size);
  if (special != NULL) return special;
  bool negative = size > 0 && text[0] == '-';
  int64_t start = negative, integer_digits = digits_at(text, start, size), fraction_digits = 0;
  int64_t end = start + integer_digits;
  const uint8_t *integer = text + start, *fraction = text + end;
  *reason = LC_PG_BAD_NUMBER;
  if (integer_digits == 0) return NULL;
  if (end < size && text[end] == '.') {
    fraction_digits = digits_at(text, end + 1, size);
    fraction = text + end + 1;
    if (fraction_digits == 0) return NULL;
    end += 1 + fraction_digits;
  }
  if (end != size) return NULL;
  while (integer_digits > 0 && *integer == '0') {
    integer++;
    integer_digits--;
  }
  *reason = LC_PG_RANGE;
  if (integer_digits > INTEGER_DIGITS_MAX || fraction_digits > DSCALE_MAX) return NULL;
  int64_t high = (integer_digits + 3) / 4 - 1; /* weight of the first group, then of the last */
  int64_t low = -((fraction_digits + 3) / 4);
  while (high >= low && group_of(integer, integer_digits, fraction, fraction_digits, 4 * high + 4) == 0)
    high--;
  while (high >= low && group_of(integer, integer_digits, fraction, fraction_digits, 4 * low + 4) == 0)
    low++;
  if (high < low) return put_head(at, 0, 0, SIGN_POSITIVE, fraction_digits);
  at = put_head(at, high - low + 1, high, negative ? SIGN_NEGATIVE : SIGN_POSITIVE, fraction_digits);
  for (int64_t weight = high; weight >= low; weight--)
    at = lc_put_u16(at, group_of(integer, integer_digits, fraction, fraction_digits, 4 * weight + 4));
  return at;
}
