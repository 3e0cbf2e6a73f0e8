/* One value of a statement taken apart: texts, numbers, functions, comments, and what || joins. */
#include "redo_internal.h"

/* ---- where a text ends although its apostrophes are not doubled ---- */

static bool starts_with(const uint8_t *p, const uint8_t *end, const char *word) {
  size_t size = strlen(word);
  return (size_t)(end - p) >= size && lc_redo_is_word(p, size, word);
}

static bool value_starts(const uint8_t *p, const uint8_t *end) {
  static const char *const words[] = {"null", "true", "false", "unsupported", "nan", "inf", "infinity"};
  static const char *const functions[] = {"to_", "hextoraw(", "unistr(", "empty_", "xmltype(", "/*"};
  if (p < end && (*p == '\'' || *p == '-' || *p == '.' || *p == '+' || lc_is_digit(*p))) return true;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (lc_redo_at_word(p, end, words[i])) return true;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
    if (starts_with(p, end, functions[i])) return true;
  return false;
}

static bool column_starts(const uint8_t *p, const uint8_t *end) {
  if (p < end && *p == '"') return true;
  if (lc_redo_at_word(p, end, "rowid")) return true;
  const uint8_t *q = lc_redo_name_end(p, end);
  return q > p && end - q >= 2 && q[0] == '.' && q[1] == '"';
}

static bool statement_ends(const uint8_t *p, const uint8_t *end) {
  p = lc_skip_space(p, end);
  if (p < end && *p == ';') p = lc_skip_space(p + 1, end);
  return p == end;
}

static bool word_then_column(const uint8_t *p, const uint8_t *end, const char *word) {
  return lc_redo_at_word(p, end, word) && column_starts(lc_skip_space(p + strlen(word), end), end);
}

/* Whether the statement can go on at p, behind a text of that clause. */
static bool text_ends(const lc_redo_cursor *c, const uint8_t *p) {
  const uint8_t *end = c->end;
  p = lc_skip_space(p, end);
  if (end - p >= 2 && p[0] == '|' && p[1] == '|') {
    p = lc_skip_space(p + 2, end);
    return (p < end && *p == '\'') || starts_with(p, end, "unistr(");
  }
  bool comma = p < end && *p == ',';
  if (c->clause == REDO_VALUES) {
    if (comma) return value_starts(lc_skip_space(p + 1, end), end);
    return p < end && *p == ')' && statement_ends(p + 1, end);
  }
  if (statement_ends(p, end)) return true;
  if (c->clause == REDO_WHERE) return word_then_column(p, end, "and");
  return comma ? column_starts(lc_skip_space(p + 1, end), end) : word_then_column(p, end, "where");
}

/* ---- parts ---- */

/* The text whose opening quote stands at p.  Where one of its apostrophes is not doubled, two at which it could end may
 * be its last character and its end: then nobody knows where it ends. */
static bool text_take(lc_redo_cursor *c, bool relaxed, const uint8_t **text, const uint8_t **text_end) {
  const uint8_t *q = *text = c->p + 1;
  bool alone = false, may_end = false;
  for (;;) {
    q = q < c->end ? memchr(q, '\'', (size_t)(c->end - q)) : NULL;
    if (q == NULL) return lc_redo_fault(c, LC_ROW_SYNTAX, c->end);
    if (q + 1 < c->end && q[1] == '\'') {
      q += 2;
      may_end = may_end || (relaxed && text_ends(c, q));
    } else if (relaxed && !text_ends(c, q + 1)) {
      q++;
      alone = true;
    } else {
      break;
    }
  }
  if (alone && may_end) return lc_redo_fault(c, LC_ROW_SYNTAX, q);
  *text_end = q;
  c->p = q + 1;
  return true;
}

static bool argument_take(lc_redo_cursor *c, const uint8_t **text, const uint8_t **text_end) {
  c->p = lc_skip_space(c->p, c->end);
  if (c->p == c->end || *c->p != '\'') return lc_redo_fault(c, LC_ROW_SYNTAX, c->p);
  return text_take(c, false, text, text_end);
}

/* ('text' [, 'text' ...]) or, of an EMPTY function, (). */
static bool arguments_take(lc_redo_cursor *c, lc_redo_literal *literal) {
  c->p++; /* the bracket */
  if (literal->kind != REDO_EMPTY && !argument_take(c, &literal->text, &literal->text_end)) return false;
  for (;;) {
    c->p = lc_skip_space(c->p, c->end);
    if (c->p < c->end && *c->p == ')') break;
    if (c->p == c->end || *c->p != ',' || literal->kind == REDO_EMPTY) return lc_redo_fault(c, LC_ROW_SYNTAX, c->p);
    c->p++;
    const uint8_t *text, *text_end;
    if (!argument_take(c, &text, &text_end)) return false;
    if (literal->format == NULL) {
      literal->format = text;
      literal->format_end = text_end;
    }
  }
  c->p++;
  return true;
}

