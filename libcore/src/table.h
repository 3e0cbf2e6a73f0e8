/* Inside the row store: its index, its heap of texts, its records, and how they are reached. */
#ifndef LIBCORE_TABLE_INTERNAL_H
#define LIBCORE_TABLE_INTERNAL_H

#include "libcore/table.h"
#include "view.h"

#define LC_NONE UINT32_MAX /* no row, no page, not in a list */

static inline void lc_store_u32(uint8_t *at, uint32_t value) { memcpy(at, &value, sizeof value); }

/* ---- the index: 32 bits of a hash -> row numbers (table_places.c) ---- */

typedef struct lc_place {
  uint32_t tag;
  uint32_t row; /* number + 1; 0: free; LC_PLACE_GONE: removed, in a table that is being left */
} lc_place;
#define LC_PLACE_GONE UINT32_MAX

/* Two tables while one grows: places of `old` below `moved` have been copied to `now` and mean nothing any more. */
typedef struct lc_places {
  lc_place *now, *old; /* old: NULL most of the time */
  int32_t bits, old_bits;
  uint64_t moved;
  int64_t used; /* entries in both */
} lc_places;

static inline uint64_t lc_home(uint32_t tag, int32_t bits) { return (uint64_t)tag >> (32 - bits); }

/* A walk over the entries of one tag. */
typedef struct lc_probe {
  lc_place *table;
  uint64_t place, mask, from;
  lc_place *at; /* the entry that lc_probe_next gave last */
} lc_probe;

static inline lc_probe lc_probe_start(const lc_places *places, uint32_t tag) {
  return (lc_probe){
      .table = places->now, .place = lc_home(tag, places->bits), .mask = ((uint64_t)1 << places->bits) - 1};
}

/* The next row with that tag, or LC_NONE. */
static inline uint32_t lc_probe_next(const lc_places *places, lc_probe *probe, uint32_t tag) {
  for (;;) {
    lc_place *at;
    while ((at = &probe->table[probe->place])->row != 0) {
      uint64_t here = probe->place;
      probe->place = (here + 1) & probe->mask;
      if (at->tag != tag || here < probe->from || at->row == LC_PLACE_GONE) continue;
      probe->at = at;
      return at->row - 1;
    }
    if (places->old == NULL || probe->table == places->old) return LC_NONE;
    *probe = (lc_probe){.table = places->old,
                        .place = lc_home(tag, places->old_bits),
                        .mask = ((uint64_t)1 << places->old_bits) - 1,
                        .from = places->moved};
  }
}

static inline void lc_places_prefetch(const lc_places *places, uint32_t tag) {
  __builtin_prefetch(&places->now[lc_home(tag, places->bits)], 1);
  if (places->old != NULL) __builtin_prefetch(&places->old[lc_home(tag, places->old_bits)], 1);
}

bool lc_places_init(lc_places *places);
void lc_places_free(lc_places *places);
bool lc_places_reserve(lc_places *places, int64_t more);           /* room for `more` entries; false: no memory */
int64_t lc_places_growth(const lc_places *places, int64_t more);   /* bytes that reserving that would allocate */
int64_t lc_places_bytes(const lc_places *places);                  /* bytes held */
void lc_places_move(lc_places *places, int64_t count);             /* take over `count` places of the old table */
void lc_places_add(lc_places *places, uint32_t tag, uint32_t row); /* room was reserved */
void lc_places_remove(lc_places *places, const lc_probe *probe);   /* the entry that the probe stands on */
void lc_places_shrink(lc_places *places);                          /* an empty one gives its memory back */

/* ---- the heap: bytes by size class (table_heap.c) ---- */

enum { LC_HEAP_UNIT = 16, LC_HEAP_PAGE = 1 << 16, LC_HEAP_CLASSES = 36, LC_HEAP_SMALL = 8192 };
#define LC_HEAP_PAGES_MAX (1u << 20) /* a reference has 20 bits for the page and 12 for the unit in it */

typedef struct lc_heap_page {
  uint8_t *data;       /* NULL: this page number is free */
  uint32_t size, used; /* bytes of it; blocks in use */
  uint32_t next, prev; /* pages of its class with room; of free page numbers: next */
  uint16_t free, end;  /* first freed unit, LC_HEAP_FULL: none; first unit never used */
  uint8_t class;
} lc_heap_page;
#define LC_HEAP_FULL UINT16_MAX

typedef struct lc_heap {
  lc_heap_page *pages;
  uint32_t count, capacity, free; /* free: first free page number */
  uint32_t room[LC_HEAP_CLASSES]; /* first page with room */
  int64_t open[LC_HEAP_CLASSES];  /* blocks free in pages of the class */
  int64_t bytes;
} lc_heap;

