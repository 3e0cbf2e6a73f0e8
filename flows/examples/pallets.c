/* A C function of one's own, worked out: how many pallets a quantity takes.  The contract: libcore/user_function.h.
 *
 * Build it where the pipeline file is, with INCLUDE = libcore/include of this project:
 *
 *   cc -std=c11 -O2 -Wall -Wextra -shared -fPIC -I INCLUDE -o libpallets.so pallets.c
 *
 *   [[step]]
 *   call = "libpallets.so:pallets"
 *   take = ["quantity", "per_pallet"]
 *   gives = { pallets = "int64" }
 */
#include "libcore/user_function.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything that the result owns, in one allocation: freed together. */
typedef struct result {
  struct ArrowArray column;
  struct ArrowArray *columns[1];
  const void *buffers[2], *none[1];
  struct ArrowSchema field;
  struct ArrowSchema *fields[1];
} result;

static void release_nothing(struct ArrowArray *array) { array->release = NULL; }
static void release_field(struct ArrowSchema *schema) { schema->release = NULL; }

static void release_array(struct ArrowArray *array) {
  result *made = array->private_data;
  if (made->column.release != NULL) made->column.release(&made->column);
  free((void *)made->buffers[0]);
  free((void *)made->buffers[1]);
  free(made);
  array->release = NULL;
}

static void release_schema(struct ArrowSchema *schema) {
  result *made = schema->private_data;
  if (made->field.release != NULL) made->field.release(&made->field);
  free(made);
  schema->release = NULL;
}

static int valid(const struct ArrowArray *column, int64_t row) {
  const uint8_t *bits = column->buffers[0];
  return bits == NULL || (bits[row / 8] >> (row % 8) & 1);
}

static int answer(struct ArrowArray *out, struct ArrowSchema *out_schema, int64_t rows, uint8_t *bits,
                  int64_t *values) {
  result *made = calloc(1, sizeof *made), *named = calloc(1, sizeof *named);
  if (made == NULL || named == NULL) {
    free(made);
    free(named);
    return 0;
  }
  made->buffers[0] = bits;
  made->buffers[1] = values;
  made->column = (struct ArrowArray){
      .length = rows, .null_count = -1, .n_buffers = 2, .buffers = made->buffers, .release = release_nothing};
  made->columns[0] = &made->column;
  *out = (struct ArrowArray){.length = rows, .n_buffers = 1, .n_children = 1, .buffers = made->none,
                             .children = made->columns, .release = release_array, .private_data = made};
  named->field = (struct ArrowSchema){.format = "l", .name = "pallets", .flags = 2, .release = release_field};
  named->fields[0] = &named->field;
  *out_schema = (struct ArrowSchema){.format = "+s", .name = "", .n_children = 1, .children = named->fields,
                                     .release = release_schema, .private_data = named};
  return 1;
}

/* quantity int64, per_pallet int64 -> pallets int64: rounded up; NULL where one of them is.  A row with a quantity
 * below 0, or a pallet of nothing, is an error. */
int pallets(struct ArrowArray *in, struct ArrowSchema *in_schema, struct ArrowArray *out,
            struct ArrowSchema *out_schema, char error[256]) {
  if (in->n_children != 2 || strcmp(in_schema->children[0]->format, "l") ||
      strcmp(in_schema->children[1]->format, "l")) {
    snprintf(error, 256, "expected two columns of int64");
    return 1;
  }
  const struct ArrowArray *quantity = in->children[0], *per_pallet = in->children[1];
  const int64_t *pieces = quantity->buffers[1], *fit = per_pallet->buffers[1];
  uint8_t *bits = calloc((size_t)(in->length + 7) / 8, 1);
  int64_t *values = calloc((size_t)in->length, sizeof *values);
  int failed = bits == NULL || values == NULL;
  if (failed) snprintf(error, 256, "no memory for %" PRId64 " rows", in->length);
  for (int64_t row = 0; !failed && row < in->length; row++) {
    if (!valid(quantity, row) || !valid(per_pallet, row)) continue;
    if (pieces[row] < 0 || fit[row] <= 0) {
      snprintf(error, 256, "expected a quantity from 0 and a pallet of 1 or more, found %" PRId64 " and %" PRId64,
               pieces[row], fit[row]);
      failed = 1;
      break;
    }
    bits[row / 8] |= (uint8_t)(1 << (row % 8));
    values[row] = pieces[row] / fit[row] + (pieces[row] % fit[row] != 0);
  }
  if (!failed && answer(out, out_schema, in->length, bits, values)) return 0;
  if (error[0] == 0) snprintf(error, 256, "no memory for the answer");
  free(bits);
  free(values);
  return 1;
}
