/* Reads a file of Debezium JSON lines and prints the columns of their rows; a program without Python.
 *
 *   ./print_columns order_id:int:key sku:text price:decimal:18:4 < changes.jsonl
 *
 * docs/reference/libcore.md has the line that builds it.  An argument is NAME:KIND[:key], KIND one of int, bool,
 * double, text, decimal:PRECISION:SCALE (its text on the wire) and timestamp (microseconds).  Prints a line a row: the
 * operation, then the columns, divided by tabs; bad messages go to standard error.  Ends with 0, 1 where a message was
 * bad, 2 where arguments or input cannot be read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcore/envelope.h"

enum { COLUMNS_MAX = 64, BATCH_MESSAGES = 4096 };

/* Lines of a file as the messages of a batch: their bytes one after the other, and where each begins. */
typedef struct lines {
  char *bytes;
  size_t size, capacity;
  int32_t offsets[BATCH_MESSAGES + 1];
  int64_t numbers[BATCH_MESSAGES];
  int64_t count;
} lines;

static void refuse(const char *what, const char *found) {
  fprintf(stderr, "print_columns: %s: %s\n", what, found);
  exit(2);
}

/* Fill a column from NAME:KIND[:...][:key]; the name stays where the argument is. */
static void column_of(char *argument, lc_wire_column *column) {
  char *kind = strchr(argument, ':');
  if (kind == NULL || kind == argument) refuse("expected NAME:KIND", argument);
  *kind++ = '\0';
  char *key = strstr(kind, ":key");
  if (key != NULL && key[4] == '\0') *key = '\0';
  *column = (lc_wire_column){.name = argument, .name_size = (int32_t)strlen(argument), .is_key = key != NULL};
  int precision, scale;
  if (strcmp(kind, "int") == 0) {
    column->encoding = LC_ENCODING_INT;
    column->type = LC_TYPE_INT64;
  } else if (strcmp(kind, "bool") == 0) {
    column->encoding = LC_ENCODING_BOOL;
    column->type = LC_TYPE_BOOL;
  } else if (strcmp(kind, "double") == 0) {
    column->encoding = LC_ENCODING_FLOAT;
    column->type = LC_TYPE_FLOAT64;
  } else if (strcmp(kind, "text") == 0) {
    column->encoding = LC_ENCODING_STRING;
    column->type = LC_TYPE_UTF8;
  } else if (strcmp(kind, "timestamp") == 0) {
    column->encoding = LC_ENCODING_TIMESTAMP_US;
    column->type = LC_TYPE_TIMESTAMP;
    column->scale = 6;
  } else if (sscanf(kind, "decimal:%d:%d", &precision, &scale) == 2) {
    if (precision < 1 || precision > 18 || scale < 0 || scale > precision)
      refuse("expected 1 to 18 digits, and a scale of at most as many", kind);
    column->encoding = LC_ENCODING_DECIMAL_TEXT;
    column->type = LC_TYPE_DECIMAL128;
    column->precision = precision;
    column->scale = scale;
  } else {
    refuse("expected int, bool, double, text, timestamp or decimal:P:S", kind);
  }
}

/* Read up to BATCH_MESSAGES lines; false where there are none any more. */
static int read_lines(FILE *file, lines *in) {
  int byte = 0;
  int64_t first = in->count == 0 ? 0 : in->numbers[in->count - 1] + 1;
  in->size = 0;
  in->count = 0;
  while (in->count < BATCH_MESSAGES && byte != EOF) {
    size_t begun = in->size;
    while ((byte = getc(file)) != EOF && byte != '\n') {
      if (in->size == INT32_MAX) refuse("expected lines below 2 GB", "a longer one");
      if (in->size == in->capacity) {
        in->capacity = in->capacity ? 2 * in->capacity : 1 << 16;
        in->bytes = realloc(in->bytes, in->capacity);
        if (in->bytes == NULL) refuse("expected memory for the lines", "none");
      }
      in->bytes[in->size++] = (char)byte;
    }
    if (byte == EOF && in->size == begun) break;
    in->numbers[in->count] = first + in->count;
    in->offsets[++in->count] = (int32_t)in->size;
  }
  return in->count > 0;
}

