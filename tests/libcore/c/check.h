/* What every C test stands on: checks that name their line, small Arrow columns, and allocation failures one by one. */
#ifndef LIBCORE_TEST_CHECK_H
#define LIBCORE_TEST_CHECK_H

#include <stdio.h>

#include "common.h"

static int check_failures = 0;
static int check_count = 0;

/* Count a claim; print it where it does not hold, and go on. */
#define CHECK(claim)                                                             \
  do {                                                                           \
    check_count++;                                                               \
    if (!(claim)) {                                                              \
      check_failures++;                                                          \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #claim); \
    }                                                                            \
  } while (0)

/* The same for two integers, with their values. */
#define CHECK_EQUAL(expected, found)                                                                        \
  do {                                                                                                      \
    long long check_expected = (long long)(expected), check_found = (long long)(found);                     \
    check_count++;                                                                                          \
    if (check_expected != check_found) {                                                                    \
      check_failures++;                                                                                     \
      fprintf(stderr, "%s:%d: %s: expected %lld, found %lld\n", __FILE__, __LINE__, #found, check_expected, \
              check_found);                                                                                 \
    }                                                                                                       \
  } while (0)

/* What main returns: 0 where all claims hold. */
static inline int check_result(const char *name) {
  printf("%s: %d claims, %d do not hold\n", name, check_count, check_failures);
  return check_failures != 0 || check_count == 0;
}

/* A struct array of up to 16 columns over the test's own memory; nothing of it is allocated. */
typedef struct check_batch {
  struct ArrowArray array;
  struct ArrowArray children[16];
  struct ArrowArray *pointers[16];
  const void *buffers[16][3];
  const void *none[1];
  lc_column columns[16];
} check_batch;

static inline void check_batch_start(check_batch *batch, int64_t rows) {
  *batch = (check_batch){0};
  batch->array =
      (struct ArrowArray){.length = rows, .n_buffers = 1, .buffers = batch->none, .children = batch->pointers};
}

/* Add a column; `validity` NULL: no NULL in it.  `data` only for variable width, where `values` are the offsets. */
static inline void check_batch_add(check_batch *batch, lc_column layout, const void *validity, const void *values,
                                   const void *data) {
  int64_t c = batch->array.n_children++;
  batch->columns[c] = layout;
  batch->buffers[c][0] = validity;
  batch->buffers[c][1] = values;
  batch->buffers[c][2] = data;
  batch->children[c] = (struct ArrowArray){.length = batch->array.length,
                                           .null_count = validity ? -1 : 0,
                                           .n_buffers = lc_type_is_variable(&layout) ? 3 : 2,
                                           .buffers = batch->buffers[c]};
  batch->pointers[c] = &batch->children[c];
}

/* Run `call` with its first, second, ... allocation failing - each once, then each with all later ones - until no
 * failure is reached any more.  A call must answer LC_NO_MEMORY or succeed, and free what it made itself; that
 * nothing leaks is seen by the sanitizers. */
static inline void check_allocation_failures(lc_code (*call)(void *), void *context) {
  for (int persist = 0; persist <= 1; persist++) {
    for (int64_t nth = 1; nth < 100000; nth++) {
      lc_test_alloc_count = 0;
      lc_test_alloc_fail_at = nth;
      lc_test_alloc_persist = persist;
      lc_code code = call(context);
      bool reached = lc_test_alloc_count >= nth;
      lc_test_alloc_fail_at = 0;
      lc_test_alloc_persist = 0;
      if (!reached) {
        CHECK_EQUAL(LC_OK, code);
        CHECK(nth > 1); /* else the call allocates nothing, and the test proves nothing */
        break;
      }
      CHECK(code == LC_NO_MEMORY || code == LC_OK);
    }
  }
}

#endif