void lc_heap_init(lc_heap *heap);
void lc_heap_free(lc_heap *heap);
int32_t lc_heap_class(uint32_t size);       /* LC_HEAP_CLASSES: a page of its own */
int64_t lc_heap_class_bytes(int32_t class); /* bytes of a block */
lc_code lc_heap_take(lc_heap *heap, uint32_t size, uint32_t *reference); /* LC_OK, LC_NO_MEMORY, LC_CAPACITY */
void lc_heap_give(lc_heap *heap, uint32_t reference);
static inline uint8_t *lc_heap_at(const lc_heap *heap, uint32_t reference) {
  return heap->pages[reference >> 12].data + (size_t)(reference & 4095) * LC_HEAP_UNIT;
}

/* ---- records (table_layout.c) ---- */

/* A column in a record. */
typedef struct lc_field {
  int32_t type, width; /* lc_type; bytes in Arrow, 0 for bools and texts */
  int32_t stored;      /* bytes at `same`; 4 (a size) for texts */
  uint32_t same;       /* offset of the value in the form that compares, or of the text's size */
  uint32_t given;      /* offset of the value as it came; other than `same` for floats of key and index only */
  uint32_t null_byte;  /* offset of the byte with its NULL bit (1: NULL) */
  uint8_t null_bit;
  bool variable, in_key;
} lc_field;

enum { LC_ROW_LIVE = 1, LC_ROW_DIRTY = 2, LC_ROW_FRESH = 4, LC_ROW_USED = 8 }; /* USED without LIVE: deleted, kept */
enum { LC_AT_TAG = 0, LC_AT_NEXT = 4, LC_AT_PREV = 8, LC_AT_INDEX_TAG = 12, LC_INLINE_BYTES = 16 };
/* Bytes behind a page that may be read, so that a short text is copied as one block whatever its size. */
enum { LC_SLACK_BYTES = 16 };
#define LC_ROWS_MAX (INT32_MAX - 1)

/* Records, then uint16 slots, then flags of a page's rows. */
typedef struct lc_row_page {
  uint8_t *data;
  uint32_t dirty; /* rows with that flag */
} lc_row_page;

struct lc_table {
  lc_column *columns; /* layouts: all columns, then int8 for __op */
  lc_column *key_columns, *index_columns;
  lc_field *fields;
  int32_t *key, *index, *slot_by; /* column numbers */
  int32_t *all;                   /* 0, 1, 2 ... */
  int32_t *slot_in_key;           /* slot_by as numbers in the key */
  int32_t *texts;                 /* the columns of variable width in the order of their bytes; the key's first */
  int32_t column_count, key_count, index_count, slot_by_count, text_count, key_text_count;
  bool slots_by_key; /* slot_by is the key: one hash does for both */
  int32_t slots;
  int64_t bytes_max;

  uint32_t key_at, key_size;     /* the key's part of a record */
  uint32_t text_at, record_size; /* text_at: LC_INLINE_BYTES for texts, at the end */
  uint8_t *nothing;              /* a record of NULLs */

  lc_row_page *pages;
  int64_t page_count, page_capacity;
  int32_t page_shift;            /* rows of a page: 1 << page_shift */
  uint32_t next_row, free_row;   /* first number never used; number freed last */
  int64_t free_rows, rows, kept; /* freed numbers; live rows; deleted ones that wait for the mark */
  lc_places by_key, by_index;
  lc_heap heap;
};

static inline uint32_t lc_in_page(const lc_table *t, uint32_t row) { return row & ((1u << t->page_shift) - 1); }
static inline uint8_t *lc_record(const lc_table *t, uint32_t row) {
  return t->pages[row >> t->page_shift].data + (size_t)lc_in_page(t, row) * t->record_size;
}
static inline uint8_t *lc_row_slots(const lc_table *t, int64_t page) {
  return t->pages[page].data + ((size_t)t->record_size << t->page_shift);
}
static inline uint8_t *lc_row_flags(const lc_table *t, int64_t page) {
  return t->pages[page].data + ((size_t)(t->record_size + 2) << t->page_shift);
}
static inline uint8_t *lc_flags(const lc_table *t, uint32_t row) {
  return lc_row_flags(t, row >> t->page_shift) + lc_in_page(t, row);
}
static inline uint16_t lc_row_slot(const lc_table *t, uint32_t row) {
  uint16_t slot;
  memcpy(&slot, lc_row_slots(t, row >> t->page_shift) + 2 * (size_t)lc_in_page(t, row), sizeof slot);
  return slot;
}
/* Flags that are looked at together; what lies behind a page's last one may be among them (LC_SLACK_BYTES). */
enum { LC_FLAGS_WORD = 8 };
static inline bool lc_flags_any(const uint8_t *flags, uint8_t flag) {
  uint64_t word;
  memcpy(&word, flags, sizeof word);
  return (word & flag * UINT64_C(0x0101010101010101)) != 0;
}
static inline size_t lc_page_bytes(const lc_table *t) { return (size_t)(t->record_size + 3) << t->page_shift; }

static inline bool lc_field_null(const lc_field *field, const uint8_t *record) {
  return (record[field->null_byte] >> field->null_bit) & 1;
}

