/* The batch: the plan checked and made ready, the loop over messages, the result handed over. */
#include "envelope_message.h"
#include "envelope_shared.h"

static bool allowed(const lc_wire_column *column) {
  static const uint8_t kinds[27] = {[LC_ENCODING_INT] = 1,
                                    [LC_ENCODING_BOOL] = 2,
                                    [LC_ENCODING_FLOAT] = 3,
                                    [LC_ENCODING_STRING] = 4,
                                    [LC_ENCODING_BASE64] = 5,
                                    [LC_ENCODING_DECIMAL_TEXT] = 6,
                                    [LC_ENCODING_DECIMAL_BASE64] = 6,
                                    [LC_ENCODING_NUMERIC_TEXT] = 4,
                                    [LC_ENCODING_NUMERIC_STRUCT] = 4,
                                    [LC_ENCODING_DATE_DAYS] = 7,
                                    [LC_ENCODING_TIME_MS] = 8,
                                    [LC_ENCODING_TIME_US] = 8,
                                    [LC_ENCODING_TIME_NS] = 8,
                                    [LC_ENCODING_TIMESTAMP_MS] = 9,
                                    [LC_ENCODING_TIMESTAMP_US] = 9,
                                    [LC_ENCODING_TIMESTAMP_NS] = 9,
                                    [LC_ENCODING_ZONED_TIMESTAMP] = 9,
                                    [LC_ENCODING_ISO_DATE] = 7,
                                    [LC_ENCODING_ISO_TIME] = 8,
                                    [LC_ENCODING_ISO_TIMESTAMP] = 9,
                                    [LC_ENCODING_BITS] = 4,
                                    [LC_ENCODING_RAW_JSON] = 4,
                                    [LC_ENCODING_ARRAY] = 4,
                                    [LC_ENCODING_DECIMAL_STRUCT] = 6,
                                    [LC_ENCODING_HEX] = 5,
                                    [LC_ENCODING_NAMED_TIMESTAMP] = 9};
  if (column->encoding < 1 || column->encoding > 26) return false;
  int32_t type = column->type;
  switch (kinds[column->encoding]) {
    case 1: return type == LC_TYPE_INT16 || type == LC_TYPE_INT32 || type == LC_TYPE_INT64;
    case 2: return type == LC_TYPE_BOOL;
    case 3: return type == LC_TYPE_FLOAT32 || type == LC_TYPE_FLOAT64;
    case 4: return type == LC_TYPE_UTF8;
    case 5: return type == LC_TYPE_BINARY;
    case 6: return type == LC_TYPE_DECIMAL128 || type == LC_TYPE_DECIMAL256;
    case 7: return type == LC_TYPE_DATE32;
    case 8: return type == LC_TYPE_TIME64 && (column->scale == 6 || column->scale == 9);
    default: return type == LC_TYPE_TIMESTAMP && (column->scale == 6 || column->scale == 9);
  }
}

static bool column_valid(const lc_wire_column *column, bool element) {
  lc_column layout = {column->type, 0, column->precision, column->scale};
  if (!allowed(column) || !lc_column_valid(&layout)) return false;
  if (column->encoding == LC_ENCODING_BITS && (column->bit_length < 0 || column->bit_length > 1 << 27)) return false;
  if (column->encoding == LC_ENCODING_ARRAY)
    return !element && column->item != NULL && column_valid(column->item, true) && column->unsent_size >= 0 &&
           (column->unsent_size == 0 || column->unsent != NULL);
  return true;
}

lc_code lc_envelope_plan_check(const lc_envelope_plan *plan, lc_error *error) {
  if (plan == NULL || plan->columns == NULL || plan->column_count < 1 || plan->column_count > 65000)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a plan of 1 to 65000 columns");
  if (plan->position < LC_POSITION_NONE || plan->position > LC_POSITION_SQLSERVER)
    return lc_fail(error, LC_INVALID, -1, -1, "unknown kind of position %d", plan->position);
  if (plan->placeholder == NULL || plan->placeholder_size < 1 || plan->placeholder_size > 1000)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a placeholder of 1 to 1000 bytes, found %lld",
                   (long long)plan->placeholder_size);
  for (int32_t c = 0; c < plan->column_count; c++) {
    const lc_wire_column *column = &plan->columns[c];
    if (column->name == NULL || column->name_size < 0 || !column_valid(column, false))
      return lc_fail(error, LC_INVALID, -1, -1, "column %d: encoding %d does not fill type %d", c, column->encoding,
                     column->type);
  }
  for (int32_t i = 0; plan->carried != NULL && i < plan->carried_count; i++)
    if (plan->carried[i] < 0 || plan->carried[i] >= plan->column_count)
      return lc_fail(error, LC_INVALID, -1, -1, "carried column %d is not one of %d", plan->carried[i],
                     plan->column_count);
  lc_json_fault fault;
  if (plan->schema != NULL &&
      (plan->schema_size < 1 || plan->schema[0] == ' ' ||
       !lc_json_check(plan->schema, plan->schema + plan->schema_size, lc_kernels_pick(1), &fault)))
    return lc_fail(error, LC_INVALID, -1, -1, "the schema part is not one JSON value");
  return LC_OK;
}

