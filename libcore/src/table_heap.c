/* The heap of the row store: blocks of 36 sizes in pages of 64 kB, longer ones by themselves. */
#include "table.h"

void lc_heap_init(lc_heap *heap) {
  *heap = (lc_heap){.free = LC_NONE};
  for (int c = 0; c < LC_HEAP_CLASSES; c++)
    heap->room[c] = LC_NONE;
}

void lc_heap_free(lc_heap *heap) {
  for (uint32_t p = 0; p < heap->count; p++)
    lc_free(heap->pages[p].data);
  lc_free(heap->pages);
  lc_heap_init(heap);
}

/* 16 sizes of 16 bytes each, then four to a doubling: a block is at most a fifth too large. */
int32_t lc_heap_class(uint32_t size) {
  if (size > LC_HEAP_SMALL) return LC_HEAP_CLASSES;
  uint32_t units = (size + LC_HEAP_UNIT - 1) / LC_HEAP_UNIT;
  if (units <= 16) return units == 0 ? 0 : (int32_t)units - 1;
  int32_t log = 31 - __builtin_clz(units - 1);
  return 16 + (log - 4) * 4 + (int32_t)((units - 1) >> (log - 2) & 3);
}

static uint32_t class_units(int32_t class) {
  if (class < 16) return (uint32_t)class + 1;
  return (uint32_t)(5 + (class & 3)) << ((class - 16) / 4 + 2);
}

int64_t lc_heap_class_bytes(int32_t class) { return (int64_t)class_units(class) * LC_HEAP_UNIT; }

/* The number of a new page of that size, or LC_NONE with the code. */
static uint32_t page_new(lc_heap *heap, uint32_t size, int32_t class, lc_code *code) {
  *code = LC_NO_MEMORY;
  if (heap->free == LC_NONE && heap->count == heap->capacity) {
    if (heap->count == LC_HEAP_PAGES_MAX) {
      *code = LC_CAPACITY;
      return LC_NONE;
    }
    uint32_t capacity = heap->capacity == 0 ? 16 : heap->capacity * 2;
    lc_heap_page *pages = lc_realloc(heap->pages, capacity * sizeof *pages);
    if (pages == NULL) return LC_NONE;
    heap->bytes += (int64_t)((capacity - heap->capacity) * sizeof *pages);
    heap->pages = pages;
    heap->capacity = capacity;
  }
  uint8_t *data = lc_malloc((size_t)size + LC_SLACK_BYTES);
  if (data == NULL) return LC_NONE;
  uint32_t number = heap->free;
  if (number != LC_NONE)
    heap->free = heap->pages[number].next;
  else
    number = heap->count++;
  heap->pages[number] = (lc_heap_page){.data = data,
                                       .size = size,
                                       .next = LC_NONE,
                                       .prev = LC_NONE,
                                       .free = LC_HEAP_FULL,
                                       .class = (uint8_t)class};
  heap->bytes += size;
  *code = LC_OK;
  return number;
}

static void page_give(lc_heap *heap, uint32_t number) {
  lc_heap_page *page = &heap->pages[number];
  heap->bytes -= page->size;
  lc_free(page->data);
  *page = (lc_heap_page){.next = heap->free};
  heap->free = number;
}

static void room_add(lc_heap *heap, uint32_t number) {
  lc_heap_page *page = &heap->pages[number];
  uint32_t *first = &heap->room[page->class];
  page->prev = LC_NONE;
  page->next = *first;
  if (*first != LC_NONE) heap->pages[*first].prev = number;
  *first = number;
}

static void room_remove(lc_heap *heap, uint32_t number) {
  lc_heap_page *page = &heap->pages[number];
  if (page->next != LC_NONE) heap->pages[page->next].prev = page->prev;
  if (page->prev != LC_NONE)
    heap->pages[page->prev].next = page->next;
  else
    heap->room[page->class] = page->next;
  page->next = page->prev = LC_NONE;
}

static bool has_room(const lc_heap_page *page) {
  return page->free != LC_HEAP_FULL || page->end + class_units(page->class) <= LC_HEAP_PAGE / LC_HEAP_UNIT;
}

static int64_t page_blocks(int32_t class) { return LC_HEAP_PAGE / LC_HEAP_UNIT / class_units(class); }

lc_code lc_heap_take(lc_heap *heap, uint32_t size, uint32_t *reference) {
  lc_code code = LC_OK;
  int32_t class = lc_heap_class(size);
  if (class == LC_HEAP_CLASSES) {
    uint32_t number = page_new(heap, size, class, &code);
    *reference = number << 12;
    return code;
  }
  uint32_t number = heap->room[class];
  if (number == LC_NONE) {
    number = page_new(heap, LC_HEAP_PAGE, class, &code);
    if (number == LC_NONE) return code;
    room_add(heap, number);
    heap->open[class] += page_blocks(class);
  }
  lc_heap_page *page = &heap->pages[number];
  uint32_t unit = page->free;
  if (unit != LC_HEAP_FULL) {
    memcpy(&page->free, page->data + (size_t)unit * LC_HEAP_UNIT, sizeof page->free);
  } else {
    unit = page->end;
    page->end = (uint16_t)(page->end + class_units(class));
  }
  page->used++;
  heap->open[class]--;
  if (!has_room(page)) room_remove(heap, number);
  *reference = number << 12 | unit;
  return LC_OK;
}

void lc_heap_give(lc_heap *heap, uint32_t reference) {
  uint32_t number = reference >> 12;
  lc_heap_page *page = &heap->pages[number];
  int32_t class = page->class;
  if (class == LC_HEAP_CLASSES) {
    page_give(heap, number);
    return;
  }
  bool had_room = has_room(page);
  uint16_t unit = (uint16_t)(reference & 4095);
  memcpy(page->data + (size_t)unit * LC_HEAP_UNIT, &page->free, sizeof page->free);
  page->free = unit;
  page->used--;
  heap->open[class]++;
  if (!had_room) room_add(heap, number);
  /* The only page with room stays, lest one block that comes and goes costs a page each time. */
  if (page->used > 0 || (page->next == LC_NONE && page->prev == LC_NONE)) return;
  room_remove(heap, number);
  heap->open[class] -= page_blocks(class);
  page_give(heap, number);
}
