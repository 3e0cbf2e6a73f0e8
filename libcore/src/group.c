/* Group rows by key: linear probing over 64-bit hashes, keys compared in full, the table at most half full. */
#include "group.h"

#include "libcore/hash.h"

/* Rows looked ahead while probing: far enough for a line to arrive from memory, near enough to stay in the cache. */
#define AHEAD 16

typedef struct entry {
  uint32_t tag;  /* upper half of the hash; the lower half chose the place */
  int32_t group; /* first row + 1; 0: free */
} entry;

int lc_position_compare(const uint8_t *a, const uint8_t *b) { return memcmp(a, b, 32); }

static bool float_equal(double a, double b) { return a == b || (a != a && b != b); }

static bool value_equal(const lc_view *view, int64_t a, int64_t b) {
  bool valid = lc_view_valid(view, a);
  if (valid != lc_view_valid(view, b)) return false;
  if (!valid) return true;
  switch (view->type) {
    case LC_TYPE_BOOL: return lc_view_bool(view, a) == lc_view_bool(view, b);
    case LC_TYPE_FLOAT32: return float_equal(lc_load_f32(view->values + 4 * a), lc_load_f32(view->values + 4 * b));
    case LC_TYPE_FLOAT64: return float_equal(lc_load_f64(view->values + 8 * a), lc_load_f64(view->values + 8 * b));
    case LC_TYPE_UTF8:
    case LC_TYPE_BINARY: {
      int64_t size = lc_view_size(view, a);
      return size == lc_view_size(view, b) && memcmp(lc_view_bytes(view, a), lc_view_bytes(view, b), (size_t)size) == 0;
    }
    default: break;
  }
  if (view->width == 8) return lc_load_u64(view->values + 8 * a) == lc_load_u64(view->values + 8 * b);
  if (view->width == 4) return lc_load_u32(view->values + 4 * a) == lc_load_u32(view->values + 4 * b);
  if (view->width == 0) return true;
  return memcmp(view->values + view->width * a, view->values + view->width * b, (size_t)view->width) == 0;
}

bool lc_rows_equal(const lc_view *views, int64_t key_count, int64_t a, int64_t b) {
  for (int64_t k = 0; k < key_count; k++)
    if (!value_equal(&views[k], a, b)) return false;
  return true;
}

void lc_groups_free(lc_groups *groups) {
  lc_free(groups->group);
  lc_free(groups->winner);
  lc_free(groups->next);
  lc_free(groups->tail);
  lc_free(groups->net);
  *groups = (lc_groups){0};
}

/* The row joins its group: it wins unless its position is smaller. */
static inline void join(lc_groups *groups, int32_t row, int32_t group, const lc_view *position, int32_t sign) {
  groups->group[row] = group;
  groups->net[group] += sign;
  if (groups->next != NULL) {
    groups->next[row] = groups->tail[group];
    groups->tail[group] = row;
  }
  const uint8_t *best = position->values + 32 * (int64_t)groups->winner[group];
  if (lc_position_compare(position->values + 32 * (int64_t)row, best) >= 0) groups->winner[group] = row;
}

static void fill(lc_groups *groups, entry *table, uint64_t mask, const uint64_t *hashes, int64_t rows,
                 const lc_view *keys, int64_t key_count, const lc_view *op, const lc_view *position) {
  for (int64_t row = 0; row < rows; row++) {
    if (row + AHEAD < rows) __builtin_prefetch(&table[hashes[row + AHEAD] & mask], 1);
    uint64_t place = hashes[row] & mask;
    uint32_t tag = (uint32_t)(hashes[row] >> 32);
    int32_t sign = op->values[row] == LC_OP_DELETE ? -1 : 1;
    while (table[place].group != 0 &&
           !(table[place].tag == tag && lc_rows_equal(keys, key_count, table[place].group - 1, row)))
      place = (place + 1) & mask;
    if (table[place].group != 0) {
      join(groups, (int32_t)row, table[place].group - 1, position, sign);
      continue;
    }
    table[place] = (entry){.tag = tag, .group = (int32_t)row + 1};
    groups->group[row] = groups->winner[row] = (int32_t)row;
    groups->net[row] = sign;
    groups->count++;
    if (groups->next != NULL) {
      groups->next[row] = -1;
      groups->tail[row] = (int32_t)row;
    }
  }
}

lc_code lc_groups_make(lc_groups *groups, const struct ArrowArray *batch, const lc_column *columns,
                       int64_t column_count, const int32_t *key, int64_t key_count, const lc_view *op,
                       const lc_view *position, bool links, lc_error *error) {
  int64_t rows = batch->length;
  uint64_t places = 16;
  while (places < 2 * (uint64_t)rows)
    places *= 2;
  *groups = (lc_groups){0};
  size_t size = (size_t)rows * sizeof(int32_t);
  uint64_t *hashes = lc_malloc((size_t)rows * sizeof *hashes);
  entry *table = lc_calloc(places, sizeof *table);
  lc_view *keys = lc_calloc((size_t)key_count, sizeof *keys);
  groups->group = lc_malloc(size);
  groups->winner = lc_malloc(size);
  groups->net = lc_malloc(size);
  if (links) {
    groups->next = lc_malloc(size);
    groups->tail = lc_malloc(size);
  }
  lc_code code = LC_OK;
  if (!hashes || !table || !keys || !groups->group || !groups->winner || !groups->net ||
      (links && (!groups->next || !groups->tail)))
    code = lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to group %lld rows", (long long)rows);
  if (code == LC_OK) code = lc_hash_rows(batch, columns, column_count, key, key_count, hashes, error);
  if (code == LC_OK) {
    for (int64_t k = 0; k < key_count; k++)
      keys[k] = lc_view_of(batch, columns, key[k]);
    fill(groups, table, places - 1, hashes, rows, keys, key_count, op, position);
  }
  lc_free(hashes);
  lc_free(table);
  lc_free(keys);
  if (code != LC_OK) lc_groups_free(groups);
  return code;
}