/* An Arrow array over memory that the caller keeps; decimals of up to 18 digits are in its lower half. */
static void print_value(const struct ArrowArray *array, const lc_wire_column *column, int64_t row) {
  const uint8_t *validity = array->buffers[0];
  row += array->offset;
  if (validity != NULL && !(validity[row / 8] >> (row % 8) & 1)) {
    printf("NULL");
    return;
  }
  const void *values = array->buffers[1];
  switch (column->type) {
    case LC_TYPE_BOOL: printf("%s", ((const uint8_t *)values)[row / 8] >> (row % 8) & 1 ? "true" : "false"); break;
    case LC_TYPE_FLOAT64: printf("%.17g", ((const double *)values)[row]); break;
    case LC_TYPE_UTF8: {
      const int32_t *offsets = values;
      printf("%.*s", (int)(offsets[row + 1] - offsets[row]), (const char *)array->buffers[2] + offsets[row]);
      break;
    }
    case LC_TYPE_DECIMAL128: {
      long long value = (long long)((const int64_t *)values)[2 * row], unit = 1;
      for (int32_t i = 0; i < column->scale; i++)
        unit *= 10;
      printf("%s%lld", value < 0 ? "-" : "", llabs(value / unit));
      if (column->scale > 0) printf(".%0*lld", (int)column->scale, llabs(value % unit));
      break;
    }
    default: printf("%lld", (long long)((const int64_t *)values)[row]);
  }
}

static void print_rows(const lc_decoded *made, const lc_envelope_plan *plan) {
  const int8_t *operations = made->batch.children[plan->column_count]->buffers[1];
  for (int64_t row = 0; row < made->row_count; row++) {
    printf("%s", operations[row] == 2 ? "delete" : "upsert");
    for (int32_t c = 0; c < plan->column_count; c++) {
      printf("\t");
      print_value(made->batch.children[c], &plan->columns[c], row);
    }
    printf("\n");
  }
}

/* Decode and print one batch; how many messages of it were bad. */
static int64_t print_batch(const lc_envelope_plan *plan, const lines *in, lc_envelope_state *state) {
  static const int32_t no_keys[BATCH_MESSAGES + 1];
  static const int64_t no_times[BATCH_MESSAGES];
  static const uint8_t no_bits[BATCH_MESSAGES / 8];
  const void *none[1] = {NULL}, *key[3] = {no_bits, no_keys, ""}, *value[3] = {NULL, in->offsets, in->bytes};
  const void *offset[2] = {NULL, in->numbers}, *time[2] = {NULL, no_times};
  struct ArrowArray columns[4] = {
      {.length = in->count, .null_count = in->count, .n_buffers = 3, .buffers = key},
      {.length = in->count, .n_buffers = 3, .buffers = value},
      {.length = in->count, .n_buffers = 2, .buffers = offset},
      {.length = in->count, .n_buffers = 2, .buffers = time},
  };
  struct ArrowArray *children[4] = {&columns[0], &columns[1], &columns[2], &columns[3]};
  struct ArrowArray messages = {
      .length = in->count, .n_buffers = 1, .buffers = none, .n_children = 4, .children = children};
  lc_decoded made;
  lc_error error;
  if (lc_envelope_decode(plan, &messages, 0, state, 0, &made, &error) != LC_OK) refuse("decode", error.message);
  print_rows(&made, plan);
  for (int64_t i = 0; i < made.error_count; i++) {
    const lc_row_error *bad = &made.errors[i];
    fprintf(stderr, "line %lld, byte %lld: code %d\n", (long long)in->numbers[bad->message] + 1,
            (long long)bad->position, (int)bad->code);
  }
  if (made.stop != LC_STOP_NONE) refuse("expected changes of rows", "a message that stops the decoder (op t?)");
  int64_t bad = made.error_count;
  *state = made.state;
  lc_decoded_free(&made);
  return bad;
}

int main(int argc, char **argv) {
  static lines in;
  static lc_wire_column columns[COLUMNS_MAX];
  if (argc < 2 || argc - 1 > COLUMNS_MAX)
    refuse("expected 1 to 64 arguments NAME:KIND[:key]", argc < 2 ? "none" : "more");
  for (int i = 1; i < argc; i++)
    column_of(argv[i], &columns[i - 1]);
  static const char placeholder[] = "__debezium_unavailable_value";
  lc_envelope_plan plan = {.columns = columns,
                           .column_count = argc - 1,
                           .position = LC_POSITION_NONE,
                           .placeholder = (const uint8_t *)placeholder,
                           .placeholder_size = sizeof placeholder - 1};
  lc_envelope_state state = {.redelivered = -1};
  int64_t bad = 0;
  while (read_lines(stdin, &in))
    bad += print_batch(&plan, &in, &state);
  free(in.bytes);
  return bad > 0;
}
