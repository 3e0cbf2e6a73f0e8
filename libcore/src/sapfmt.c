/* Rows by a plan: check it, go block by block and field by field, gather columns and faults. */
#include "sapfmt_internal.h"

#include "view.h"

typedef void (*reader_of_kind)(lc_sap_reader *, lc_sap_column *);

static reader_of_kind reader_of(int32_t kind) {
  switch (kind) {
    case LC_SAP_CHAR:
    case LC_SAP_ALPHA_IN:
    case LC_SAP_ALPHA_OUT: return lc_sap_read_text;
    case LC_SAP_NUMC: return lc_sap_read_numc;
    case LC_SAP_DATS: return lc_sap_read_dats;
    case LC_SAP_TIMS: return lc_sap_read_tims;
    case LC_SAP_NUMBER: return lc_sap_read_number;
    case LC_SAP_FLTP: return lc_sap_read_fltp;
    case LC_SAP_INT1:
    case LC_SAP_INT2:
    case LC_SAP_INT4:
    case LC_SAP_INT8: return lc_sap_read_int;
    case LC_SAP_RAW: return lc_sap_read_raw;
    case LC_SAP_BOOL: return lc_sap_read_bool;
    case LC_SAP_PACKED: return lc_sap_read_packed;
    case LC_SAP_TIMESTAMP: return lc_sap_read_timestamp;
    case LC_SAP_ODATA_DATE: return lc_sap_read_odata_date;
    case LC_SAP_ODATA_TIME: return lc_sap_read_odata_time;
    case LC_SAP_BASE64: return lc_sap_read_base64;
    default: return NULL;
  }
}

static bool is_decimal(int32_t type) { return type == LC_TYPE_DECIMAL128 || type == LC_TYPE_DECIMAL256; }
static bool is_int(int32_t type) {
  return type == LC_TYPE_INT16 || type == LC_TYPE_INT32 || type == LC_TYPE_INT64;
}

static bool type_fits(const lc_sap_field *field) {
  int32_t type = field->type;
  switch (field->kind) {
    case LC_SAP_CHAR:
    case LC_SAP_ALPHA_IN:
    case LC_SAP_ALPHA_OUT: return type == LC_TYPE_UTF8;
    case LC_SAP_NUMC: return type == LC_TYPE_UTF8 || is_int(type);
    case LC_SAP_DATS: return type == LC_TYPE_DATE32;
    case LC_SAP_TIMS:
    case LC_SAP_ODATA_TIME: return type == LC_TYPE_TIME64 && (field->scale == 6 || field->scale == 9);
    case LC_SAP_NUMBER: return type == LC_TYPE_UTF8 || is_decimal(type);
    case LC_SAP_FLTP: return type == LC_TYPE_FLOAT64;
    case LC_SAP_INT1:
    case LC_SAP_INT2:
    case LC_SAP_INT4:
    case LC_SAP_INT8: return is_int(type);
    case LC_SAP_RAW:
    case LC_SAP_BASE64: return type == LC_TYPE_BINARY;
    case LC_SAP_BOOL: return type == LC_TYPE_BOOL;
    case LC_SAP_PACKED: return is_decimal(type) && field->decimals >= 0 && field->decimals <= 76;
    case LC_SAP_TIMESTAMP:
    case LC_SAP_ODATA_DATE: return type == LC_TYPE_TIMESTAMP && (field->scale == 6 || field->scale == 9);
    default: return false;
  }
}

static lc_code check_field(const lc_sap_plan *plan, int32_t f, bool binary, lc_error *error) {
  const lc_sap_field *field = &plan->fields[f];
  lc_column layout = {field->type, 0, field->precision, field->scale};
  if (field->kind != LC_SAP_SKIP && (!type_fits(field) || !lc_column_valid(&layout)))
    return lc_fail(error, LC_INVALID, -1, -1, "field %d: kind %d does not fill type %d", f, field->kind, field->type);
  if (field->kind == LC_SAP_PACKED && !binary)
    return lc_fail(error, LC_INVALID, -1, -1, "field %d: packed digits are read from bytes, not from text", f);
  if (field->offset < 0 || field->length < 0 || (field->kind == LC_SAP_ALPHA_IN && field->length == 0) ||
      field->length > 1 << 20)
    return lc_fail(error, LC_INVALID, -1, -1, "field %d: offset %d, length %d", f, field->offset, field->length);
  if (!plan->padded) return LC_OK;
  if (field->length == 0 && f + 1 < plan->field_count)
    return lc_fail(error, LC_INVALID, -1, -1, "field %d: expected a length, as others stand behind it", f);
  const lc_sap_field *before = f > 0 ? field - 1 : NULL;
  if (before != NULL && field->offset < (int64_t)before->offset + before->length + (plan->delimiter != 0))
    return lc_fail(error, LC_INVALID, -1, -1, "field %d: offset %d is not behind the field before it", f,
                   field->offset);
  return LC_OK;
}