static void column_init(lc_decode_column *column, const lc_wire_column *wire, int32_t index) {
  lc_column layout = {wire->type, 0, wire->precision, wire->scale};
  column->wire = wire;
  column->width = lc_type_width(&layout);
  column->variable = lc_type_is_variable(&layout);
  column->is_key = wire->is_key != 0;
  column->index = index;
  if (wire->type == LC_TYPE_DECIMAL128 || wire->type == LC_TYPE_DECIMAL256)
    column->decimal = lc_decimal_target_make(wire->precision, wire->scale, wire->type == LC_TYPE_DECIMAL256);
}

static bool item_init(lc_decode_column *column) {
  column->item = lc_calloc(1, sizeof *column->item);
  if (column->item == NULL) return false;
  column_init(column->item, column->wire->item, column->index);
  column->item->is_key = false;
  column->item->element = true;
  column->item->values = lc_calloc(1, 32); /* the widest value; two offsets */
  column->item->validity = lc_calloc(1, 1);
  return column->item->values != NULL && column->item->validity != NULL;
}

static void item_free(lc_decode_column *item) {
  if (item == NULL) return;
  lc_free(item->values);
  lc_free(item->validity);
  lc_buffer_free(&item->data);
  lc_free(item);
}

static bool order_init(lc_order *order, const char *const *fields, int32_t count, int32_t capacity) {
  if (!lc_names_init(&order->names, count)) return false;
  for (int32_t f = 0; fields != NULL && f < count; f++)
    lc_names_set(&order->names, f, fields[f], strlen(fields[f]));
  order->members = lc_calloc((size_t)capacity + 1, sizeof *order->members); /* the last one stays empty */
  order->capacity = capacity;
  return order->members != NULL;
}

static void order_free(lc_order *order) {
  lc_names_free(&order->names);
  lc_free(order->members);
}

static uint8_t *text_new(const char *before, const uint8_t *text, size_t size, const char *between, const char *after,
                         size_t *out_size) {
  size_t head = strlen(before), middle = strlen(between), tail = strlen(after), copies = middle > 0 ? 2 : 1;
  *out_size = head + copies * size + middle + tail;
  uint8_t *out = lc_malloc(*out_size), *p = out;
  if (out == NULL) return NULL;
  memcpy(p, before, head);
  memcpy(p += head, text, size);
  p += size;
  memcpy(p, between, middle);
  p += middle;
  if (copies == 2) {
    memcpy(p, text, size);
    p += size;
  }
  memcpy(p, after, tail);
  return out;
}

/* The placeholder as base64, as a list of its bytes, as {"ph":"ph"} and as ["ph"]. */
static bool placeholder_init(lc_decoder *d) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const uint8_t *text = d->plan->placeholder;
  size_t size = (size_t)d->plan->placeholder_size;
  d->placeholder_object = text_new("{\"", text, size, "\":\"", "\"}", &d->placeholder_object_size);
  d->placeholder_array = text_new("[\"", text, size, "", "\"]", &d->placeholder_array_size);
  uint8_t *base64 = d->placeholder_base64 = lc_malloc((size + 2) / 3 * 4),
          *list = d->placeholder_list = lc_malloc(size * 4 + 2);
  if (d->placeholder_object == NULL || d->placeholder_array == NULL || base64 == NULL || list == NULL) return false;
  for (size_t i = 0; i < size; i += 3) {
    uint32_t bits =
        (uint32_t)text[i] << 16 | (i + 1 < size ? (uint32_t)text[i + 1] << 8 : 0) | (i + 2 < size ? text[i + 2] : 0);
    for (int k = 0; k < 4; k++)
      *base64++ = i + (size_t)k <= size ? (uint8_t)alphabet[bits >> (18 - 6 * k) & 63] : '=';
  }
  d->placeholder_base64_size = (size_t)(base64 - d->placeholder_base64);
  for (size_t i = 0; i < size; i++) {
    *list++ = i == 0 ? '[' : ',';
    if (text[i] >= 100) *list++ = (uint8_t)('0' + text[i] / 100);
    if (text[i] >= 10) *list++ = (uint8_t)('0' + text[i] / 10 % 10);
    *list++ = (uint8_t)('0' + text[i] % 10);
  }
  *list++ = ']';
  d->placeholder_list_size = (size_t)(list - d->placeholder_list);
  return true;
}

