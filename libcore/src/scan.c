/* Strict JSON walking inside bounds: validity with the exact byte of a fault, and unescaping. */
#include "scan.h"

#include "libcore/json.h"

static const uint8_t *fail(lc_json_fault *fault, const uint8_t *at) {
  *fault = (lc_json_fault){LC_ROW_SYNTAX, at};
  return NULL;
}

static inline bool is_hex(uint8_t c) { return lc_is_digit(c) || (uint8_t)((c | 0x20) - 'a') < 6; }

/* p stands behind the opening quote; returns the byte behind the closing one. */
static const uint8_t *skip_string(const uint8_t *p, const uint8_t *end, const lc_kernels *kernels,
                                  lc_json_fault *fault) {
  for (;;) {
    p = kernels->string_end(p, end);
    if (p >= end) return fail(fault, end);
    if (*p == '"') return p + 1;
    if (*p != '\\') return fail(fault, p); /* a control character */
    if (++p >= end) return fail(fault, end);
    uint8_t c = *p++;
    if (c == 'u') {
      for (int i = 0; i < 4; i++, p++)
        if (p >= end || !is_hex(*p)) return fail(fault, p);
    } else if (c != '"' && c != '\\' && c != '/' && c != 'b' && c != 'f' && c != 'n' && c != 'r' && c != 't') {
      return fail(fault, p - 1);
    }
  }
}

static const uint8_t *skip_digits(const uint8_t *p, const uint8_t *end, lc_json_fault *fault) {
  if (p >= end || !lc_is_digit(*p)) return fail(fault, p);
  while (p < end && lc_is_digit(*p))
    p++;
  return p;
}

static const uint8_t *skip_number(const uint8_t *p, const uint8_t *end, lc_json_fault *fault) {
  if (*p == '-') p++;
  if (p < end && *p == '0')
    p++;
  else if ((p = skip_digits(p, end, fault)) == NULL)
    return NULL;
  if (p < end && *p == '.' && (p = skip_digits(p + 1, end, fault)) == NULL) return NULL;
  if (p < end && (*p | 0x20) == 'e') {
    p++;
    if (p < end && (*p == '+' || *p == '-')) p++;
    p = skip_digits(p, end, fault);
  }
  return p;
}

static const uint8_t *skip_word(const uint8_t *p, const uint8_t *end, const char *word, lc_json_fault *fault) {
  for (; *word != '\0'; word++, p++)
    if (p >= end || *p != (uint8_t)*word) return fail(fault, p);
  return p;
}

static const uint8_t *skip_scalar(const uint8_t *p, const uint8_t *end, const lc_kernels *kernels,
                                  lc_json_fault *fault) {
  switch (*p) {
    case '"': return skip_string(p + 1, end, kernels, fault);
    case 't': return skip_word(p, end, "true", fault);
    case 'f': return skip_word(p, end, "false", fault);
    case 'n': return skip_word(p, end, "null", fault);
    default: return *p == '-' || lc_is_digit(*p) ? skip_number(p, end, fault) : fail(fault, p);
  }
}

/* A member's name and colon; p stands on the name's quote. */
static const uint8_t *skip_name(const uint8_t *p, const uint8_t *end, const lc_kernels *kernels, lc_json_fault *fault) {
  if (p >= end || *p != '"') return fail(fault, p);
  p = skip_string(p + 1, end, kernels, fault);
  if (p == NULL) return NULL;
  p = lc_skip_space(p, end);
  if (p >= end || *p != ':') return fail(fault, p);
  return lc_skip_space(p + 1, end);
}

const uint8_t *lc_json_skip(const uint8_t *p, const uint8_t *end, int depth, const lc_kernels *kernels,
                            lc_json_fault *fault) {
  uint64_t objects = 0; /* bit k: the k-th bracket opened here is an object's; depth <= 64 keeps it in one word */
  int open = 0;
  for (;;) {
    if (p >= end) return fail(fault, end);
    if (*p == '{' || *p == '[') {
      if (depth + open >= LC_JSON_DEPTH_MAX) {
        *fault = (lc_json_fault){LC_ROW_DEPTH, p};
        return NULL;
      }
      bool object = *p == '{';
      objects = object ? objects | 1ull << open : objects & ~(1ull << open);
      open++;
      p = lc_skip_space(p + 1, end);
      if (p < end && *p == (object ? '}' : ']')) {
        p++;
        open--;
      } else {
        if (object && (p = skip_name(p, end, kernels, fault)) == NULL) return NULL;
        continue;
      }
    } else if ((p = skip_scalar(p, end, kernels, fault)) == NULL) {
      return NULL;
    }
    for (;;) { /* a value has ended */
      if (open == 0) return p;
      p = lc_skip_space(p, end);
      if (p >= end) return fail(fault, end);
      bool object = objects >> (open - 1) & 1;
      if (*p == ',') {
        p = lc_skip_space(p + 1, end);
        if (object && (p = skip_name(p, end, kernels, fault)) == NULL) return NULL;
        break;
      }
      if (*p != (object ? '}' : ']')) return fail(fault, p);
      p++;
      open--;
    }
  }
}

bool lc_json_check(const uint8_t *p, const uint8_t *end, const lc_kernels *kernels, lc_json_fault *fault) {
  p = lc_json_skip(lc_skip_space(p, end), end, 0, kernels, fault);
  if (p == NULL) return false;
  p = lc_skip_space(p, end);
  if (p == end) return true;
  fail(fault, p);
  return false;
}

static uint32_t hex4(const uint8_t *p) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++)
    value = value << 4 | (uint32_t)(lc_is_digit(p[i]) ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
  return value;
}

static size_t utf8_write(uint32_t code, uint8_t *out) {
  if (code < 0x80) {
    out[0] = (uint8_t)code;
    return 1;
  }
  if (code < 0x800) {
    out[0] = (uint8_t)(0xC0 | code >> 6);
    out[1] = (uint8_t)(0x80 | (code & 0x3F));
    return 2;
  }
  if (code < 0x10000) {
    out[0] = (uint8_t)(0xE0 | code >> 12);
    out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code & 0x3F));
    return 3;
  }
  out[0] = (uint8_t)(0xF0 | code >> 18);
  out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
  out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
  out[3] = (uint8_t)(0x80 | (code & 0x3F));
  return 4;
}

lc_unescaped lc_json_unescape(const uint8_t *p, const uint8_t *end, uint8_t *out) {
  uint8_t *start = out;
  while (p < end) {
    const uint8_t *slash = memchr(p, '\\', (size_t)(end - p));
    size_t plain = (size_t)((slash == NULL ? end : slash) - p);
    memcpy(out, p, plain);
    out += plain;
    if (slash == NULL) break;
    uint8_t c = slash[1];
    p = slash + 2;
    if (c != 'u') {
      *out++ = c == 'b' ? '\b' : c == 'f' ? '\f' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
      continue;
    }
    uint32_t code = hex4(p);
    p += 4;
    if (code >= 0xD800 && code < 0xE000) {
      uint32_t low = code < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2) : 0;
      if (low < 0xDC00 || low >= 0xE000) return (lc_unescaped){(size_t)(out - start), slash};
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      p += 6;
    }
    out += utf8_write(code, out);
  }
  return (lc_unescaped){(size_t)(out - start), NULL};
}
