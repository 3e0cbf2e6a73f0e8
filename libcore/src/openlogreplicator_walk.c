/* OpenLogReplicator's messages, walked once, member by member. */
#include "openlogreplicator_walk.h"

enum { SEEN_PAYLOAD = 1, SEEN_OP = 2, SEEN_SCHEMA = 4, SEEN_OWNER = 8, SEEN_TABLE = 16 };

typedef struct member {
  const uint8_t *name; /* behind its quote */
  size_t size;
  const uint8_t *value;
} member;

typedef const uint8_t *member_reader(lc_olr_walk *w, const member *m);

/* Room for one more item: where the items are now, or NULL. */
static void *room(lc_olr_walk *w, void *items, int64_t count, int64_t *capacity, size_t item_size) {
  if (count < *capacity) return items;
  int64_t wanted = *capacity * 2 + 64;
  void *grown = lc_realloc(items, (size_t)wanted * item_size);
  if (grown == NULL)
    w->failed = true;
  else
    *capacity = wanted;
  return grown;
}

static const uint8_t *fault(lc_olr_walk *w, int32_t code, const uint8_t *at) {
  w->fault = code;
  w->fault_at = at;
  return NULL;
}

/* Behind the value at p; NULL where it is no JSON, which is looked into again for its exact fault. */
static const uint8_t *value_skip(const lc_olr_walk *w, const uint8_t *p, int depth) {
  lc_json_fault ignored;
  return lc_json_skip(p, w->end, depth, w->kernels, &ignored);
}

static bool is(const member *m, const char *name) {
  return m->size == strlen(name) && memcmp(m->name, name, m->size) == 0;
}

static bool once(lc_olr_walk *w, const member *m, uint32_t bit) {
  if (w->seen & bit) fault(w, LC_ROW_DUPLICATE, m->name - 1);
  bool first = (w->seen & bit) == 0;
  w->seen |= bit;
  return first;
}

/* The members of the object at p, each by `read`; the byte behind it, or NULL. */
static const uint8_t *object_walk(lc_olr_walk *w, const uint8_t *p, member_reader *read) {
  p = lc_skip_space(p + 1, w->end);
  if (p < w->end && *p == '}') return p + 1;
  for (;;) {
    if (p >= w->end || *p != '"') return NULL;
    member m = {.name = p + 1};
    p = value_skip(w, p, 0);
    if (p == NULL) return NULL;
    m.size = (size_t)(p - m.name) - 1;
    p = lc_skip_space(p, w->end);
    if (p >= w->end || *p != ':') return NULL;
    m.value = lc_skip_space(p + 1, w->end);
    if (m.value >= w->end || (p = read(w, &m)) == NULL) return NULL;
    p = lc_skip_space(p, w->end);
    if (p >= w->end) return NULL;
    if (*p == '}') return p + 1;
    if (*p != ',') return NULL;
    p = lc_skip_space(p + 1, w->end);
  }
}

/* ---- schema ---- */

static const uint8_t *name_read(lc_olr_walk *w, const member *m, lc_buffer *into) {
  if (*m->value != '"') return fault(w, LC_ROW_TYPE, m->value);
  const uint8_t *after = value_skip(w, m->value, 0);
  if (after == NULL) return NULL;
  into->size = 0;
  if (!lc_buffer_reserve(into, (size_t)(after - m->value))) {
    w->failed = true;
    return NULL;
  }
  lc_unescaped made = lc_json_unescape(m->value + 1, after - 1, into->data);
  if (made.surrogate != NULL) return fault(w, LC_ROW_SURROGATE, made.surrogate);
  into->size = made.size;
  return after;
}

static const uint8_t *schema_member(lc_olr_walk *w, const member *m) {
  if (is(m, "owner")) return once(w, m, SEEN_OWNER) ? name_read(w, m, &w->owner) : NULL;
  if (is(m, "table")) return once(w, m, SEEN_TABLE) ? name_read(w, m, &w->name) : NULL;
  return value_skip(w, m->value, 4);
}

