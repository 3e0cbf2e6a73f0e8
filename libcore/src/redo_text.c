/* Texts and bytes of literals: doubled apostrophes, UNISTR, HEXTORAW, and what || joins. */
#include "redo_internal.h"

static uint8_t *room(lc_redo_cells *column, size_t size) {
  if (column->data.capacity - column->data.size < size && !lc_buffer_reserve(&column->data, size)) return NULL;
  return column->data.data == NULL ? (uint8_t *)"" : column->data.data + column->data.size;
}

int lc_redo_text_append(lc_redo_cells *column, const uint8_t *p, const uint8_t *end, bool doubled) {
  size_t size = (size_t)(end - p);
  uint8_t *out = room(column, size);
  if (out == NULL) return LC_REDO_NO_MEMORY;
  if (size == 0) return LC_REDO_KEPT;
  if (!doubled || memchr(p, '\'', size) == NULL) {
    memcpy(out, p, size);
    column->data.size += size;
    return LC_REDO_KEPT;
  }
  while (p < end) {
    uint8_t byte = *out++ = *p++;
    if (byte == '\'' && p < end && *p == '\'') p++;
  }
  column->data.size = (size_t)(out - column->data.data);
  return LC_REDO_KEPT;
}

static int hex_digit(uint8_t c) {
  if (lc_is_digit(c)) return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hex digits at p, or -1. */
static int32_t hex_unit(const uint8_t *p, const uint8_t *end) {
  if (end - p < 4) return -1;
  int32_t unit = 0;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(p[i]);
    if (digit < 0) return -1;
    unit = unit << 4 | digit;
  }
  return unit;
}

static uint8_t *utf8_write(uint8_t *out, uint32_t point) {
  if (point < 0x80) {
    *out++ = (uint8_t)point;
  } else if (point < 0x800) {
    *out++ = (uint8_t)(0xC0 | point >> 6);
    *out++ = (uint8_t)(0x80 | (point & 0x3F));
  } else {
    if (point < 0x10000) {
      *out++ = (uint8_t)(0xE0 | point >> 12);
    } else {
      *out++ = (uint8_t)(0xF0 | point >> 18);
      *out++ = (uint8_t)(0x80 | (point >> 12 & 0x3F));
    }
    *out++ = (uint8_t)(0x80 | (point >> 6 & 0x3F));
    *out++ = (uint8_t)(0x80 | (point & 0x3F));
  }
  return out;
}

/* A high surrogate that still waits for its low one; kept over the parts of a joined text. */
typedef struct waiting {
  uint32_t high; /* 0: none */
  const uint8_t *at;
} waiting;

/* Append the inside of a UNISTR: \XXXX is a UTF-16 unit, \\ a backslash, '' an apostrophe. */
static int unistr_append(lc_redo_cells *column, const uint8_t *p, const uint8_t *end, waiting *wait,
                         const uint8_t **at) {
  if (p == end) return LC_REDO_KEPT;
  uint8_t *out = room(column, (size_t)(end - p)); /* five bytes become three at most, ten become four */
  if (out == NULL) return LC_REDO_NO_MEMORY;
  while (p < end) {
    const uint8_t *start = p;
    int32_t unit = -1;
    uint8_t byte = *p++;
    if (byte == '\\' && p < end && *p == '\\') {
      p++;
    } else if (byte == '\\') {
      unit = hex_unit(p, end);
      if (unit < 0) return LC_ROW_TYPE;
      p += 4;
    } else if (byte == '\'' && p < end && *p == '\'') {
      p++;
    }
    bool low = unit >= 0xDC00 && unit <= 0xDFFF;
    if (low != (wait->high != 0)) {
      *at = wait->high != 0 ? wait->at : start;
      return LC_ROW_SURROGATE;
    }
    if (unit >= 0xD800 && unit <= 0xDBFF) {
      *wait = (waiting){(uint32_t)unit, start};
    } else if (low) {
      out = utf8_write(out, 0x10000 + ((wait->high - 0xD800) << 10) + ((uint32_t)unit - 0xDC00));
      wait->high = 0;
    } else if (unit >= 0) {
      out = utf8_write(out, (uint32_t)unit);
    } else {
      *out++ = byte;
    }
  }
  column->data.size = (size_t)(out - column->data.data);
  return LC_REDO_KEPT;
}

