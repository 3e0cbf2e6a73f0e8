/* A peer of decode: simdjson's on-demand API extracting the fields that our decoder gives, to the same columns.
 *
 * Written to simdjson's advantage, by its own advice: one parser for all documents, the messages parsed where they lie
 * (no copy), each object's fields asked for in the order in which they stand, strings unescaped straight into the
 * column. Compiled for this very machine, so that its front end is inlined for the CPU's best instructions. What it
 * leaves out of what ours does: fields that come in another order, unknown columns, placeholders, exact faults, the
 * validity of what it skips. The columns of a batch are equal to ours, byte for byte; bench/decode_simdjson.py compares them.
 */
#include <simdjson.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

using namespace simdjson;

extern "C" {
/* The items table's columns, then what a change carries; each buffer is malloced. */
struct columns {
  int64_t rows;
  int64_t *order_id, *line_no, *created_at, *ts;
  int32_t *quantity, *sku_offsets, *note_offsets;
  __int128 *unit_price, *discount;
  uint8_t *sku, *note, *op, *position;
  uint8_t *valid[8]; /* bits of the eight columns of the table */
};
}

#define TRY(expression) \
  if ((expression) != SUCCESS) return false

static inline void set_null(uint8_t *bits, int64_t row) { bits[row >> 3] &= (uint8_t) ~(1u << (row & 7)); }

/* Digits in front of anything else. */
static inline const char *digits(const char *p, uint64_t &value) {
  value = 0;
  while ((unsigned char)(*p - '0') < 10) value = value * 10 + (uint64_t)(*p++ - '0');
  return p;
}

/* A decimal's text to its value at `scale`; false where it needs more digits than that, or is no number. */
static inline bool decimal(const char *p, int scale, int64_t limit, __int128 &out) {
  bool negative = *p == '-';
  p += negative;
  uint64_t value = 0;
  const char *first = p;
  p = digits(p, value);
  int64_t count = p - first;
  if (*p == '.') {
    for (p++; scale > 0 && (unsigned char)(*p - '0') < 10; scale--, count++)
      value = value * 10 + (uint64_t)(*p++ - '0');
  }
  if (*p != '"' || count == 0 || count > 18) return false;
  while (scale-- > 0) value *= 10;
  if (value >= (uint64_t)limit) return false;
  out = negative ? -(__int128)value : (__int128)value;
  return true;
}

/* "[\"123\",\"456\"]" as it stands in the message: the first number. */
static inline bool sequence(const char *p, uint64_t &commit) {
  if (memcmp(p, "[\\\"", 3) != 0) return false;
  p = digits(p + 3, commit);
  return memcmp(p, "\\\",\\\"", 5) == 0;
}

static inline void big_endian(uint8_t *out, uint64_t value) {
  value = __builtin_bswap64(value);
  memcpy(out, &value, 8);
}

struct extractor {
  ondemand::parser parser;
  columns *out;
  uint8_t *sku, *note;
  int64_t row;
  uint8_t last[32];

  /* The value of a field; a null is marked as one. */
  bool field(ondemand::object &object, const char *name, size_t size, uint8_t *valid, ondemand::value &value,
             bool &null) {
    TRY(object.find_field(std::string_view(name, size)).get(value));
    TRY(value.is_null().get(null));
    if (null) set_null(valid, row);
    return true;
  }

  template <typename Number>
  bool number(ondemand::object &object, const char *name, size_t size, Number *column, uint8_t *valid) {
    ondemand::value value;
    int64_t found;
    bool null;
    if (!field(object, name, size, valid, value, null)) return false;
    if (null) {
      column[row] = 0;
      return true;
    }
    TRY(value.get_int64().get(found));
    column[row] = (Number)found;
    return column[row] == found;
  }

  bool text(ondemand::object &object, const char *name, size_t size, int32_t *offsets, uint8_t *data, uint8_t *&at,
            uint8_t *valid) {
    ondemand::value value;
    ondemand::raw_json_string raw;
    std::string_view written;
    bool null;
    if (!field(object, name, size, valid, value, null)) return false;
    if (!null) {
      TRY(value.get_raw_json_string().get(raw));
      TRY(parser.unescape(raw, at).get(written));
    }
    offsets[row + 1] = (int32_t)(at - data);
    return true;
  }

  bool money(ondemand::object &object, const char *name, size_t size, int scale, int64_t limit, __int128 *column,
             uint8_t *valid) {
    ondemand::value value;
    ondemand::raw_json_string raw;
    bool null;
    if (!field(object, name, size, valid, value, null)) return false;
    if (null) {
      column[row] = 0;
      return true;
    }
    TRY(value.get_raw_json_string().get(raw));
    return decimal(raw.raw(), scale, limit, column[row]);
  }

#define NAME(text) text, sizeof(text) - 1
  bool after(ondemand::object &object) {
    return number(object, NAME("order_id"), out->order_id, out->valid[0]) &&
           number(object, NAME("line_no"), out->line_no, out->valid[1]) &&
           text(object, NAME("sku"), out->sku_offsets, out->sku, sku, out->valid[2]) &&
           number(object, NAME("quantity"), out->quantity, out->valid[3]) &&
           money(object, NAME("unit_price"), 4, 1000000000000000000, out->unit_price, out->valid[4]) &&
           money(object, NAME("discount"), 2, 100000, out->discount, out->valid[5]) &&
           text(object, NAME("note"), out->note_offsets, out->note, note, out->valid[6]) &&
           number(object, NAME("created_at"), out->created_at, out->valid[7]);
  }