int lc_olr_compare(const uint8_t *a, size_t a_size, const char *b, size_t b_size) {
  int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
  return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

/* The table of the owner and name just read, -1 for one that is not asked for. */
static int32_t table_find(lc_olr_walk *w) {
  const lc_buffer *name = &w->name;
  if (w->seen & SEEN_OWNER) {
    if (!lc_buffer_append(&w->owner, ".", 1) || !lc_buffer_append(&w->owner, w->name.data, w->name.size)) {
      w->failed = true;
      return -1;
    }
    name = &w->owner;
  }
  int32_t low = 0, high = w->table_count - 1;
  while (low <= high) {
    int32_t middle = (low + high) / 2;
    const lc_olr_table *table = &w->tables[middle];
    int order = lc_olr_compare(name->data, name->size, table->name, (size_t)table->name_size);
    if (order == 0) return middle;
    if (order < 0)
      high = middle - 1;
    else
      low = middle + 1;
  }
  return -1;
}

static const uint8_t *schema_read(lc_olr_walk *w, const uint8_t *p) {
  if (w->known_size > 0 && (size_t)(w->end - p) >= w->known_size && memcmp(p, w->known, w->known_size) == 0) {
    w->named = true;
    w->table = w->known_table;
    return p + w->known_size;
  }
  if (*p != '{') return fault(w, LC_ROW_TYPE, p);
  w->seen &= ~(uint32_t)(SEEN_OWNER | SEEN_TABLE);
  const uint8_t *after = object_walk(w, p, schema_member);
  if (after == NULL || !(w->seen & SEEN_TABLE)) return after;
  w->named = true;
  w->table = table_find(w);
  if (w->failed) return NULL;
  w->known = p;
  w->known_size = (size_t)(after - p);
  w->known_table = w->table;
  return after;
}

/* ---- changes ---- */

static lc_olr_op op_of(const uint8_t *text, size_t size) {
  if (size == 1 && (*text == 'c' || *text == 'u' || *text == 'd')) return LC_OLR_ROW;
  member m = {.name = text, .size = size};
  if (is(&m, "ddl")) return LC_OLR_DDL;
  return is(&m, "begin") || is(&m, "commit") || is(&m, "chkpt") ? LC_OLR_PASSED : LC_OLR_OTHER;
}

static const uint8_t *change_member(lc_olr_walk *w, const member *m) {
  if (is(m, "op")) {
    if (!once(w, m, SEEN_OP)) return NULL;
    if (*m->value != '"') return fault(w, LC_ROW_TYPE, m->value);
    const uint8_t *after = value_skip(w, m->value, 3);
    if (after == NULL) return NULL;
    w->op = op_of(m->value + 1, (size_t)(after - m->value) - 2);
    w->op_at = m->value;
    return after;
  }
  if (is(m, "schema")) return once(w, m, SEEN_SCHEMA) ? schema_read(w, m->value) : NULL;
  return value_skip(w, m->value, 3);
}

static const uint8_t *change_read(lc_olr_walk *w, const uint8_t *p) {
  if (*p != '{') return fault(w, LC_ROW_TYPE, p);
  w->seen &= ~(uint32_t)(SEEN_OP | SEEN_SCHEMA);
  w->op = LC_OLR_NONE;
  w->named = false;
  w->table = -1;
  const uint8_t *after = object_walk(w, p, change_member);
  if (after == NULL) return NULL;
  if (w->op == LC_OLR_NONE) return fault(w, LC_ROW_OP, p);
  if (w->op == LC_OLR_OTHER) return fault(w, LC_ROW_OP, w->op_at);
  if (w->op == LC_OLR_DDL) w->ddl = true;
  if (w->op != LC_OLR_ROW) return after;
  if (!w->named) return fault(w, LC_ROW_TYPE, p);
  lc_olr_change *changes = room(w, w->changes, w->count, &w->capacity, sizeof *changes);
  if (changes == NULL) return NULL;
  w->changes = changes;
  changes[w->count++] = (lc_olr_change){p, (size_t)(after - p), w->message, w->place, w->table};
  return after;
}

static const uint8_t *payload_read(lc_olr_walk *w, const uint8_t *p) {
  if (*p != '[') return fault(w, LC_ROW_TYPE, p);
  p = lc_skip_space(p + 1, w->end);
  if (p < w->end && *p == ']') return p + 1;
  for (w->place = 0;; w->place++) {
    if (p >= w->end || (p = change_read(w, p)) == NULL) return NULL;
    p = lc_skip_space(p, w->end);
    if (p >= w->end) return NULL;
    if (*p == ']') return p + 1;
    if (*p != ',') return NULL;
    p = lc_skip_space(p + 1, w->end);
  }
}

/* ---- messages ---- */

static const uint8_t *message_member(lc_olr_walk *w, const member *m) {
  if (is(m, "payload")) return once(w, m, SEEN_PAYLOAD) ? payload_read(w, m->value) : NULL;
  return value_skip(w, m->value, 1);
}

static bool message_walk(lc_olr_walk *w, const uint8_t *start) {
  const uint8_t *p = lc_skip_space(start, w->end);
  if (p >= w->end) return false;
  if (*p != '{')
    p = fault(w, LC_ROW_TYPE, p);
  else
    p = object_walk(w, p, message_member);
  if (p == NULL || lc_skip_space(p, w->end) != w->end) return false;
  if (!(w->seen & SEEN_PAYLOAD)) fault(w, LC_ROW_OP, start);
  return w->fault == 0;
}

static void error_keep(lc_olr_walk *w, int32_t code, int64_t position) {
  lc_row_error *errors = room(w, w->errors, w->error_count, &w->error_capacity, sizeof *errors);
  if (errors == NULL) return;
  w->errors = errors;
  errors[w->error_count++] = (lc_row_error){w->message, position, code, -1};
}

void lc_olr_message(lc_olr_walk *w, const uint8_t *start, int64_t size) {
  int64_t kept = w->count;
  w->end = start + size;
  w->seen = 0;
  w->fault = 0;
  w->ddl = false;
  int64_t bad = w->kernels->utf8_fault(start, (size_t)size);
  if (bad >= 0) {
    error_keep(w, LC_ROW_UTF8, bad);
  } else if (!message_walk(w, start)) {
    lc_json_fault found;
    w->count = kept;
    if (w->failed) return;
    if (!lc_json_check(start, w->end, w->kernels, &found))
      error_keep(w, found.code, found.at - start);
    else
      error_keep(w, w->fault, w->fault_at - start);
  } else if (w->ddl) {
    int64_t *ddls = room(w, w->ddls, w->ddl_count, &w->ddl_capacity, sizeof *ddls);
    if (ddls == NULL) return;
    w->ddls = ddls;
    ddls[w->ddl_count++] = w->message;
  }
}

void lc_olr_walk_free(lc_olr_walk *w) {
  lc_buffer_free(&w->owner);
  lc_buffer_free(&w->name);
  lc_free(w->changes);
  lc_free(w->ddls);
  lc_free(w->errors);
}