bool lc_decoder_init(lc_decoder *d, int64_t messages) {
  const lc_envelope_plan *plan = d->plan;
  int32_t top_count, source_count, transaction_count;
  const char *const *top = lc_top_fields(&top_count), *const *source = lc_source_fields(plan->position, &source_count);
  const char *const *transaction = lc_transaction_fields(&transaction_count);
  d->columns = lc_calloc((size_t)plan->column_count, sizeof *d->columns);
  if (d->columns == NULL) return false;
  d->column_count = plan->column_count;
  if (!order_init(&d->top, top, top_count, 64) || !order_init(&d->source, source, source_count, 64) ||
      !order_init(&d->transaction, transaction, transaction_count, 16) ||
      !order_init(&d->row, NULL, plan->column_count, plan->column_count + 64) || !placeholder_init(d))
    return false;
  for (int32_t c = 0; c < plan->column_count; c++) {
    const lc_wire_column *wire = &plan->columns[c];
    column_init(&d->columns[c], wire, c);
    d->key_count += d->columns[c].is_key;
    lc_names_set(&d->row.names, c, wire->name, (size_t)wire->name_size);
    if (wire->encoding == LC_ENCODING_ARRAY && !item_init(&d->columns[c])) return false;
  }
  return lc_rows_init(d, messages + 2);
}

void lc_decoder_free(lc_decoder *d) {
  lc_rows_free(d);
  for (int32_t c = 0; d->columns != NULL && c < d->column_count; c++)
    item_free(d->columns[c].item);
  lc_free(d->columns);
  order_free(&d->top);
  order_free(&d->row);
  order_free(&d->source);
  order_free(&d->transaction);
  lc_free(d->errors);
  lc_free(d->events);
  lc_buffer_free(&d->text);
  lc_buffer_free(&d->bytes);
  lc_buffer_free(&d->literal);
  lc_buffer_free(&d->padded);
  lc_buffer_free(&d->padded_key);
  lc_buffer_free(&d->tx_id);
  lc_free(d->placeholder_base64);
  lc_free(d->placeholder_list);
  lc_free(d->placeholder_object);
  lc_free(d->placeholder_array);
}

const uint8_t *lc_message_padded(lc_decoder *d, const uint8_t *data, size_t size, bool key) {
  if (!key && size > 0 && d->input_end - data >= (ptrdiff_t)(size + LC_PADDING)) return data;
  lc_buffer *copy = key ? &d->padded_key : &d->padded;
  copy->size = 0;
  if (!lc_buffer_reserve(copy, size + LC_PADDING)) {
    lc_decoder_fails(d, LC_NO_MEMORY);
    return NULL;
  }
  if (size > 0) memcpy(copy->data, data, size);
  memset(copy->data + size, 0, LC_PADDING);
  return copy->data;
}

typedef struct binary {
  const struct ArrowArray *array;
  int64_t shift; /* the batch's own offset */
} binary;

static const uint8_t *binary_get(const binary *column, int64_t i, size_t *size) {
  i += column->shift;
  *size = 0;
  if (!lc_is_valid(column->array, i)) return NULL;
  const int32_t *offsets = (const int32_t *)column->array->buffers[1] + column->array->offset + i;
  *size = (size_t)(offsets[1] - offsets[0]);
  const uint8_t *data = column->array->buffers[2];
  static const uint8_t nothing[1] = {0};
  return data == NULL ? nothing : data + offsets[0];
}

/* Where the payload of a wrapped message starts if it has the usual form, {"schema":S,"payload":P}; else NULL. */
static const uint8_t *payload_fast(const lc_decoder *d) {
  static const char head[] = "{\"schema\":", middle[] = ",\"payload\":";
  size_t size = (size_t)d->plan->schema_size, all = sizeof head - 1 + size + sizeof middle - 1;
  const uint8_t *p = d->start;
  if ((size_t)(d->end - p) <= all || memcmp(p, head, sizeof head - 1) != 0) return NULL;
  p += sizeof head - 1;
  if (memcmp(p, d->plan->schema, size) != 0 || memcmp(p + size, middle, sizeof middle - 1) != 0) return NULL;
  return d->start + all;
}

