/* A statement taken apart: which columns it names, and the literal of each. */
#include "redo_internal.h"

static inline bool take(lc_redo_cursor *c, uint8_t byte) {
  c->p = lc_skip_space(c->p, c->end);
  if (c->p == c->end || *c->p != byte) return lc_redo_fault(c, LC_ROW_SYNTAX, c->p);
  c->p++;
  return true;
}

/* Pass by a word where it stands next. */
static inline bool word_next(lc_redo_cursor *c, const char *word) {
  const uint8_t *p = lc_skip_space(c->p, c->end);
  if (!lc_redo_at_word(p, c->end, word)) return false;
  c->p = p + strlen(word);
  return true;
}

static bool word_take(lc_redo_cursor *c, const char *word) {
  if (word_next(c, word)) return true;
  return lc_redo_fault(c, LC_ROW_SYNTAX, lc_skip_space(c->p, c->end));
}

typedef struct name {
  const uint8_t *at, *text; /* its first byte, quote and all; the inside */
  size_t size;
  bool quoted;
} name;

static inline bool name_take(lc_redo_cursor *c, name *out) {
  const uint8_t *p = c->p = lc_skip_space(c->p, c->end);
  out->at = p;
  out->quoted = p < c->end && *p == '"';
  if (out->quoted) {
    const uint8_t *q = memchr(p + 1, '"', (size_t)(c->end - p - 1));
    if (q == NULL) return lc_redo_fault(c, LC_ROW_SYNTAX, c->end);
    out->text = p + 1;
    out->size = (size_t)(q - p - 1);
    c->p = q + 1;
  } else {
    c->p = lc_redo_name_end(p, c->end);
    out->text = p;
    out->size = (size_t)(c->p - p);
  }
  return out->size > 0 ? true : lc_redo_fault(c, LC_ROW_SYNTAX, p);
}

/* Names joined by dots; *out is the last one. */
static bool path_take(lc_redo_cursor *c, name *out) {
  for (;;) {
    if (!name_take(c, out)) return false;
    const uint8_t *p = lc_skip_space(c->p, c->end);
    if (p == c->end || *p != '.') return true;
    c->p = p + 1;
  }
}

/* The column of a name: 0.., -1 to pass over, or -2 with a fault. */
static int32_t column_of(lc_redo_statement *s, lc_redo_cursor *c, const name *given) {
  const lc_name *guess = &s->names.fields[s->next];
  if (given->quoted && guess->size == given->size && memcmp(guess->text, given->text, given->size) == 0) {
    int32_t found = s->next;
    s->next = found + 1 == s->column_count ? 0 : found + 1;
    return found;
  }
  const uint8_t *text = given->text;
  uint8_t upper[LC_REDO_NAME_MAX];
  if (!given->quoted && given->size <= LC_REDO_NAME_MAX) { /* a longer name is no column's */
    for (size_t i = 0; i < given->size; i++)
      upper[i] = text[i] >= 'a' && text[i] <= 'z' ? text[i] - 0x20 : text[i];
    text = upper;
  }
  int32_t found = given->quoted || text == upper ? lc_names_find(&s->names, text, given->size) : -1;
  if (found >= 0) s->next = found + 1 == s->column_count ? 0 : found + 1;
  if (found >= 0 || s->skip_unknown) return found;
  lc_redo_fault(c, LC_REDO_COLUMN, given->at);
  return -2;
}

/* Read a value into the literal of a column on that side; `at` is the column's name. */
static bool value_into(lc_redo_cursor *c, lc_redo_literal *side, int32_t column) {
  lc_redo_literal spare;
  return lc_redo_value(c, column < 0 ? &spare : &side[column]);
}

static bool insert_names(lc_redo_statement *s, lc_redo_cursor *c) {
  s->order.size = 0;
  if (!take(c, '(')) return false;
  for (;;) {
    name given;
    if (!name_take(c, &given)) return false;
    int32_t column = column_of(s, c, &given);
    if (column == -2) return false;
    if (column >= 0) {
      if (s->after[column].kind != REDO_ABSENT) return lc_redo_fault(c, LC_ROW_DUPLICATE, given.at);
      s->after[column].kind = REDO_NULL; /* until its value is read */
    }
    if (!lc_buffer_append(&s->order, &column, sizeof column)) {
      s->failed = true;
      return false;
    }
    c->p = lc_skip_space(c->p, c->end);
    if (c->p == c->end || *c->p != ',') return take(c, ')');
    c->p++;
  }
}

