/* The row store from C: a history against a plain array, allocation failures, memory that is used again. */
#include "check.h"
#include "libcore/table.h"
#include "table.h"

enum { ROWS_MAX = 512, KEYS = 1200, TEXT_MAX = 96, PARTS = 4, PART = 300 };

/* A batch of columns id int64, parent int32, text utf8. */
typedef struct items {
  check_batch batch, keys, parents;
  int64_t id[ROWS_MAX];
  int32_t parent[ROWS_MAX], offsets[ROWS_MAX + 1];
  uint8_t parent_valid[ROWS_MAX / 8], text[ROWS_MAX * TEXT_MAX];
  int rows;
} items;

static const lc_column ID = {.type = LC_TYPE_INT64}, PARENT = {.type = LC_TYPE_INT32}, TEXT = {.type = LC_TYPE_UTF8};

static void items_start(items *b) {
  b->rows = 0;
  b->offsets[0] = 0;
  memset(b->parent_valid, 0, sizeof b->parent_valid);
}

/* parent < 0: NULL.  The text is `size` bytes that say whose it is. */
static void items_add(items *b, int64_t id, int32_t parent, int size) {
  b->id[b->rows] = id;
  b->parent[b->rows] = parent;
  if (parent >= 0) lc_bit_set(b->parent_valid, b->rows);
  memset(b->text + b->offsets[b->rows], (int)('a' + (id + size) % 26), (size_t)size);
  b->offsets[b->rows + 1] = b->offsets[b->rows] + size;
  b->rows++;
}

static void items_finish(items *b) {
  check_batch_start(&b->batch, b->rows);
  check_batch_add(&b->batch, ID, NULL, b->id, NULL);
  check_batch_add(&b->batch, PARENT, b->parent_valid, b->parent, NULL);
  check_batch_add(&b->batch, TEXT, NULL, b->offsets, b->text);
  check_batch_start(&b->keys, b->rows);
  check_batch_add(&b->keys, ID, NULL, b->id, NULL);
  check_batch_start(&b->parents, b->rows);
  check_batch_add(&b->parents, PARENT, b->parent_valid, b->parent, NULL);
}

static lc_code store_new(int64_t bytes_max, lc_table **out, lc_error *error) {
  const lc_column columns[3] = {ID, PARENT, TEXT};
  const int32_t key[1] = {0}, index[1] = {1};
  return lc_table_new(columns, 3, key, 1, index, 1, key, 1, 8, bytes_max, out, error);
}

static uint64_t random_next(uint64_t *state) {
  *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
  return *state >> 33;
}

/* What the store should hold, by id. */
typedef struct truth {
  bool there[KEYS];
  int32_t parent[KEYS];
  int size[KEYS];
} truth;

/* No block of the heap is lost: as many are in use as rows have texts that are too long for their record. */
static void check_heap(const lc_table *table, const truth *held) {
  int64_t used = 0, long_texts = 0;
  for (uint32_t p = 0; p < table->heap.count; p++)
    if (table->heap.pages[p].data != NULL) used += table->heap.pages[p].used;
  for (int k = 0; k < KEYS; k++)
    long_texts += held->there[k] && held->size[k] > LC_INLINE_BYTES;
  CHECK(long_texts <= used && used <= long_texts + table->kept);
}

static void check_truth(const lc_table *table, const truth *held) {
  check_heap(table, held);
  struct ArrowArray whole;
  CHECK_EQUAL(LC_OK, lc_table_whole(table, -1, &whole, NULL));
  int64_t there = 0;
  for (int k = 0; k < KEYS; k++)
    there += held->there[k];
  CHECK_EQUAL(there, whole.length);
  CHECK_EQUAL(there, lc_table_rows(table));
  const int64_t *id = whole.children[0]->buffers[1];
  const int32_t *parent = whole.children[1]->buffers[1], *offsets = whole.children[2]->buffers[1];
  const uint8_t *text = whole.children[2]->buffers[2];
  bool good = true;
  for (int64_t i = 0; i < whole.length; i++) {
    int64_t k = id[i];
    int size = offsets[i + 1] - offsets[i];
    good = good && k >= 0 && k < KEYS && held->there[k] && size == held->size[k];
    good = good && lc_is_valid(whole.children[1], i) == (held->parent[k] >= 0);
    good = good && (held->parent[k] < 0 || parent[i] == held->parent[k]);
    for (int at = 0; good && at < size; at++)
      good = text[offsets[i] + at] == (uint8_t)('a' + (k + size) % 26);
  }
  CHECK(good);
  whole.release(&whole);
}

