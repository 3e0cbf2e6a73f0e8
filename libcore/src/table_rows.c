/* One row of the store: found, put, removed, and its place in the list of its index value. */
#include "table.h"

enum { PEEKED = 4, PAGES_KEPT = 4 };

/* ---- found ---- */

void lc_row_prefetch_place(const lc_rows_in *in, int64_t row) {
  if (in->key_hash != NULL) lc_places_prefetch(&in->table->by_key, lc_tag(in->key_hash[row]));
  if (in->index_hash != NULL) lc_places_prefetch(&in->table->by_index, lc_tag(in->index_hash[row]));
}

/* The first row near its home with that tag; while a table grows, only the new one is looked at. */
static uint32_t peek(const lc_places *places, uint32_t tag) {
  uint64_t mask = ((uint64_t)1 << places->bits) - 1, home = lc_home(tag, places->bits);
  for (uint64_t i = 0; i < PEEKED; i++) {
    lc_place entry = places->now[(home + i) & mask];
    if (entry.row == 0) return LC_NONE;
    if (entry.tag == tag) return entry.row - 1;
  }
  return LC_NONE;
}

void lc_row_prefetch_record(const lc_rows_in *in, int64_t row) {
  const lc_table *t = in->table;
  uint32_t number = in->key_hash == NULL ? LC_NONE : peek(&t->by_key, lc_tag(in->key_hash[row]));
  if (number != LC_NONE) {
    const uint8_t *record = lc_record(t, number);
    __builtin_prefetch(record, 1);
    __builtin_prefetch(record + t->record_size - 1, 1);
    __builtin_prefetch(lc_flags(t, number), 1);
  }
  number = in->index_hash == NULL ? LC_NONE : peek(&t->by_index, lc_tag(in->index_hash[row]));
  if (number != LC_NONE) __builtin_prefetch(lc_record(t, number), 1);
}

void lc_row_prefetch_found(const lc_rows_in *in, int64_t row) {
  const lc_table *t = in->table;
  uint32_t number = in->found[row];
  if (number == LC_NONE) {
    lc_row_prefetch_place(in, row);
    return;
  }
  const uint8_t *record = lc_record(t, number);
  __builtin_prefetch(record, 1);
  __builtin_prefetch(record + t->record_size - 1, 1);
  __builtin_prefetch(lc_flags(t, number), 1);
}

/* Whether the texts numbered `from` to `until` of a record are those of a row of a batch; their sizes are equal. */
static bool texts_same(const lc_table *t, const lc_rows_in *in, int64_t row, const uint8_t *record, int32_t until) {
  const uint8_t *text = lc_text(t, record, lc_text_size(t, record));
  for (int32_t i = 0; i < until; i++) {
    uint32_t size = lc_load_u32(record + t->fields[t->texts[i]].same);
    if (size > 0 && memcmp(text, lc_view_bytes(&in->views[t->texts[i]], row), size) != 0) return false;
    text += size;
  }
  return true;
}

uint32_t lc_row_find(const lc_table *t, const lc_rows_in *in, int64_t row, lc_probe *probe) {
  uint32_t tag = lc_tag(in->key_hash[row]), number;
  const uint8_t *mine = lc_rows_in_record(in, row);
  *probe = lc_probe_start(&t->by_key, tag);
  while ((number = lc_probe_next(&t->by_key, probe, tag)) != LC_NONE) {
    const uint8_t *record = lc_record(t, number);
    if (memcmp(record + t->key_at, mine + t->key_at, t->key_size) == 0 &&
        (t->key_text_count == 0 || texts_same(t, in, row, record, t->key_text_count)))
      return number;
  }
  return LC_NONE;
}

/* ---- the list of an index value: next and prev in the records, the oldest row's prev is the youngest ---- */

