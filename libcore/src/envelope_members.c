/* Members of JSON objects: their names by hash, what the slow entry learns for the next message, and strict skipping.
 */
#include "envelope_internal.h"

static uint32_t name_hash(const uint8_t *text, size_t size) { /* FNV-1a */
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < size; i++)
    hash = (hash ^ text[i]) * 16777619u;
  return hash;
}

bool lc_names_init(lc_names *names, int32_t count) {
  uint32_t slots = 16;
  while (slots < (uint32_t)count * 2)
    slots *= 2;
  *names = (lc_names){.count = count, .mask = slots - 1};
  names->fields = lc_calloc((size_t)count, sizeof *names->fields);
  names->slots = lc_malloc(slots * sizeof *names->slots);
  if (names->fields == NULL || names->slots == NULL) {
    lc_names_free(names);
    return false;
  }
  memset(names->slots, 0xff, slots * sizeof *names->slots);
  return true;
}

void lc_names_free(lc_names *names) {
  lc_free(names->fields);
  lc_free(names->slots);
  *names = (lc_names){0};
}

int32_t lc_names_find(const lc_names *names, const uint8_t *text, size_t size) {
  uint32_t hash = name_hash(text, size);
  for (uint32_t slot = hash & names->mask; names->slots[slot] >= 0; slot = (slot + 1) & names->mask) {
    const lc_name *name = &names->fields[names->slots[slot]];
    if (name->hash == hash && name->size == size && (size == 0 || memcmp(name->text, text, size) == 0))
      return names->slots[slot];
  }
  return -1;
}

bool lc_names_set(lc_names *names, int32_t field, const char *text, size_t size) {
  if (lc_names_find(names, (const uint8_t *)text, size) >= 0) return false;
  uint32_t hash = name_hash((const uint8_t *)text, size), slot = hash & names->mask;
  while (names->slots[slot] >= 0)
    slot = (slot + 1) & names->mask;
  names->slots[slot] = field;
  names->fields[field] = (lc_name){text, (uint32_t)size, hash};
  return true;
}

/* The field of a name whose inside is p..end; -1 unknown, -2 no memory. */
static int32_t find(lc_decoder *d, const lc_names *names, const uint8_t *p, const uint8_t *end) {
  size_t size = (size_t)(end - p);
  if (memchr(p, '\\', size) == NULL) return lc_names_find(names, p, size);
  d->text.size = 0;
  if (!lc_buffer_reserve(&d->text, size)) {
    lc_decoder_fails(d, LC_NO_MEMORY);
    return -2;
  }
  lc_unescaped text = lc_json_unescape(p, end, d->text.data);
  return text.surrogate != NULL ? -1 : lc_names_find(names, d->text.data, text.size);
}

static lc_member *learn(lc_order *order, lc_member *place, const uint8_t *name, size_t size, int32_t field) {
  if (place - order->members >= order->capacity || size > LC_MEMBER_BYTES) return NULL;
  *place = (lc_member){.name_size = (uint16_t)size, .field = field};
  memcpy(place->raw, name, size);
  return place;
}

const uint8_t *lc_member_enter_slow(lc_decoder *d, lc_cursor *cursor, const uint8_t *p) {
  p = lc_skip_space(p, d->end);
  if (p >= d->end || *p != '"') return NULL;
  lc_order *order = cursor->order;
  d->surprises += order == &d->row;
  cursor->name = p;
  lc_member *ahead = cursor->next; /* some members of last time may be left out in this message */
  for (int tries = 0; tries < 8 && ahead->name_size != 0; tries++, ahead++) {
    if (!lc_same_start(p, ahead->raw, ahead->name_size)) continue;
    cursor->next = ahead + 1;
    cursor->member = ahead;
    cursor->field = ahead->field;
    p = lc_skip_space(p + ahead->name_size, d->end);
    return p < d->end ? p : NULL;
  }
  lc_json_fault fault;
  const uint8_t *q = lc_json_skip(p, d->end, 0, d->kernels, &fault);
  if (q == NULL) return NULL;
  cursor->field = find(d, &order->names, p + 1, q - 1);
  if (cursor->field == -2) return NULL;
  cursor->member = NULL;
  const uint8_t *colon = lc_skip_space(q, d->end);
  if (colon >= d->end || *colon != ':') return NULL;
  if (colon == q) { /* a name with spaces behind it is not learned */
    cursor->member = learn(order, cursor->next, p, (size_t)(q + 1 - p), cursor->field);
    if (cursor->member != NULL) cursor->next++;
  }
  p = lc_skip_space(colon + 1, d->end);
  return p < d->end ? p : NULL;
}

const uint8_t *lc_value_skip_slow(lc_decoder *d, const uint8_t *p, int depth) {
  lc_json_fault fault;
  return lc_json_skip(p, d->end, depth, d->kernels, &fault);
}

void lc_fault_note(lc_decoder *d, int32_t code, const uint8_t *at, const lc_decode_column *column) {
  if (d->fault == 0 || at < d->fault_at) {
    d->fault = code;
    d->fault_at = at;
    d->fault_column = column == NULL ? -1 : column->index;
  }
}
