/* The batch: the plan checked, the loop over messages, the result handed over. */
#include "avro_internal.h"
#include "envelope_message.h"

/* What a node points at lies inside the schema, and what has no name is none. */
static bool node_valid(const lc_avro_schema *schema, const lc_avro_node *node) {
  if (node->kind < LC_AVRO_NULL || node->kind > LC_AVRO_RECORD || node->count < 0) return false;
  if (node->kind == LC_AVRO_ARRAY || node->kind == LC_AVRO_MAP)
    return node->first >= 0 && node->first < schema->node_count;
  if (node->kind < LC_AVRO_ENUM) return true;
  if (node->first < 0 || node->first > schema->part_count || node->count > schema->part_count - node->first)
    return false;
  for (int32_t i = 0; i < node->count; i++) {
    const lc_avro_part *part = &schema->parts[node->first + i];
    bool named = node->kind != LC_AVRO_UNION, symbol = node->kind == LC_AVRO_ENUM;
    if (named && (part->name == NULL || part->name_size < 0)) return false;
    if (!symbol && (part->node < 0 || part->node >= schema->node_count)) return false;
  }
  return true;
}

static bool schema_valid(const lc_avro_schema *schema) {
  if (schema->nodes == NULL || schema->node_count < 1 || schema->part_count < 0 || schema->root < 0 ||
      schema->root >= schema->node_count || (schema->part_count > 0 && schema->parts == NULL))
    return false;
  for (int32_t n = 0; n < schema->node_count; n++)
    if (!node_valid(schema, &schema->nodes[n])) return false;
  return true;
}

static const lc_avro_node *record_of(const lc_avro_schema *schema, int32_t node, int32_t depth) {
  const lc_avro_node *at = &schema->nodes[node];
  if (at->kind == LC_AVRO_RECORD) return at;
  for (int32_t i = 0; at->kind == LC_AVRO_UNION && depth < 4 && i < at->count; i++) {
    const lc_avro_node *record = record_of(schema, schema->parts[at->first + i].node, depth + 1);
    if (record != NULL) return record;
  }
  return NULL;
}

/* The roles of a record's fields, each below `bound`; a node without a record has none.  Only the first record of a
 * union is looked at: a union with several is refused where it would be walked with roles. */
static bool roles_valid(const lc_avro_schema *schema, int32_t node, int32_t bound) {
  const lc_avro_node *at = &schema->nodes[node];
  int32_t records = 0;
  for (int32_t i = 0; at->kind == LC_AVRO_UNION && i < at->count; i++) {
    const lc_avro_node *branch = &schema->nodes[schema->parts[at->first + i].node];
    if (branch->kind == LC_AVRO_UNION) return false;
    records += branch->kind == LC_AVRO_RECORD;
  }
  if (records > 1) return false;
  const lc_avro_node *record = record_of(schema, node, 0);
  for (int32_t f = 0; record != NULL && f < record->count; f++) {
    int32_t role = schema->parts[record->first + f].role;
    if (role < -1 || role >= bound) return false;
  }
  return true;
}

static bool envelope_valid(const lc_avro_schema *schema, int32_t columns) {
  if (!roles_valid(schema, schema->root, FIELD_COUNT)) return false;
  const lc_avro_node *root = record_of(schema, schema->root, 0);
  for (int32_t f = 0; root != NULL && f < root->count; f++) {
    const lc_avro_part *field = &schema->parts[root->first + f];
    int32_t bound = field->role == BEFORE || field->role == AFTER ? columns
                    : field->role == SOURCE                       ? 6
                    : field->role == TRANSACTION                  ? 2
                                                                  : INT32_MAX;
    if (bound < INT32_MAX && !roles_valid(schema, field->node, bound)) return false;
  }
  return true;
}

