/* Functions that break the contract of libcore/user_function.h, one rule each; `good` keeps it. */
#include "libcore/user_function.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* One text column "t" as C wants it wrong: all of it in static memory, so one call at a time. */
static struct ArrowArray column, *columns[1] = {&column};
static struct ArrowSchema field, *fields[1] = {&field};
static int32_t offsets[1 << 12];
static char bytes[1 << 13];
static const void *buffers[3], *none[1];

static void release_array(struct ArrowArray *array) { array->release = NULL; }
static void release_schema(struct ArrowSchema *schema) { schema->release = NULL; }

static int fill(struct ArrowArray *in, struct ArrowArray *out, struct ArrowSchema *schema) {
  int64_t rows = in->length;
  if (rows >= (1 << 12) - 1) return 1;
  memset(bytes, 'x', sizeof bytes);
  for (int64_t row = 0; row <= rows; row++)
    offsets[row] = (int32_t)row;
  buffers[0] = NULL;
  buffers[1] = offsets;
  buffers[2] = bytes;
  column = (struct ArrowArray){.length = rows, .n_buffers = 3, .buffers = buffers, .release = release_array};
  field = (struct ArrowSchema){.format = "u", .name = "t", .flags = 2, .release = release_schema};
  *out = (struct ArrowArray){.length = rows, .n_buffers = 1, .n_children = 1, .buffers = none, .children = columns,
                             .release = release_array};
  *schema = (struct ArrowSchema){.format = "+s", .name = "", .n_children = 1, .children = fields,
                                 .release = release_schema};
  return 0;
}

#define FUNCTION(name, wrong)                                                                              \
  int name(struct ArrowArray *in, struct ArrowSchema *in_schema, struct ArrowArray *out,                   \
           struct ArrowSchema *schema, char error[256]) {                                                  \
    (void)in_schema, (void)error;                                                                          \
    if (fill(in, out, schema)) return 1;                                                                   \
    wrong;                                                                                                 \
    return 0;                                                                                              \
  }

FUNCTION(good, (void)0)
FUNCTION(too_few_rows, out->length--)
FUNCTION(column_too_short, column.length--)
FUNCTION(wrong_type, field.format = "l")
FUNCTION(wrong_name, field.name = "u")
FUNCTION(no_name, field.name = NULL)
FUNCTION(no_struct, schema->format = "u")
FUNCTION(no_columns, (out->n_children = 0, schema->n_children = 0))
FUNCTION(no_column, columns[0] = NULL; out->children = NULL; columns[0] = &column)
FUNCTION(no_release, out->release = NULL)
FUNCTION(no_schema, schema->release = NULL)
FUNCTION(no_offsets, buffers[1] = NULL)
FUNCTION(no_bytes, buffers[2] = NULL)
FUNCTION(no_buffers, column.buffers = NULL)
FUNCTION(too_few_buffers, column.n_buffers = 2)
FUNCTION(nulls_without_bitmap, column.null_count = 1)
FUNCTION(offset_below_zero, column.offset = -1)
FUNCTION(struct_with_offset, (out->offset = 1, out->length = in->length))
FUNCTION(borrowed, buffers[2] = in->children[0]->buffers[1])
FUNCTION(falling_offsets, (offsets[0] = 2, offsets[in->length] = 1))
FUNCTION(bad_text, bytes[0] = (char)0xff)
FUNCTION(error_without_text, return 7)
FUNCTION(endless_error, (memset(error, 'e', 256)); return 1)
FUNCTION(crash, raise(SIGSEGV))
FUNCTION(leaves, exit(3))

/* Crashes where a value of the first column, of int64, is 13; an error where it is 7. */
int crashes_at_13(struct ArrowArray *in, struct ArrowSchema *in_schema, struct ArrowArray *out,
                  struct ArrowSchema *schema, char error[256]) {
  (void)in_schema;
  const int64_t *values = in->children[0]->buffers[1];
  for (int64_t row = 0; row < in->length; row++) {
    volatile int *nowhere = NULL;
    if (values[row] == 13) *nowhere = 1;
    if (values[row] == 7) {
      strcpy(error, "expected another number than 7");
      return 1;
    }
  }
  return fill(in, out, schema);
}
