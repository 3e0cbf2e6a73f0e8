/* The greatest version of each key: linear probing over 32 bits of the hash, keys compared in full, cleared often. */
#include "libcore/hash.h"
#include "libcore/join.h"
#include "view.h"

/* Rows looked ahead while probing: far enough for a line to arrive from memory, near enough to stay in the cache. */
#define AHEAD 16
#define BITS_MIN 8
#define BITS_KEPT 17 /* 2^17 places, 1 MB: emptying them takes 30 us, which an epoch does not feel */
#define BITS_MAX 31

typedef struct place {
  uint32_t tag;   /* upper half of the hash; its upper bits choose the place */
  uint32_t entry; /* number + 1; 0: free */
} place;

typedef struct entry {
  int64_t version;
  uint32_t tag;
  uint32_t at; /* where its key starts; it ends where the next one's starts */
} entry;

struct lc_latest {
  lc_column *columns; /* the key's, then the version's */
  lc_view *views;     /* room for one batch's key columns */
  int32_t *key;       /* 0, 1, ... for lc_hash_rows */
  int64_t key_count, fixed_size; /* bytes of a key without its texts */
  place *places;
  entry *entries;
  int32_t bits;
  int64_t used, capacity; /* entries; room for them */
  lc_buffer keys;
  uint64_t counter;
};

void lc_latest_free(lc_latest *latest) {
  if (latest == NULL) return;
  lc_free(latest->columns);
  lc_free(latest->views);
  lc_free(latest->key);
  lc_free(latest->places);
  lc_free(latest->entries);
  lc_buffer_free(&latest->keys);
  lc_free(latest);
}