static int hex_append(lc_redo_cells *column, const uint8_t *p, const uint8_t *end) {
  size_t size = (size_t)(end - p) / 2;
  uint8_t *out = room(column, size);
  if (out == NULL) return LC_REDO_NO_MEMORY;
  if ((end - p) % 2 != 0) return LC_ROW_TYPE;
  for (size_t i = 0; i < size; i++) {
    int high = hex_digit(p[2 * i]), low = hex_digit(p[2 * i + 1]);
    if ((high | low) < 0) return LC_ROW_TYPE;
    out[i] = (uint8_t)(high << 4 | low);
  }
  column->data.size += size;
  return LC_REDO_KEPT;
}

static int part_append(lc_redo_cells *column, const lc_redo_literal *part, waiting *wait, const uint8_t **at) {
  if (part->kind == REDO_UNISTR) return unistr_append(column, part->text, part->text_end, wait, at);
  if (part->kind == REDO_HEX) return hex_append(column, part->text, part->text_end);
  if (wait->high != 0 && part->text_end > part->text) {
    *at = wait->at;
    return LC_ROW_SURROGATE;
  }
  return lc_redo_text_append(column, part->text, part->text_end, true);
}

/* Texts and UNISTR, or HEXTORAW, perhaps joined. */
static int joined_append(lc_redo_cells *column, const lc_redo_literal *literal, const lc_redo_reading *reading,
                         const uint8_t **at) {
  waiting wait = {0};
  int code = LC_REDO_KEPT;
  if (literal->kind != REDO_JOINED) {
    code = part_append(column, literal, &wait, at);
  } else {
    lc_redo_cursor c = {
        .p = literal->start, .end = reading->end, .clause = literal->clause, .relaxed = reading->relaxed};
    lc_redo_literal part;
    while (code == LC_REDO_KEPT && lc_redo_part(&c, &part)) {
      code = part_append(column, &part, &wait, at);
      if (c.p == literal->end) break;
      c.p = lc_skip_space(lc_skip_space(c.p, c.end) + 2, c.end); /* the part was read once: || stands here */
    }
  }
  if (code != LC_REDO_KEPT || wait.high == 0) return code;
  *at = wait.at;
  return LC_ROW_SURROGATE;
}

int lc_redo_text(lc_redo_cells *column, const lc_redo_literal *literal, const lc_redo_reading *reading,
                     const uint8_t **at) {
  bool literal_form = column->plan->form == LC_REDO_LITERAL;
  switch (literal->kind) {
    case REDO_TEXT: return lc_redo_text_append(column, literal->text, literal->text_end, true);
    case REDO_BARE:
      if (!literal_form && lc_redo_is_letter(*literal->text)) return LC_ROW_TYPE;
      return lc_redo_text_append(column, literal->text, literal->text_end, false);
    default: break;
  }
  if (literal_form) return lc_redo_text_append(column, literal->start, literal->end, false);
  switch (literal->kind) {
    case REDO_UNISTR: return joined_append(column, literal, reading, at);
    case REDO_JOINED:
      if ((literal->parts & ~(1u << REDO_TEXT | 1u << REDO_UNISTR)) != 0) return LC_ROW_TYPE;
      return joined_append(column, literal, reading, at);
    case REDO_DATE:
    case REDO_TIMESTAMP:
    case REDO_TIMESTAMP_TZ:
    case REDO_TIMESTAMP_ITZ:
    case REDO_YEARS:
    case REDO_DAYS: return lc_redo_text_append(column, literal->text, literal->text_end, true);
    case REDO_EMPTY: return LC_REDO_KEPT;
    default: return LC_ROW_TYPE;
  }
}

int lc_redo_bytes(lc_redo_cells *column, const lc_redo_literal *literal, const lc_redo_reading *reading,
                      const uint8_t **at) {
  if (literal->kind == REDO_EMPTY) return LC_REDO_KEPT;
  bool hex = literal->kind == REDO_HEX || (literal->kind == REDO_JOINED && literal->parts == 1u << REDO_HEX);
  return hex ? joined_append(column, literal, reading, at) : LC_ROW_TYPE;
}
