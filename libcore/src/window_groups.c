/* Number groups: linear probing over 64-bit hashes, keys compared in full, the table at most half full. */
#include "group.h"
#include "libcore/hash.h"
#include "libcore/window.h"

/* Rows looked ahead while probing: far enough for a line to arrive from memory, near enough to stay in the cache. */
#define AHEAD 16

typedef struct entry {
  uint32_t tag;  /* upper half of the hash; the lower half chose the place */
  int32_t group; /* number + 1; 0: free */
} entry;

static int64_t number_rows(entry *table, uint64_t mask, const uint64_t *hashes, int64_t rows, const lc_view *keys,
                           int64_t key_count, int32_t *groups, int32_t *firsts) {
  int64_t count = 0;
  for (int64_t row = 0; row < rows; row++) {
    if (row + AHEAD < rows) __builtin_prefetch(&table[hashes[row + AHEAD] & mask], 1);
    uint64_t place = hashes[row] & mask;
    uint32_t tag = (uint32_t)(hashes[row] >> 32);
    while (table[place].group != 0 &&
           !(table[place].tag == tag && lc_rows_equal(keys, key_count, firsts[table[place].group - 1], row)))
      place = (place + 1) & mask;
    if (table[place].group == 0) {
      firsts[count++] = (int32_t)row;
      table[place] = (entry){.tag = tag, .group = (int32_t)count};
    }
    groups[row] = table[place].group - 1;
  }
  return count;
}

lc_code lc_window_groups(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                         const int32_t *key, int64_t key_count, int32_t *groups, int32_t *firsts, int64_t *group_count,
                         lc_error *error) {
  lc_code code = lc_check_batch(batch, columns, column_count, error);
  if (code != LC_OK) return code;
  int64_t rows = batch->length;
  if (rows >= 1 << 30 || key_count < 0)
    return lc_fail(error, LC_INVALID, -1, -1, "expected fewer than 2^30 rows, found %lld", (long long)rows);
  for (int64_t k = 0; k < key_count; k++)
    if (key[k] < 0 || key[k] >= column_count)
      return lc_fail(error, LC_INVALID, -1, -1, "expected a column below %lld, found %d", (long long)column_count,
                     key[k]);
  uint64_t places = 16;
  while (places < 2 * (uint64_t)rows)
    places *= 2;
  uint64_t *hashes = lc_malloc((size_t)rows * sizeof *hashes + 1);
  entry *table = lc_calloc(places, sizeof *table);
  lc_view *keys = lc_malloc((size_t)key_count * sizeof *keys + 1);
  if (!hashes || !table || !keys)
    code = lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to group %lld rows", (long long)rows);
  if (code == LC_OK) code = lc_hash_rows(batch, columns, column_count, key, key_count, hashes, error);
  if (code == LC_OK) {
    for (int64_t k = 0; k < key_count; k++)
      keys[k] = lc_view_of(batch, columns, key[k]);
    *group_count = number_rows(table, places - 1, hashes, rows, keys, key_count, groups, firsts);
  }
  lc_free(hashes);
  lc_free(table);
  lc_free(keys);
  return code;
}