static void message_decode(lc_decoder *d, const uint8_t *value, size_t size, const lc_message *m) {
  if (!lc_rows_reserve(d, 2)) return;
  if (value == NULL) {
    lc_message_null(d, m);
    return;
  }
  d->start = lc_message_padded(d, value, size, false);
  if (d->start == NULL) return;
  d->end = d->start + size;
  const uint8_t *p = d->plan->schema == NULL ? d->start : payload_fast(d);
  if (p != NULL && d->kernels->utf8_fault(p, (size_t)(d->end - p)) < 0 &&
      lc_message_fast(d, p, d->plan->schema == NULL ? 1 : 2))
    return;
  if (d->failed == LC_OK) lc_message_careful(d, m);
}

/* The unknown member's name, unescaped, for the caller. */
static void unknown_keep(lc_decoder *d, lc_decoded *out) {
  lc_json_fault ignored;
  const uint8_t *end = lc_json_skip(d->unknown, d->end, 0, d->kernels, &ignored);
  out->unknown = lc_malloc((size_t)(end - d->unknown));
  if (out->unknown == NULL)
    lc_decoder_fails(d, LC_NO_MEMORY);
  else {
    lc_unescaped name = lc_json_unescape(d->unknown + 1, end - 1, out->unknown);
    out->unknown_size = name.surrogate != NULL ? 0 : (int64_t)name.size; /* half a name is none */
  }
}

static void messages_decode(lc_decoder *d, const struct ArrowArray *messages, int64_t start, lc_decoded *out) {
  binary keys = {messages->children[0], messages->offset}, values = {messages->children[1], messages->offset};
  const int32_t *offsets = (const int32_t *)values.array->buffers[1] + values.array->offset + messages->offset;
  if (messages->length > 0 && values.array->buffers[2] != NULL)
    d->input_end = (const uint8_t *)values.array->buffers[2] + offsets[messages->length];
  for (d->message = start; d->message < messages->length; d->message++) {
    size_t size;
    const uint8_t *value = binary_get(&values, d->message, &size);
    lc_message m;
    m.key = binary_get(&keys, d->message, &m.key_size);
    message_decode(d, value, size, &m);
    if (d->failed != LC_OK || d->stop != LC_STOP_NONE) break;
  }
  if (d->stop == LC_STOP_UNKNOWN) unknown_keep(d, out);
  out->stop = d->stop;
  out->consumed = d->message;
}

lc_code lc_envelope_decode(const lc_envelope_plan *plan, const struct ArrowArray *messages, int64_t start,
                           const lc_envelope_state *state, int32_t level, lc_decoded *out, lc_error *error) {
  static const lc_column layouts[4] = {
      {.type = LC_TYPE_BINARY}, {.type = LC_TYPE_BINARY}, {.type = LC_TYPE_INT64}, {.type = LC_TYPE_INT64}};
  lc_code code = lc_envelope_plan_check(plan, error);
  if (code == LC_OK) code = lc_check_batch(messages, layouts, 4, error);
  if (code != LC_OK) return code;
  lc_decoder d = {.plan = plan, .kernels = lc_kernels_pick(level), .state = *state};
  if (d.kernels == NULL) return lc_fail(error, LC_INVALID, -1, -1, "this machine has no vector level %d", level);
  if (start < 0 || start > messages->length || messages->length >= INT32_MAX / 2)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a start of 0..%lld, found %lld", (long long)messages->length,
                   (long long)start);
  lc_decoded made = {.consumed = start};
  if (lc_decoder_init(&d, messages->length - start))
    messages_decode(&d, messages, start, &made);
  else
    d.failed = LC_NO_MEMORY;
  if (d.failed != LC_OK)
    code = lc_fail(
        error, d.failed, d.message, -1,
        d.failed == LC_CAPACITY ? "message %lld: a column passes 2^31-1 bytes in one batch" : "message %lld: no memory",
        (long long)d.message);
  else
    code = lc_rows_finish(&d, &made, error);
  if (code == LC_OK) {
    made.errors = d.errors;
    made.error_count = d.error_count;
    made.events = d.events;
    made.event_count = d.event_count;
    made.state = d.state;
    d.errors = NULL;
    d.events = NULL;
    *out = made;
  } else {
    lc_free(made.unknown);
  }
  lc_decoder_free(&d);
  return code;
}

void lc_decoded_free(lc_decoded *decoded) {
  if (decoded->batch.release != NULL) decoded->batch.release(&decoded->batch);
  lc_free(decoded->rows);
  lc_free(decoded->errors);
  lc_free(decoded->events);
  lc_free(decoded->unknown);
  *decoded = (lc_decoded){0};
}