/* The matches of each parent are as many as the truth has. */
static void check_matches(const lc_table *table, const truth *held, items *b) {
  items_start(b);
  for (int32_t parent = 0; parent < 10; parent++)
    items_add(b, 0, parent, 0);
  items_finish(b);
  struct ArrowArray out;
  CHECK_EQUAL(LC_OK, lc_table_matches(table, &b->parents.array, &out, NULL));
  int64_t expected[10] = {0}, found[10] = {0};
  for (int k = 0; k < KEYS; k++)
    if (held->there[k] && held->parent[k] >= 0) expected[held->parent[k]]++;
  for (int64_t i = 0; i < out.length; i++)
    found[((const int32_t *)out.children[0]->buffers[1])[i]]++;
  for (int parent = 0; parent < 10; parent++)
    CHECK_EQUAL(expected[parent], found[parent]);
  out.release(&out);
}

static void a_history_equals_an_array(void) {
  lc_table *table = NULL;
  CHECK_EQUAL(LC_OK, store_new(0, &table, NULL));
  static truth held;
  static items b;
  uint64_t seed = 7;
  for (int turn = 0; turn < 200; turn++) {
    items_start(&b);
    bool upsert = random_next(&seed) % 3 > 0;
    int rows = (int)(random_next(&seed) % ROWS_MAX);
    for (int i = 0; i < rows; i++) {
      int64_t k = (int64_t)(random_next(&seed) % KEYS);
      int32_t parent = (int32_t)(random_next(&seed) % 11) - 1;
      int size = (int)(random_next(&seed) % TEXT_MAX);
      items_add(&b, k, parent, size);
      held.there[k] = upsert;
      held.parent[k] = parent;
      held.size[k] = size;
    }
    items_finish(&b);
    int64_t count = 0;
    CHECK_EQUAL(LC_OK, upsert ? lc_table_upsert(table, &b.batch.array, NULL)
                              : lc_table_delete(table, &b.keys.array, &count, NULL));
    if (random_next(&seed) % 4 == 0) lc_table_mark(table);
    check_truth(table, &held);
    check_matches(table, &held, &b);
  }
  lc_table_clear(table);
  CHECK_EQUAL(0, lc_table_rows(table));
  lc_table_mark(table);
  memset(&held, 0, sizeof held);
  check_truth(table, &held);
  lc_table_free(table);
}

/* ---- allocation failures ---- */

/* Rows that need everything: a page, a block, growth of both indexes; texts of a page of their own. */
static void many(items *b, int64_t from, int size) {
  items_start(b);
  for (int i = 0; i < PART; i++)
    items_add(b, from + i, i % 5, (i + size) % TEXT_MAX);
  items_finish(b);
}

typedef struct faults {
  items parts[PARTS]; /* all but the last are in; the last needs a second page of rows */
} faults;

static lc_code make_and_free(void *context) {
  lc_table *table = NULL;
  lc_code code = store_new(0, &table, NULL);
  if (code == LC_OK) lc_table_free(table);
  return code;
}

/* Every call with every failure: a failing upsert leaves the rows before error.row in, and the store goes on. */
static lc_code upsert_with_failures(void *context) {
  faults *f = context;
  lc_table *table = NULL;
  int64_t fail_at = lc_test_alloc_fail_at;
  int persist = lc_test_alloc_persist;
  lc_test_alloc_fail_at = 0;
  if (store_new(0, &table, NULL) != LC_OK) return LC_INVALID;
  const struct ArrowArray *last = &f->parts[PARTS - 1].batch.array;
  for (int part = 0; part < PARTS - 1; part++)
    CHECK_EQUAL(LC_OK, lc_table_upsert(table, &f->parts[part].batch.array, NULL));
  lc_test_alloc_count = 0;
  lc_test_alloc_fail_at = fail_at;
  lc_test_alloc_persist = persist;
  lc_error error = {.row = -1};
  lc_code code = lc_table_upsert(table, last, &error);
  int64_t count = lc_test_alloc_count;
  lc_test_alloc_fail_at = 0;
  lc_test_alloc_persist = 0;
  int64_t in = code == LC_OK ? PART : error.row < 0 ? 0 : error.row;
  CHECK_EQUAL((PARTS - 1) * PART + in, lc_table_rows(table));
  CHECK_EQUAL(LC_OK, lc_table_upsert(table, last, NULL));
  CHECK_EQUAL(PARTS * PART, lc_table_rows(table));
  static truth held;
  memset(&held, 0, sizeof held);
  for (int part = 0; part < PARTS; part++)
    for (int i = 0; i < PART; i++) {
      const items *b = &f->parts[part];
      held.there[b->id[i]] = true;
      held.parent[b->id[i]] = b->parent[i];
      held.size[b->id[i]] = b->offsets[i + 1] - b->offsets[i];
    }
  check_truth(table, &held);
  lc_table_free(table);
  lc_test_alloc_count = count; /* what the harness asks: was the failure reached */
  return code;
}