/* Bytes of all texts of a record. */
static inline uint32_t lc_text_size(const lc_table *t, const uint8_t *record) {
  uint32_t size = 0; /* the sum was checked against INT32_MAX before the record was made */
  for (int32_t i = 0; i < t->text_count; i++)
    size += lc_load_u32(record + t->fields[t->texts[i]].same);
  return size;
}
static inline const uint8_t *lc_text(const lc_table *t, const uint8_t *record, uint32_t size) {
  const uint8_t *at = record + t->text_at;
  return size <= LC_INLINE_BYTES ? at : lc_heap_at(&t->heap, lc_load_u32(at));
}

/* Rows on their way in, or values to look up: hashes of all, records of some at a time. */
typedef struct lc_rows_in {
  const lc_table *table;
  lc_view *views; /* by column number; only those of the columns given */
  const int32_t *given;
  int64_t given_count, rows;
  uint64_t *key_hash, *slot_hash, *index_hash; /* a word a row, or NULL; slot_hash may be key_hash */
  const uint32_t *found; /* what lc_row_find gives for each row, where the caller knows it; it frees it */
  uint8_t *records;                            /* of the rows from `start` on */
  int64_t start, step;                         /* how many of them at most */
} lc_rows_in;

/* Which columns a batch has. */
typedef enum lc_given { LC_GIVEN_ROW, LC_GIVEN_KEY, LC_GIVEN_INDEX } lc_given;

lc_code lc_table_layout(lc_table *t, lc_error *error);
/* Check the batch, view and hash it.  `extra`: columns behind the row's.  After LC_OK: lc_rows_in_free. */
lc_code lc_rows_in_make(lc_rows_in *in, const lc_table *t, const struct ArrowArray *batch, lc_given given,
                        int32_t extra, lc_error *error);
void lc_rows_in_free(lc_rows_in *in);
void lc_rows_in_fill(lc_rows_in *in, int64_t start, int64_t count); /* make `records`; count <= step */
static inline uint8_t *lc_rows_in_record(const lc_rows_in *in, int64_t row) {
  return in->records + (row - in->start) * (int64_t)in->table->record_size;
}
static inline uint32_t lc_tag(uint64_t hash) { return (uint32_t)(hash >> 32); }
static inline uint32_t lc_slot(const lc_table *t, uint64_t hash) {
  uint64_t slots = (uint64_t)t->slots;
  return (uint32_t)((slots & (slots - 1)) == 0 ? hash & (slots - 1) : hash % slots);
}

/* Put rows, or remove their keys, in order; as lc_table_upsert otherwise (table.c).  ops: a byte a row, 0 leaves the
 * row out, 2 removes, all else puts; NULL puts all.  With `found`, no two rows that are not left out have one key. */
lc_code lc_rows_write(lc_table *t, lc_rows_in *in, const uint8_t *ops, bool durable, lc_error *error);

/* ---- rows (table_rows.c) ---- */

/* The row of a key (live or kept) or LC_NONE; the oldest row of an index value or LC_NONE. */
uint32_t lc_row_find(const lc_table *t, const lc_rows_in *in, int64_t row, lc_probe *probe);
uint32_t lc_chain_find(const lc_table *t, const lc_rows_in *in, int64_t row, lc_probe *probe);
/* Prefetch what a look-up of `row` touches: first the indexes, some rows later the records. */
void lc_row_prefetch_place(const lc_rows_in *in, int64_t row);
void lc_row_prefetch_record(const lc_rows_in *in, int64_t row);
void lc_row_prefetch_found(const lc_rows_in *in, int64_t row); /* the same where `found` is known */
enum { LC_AHEAD = 16 };
static inline void lc_rows_prefetch(const lc_rows_in *in, int64_t row) {
  if (in->found != NULL) {
    if (row + LC_AHEAD < in->rows) lc_row_prefetch_found(in, row + LC_AHEAD);
    return;
  }
  if (row + LC_AHEAD < in->rows) lc_row_prefetch_place(in, row + LC_AHEAD);
  if (row + LC_AHEAD / 2 < in->rows) lc_row_prefetch_record(in, row + LC_AHEAD / 2);
}

/* Places for one more row in both indexes were reserved.  LC_NO_MEMORY or LC_CAPACITY: nothing changed. */
lc_code lc_row_put(lc_table *t, const lc_rows_in *in, int64_t row, bool durable);
bool lc_row_drop(lc_table *t, uint32_t row, bool durable); /* whether it was live */
void lc_row_forget(lc_table *t, uint32_t row);             /* a kept one: its number is free again */
void lc_row_flag(lc_table *t, uint32_t row, uint8_t flags);
void lc_rows_reset(lc_table *t); /* all rows have gone */

/* ---- out (table_take.c) ---- */

/* Copy records into a new batch of `layouts`; a number of -1 gives NULLs, and of a kept row only the key is given.
 * of_column: the child of each column, -1 for none. */
lc_code lc_records_write(const lc_table *t, const int64_t *numbers, int64_t count, const int32_t *of_column,
                         const lc_column *layouts, int64_t layout_count, struct ArrowArray *out, lc_error *error);

#endif