static bool insert_read(lc_redo_statement *s, lc_redo_cursor *c) {
  name table;
  if (!word_take(c, "into") || !path_take(c, &table) || !insert_names(s, c)) return false;
  if (!word_take(c, "values") || !take(c, '(')) return false;
  c->clause = REDO_VALUES;
  size_t count = s->order.size / sizeof(int32_t);
  for (size_t i = 0; i < count; i++) {
    int32_t column;
    memcpy(&column, s->order.data + i * sizeof column, sizeof column);
    if ((i > 0 && !take(c, ',')) || !value_into(c, s->after, column)) return false;
  }
  return take(c, ')');
}

/* column =, with the column, or -1 for one to pass over and for ROWID; -2 with a fault. */
static int32_t column_take(lc_redo_statement *s, lc_redo_cursor *c, const lc_redo_literal *side, bool may_be_rowid) {
  name given;
  if (!path_take(c, &given)) return -2;
  if (may_be_rowid && !given.quoted && lc_redo_is_word(given.text, given.size, "rowid")) return -1;
  int32_t column = column_of(s, c, &given);
  if (column >= 0 && side[column].kind != REDO_ABSENT) {
    lc_redo_fault(c, LC_ROW_DUPLICATE, given.at);
    return -2;
  }
  return column;
}

static bool where_read(lc_redo_statement *s, lc_redo_cursor *c) {
  c->clause = REDO_WHERE;
  do {
    int32_t column = column_take(s, c, s->before, true);
    if (column == -2) return false;
    if (word_next(c, "is")) {
      const uint8_t *start = lc_skip_space(c->p, c->end);
      if (!word_take(c, "null")) return false;
      if (column >= 0)
        s->before[column] = (lc_redo_literal){.kind = REDO_NULL, .start = start, .end = c->p};
    } else if (!take(c, '=') || !value_into(c, s->before, column)) {
      return false;
    }
  } while (word_next(c, "and"));
  return true;
}

static bool update_read(lc_redo_statement *s, lc_redo_cursor *c) {
  name given;
  if (!path_take(c, &given)) return false;
  if (!word_next(c, "set") && (!name_take(c, &given) || !word_take(c, "set"))) return false;
  c->clause = REDO_SET;
  for (;;) {
    int32_t column = column_take(s, c, s->after, false);
    if (column == -2 || !take(c, '=') || !value_into(c, s->after, column)) return false;
    c->p = lc_skip_space(c->p, c->end);
    if (c->p == c->end || *c->p != ',') break;
    c->p++;
  }
  return !word_next(c, "where") || where_read(s, c);
}

static bool delete_read(lc_redo_statement *s, lc_redo_cursor *c) {
  name given;
  if (!word_take(c, "from") || !path_take(c, &given)) return false;
  if (word_next(c, "where")) return where_read(s, c);
  c->p = lc_skip_space(c->p, c->end);
  if (c->p == c->end || *c->p == ';') return true;
  return name_take(c, &given) && (!word_next(c, "where") || where_read(s, c));
}

bool lc_redo_read(lc_redo_statement *s, lc_redo_cursor *c) {
  for (int32_t i = 0; i < s->column_count; i++)
    s->before[i].kind = s->after[i].kind = REDO_ABSENT;
  s->next = 0;
  bool good;
  if (word_next(c, "insert")) {
    s->op = 'i';
    good = insert_read(s, c);
  } else if (word_next(c, "update")) {
    s->op = 'u';
    good = update_read(s, c);
  } else if (word_next(c, "delete")) {
    s->op = 'd';
    good = delete_read(s, c);
  } else {
    return lc_redo_fault(c, LC_REDO_STATEMENT, lc_skip_space(c->p, c->end));
  }
  if (!good) return false;
  c->p = lc_skip_space(c->p, c->end);
  if (c->p < c->end && *c->p == ';') c->p = lc_skip_space(c->p + 1, c->end);
  return c->p == c->end || lc_redo_fault(c, LC_ROW_SYNTAX, c->p);
}