static lc_code check_plan(const lc_sap_plan *plan, const lc_column *input, lc_error *error) {
  if (plan == NULL || input == NULL || (input->type != LC_TYPE_UTF8 && input->type != LC_TYPE_BINARY))
    return lc_fail(error, LC_INVALID, -1, -1, "expected a plan, and text or bytes to read");
  if (plan->fields == NULL || plan->field_count < 1 || plan->field_count > 4096)
    return lc_fail(error, LC_INVALID, -1, -1, "expected 1 to 4096 fields, found %d", plan->field_count);
  if (plan->delimiter < 0 || plan->delimiter > 127 || (!plan->padded && plan->delimiter == 0))
    return lc_fail(error, LC_INVALID, -1, -1, "expected an ASCII delimiter, found %d", plan->delimiter);
  for (int32_t f = 0; f < plan->field_count; f++) {
    lc_code code = check_field(plan, f, input->type == LC_TYPE_BINARY, error);
    if (code != LC_OK) return code;
  }
  return LC_OK;
}

lc_code lc_sap_errors_add(lc_sap_result *out, int64_t *capacity, const lc_sap_error *fault) {
  if (out->error_count == *capacity) {
    int64_t more = *capacity == 0 ? 16 : *capacity * 2; /* rows are below 2^31: cannot overflow */
    lc_sap_error *errors = lc_realloc(out->errors, (size_t)more * sizeof *errors);
    if (errors == NULL) return LC_NO_MEMORY;
    out->errors = errors;
    *capacity = more;
  }
  out->errors[out->error_count++] = *fault;
  return LC_OK;
}

bool lc_sap_reserve(lc_sap_reader *r, lc_sap_column *column, int64_t more) {
  if (more < 1) more = 1; /* so that there is memory to point into, even for no bytes */
  if (lc_buffer_reserve(&column->data, (size_t)more)) return true;
  r->failed = (int64_t)column->data.size + more > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY;
  return false;
}

/* Put rows first.. of the input into the reader. */
static void block_start(lc_sap_reader *r, const lc_view *view, int64_t first) {
  int64_t count = view->rows - first;
  r->first = first;
  r->count = (int32_t)(count < LC_SAP_BLOCK ? count : LC_SAP_BLOCK);
  r->all_easy = r->plan->padded;
  r->bytes = 0;
  for (int32_t i = 0; i < r->count; i++) {
    int64_t row = first + i;
    r->fault[i].code = 0;
    r->unit[i] = r->byte[i] = 0;
    if (!lc_view_valid(view, row)) {
      r->row[i] = (const uint8_t *)"";
      r->size[i] = 0;
      r->state[i] = LC_SAP_DEAD;
      r->all_easy = false;
      continue;
    }
    r->row[i] = lc_view_bytes(view, row);
    r->size[i] = lc_view_size(view, row);
    r->bytes += r->size[i];
    r->state[i] = r->plan->padded ? LC_SAP_EASY : LC_SAP_WALK;
    if (!r->units || lc_sap_is_ascii(r->row[i], r->size[i])) continue;
    int64_t bad = r->kernels->utf8_fault(r->row[i], (size_t)r->size[i]);
    r->all_easy = false;
    r->state[i] = bad < 0 ? LC_SAP_WALK : LC_SAP_DEAD;
    if (bad >= 0) lc_sap_blame(r, i, LC_SAP_UTF8, -1, r->row[i] + bad);
  }
}

