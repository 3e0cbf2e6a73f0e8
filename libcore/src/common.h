/* Inside libcore: allocation (with a fault that tests inject), errors, growing buffers, and building Arrow arrays. */
#ifndef LIBCORE_COMMON_H
#define LIBCORE_COMMON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libcore/types.h"

#define LC_BITMAP_BYTES(n) (((n) + 7) / 8)

/* malloc, realloc and free of the library.  Under -DLC_TEST_ALLOC a test can make the n-th allocation fail. */
void* lc_malloc(size_t size);
void* lc_calloc(size_t count, size_t size);
void* lc_realloc(void* old, size_t size);
void lc_free(void* memory);
#ifdef LC_TEST_ALLOC
extern int64_t lc_test_alloc_fail_at; /* fail the allocation that brings this to 0; <= 0 before: never */
extern int lc_test_alloc_persist;     /* 1: every later allocation fails too */
extern int64_t lc_test_alloc_count;   /* allocations seen since a test set it to 0 */
#endif

/* Fill *error (NULL allowed) and return the code, so that a caller can write `return lc_fail(...)`. */
#if defined(__GNUC__)
__attribute__((format(printf, 5, 6)))
#endif
lc_code lc_fail(lc_error* error, lc_code code, int64_t row, int64_t position, const char* format, ...);

/* A byte buffer that grows.  Zero-initialise; lc_buffer_free when done. */
typedef struct lc_buffer {
  uint8_t* data;
  size_t size, capacity; /* bytes */
} lc_buffer;

/* Make room for `more` bytes after size.  false: no memory, or above 2^31-1 bytes in all; the buffer is as before. */
bool lc_buffer_reserve(lc_buffer* buffer, size_t more);
bool lc_buffer_append(lc_buffer* buffer, const void* data, size_t size);
void lc_buffer_free(lc_buffer* buffer);

static inline bool lc_bit_get(const uint8_t* bits, int64_t i) { return (bits[i >> 3] >> (i & 7)) & 1; }
static inline void lc_bit_set(uint8_t* bits, int64_t i) { bits[i >> 3] |= (uint8_t)(1u << (i & 7)); }
static inline void lc_bit_clear(uint8_t* bits, int64_t i) { bits[i >> 3] &= (uint8_t)~(1u << (i & 7)); }

/* Bytes a value of a fixed-width layout takes; 0 for BOOL (bits), UTF8 and BINARY. */
int32_t lc_type_width(const lc_column* column);
static inline bool lc_type_is_variable(const lc_column* column) {
  return column->type == LC_TYPE_UTF8 || column->type == LC_TYPE_BINARY;
}
bool lc_column_valid(const lc_column* column); /* a known type with a sane width, precision and scale */

/* Whether value i (in the caller's numbering, before array->offset is added) is not NULL. */
static inline bool lc_is_valid(const struct ArrowArray* array, int64_t i) {
  const uint8_t* validity = (const uint8_t*)array->buffers[0];
  return validity == NULL || lc_bit_get(validity, i + array->offset);
}

/* Check a struct array against its columns: child count, lengths, buffer counts; a struct with NULL rows is refused. */
lc_code lc_check_batch(const struct ArrowArray* batch, const lc_column* columns, int64_t column_count, lc_error* error);

/* Build a struct array of `row_count` rows whose children have fixed lengths and these layouts.
 * All value buffers of fixed-width children, the validity bitmaps (all bits 1) and the offsets (row_count + 1 zeros)
 * are allocated; the data buffer of a variable child is NULL until lc_array_give_data.  On failure *out is not set. */
lc_code lc_batch_new(struct ArrowArray* out, const lc_column* columns, int64_t column_count, int64_t row_count,
                     lc_error* error);
/* The same for a caller that writes every value of every row: those of fixed width are not zeroed. */
lc_code lc_batch_room(struct ArrowArray* out, const lc_column* columns, int64_t column_count, int64_t row_count,
                      lc_error* error);
static inline uint8_t* lc_child_validity(struct ArrowArray* batch, int64_t c) {
  return (uint8_t*)(uintptr_t)batch->children[c]->buffers[0];
}
static inline void* lc_child_values(struct ArrowArray* batch, int64_t c) {
  return (void*)(uintptr_t)batch->children[c]->buffers[1];
}
/* Give a variable child its data buffer; the buffer is emptied, the array owns the bytes. */
void lc_child_give_data(struct ArrowArray* batch, int64_t c, lc_buffer* data);
/* Shrink to the rows written (<= the row_count of lc_batch_new) and count NULLs; call once, at the end. */
void lc_batch_finish(struct ArrowArray* batch, int64_t row_count);

#endif