/* Anything in balanced brackets; p at the first. */
static bool brackets_skip(lc_redo_cursor *c) {
  int64_t depth = 0;
  while (c->p < c->end) {
    uint8_t byte = *c->p;
    if (byte == '\'') {
      const uint8_t *text, *text_end;
      if (!text_take(c, false, &text, &text_end)) return false;
      continue;
    }
    c->p++;
    if (byte == '(') depth++;
    if (byte == ')' && --depth == 0) return true;
  }
  return lc_redo_fault(c, LC_ROW_SYNTAX, c->end);
}

static int32_t function_kind(const uint8_t *name, size_t size) {
  static const struct {
    const char *name;
    int32_t kind;
  } functions[] = {{"to_timestamp", REDO_TIMESTAMP},         {"to_date", REDO_DATE},
                   {"hextoraw", REDO_HEX},                   {"unistr", REDO_UNISTR},
                   {"to_timestamp_tz", REDO_TIMESTAMP_TZ},   {"to_timestamp_itz", REDO_TIMESTAMP_ITZ},
                   {"to_yminterval", REDO_YEARS},            {"to_dsinterval", REDO_DAYS},
                   {"empty_clob", REDO_EMPTY},               {"empty_blob", REDO_EMPTY}};
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
    if (lc_redo_is_word(name, size, functions[i].name)) return functions[i].kind;
  return REDO_UNKNOWN;
}

/* A word of letters at p: NULL, TRUE, Unsupported Type, or a function. */
static bool word_take(lc_redo_cursor *c, lc_redo_literal *literal) {
  const uint8_t *name = c->p, *name_end = lc_redo_name_end(name, c->end), *next = lc_skip_space(name_end, c->end);
  size_t size = (size_t)(name_end - name);
  if (next < c->end && *next == '(') {
    literal->kind = function_kind(name, size);
    c->p = next;
    return literal->kind == REDO_UNKNOWN ? brackets_skip(c) : arguments_take(c, literal);
  }
  c->p = name_end;
  literal->text = name;
  literal->text_end = name_end;
  if (lc_redo_is_word(name, size, "null")) {
    literal->kind = REDO_NULL;
    return true;
  }
  if (lc_redo_is_word(name, size, "unsupported") && lc_redo_at_word(next, c->end, "type")) {
    literal->kind = REDO_UNKNOWN;
    c->p = next + 4;
    return true;
  }
  static const char *const words[] = {"true", "false", "nan", "inf", "infinity"};
  literal->kind = REDO_BARE;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (lc_redo_is_word(name, size, words[i])) return true;
  return lc_redo_fault(c, LC_ROW_SYNTAX, name);
}

static bool is_number_byte(uint8_t c) {
  return lc_redo_is_letter(c) || lc_is_digit(c) || c == '+' || c == '-' || c == '.';
}

bool lc_redo_part(lc_redo_cursor *c, lc_redo_literal *literal) {
  literal->format = NULL;
  if (c->p < c->end && *c->p == '\'') {
    literal->kind = REDO_TEXT;
    return text_take(c, c->relaxed, &literal->text, &literal->text_end);
  }
  if (c->p < c->end && is_number_byte(*c->p) && !lc_redo_is_letter(*c->p)) {
    literal->kind = REDO_BARE;
    literal->text = c->p;
    while (c->p < c->end && is_number_byte(*c->p))
      c->p++;
    literal->text_end = c->p;
    return true;
  }
  if (c->p < c->end && lc_redo_is_name(*c->p)) return word_take(c, literal);
  return lc_redo_fault(c, LC_ROW_SYNTAX, c->p);
}

/* Pass by comments at p; whether one of them says JSON. */
static bool comments_skip(lc_redo_cursor *c, bool *json) {
  *json = false;
  while (c->end - c->p >= 2 && c->p[0] == '/' && c->p[1] == '*') {
    const uint8_t *inside = lc_skip_space(c->p + 2, c->end), *q = c->p + 2;
    while (q < c->end && !(*q == '*' && c->end - q >= 2 && q[1] == '/'))
      q++;
    if (q == c->end) return lc_redo_fault(c, LC_ROW_SYNTAX, c->p);
    *json = *json || (q - inside >= 4 && lc_redo_at_word(inside, q, "json") && lc_skip_space(inside + 4, q) == q);
    c->p = lc_skip_space(q + 2, c->end);
  }
  return true;
}

bool lc_redo_value(lc_redo_cursor *c, lc_redo_literal *literal) {
  c->p = lc_skip_space(c->p, c->end);
  if (!comments_skip(c, &literal->json)) return false;
  literal->clause = c->clause;
  literal->start = c->p;
  if (!lc_redo_part(c, literal)) return false;
  literal->end = c->p;
  literal->parts = 1u << literal->kind;
  for (;;) {
    const uint8_t *next = lc_skip_space(c->p, c->end);
    if (c->end - next < 2 || next[0] != '|' || next[1] != '|') return true;
    lc_redo_literal part;
    c->p = lc_skip_space(next + 2, c->end);
    if (!lc_redo_part(c, &part)) return false;
    literal->kind = REDO_JOINED;
    literal->parts |= 1u << part.kind;
    literal->end = c->p;
  }
}