static uint32_t next_of(const lc_table *t, uint32_t row) { return lc_load_u32(lc_record(t, row) + LC_AT_NEXT); }
static uint32_t prev_of(const lc_table *t, uint32_t row) { return lc_load_u32(lc_record(t, row) + LC_AT_PREV); }
static void set_next(lc_table *t, uint32_t row, uint32_t next) { lc_store_u32(lc_record(t, row) + LC_AT_NEXT, next); }
static void set_prev(lc_table *t, uint32_t row, uint32_t prev) { lc_store_u32(lc_record(t, row) + LC_AT_PREV, prev); }

static bool has_index_null(const lc_rows_in *in, int64_t row) {
  for (int32_t k = 0; k < in->table->index_count; k++)
    if (!lc_view_valid(&in->views[in->table->index[k]], row)) return true;
  return false;
}

static const uint8_t *text_of(const lc_table *t, const uint8_t *record, int32_t column) {
  const uint8_t *text = lc_text(t, record, lc_text_size(t, record));
  for (int32_t i = 0; t->texts[i] != column; i++)
    text += lc_load_u32(record + t->fields[t->texts[i]].same);
  return text;
}

/* Whether a record has the index values of a row of a batch; neither has a NULL among them. */
static bool index_same(const lc_table *t, const lc_rows_in *in, int64_t row, const uint8_t *record) {
  const uint8_t *mine = lc_rows_in_record(in, row);
  for (int32_t k = 0; k < t->index_count; k++) {
    const lc_field *field = &t->fields[t->index[k]];
    if (memcmp(record + field->same, mine + field->same, (size_t)field->stored) != 0) return false;
    if (!field->variable) continue;
    uint32_t size = lc_load_u32(mine + field->same);
    if (size > 0 && memcmp(text_of(t, record, t->index[k]), lc_view_bytes(&in->views[t->index[k]], row), size) != 0)
      return false;
  }
  return true;
}

uint32_t lc_chain_find(const lc_table *t, const lc_rows_in *in, int64_t row, lc_probe *probe) {
  if (has_index_null(in, row)) return LC_NONE;
  uint32_t tag = lc_tag(in->index_hash[row]), number;
  *probe = lc_probe_start(&t->by_index, tag);
  while ((number = lc_probe_next(&t->by_index, probe, tag)) != LC_NONE)
    if (index_same(t, in, row, lc_record(t, number))) return number;
  return LC_NONE;
}

static void link_row(lc_table *t, const lc_rows_in *in, int64_t row, uint32_t number) {
  if (has_index_null(in, row)) return;
  lc_probe probe;
  uint32_t first = lc_chain_find(t, in, row, &probe), tag = lc_tag(in->index_hash[row]);
  lc_store_u32(lc_record(t, number) + LC_AT_INDEX_TAG, tag);
  if (first == LC_NONE) {
    lc_places_add(&t->by_index, tag, number);
    set_prev(t, number, number);
    return;
  }
  uint32_t last = prev_of(t, first);
  set_next(t, last, number);
  set_prev(t, number, last);
  set_prev(t, first, number);
}

static void unlink_row(lc_table *t, uint32_t row) {
  if (t->index_count == 0 || prev_of(t, row) == LC_NONE) return;
  uint32_t next = next_of(t, row), prev = prev_of(t, row), number;
  uint32_t tag = lc_load_u32(lc_record(t, row) + LC_AT_INDEX_TAG);
  bool first = next_of(t, prev) != row;
  if (first || next == LC_NONE) { /* the index leads to the oldest row, and that one to the youngest */
    lc_probe probe = lc_probe_start(&t->by_index, tag);
    while ((number = lc_probe_next(&t->by_index, &probe, tag)) != row && prev_of(t, number) != row) {
    }
    if (!first)
      set_prev(t, number, prev);
    else if (next == LC_NONE)
      lc_places_remove(&t->by_index, &probe);
    else
      probe.at->row = next + 1;
  }
  if (!first) set_next(t, prev, next);
  if (next != LC_NONE) set_prev(t, next, prev);
  set_next(t, row, LC_NONE);
  set_prev(t, row, LC_NONE);
}

