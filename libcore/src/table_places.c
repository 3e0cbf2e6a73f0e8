/* The index of the row store: linear probing over 8-byte places, growing a few places at a time. */
#include "table.h"

enum { BITS_MIN = 4, BITS_SHRINK = 16 };

static int64_t room(int32_t bits) { return ((int64_t)3 << bits) / 4; }
static size_t table_bytes(int32_t bits) { return sizeof(lc_place) << bits; }

bool lc_places_init(lc_places *places) {
  *places = (lc_places){.bits = BITS_MIN};
  places->now = lc_calloc((size_t)1 << BITS_MIN, sizeof(lc_place));
  return places->now != NULL;
}

void lc_places_free(lc_places *places) {
  lc_free(places->now);
  lc_free(places->old);
  *places = (lc_places){0};
}

int64_t lc_places_bytes(const lc_places *places) {
  if (places->now == NULL) return 0;
  return (int64_t)(table_bytes(places->bits) + (places->old != NULL ? table_bytes(places->old_bits) : 0));
}

static int32_t bits_for(const lc_places *places, int64_t more) {
  int32_t bits = places->bits;
  while (bits < 32 && room(bits) < places->used + more)
    bits++;
  return bits;
}

int64_t lc_places_growth(const lc_places *places, int64_t more) {
  int32_t bits = bits_for(places, more);
  return bits == places->bits ? 0 : (int64_t)table_bytes(bits);
}

static inline void place_in(lc_place *table, int32_t bits, lc_place entry) {
  uint64_t mask = ((uint64_t)1 << bits) - 1, place = lc_home(entry.tag, bits);
  while (table[place].row != 0)
    place = (place + 1) & mask;
  table[place] = entry;
}

void lc_places_move(lc_places *places, int64_t count) {
  if (places->old == NULL) return;
  uint64_t end = (uint64_t)1 << places->old_bits;
  uint64_t until = (uint64_t)count < end - places->moved ? places->moved + (uint64_t)count : end;
  for (; places->moved < until; places->moved++) {
    lc_place entry = places->old[places->moved];
    if (entry.row != 0 && entry.row != LC_PLACE_GONE) place_in(places->now, places->bits, entry);
  }
  if (places->moved < end) return;
  lc_free(places->old);
  places->old = NULL;
}

bool lc_places_reserve(lc_places *places, int64_t more) {
  int32_t bits = bits_for(places, more);
  if (bits == places->bits) return true;
  lc_place *larger = lc_calloc((size_t)1 << bits, sizeof *larger);
  if (larger == NULL) return false;
  /* The former growth is long over when the next one comes (16 places moved a row), but in a table of some hundred. */
  lc_places_move(places, INT64_MAX);
  places->old = places->now;
  places->old_bits = places->bits;
  places->moved = 0;
  places->now = larger;
  places->bits = bits;
  return true;
}

void lc_places_add(lc_places *places, uint32_t tag, uint32_t row) {
  place_in(places->now, places->bits, (lc_place){.tag = tag, .row = row + 1});
  places->used++;
}

void lc_places_remove(lc_places *places, const lc_probe *probe) {
  places->used--;
  if (probe->table == places->old) { /* closing the gap could bring an entry over the border of what was moved */
    probe->at->row = LC_PLACE_GONE;
    return;
  }
  lc_place *table = places->now;
  uint64_t mask = probe->mask, hole = (uint64_t)(probe->at - table);
  for (uint64_t place = (hole + 1) & mask; table[place].row != 0; place = (place + 1) & mask) {
    uint64_t home = lc_home(table[place].tag, places->bits);
    if (((place - home) & mask) < ((place - hole) & mask)) continue; /* its home lies behind the hole */
    table[hole] = table[place];
    hole = place;
  }
  table[hole].row = 0;
}

void lc_places_shrink(lc_places *places) {
  lc_free(places->old);
  places->old = NULL;
  if (places->bits <= BITS_SHRINK) return;
  lc_places small;
  if (!lc_places_init(&small)) return; /* the large one is as good */
  lc_free(places->now);
  *places = small;
}