/* A store that is only read: no failure changes what it holds. */
typedef struct reader {
  lc_table *table;
  items probes;
  int call;
} reader;

static lc_code read_and_free(void *context) {
  reader *r = context;
  struct ArrowArray out = {0};
  lc_table_range ranges[8];
  int64_t rows[ROWS_MAX], count;
  int32_t slots[ROWS_MAX];
  const int32_t columns[2] = {2, 0};
  lc_code code = LC_OK;
  switch (r->call) {
    case 0: code = lc_table_find(r->table, &r->probes.keys.array, rows, NULL); break;
    case 1: code = lc_table_matches(r->table, &r->probes.parents.array, &out, NULL); break;
    case 2: code = lc_table_whole(r->table, 3, &out, NULL); break;
    case 3: code = lc_table_changed(r->table, &out, ranges, &count, NULL); break;
    case 4: code = lc_table_slots_of(r->table, &r->probes.keys.array, slots, NULL); break;
    default:
      for (int i = 0; i < 300; i++)
        rows[i] = i % 7 == 0 ? -1 : i;
      code = lc_table_take(r->table, rows, 300, columns, 2, &out, NULL);
  }
  if (out.release != NULL) out.release(&out);
  return code;
}

static lc_code delete_with_failures(void *context) {
  reader *r = context;
  int64_t count = 0, rows = lc_table_rows(r->table);
  lc_code code = lc_table_delete(r->table, &r->probes.keys.array, &count, NULL);
  CHECK_EQUAL(code == LC_OK ? 0 : rows, lc_table_rows(r->table));
  return code;
}

static void allocation_failures(void) {
  static faults f;
  for (int part = 0; part < PARTS; part++)
    many(&f.parts[part], part * PART, 40 * part);
  check_allocation_failures(make_and_free, NULL);
  check_allocation_failures(upsert_with_failures, &f);
  static reader r;
  many(&r.probes, 0, 0);
  CHECK_EQUAL(LC_OK, store_new(0, &r.table, NULL));
  CHECK_EQUAL(LC_OK, lc_table_upsert(r.table, &f.parts[0].batch.array, NULL));
  for (r.call = 0; r.call <= 5; r.call++)
    check_allocation_failures(read_and_free, &r);
  CHECK_EQUAL(300, lc_table_rows(r.table));
  check_allocation_failures(delete_with_failures, &r);
  lc_table_free(r.table);
}

/* ---- memory ---- */

static void memory_is_used_again(void) {
  lc_table *table = NULL;
  static items b;
  CHECK_EQUAL(LC_OK, store_new(0, &table, NULL));
  int64_t bytes[10], count = 0;
  for (int turn = 0; turn < 10; turn++) {
    for (int64_t from = 0; from < 30000; from += 300) {
      for (int again = 0; again < 3; again++) { /* updates to other lengths give their blocks back */
        many(&b, 100000 * turn + from, 37 * turn + 11 * again);
        CHECK_EQUAL(LC_OK, lc_table_upsert(table, &b.batch.array, NULL));
      }
    }
    lc_table_mark(table);
    bytes[turn] = lc_table_bytes(table);
    for (int64_t from = 0; from < 30000; from += 300) {
      many(&b, 100000 * turn + from, 0);
      b.keys.array.length = from == 0 ? 299 : 300; /* one row stays, so that the store is never empty */
      CHECK_EQUAL(LC_OK, lc_table_delete(table, &b.keys.array, &count, NULL));
    }
    lc_table_mark(table);
  }
  for (int turn = 1; turn < 10; turn++)
    CHECK(bytes[turn] <= bytes[0] + bytes[0] / 16);
  CHECK(bytes[0] < 30000 * 200);
  CHECK_EQUAL(10, lc_table_rows(table));
  int64_t full = lc_table_bytes(table);
  lc_table_clear(table);
  lc_table_mark(table);
  CHECK(lc_table_bytes(table) < full / 2);
  lc_table_free(table);
}

static void a_bound_holds(void) {
  lc_table *table = NULL;
  static items b;
  lc_error error;
  CHECK_EQUAL(LC_OK, store_new(2000000, &table, NULL));
  lc_code code = LC_OK;
  int64_t from = 0;
  for (; from < 100000 && code == LC_OK; from += 300) {
    many(&b, from, 0);
    code = lc_table_upsert(table, &b.batch.array, &error);
    CHECK(lc_table_bytes(table) <= 2000000);
  }
  CHECK_EQUAL(LC_CAPACITY, code);
  CHECK(from > 600);
  CHECK_EQUAL(from - 300, lc_table_rows(table));
  many(&b, 0, 0); /* what is there takes no more room */
  CHECK_EQUAL(LC_OK, lc_table_upsert(table, &b.batch.array, &error));
  lc_table_free(table);
}