/* ---- put ---- */

void lc_row_flag(lc_table *t, uint32_t row, uint8_t flags) {
  uint8_t *old = lc_flags(t, row);
  lc_row_page *page = &t->pages[row >> t->page_shift];
  if ((flags ^ *old) & LC_ROW_DIRTY) page->dirty += flags & LC_ROW_DIRTY ? 1u : UINT32_MAX;
  *old = flags;
}

static bool page_new(lc_table *t) {
  if (t->page_count == t->page_capacity) {
    int64_t capacity = t->page_capacity == 0 ? 4 : 2 * t->page_capacity;
    lc_row_page *pages = lc_realloc(t->pages, (size_t)capacity * sizeof *pages);
    if (pages == NULL) return false;
    t->pages = pages;
    t->page_capacity = capacity;
  }
  uint8_t *data = lc_malloc(lc_page_bytes(t) + LC_SLACK_BYTES);
  if (data == NULL) return false;
  t->pages[t->page_count++] = (lc_row_page){.data = data};
  memset(lc_row_flags(t, t->page_count - 1), 0, ((size_t)1 << t->page_shift) + LC_SLACK_BYTES);
  return true;
}

/* The number freed last, or the next one; LC_NONE: no memory for a page. */
static uint32_t number_new(lc_table *t) {
  uint32_t row = t->free_row;
  if (row != LC_NONE) {
    t->free_row = lc_load_u32(lc_record(t, row) + LC_AT_TAG);
    t->free_rows--;
    return row;
  }
  if (t->next_row >> t->page_shift == t->page_count && !page_new(t)) return LC_NONE;
  return t->next_row++;
}

static void number_give(lc_table *t, uint32_t row) {
  lc_store_u32(lc_record(t, row) + LC_AT_TAG, t->free_row);
  t->free_row = row;
  t->free_rows++;
}

static void write_texts(const lc_table *t, const lc_rows_in *in, int64_t row, const uint8_t *record, uint8_t *text) {
  for (int32_t i = 0; i < t->text_count; i++) {
    uint32_t size = lc_load_u32(record + t->fields[t->texts[i]].same);
    if (size > 0) memcpy(text, lc_view_bytes(&in->views[t->texts[i]], row), size);
    text += size;
  }
}

/* A new row with its key in the index, not yet its record. */
static uint32_t row_new(lc_table *t, const lc_rows_in *in, int64_t row) {
  uint32_t number = number_new(t);
  if (number == LC_NONE) return LC_NONE;
  uint32_t tag = lc_tag(in->key_hash[row]);
  uint16_t slot = (uint16_t)lc_slot(t, in->slot_hash[row]);
  lc_store_u32(lc_record(t, number) + LC_AT_TAG, tag);
  if (t->index_count > 0) {
    set_next(t, number, LC_NONE);
    set_prev(t, number, LC_NONE);
  }
  memcpy(lc_row_slots(t, number >> t->page_shift) + 2 * (size_t)lc_in_page(t, number), &slot, sizeof slot);
  lc_places_add(&t->by_key, tag, number);
  return number;
}

/* Where the texts of a row go that had `old_size` bytes of them at `old`: there again, or to a new block. */
static lc_code block_for(lc_heap *heap, uint32_t size, uint32_t old_size, uint32_t old, uint32_t *block) {
  *block = LC_NONE;
  if (size <= LC_INLINE_BYTES) return LC_OK;
  int32_t class = lc_heap_class(size);
  *block = old;
  if (old != LC_NONE && class < LC_HEAP_CLASSES && class == lc_heap_class(old_size)) return LC_OK;
  return lc_heap_take(heap, size, block);
}