/* The columns of the output, in columns[]; their layouts in layouts[]. */
static int64_t lay_out(const lc_sap_plan *plan, lc_sap_column *columns, lc_column *layouts) {
  int64_t count = 0;
  for (int32_t f = 0; f < plan->field_count; f++) {
    const lc_sap_field *field = &plan->fields[f];
    if (field->kind == LC_SAP_SKIP) continue;
    columns[count] = (lc_sap_column){.field = field, .index = f};
    layouts[count] = (lc_column){field->type, 0, field->precision, field->scale};
    if (is_decimal(field->type))
      columns[count].decimal =
          lc_decimal_target_make(field->precision, field->scale, field->type == LC_TYPE_DECIMAL256);
    count++;
  }
  return count;
}

static void read_blocks(lc_sap_reader *r, const lc_view *view, lc_sap_column *columns, lc_sap_result *out) {
  int64_t capacity = 0;
  for (int64_t first = 0; first < view->rows; first += LC_SAP_BLOCK) {
    block_start(r, view, first);
    int64_t c = 0;
    for (int32_t f = 0; f < r->plan->field_count && r->failed == LC_OK; f++) {
      int32_t kind = r->plan->fields[f].kind;
      bool nothing_to_see = kind == LC_SAP_SKIP && r->all_easy && r->plan->delimiter == 0;
      if (!nothing_to_see) lc_sap_find_cells(r, f);
      if (kind != LC_SAP_SKIP) reader_of(kind)(r, &columns[c++]);
    }
    if (r->failed != LC_OK) return;
    lc_sap_check_rest(r);
    for (int32_t i = 0; i < r->count && r->failed == LC_OK; i++)
      if (r->fault[i].code != 0) r->failed = lc_sap_errors_add(out, &capacity, &r->fault[i]);
    if (r->failed != LC_OK) return;
  }
}

lc_code lc_sap_read(const lc_sap_plan *plan, const struct ArrowArray *values, const lc_column *input, int32_t level,
                    lc_sap_result *out, lc_error *error) {
  lc_code code = check_plan(plan, input, error);
  if (code == LC_OK) code = lc_check_batch(values, input, 1, error);
  if (code != LC_OK) return code;
  const lc_kernels *kernels = lc_kernels_pick(level);
  if (kernels == NULL) return lc_fail(error, LC_INVALID, -1, -1, "no vector level %d here", level);
  size_t fields = (size_t)plan->field_count;
  lc_sap_reader *r = lc_calloc(1, sizeof *r);
  lc_sap_column *columns = lc_calloc(fields, sizeof *columns);
  lc_column *layouts = lc_calloc(fields, sizeof *layouts);
  lc_sap_result made = {0};
  int64_t count = 0;
  code = r == NULL || columns == NULL || layouts == NULL ? LC_NO_MEMORY : LC_OK;
  if (code == LC_OK) {
    count = lay_out(plan, columns, layouts);
    code = lc_batch_new(&made.batch, layouts, count, values->length, NULL);
  }
  if (code == LC_OK) {
    lc_view view = lc_view_of(values, input, 0);
    *r = (lc_sap_reader){.plan = plan, .kernels = kernels, .units = input->type == LC_TYPE_UTF8};
    for (int64_t c = 0; c < count; c++) {
      columns[c].values = lc_child_values(&made.batch, c);
      columns[c].validity = lc_child_validity(&made.batch, c);
    }
    read_blocks(r, &view, columns, &made);
    code = r->failed;
  }
  for (int64_t c = 0; c < count; c++)
    if (code == LC_OK && lc_type_is_variable(&layouts[c]))
      lc_child_give_data(&made.batch, c, &columns[c].data);
    else
      lc_buffer_free(&columns[c].data);
  if (code == LC_OK) lc_batch_finish(&made.batch, values->length);
  lc_free(layouts);
  lc_free(columns);
  lc_free(r);
  if (code != LC_OK) {
    lc_sap_result_free(&made);
    return lc_fail(error, code, -1, -1, "no room for %lld rows of %d fields", (long long)values->length,
                   plan->field_count);
  }
  *out = made;
  return LC_OK;
}

void lc_sap_result_free(lc_sap_result *result) {
  if (result->batch.release != NULL) result->batch.release(&result->batch);
  lc_free(result->errors);
  *result = (lc_sap_result){0};
}