/* ---- the parts ---- */

static void heap_classes_hold_what_they_say(void) {
  for (uint32_t size = 1; size <= LC_HEAP_SMALL; size++) {
    int64_t bytes = lc_heap_class_bytes(lc_heap_class(size));
    if (bytes < size || (size > 256 && bytes > size + size / 4) || (size <= 256 && bytes >= size + LC_HEAP_UNIT))
      CHECK_EQUAL(size, bytes);
  }
  CHECK_EQUAL(LC_HEAP_CLASSES - 1, lc_heap_class(LC_HEAP_SMALL));
  CHECK_EQUAL(LC_HEAP_CLASSES, lc_heap_class(LC_HEAP_SMALL + 1));
}

/* Tags that all want the last place, so that they wrap; removed while the table grows, in both tables. */
static void places_survive_wrapping_and_growing(void) {
  lc_places places;
  CHECK(lc_places_init(&places));
  for (uint32_t round = 0; round < 20; round++) {
    for (uint32_t row = 0; row < 100; row++) {
      CHECK(lc_places_reserve(&places, 1));
      lc_places_move(&places, row % 3);
      lc_places_add(&places, UINT32_MAX - row % 4, row);
    }
    for (uint32_t step = 0; step < 100; step++) {
      uint32_t row = (step * 37 + round) % 100, tag = UINT32_MAX - row % 4, found;
      lc_probe probe = lc_probe_start(&places, tag);
      while ((found = lc_probe_next(&places, &probe, tag)) != LC_NONE && found != row) {
      }
      CHECK_EQUAL(row, found);
      if (found == row) lc_places_remove(&places, &probe);
      lc_places_move(&places, step % 2);
      probe = lc_probe_start(&places, tag); /* nor is it found where it stood before it was moved */
      while ((found = lc_probe_next(&places, &probe, tag)) != LC_NONE && found != row) {
      }
      CHECK_EQUAL(LC_NONE, found);
    }
    CHECK_EQUAL(0, places.used);
  }
  lc_places_free(&places);
}

static void arguments_are_checked(void) {
  const lc_column columns[2] = {ID, TEXT};
  const int32_t good[1] = {0}, far[1] = {2}, twice[2] = {0, 0}, other[1] = {1};
  lc_table *table = NULL;
  lc_error error;
  CHECK_EQUAL(LC_INVALID, lc_table_new(columns, 2, far, 1, NULL, 0, good, 1, 1, 0, &table, &error));
  CHECK_EQUAL(LC_INVALID, lc_table_new(columns, 2, twice, 2, NULL, 0, good, 1, 1, 0, &table, &error));
  CHECK_EQUAL(LC_INVALID, lc_table_new(columns, 2, good, 1, NULL, 0, other, 1, 1, 0, &table, &error));
  CHECK_EQUAL(LC_INVALID, lc_table_new(columns, 2, good, 1, NULL, 0, good, 1, 65537, 0, &table, &error));
  lc_column wide[17];
  for (int c = 0; c < 17; c++)
    wide[c] = (lc_column){.type = LC_TYPE_FIXED, .width = 1 << 20};
  CHECK_EQUAL(LC_CAPACITY, lc_table_new(wide, 17, good, 1, NULL, 0, good, 1, 1, 0, &table, &error));
  CHECK_EQUAL(LC_OK, lc_table_new(columns, 2, good, 1, NULL, 0, good, 1, 1, 0, &table, &error));
  struct ArrowArray out;
  const int64_t rows[2] = {-1, 0};
  CHECK_EQUAL(LC_INVALID, lc_table_take(table, rows, 2, good, 1, &out, &error));
  CHECK_EQUAL(1, error.row);
  CHECK_EQUAL(LC_INVALID, lc_table_take(table, rows, 1, twice, 2, &out, &error));
  CHECK_EQUAL(LC_INVALID, lc_table_whole(table, 1, &out, &error));
  lc_table_free(table);
  lc_table_free(NULL);
}

int main(void) {
  a_history_equals_an_array();
  heap_classes_hold_what_they_say();
  places_survive_wrapping_and_growing();
  arguments_are_checked();
  memory_is_used_again();
  a_bound_holds();
  allocation_failures();
  return check_result("table");
}