  bool source(ondemand::object &object) {
    ondemand::raw_json_string raw;
    uint64_t commit, lsn;
    TRY(object.find_field("snapshot").get_raw_json_string().get(raw));
    if (memcmp(raw.raw(), "false\"", 6) != 0) return false;
    TRY(object.find_field("sequence").get_raw_json_string().get(raw));
    if (!sequence(raw.raw(), commit)) return false;
    TRY(object.find_field("ts_us").get_int64().get(out->ts[row]));
    TRY(object.find_field("lsn").get_uint64().get(lsn));
    uint8_t *position = out->position + 32 * row;
    memset(position, 0, 32);
    big_endian(position + 6, commit);
    big_endian(position + 21, lsn);
    if (memcmp(position, last, 32) <= 0) { /* a further row of the same record */
      memcpy(position, last, 32);
      for (int i = 31; ++position[i] == 0; i--) {
      }
    }
    memcpy(last, position, 32);
    return true;
  }

  bool message(const char *data, size_t size) {
    ondemand::document document;
    ondemand::object root, object;
    ondemand::value value;
    int64_t keys[2] = {0, 0};
    bool before, has_after;
    TRY(parser.iterate(padded_string_view(data, size, size + SIMDJSON_PADDING)).get(document));
    TRY(document.get_object().get(root));
    TRY(root.find_field("before").get(value));
    TRY(value.is_null().get(before));
    before = !before;
    if (before) {
      TRY(value.get_object().get(object));
      TRY(object.find_field("order_id").get_int64().get(keys[0]));
      TRY(object.find_field("line_no").get_int64().get(keys[1]));
    }
    TRY(root.find_field("after").get(value));
    TRY(value.is_null().get(has_after));
    has_after = !has_after;
    if (has_after) {
      TRY(value.get_object().get(object));
      if (!after(object)) return false;
      if (before && (out->order_id[row] != keys[0] || out->line_no[row] != keys[1])) return false; /* not in it */
    } else {
      out->order_id[row] = keys[0];
      out->line_no[row] = keys[1];
      for (int c = 2; c < 8; c++) set_null(out->valid[c], row);
      out->sku_offsets[row + 1] = out->sku_offsets[row];
      out->note_offsets[row + 1] = out->note_offsets[row];
      out->quantity[row] = 0;
      out->unit_price[row] = out->discount[row] = 0;
      out->created_at[row] = 0;
    }
    TRY(root.find_field("source").get_object().get(object));
    if (!source(object)) return false;
    ondemand::raw_json_string raw;
    TRY(root.find_field("op").get_raw_json_string().get(raw));
    char op = *raw.raw();
    if (has_after ? op != 'c' && op != 'u' && op != 'r' : op != 'd' || !before) return false;
    out->op[row] = has_after ? 1 : 2;
    row++;
    return true;
  }
};

template <typename T>
static bool give(T *&memory, size_t count) {
  memory = (T *)malloc((count + 1) * sizeof(T));
  return memory != nullptr;
}

extern "C" {
__attribute__((visibility("default"))) const char *simdjson_code(void) {
  static const std::string name = get_active_implementation()->name();
  return name.c_str();
}

__attribute__((visibility("default"))) void *extractor_new(void) { return new extractor(); }

__attribute__((visibility("default"))) void extractor_free(void *given) { delete (extractor *)given; }

__attribute__((visibility("default"))) void columns_free(columns *out) {
  void *all[] = {out->order_id,     out->line_no,    out->created_at, out->ts,  out->quantity, out->sku_offsets,
                 out->note_offsets, out->unit_price, out->discount,   out->sku, out->note,     out->op,
                 out->position};
  for (void *memory : all) free(memory);
  for (uint8_t *bits : out->valid) free(bits);
}

/* Messages first..first+count of a binary column whose data has SIMDJSON_PADDING readable bytes behind its last one.
 * last: the position of the row before, changed to the last row's. -1, or the message that it cannot read. */
__attribute__((visibility("default"))) int64_t extract(void *given, const uint8_t *data, const int32_t *offsets,
                                                       int64_t count, uint8_t *last, columns *out) {
  extractor *self = (extractor *)given;
  size_t rows = (size_t)count, bytes = (size_t)(offsets[count] - offsets[0]) + SIMDJSON_PADDING;
  *out = columns();
  bool good = give(out->order_id, rows) && give(out->line_no, rows) && give(out->created_at, rows) &&
              give(out->ts, rows) && give(out->quantity, rows) && give(out->sku_offsets, rows + 1) &&
              give(out->note_offsets, rows + 1) && give(out->unit_price, rows) && give(out->discount, rows) &&
              give(out->sku, bytes) && give(out->note, bytes) && give(out->op, rows) && give(out->position, rows * 32);
  for (uint8_t *&bits : out->valid) {
    good = good && give(bits, rows / 8);
    if (good) memset(bits, 0xff, rows / 8 + 1);
  }
  if (good) out->sku_offsets[0] = out->note_offsets[0] = 0;
  self->out = out;
  self->sku = out->sku;
  self->note = out->note;
  self->row = 0;
  memcpy(self->last, last, 32);
  int64_t message = 0;
  while (good && message < count) {
    good = self->message((const char *)data + offsets[message], (size_t)(offsets[message + 1] - offsets[message]));
    message += good;
  }
  memcpy(last, self->last, 32);
  out->rows = self->row;
  return good ? -1 : message;
}
}