lc_code lc_row_put(lc_table *t, const lc_rows_in *in, int64_t row, bool durable) {
  lc_probe probe;
  uint32_t number = in->found != NULL ? in->found[row] : lc_row_find(t, in, row, &probe);
  uint32_t block, old_block = LC_NONE, old_size = 0;
  const uint8_t *mine = lc_rows_in_record(in, row);
  uint32_t size = lc_text_size(t, mine);
  uint8_t flags = 0;
  if (number != LC_NONE) {
    const uint8_t *old = lc_record(t, number);
    flags = *lc_flags(t, number);
    old_size = lc_text_size(t, old);
    if (old_size > LC_INLINE_BYTES) old_block = lc_load_u32(old + t->text_at);
  }
  lc_code code = block_for(&t->heap, size, old_size, old_block, &block);
  if (code != LC_OK) return code;
  bool linked = false;
  if (number == LC_NONE) {
    number = row_new(t, in, row);
    if (number == LC_NONE) {
      if (block != LC_NONE) lc_heap_give(&t->heap, block);
      return LC_NO_MEMORY;
    }
    flags = LC_ROW_FRESH;
  } else if (t->index_count > 0 && prev_of(t, number) != LC_NONE) {
    linked = !has_index_null(in, row) && index_same(t, in, row, lc_record(t, number));
    if (!linked) unlink_row(t, number);
  }
  uint8_t *record = lc_record(t, number);
  memcpy(record + t->key_at, mine + t->key_at, t->text_at - t->key_at);
  if (old_block != LC_NONE && old_block != block) lc_heap_give(&t->heap, old_block);
  if (block != LC_NONE) lc_store_u32(record + t->text_at, block);
  if (size > 0) write_texts(t, in, row, record, block != LC_NONE ? lc_heap_at(&t->heap, block) : record + t->text_at);
  if (t->index_count > 0 && !linked) link_row(t, in, row, number);
  if (!(flags & LC_ROW_LIVE)) t->rows++;
  if ((flags & (LC_ROW_LIVE | LC_ROW_USED)) == LC_ROW_USED) t->kept--;
  uint8_t changed = durable ? 0 : (uint8_t)(LC_ROW_DIRTY | (flags & LC_ROW_FRESH));
  lc_row_flag(t, number, (uint8_t)(LC_ROW_USED | LC_ROW_LIVE | changed));
  return LC_OK;
}

/* ---- removed ---- */

void lc_row_forget(lc_table *t, uint32_t row) {
  uint8_t *record = lc_record(t, row);
  uint32_t tag = lc_load_u32(record + LC_AT_TAG), size = lc_text_size(t, record);
  lc_probe probe = lc_probe_start(&t->by_key, tag);
  while (lc_probe_next(&t->by_key, &probe, tag) != row) {
  }
  lc_places_remove(&t->by_key, &probe);
  if (size > LC_INLINE_BYTES) lc_heap_give(&t->heap, lc_load_u32(record + t->text_at));
  lc_row_flag(t, row, 0);
  number_give(t, row);
}

bool lc_row_drop(lc_table *t, uint32_t row, bool durable) {
  uint8_t flags = *lc_flags(t, row);
  bool live = flags & LC_ROW_LIVE;
  if (live) {
    unlink_row(t, row);
    t->rows--;
  }
  if (durable || (flags & LC_ROW_FRESH)) {
    if (!live) t->kept--;
    lc_row_forget(t, row);
  } else if (live) {
    t->kept++;
    lc_row_flag(t, row, LC_ROW_USED | LC_ROW_DIRTY);
  }
  return live;
}

void lc_rows_reset(lc_table *t) {
  while (t->page_count > PAGES_KEPT)
    lc_free(t->pages[--t->page_count].data);
  t->next_row = 0;
  t->free_row = LC_NONE;
  t->free_rows = 0;
  lc_heap_free(&t->heap);
  lc_places_shrink(&t->by_key);
  if (t->index_count > 0) lc_places_shrink(&t->by_index);
}