static lc_code plan_check(const lc_avro_plan *plan, lc_error *error) {
  if (plan == NULL) return lc_fail(error, LC_INVALID, -1, -1, "expected a plan");
  lc_code code = lc_envelope_plan_check(&plan->rows, error);
  if (code != LC_OK) return code;
  if (plan->rows.schema != NULL || plan->rows.carried != NULL || plan->rows.stop_on_unknown)
    return lc_fail(error, LC_INVALID, -1, -1, "a schema part, carried columns and unknown ones belong to JSON");
  for (int32_t c = 0; c < plan->rows.column_count; c++)
    if (plan->rows.columns[c].encoding > LC_ENCODING_DECIMAL_STRUCT)
      return lc_fail(error, LC_INVALID, -1, -1, "column %d: encoding %d belongs to JSON", c,
                     plan->rows.columns[c].encoding);
  if (plan->framing != 0 && plan->framing != 4 && plan->framing != 8)
    return lc_fail(error, LC_INVALID, -1, -1, "expected ids of 0, 4 or 8 bytes, found %d", plan->framing);
  if (plan->mode != LC_AVRO_ENVELOPE && plan->mode != LC_AVRO_FLAT)
    return lc_fail(error, LC_INVALID, -1, -1, "unknown mode %d", plan->mode);
  int32_t columns = plan->rows.column_count;
  bool good = schema_valid(&plan->value);
  if (good && plan->mode == LC_AVRO_FLAT) good = roles_valid(&plan->value, plan->value.root, columns);
  if (good && plan->mode == LC_AVRO_ENVELOPE) good = envelope_valid(&plan->value, columns);
  if (!good) return lc_fail(error, LC_INVALID, -1, -1, "the value's schema does not hold together");
  if (plan->key.node_count != 0 && (!schema_valid(&plan->key) || !roles_valid(&plan->key, plan->key.root, columns)))
    return lc_fail(error, LC_INVALID, -1, -1, "the key's schema does not hold together");
  return LC_OK;
}

/* Value i of a BINARY column that may be sliced; NULL for NULL. */
static const uint8_t *binary_get(const struct ArrowArray *array, int64_t i, size_t *size) {
  static const uint8_t nothing[1] = {0};
  *size = 0;
  if (!lc_is_valid(array, i)) return NULL;
  const int32_t *offsets = (const int32_t *)array->buffers[1] + array->offset + i;
  *size = (size_t)(offsets[1] - offsets[0]);
  const uint8_t *data = array->buffers[2];
  return data == NULL ? nothing : data + offsets[0];
}

static void messages_decode(lc_avro *a, const struct ArrowArray *messages, int64_t start, lc_decoded *out) {
  lc_decoder *d = &a->d;
  for (d->message = start; d->message < messages->length; d->message++) {
    size_t size, key_size;
    const uint8_t *value = binary_get(messages->children[1], d->message + messages->offset, &size);
    const uint8_t *key = binary_get(messages->children[0], d->message + messages->offset, &key_size);
    lc_avro_message(a, value, size, key, key_size);
    if (d->failed != LC_OK || d->stop != LC_STOP_NONE) break;
  }
  out->stop = d->stop;
  out->consumed = d->message;
}

lc_code lc_avro_decode(const lc_avro_plan *plan, const struct ArrowArray *messages, int64_t start,
                       const lc_envelope_state *state, int32_t level, lc_decoded *out, lc_error *error) {
  static const lc_column layouts[4] = {
      {.type = LC_TYPE_BINARY}, {.type = LC_TYPE_BINARY}, {.type = LC_TYPE_INT64}, {.type = LC_TYPE_INT64}};
  lc_code code = plan_check(plan, error);
  if (code == LC_OK) code = lc_check_batch(messages, layouts, 4, error);
  if (code != LC_OK) return code;
  lc_avro a = {.plan = plan, .d = {.plan = &plan->rows, .kernels = lc_kernels_pick(level), .state = *state}};
  lc_decoder *d = &a.d;
  if (d->kernels == NULL) return lc_fail(error, LC_INVALID, -1, -1, "this machine has no vector level %d", level);
  if (start < 0 || start > messages->length || messages->length >= INT32_MAX / 2)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a start of 0..%lld, found %lld", (long long)messages->length,
                   (long long)start);
  lc_decoded made = {.consumed = start};
  if (lc_decoder_init(d, messages->length - start))
    messages_decode(&a, messages, start, &made);
  else
    d->failed = LC_NO_MEMORY;
  if (d->failed != LC_OK)
    code = lc_fail(error, d->failed, d->message, -1,
                   d->failed == LC_CAPACITY ? "message %lld: a column passes 2^31-1 bytes in one batch"
                                            : "message %lld: no memory",
                   (long long)d->message);
  else
    code = lc_rows_finish(d, &made, error);
  if (code == LC_OK) {
    made.errors = d->errors;
    made.error_count = d->error_count;
    made.events = d->events;
    made.event_count = d->event_count;
    made.state = d->state;
    d->errors = NULL;
    d->events = NULL;
    *out = made;
  }
  lc_decoder_free(d);
  return code;
}