lc_code lc_latest_new(const lc_column *key, int64_t key_count, lc_latest **out, lc_error *error) {
  if (key == NULL || key_count < 1 || key_count > 1 << 16)
    return lc_fail(error, LC_INVALID, -1, -1, "expected 1 to 65536 key columns, found %lld", (long long)key_count);
  for (int64_t k = 0; k < key_count; k++)
    if (!lc_column_valid(&key[k]))
      return lc_fail(error, LC_INVALID, -1, -1, "column %lld: unknown layout %d", (long long)k, key[k].type);
  lc_latest *latest = lc_calloc(1, sizeof *latest);
  if (latest == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for a key of %lld columns", (long long)key_count);
  latest->bits = BITS_MIN;
  latest->key_count = key_count;
  latest->columns = lc_malloc((size_t)(key_count + 1) * sizeof *latest->columns);
  latest->views = lc_malloc((size_t)key_count * sizeof *latest->views);
  latest->key = lc_malloc((size_t)key_count * sizeof *latest->key);
  latest->places = lc_calloc((size_t)1 << BITS_MIN, sizeof *latest->places);
  if (!latest->columns || !latest->views || !latest->key || !latest->places) {
    lc_latest_free(latest);
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for a key of %lld columns", (long long)key_count);
  }
  memcpy(latest->columns, key, (size_t)key_count * sizeof *key);
  latest->columns[key_count] = (lc_column){.type = LC_TYPE_INT64};
  for (int64_t k = 0; k < key_count; k++) {
    latest->key[k] = (int32_t)k;
    int32_t width = lc_type_is_variable(&key[k]) ? 4 : key[k].type == LC_TYPE_BOOL ? 1 : lc_type_width(&key[k]);
    latest->fixed_size += 1 + width;
  }
  *out = latest;
  return LC_OK;
}

void lc_latest_clear(lc_latest *latest) {
  if (latest->used == 0) return;
  place *small = NULL;
  /* Without memory for a small index the large one stays and is emptied: slower, not wrong. */
  if (latest->bits > BITS_KEPT) small = lc_calloc((size_t)1 << BITS_MIN, sizeof *small);
  if (small != NULL) {
    lc_free(latest->places);
    lc_free(latest->entries);
    lc_buffer_free(&latest->keys);
    latest->places = small;
    latest->entries = NULL;
    latest->bits = BITS_MIN;
    latest->capacity = 0;
  } else {
    memset(latest->places, 0, sizeof(place) << latest->bits);
  }
  latest->used = 0;
  latest->keys.size = 0;
}

static uint64_t home(uint32_t tag, int32_t bits) { return (uint64_t)tag >> (32 - bits); }

/* Places for `more` entries, at most half of them filled; false: no memory, and nothing has changed. */
static bool reserve_places(lc_latest *latest, int64_t more) {
  int32_t bits = latest->bits;
  while (bits < BITS_MAX && (int64_t)1 << (bits - 1) < latest->used + more)
    bits++;
  if (bits == latest->bits) return true;
  place *places = lc_calloc((size_t)1 << bits, sizeof *places);
  if (places == NULL) return false;
  uint64_t mask = ((uint64_t)1 << bits) - 1;
  for (int64_t i = 0; i < latest->used; i++) {
    uint32_t tag = latest->entries[i].tag;
    uint64_t at = home(tag, bits);
    while (places[at].entry != 0)
      at = (at + 1) & mask;
    places[at] = (place){.tag = tag, .entry = (uint32_t)i + 1};
  }
  lc_free(latest->places);
  latest->places = places;
  latest->bits = bits;
  return true;
}

static bool reserve_entries(lc_latest *latest, int64_t more) {
  if (latest->used + more <= latest->capacity) return true;
  int64_t capacity = latest->used + more > 2 * latest->capacity ? latest->used + more : 2 * latest->capacity;
  entry *entries = lc_realloc(latest->entries, (size_t)capacity * sizeof *entries);
  if (entries == NULL) return false;
  latest->entries = entries;
  latest->capacity = capacity;
  return true;
}

/* Room for all rows as if each had a new key, so that nothing can fail later. */
static lc_code reserve(lc_latest *latest, int64_t rows, lc_error *error) {
  int64_t bytes = latest->fixed_size * rows;
  for (int64_t k = 0; k < latest->key_count; k++)
    if (latest->views[k].offsets != NULL)
      bytes += (int64_t)latest->views[k].offsets[rows] - latest->views[k].offsets[0];
  if (latest->used + rows > (int64_t)1 << (BITS_MAX - 1) || (int64_t)latest->keys.size + bytes > INT32_MAX)
    return lc_fail(error, LC_CAPACITY, -1, -1,
                   "expected at most 2^30 keys of 2^31-1 bytes in an epoch, found %lld and %lld more",
                   (long long)latest->used, (long long)rows);
  if (!lc_buffer_reserve(&latest->keys, (size_t)bytes) || !reserve_entries(latest, rows) ||
      !reserve_places(latest, rows))
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for the versions of %lld rows", (long long)rows);
  return LC_OK;
}

static void write_float(const lc_view *view, int64_t row, uint8_t *to) {
  if (view->width == 4) {
    float value = lc_load_f32(view->values + 4 * row);
    uint32_t bits = value != value ? 0x7FC00000u : value == 0 ? 0 : lc_load_u32(view->values + 4 * row);
    memcpy(to, &bits, 4);
  } else {
    double value = lc_load_f64(view->values + 8 * row);
    uint64_t bits = value != value ? 0x7FF8000000000000u : value == 0 ? 0 : lc_load_u64(view->values + 8 * row);
    memcpy(to, &bits, 8);
  }
}

/* Write a row's key so that equal keys have equal bytes, and no key is the beginning of another; its end. */
static uint8_t *write_key(const lc_latest *latest, int64_t row, uint8_t *to) {
  for (int64_t k = 0; k < latest->key_count; k++) {
    const lc_view *view = &latest->views[k];
    bool valid = lc_view_valid(view, row);
    *to++ = valid;
    if (!valid) continue;
    if (view->offsets != NULL) {
      uint32_t size = (uint32_t)lc_view_size(view, row);
      memcpy(to, &size, 4);
      memcpy(to + 4, lc_view_bytes(view, row), size);
      to += 4 + size;
      continue;
    }
    if (view->type == LC_TYPE_BOOL)
      *to++ = lc_view_bool(view, row);
    else if (view->type == LC_TYPE_FLOAT32 || view->type == LC_TYPE_FLOAT64)
      write_float(view, row, to);
    else if (view->width == 8)
      memcpy(to, view->values + 8 * row, 8);
    else if (view->width > 0)
      memcpy(to, view->values + view->width * row, (size_t)view->width);
    to += view->width;
  }
  return to;
}

/* The entry of the row's key, a new one with the least version where there is none. */
static entry *entry_of(lc_latest *latest, int64_t row, uint64_t hash) {
  uint8_t *mine = latest->keys.data + latest->keys.size;
  size_t size = (size_t)(write_key(latest, row, mine) - mine);
  uint32_t tag = (uint32_t)(hash >> 32);
  uint64_t mask = ((uint64_t)1 << latest->bits) - 1, at = home(tag, latest->bits);
  for (; latest->places[at].entry != 0; at = (at + 1) & mask) {
    if (latest->places[at].tag != tag) continue;
    entry *found = &latest->entries[latest->places[at].entry - 1];
    /* No key is the beginning of another, so `size` bytes that are equal are all of both; the last may be shorter. */
    if (latest->keys.size - found->at >= size && memcmp(latest->keys.data + found->at, mine, size) == 0) return found;
  }
  latest->places[at] = (place){.tag = tag, .entry = (uint32_t)latest->used + 1};
  entry *fresh = &latest->entries[latest->used++];
  *fresh = (entry){.version = INT64_MIN, .tag = tag, .at = (uint32_t)latest->keys.size};
  latest->keys.size += size;
  return fresh;
}

static void write_position(uint8_t *to, uint64_t counter) {
  memset(to, 0, 24);
  for (int byte = 0; byte < 8; byte++)
    to[24 + byte] = (uint8_t)(counter >> (56 - 8 * byte));
}

lc_code lc_latest_take(lc_latest *latest, const struct ArrowArray *batch, int32_t *rows, int64_t *count,
                       uint8_t *positions, lc_error *error) {
  *count = 0;
  lc_code code = lc_check_batch(batch, latest->columns, latest->key_count + 1, error);
  if (code != LC_OK || batch->length == 0) return code;
  if (batch->length >= INT32_MAX) return lc_fail(error, LC_INVALID, -1, -1, "expected fewer than 2^31-1 rows");
  for (int64_t k = 0; k < latest->key_count; k++)
    latest->views[k] = lc_view_of(batch, latest->columns, k);
  lc_view version = lc_view_of(batch, latest->columns, latest->key_count);
  code = reserve(latest, batch->length, error);
  if (code != LC_OK) return code;
  uint64_t *hashes = lc_malloc((size_t)batch->length * sizeof *hashes);
  if (hashes == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to hash %lld rows", (long long)batch->length);
  code = lc_hash_rows(batch, latest->columns, latest->key_count + 1, latest->key, latest->key_count, hashes, error);
  for (int64_t row = 0; code == LC_OK && row < batch->length; row++) {
    if (row + AHEAD < batch->length)
      __builtin_prefetch(&latest->places[home((uint32_t)(hashes[row + AHEAD] >> 32), latest->bits)], 1);
    entry *found = entry_of(latest, row, hashes[row]);
    int64_t came = lc_load_i64(version.values + 8 * row);
    if (came < found->version) continue;
    found->version = came;
    write_position(positions + 32 * *count, ++latest->counter);
    rows[(*count)++] = (int32_t)row;
  }
  lc_free(hashes);
  return code;
}
