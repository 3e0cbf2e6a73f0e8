/* See copy_reader.h for the contract. */
#include "copy_reader.h"

#include <dlfcn.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The part of libpq-fe.h that is used; its binary interface has not changed since version 5.0. */
static struct {
  int (*get_copy_data)(void *connection, char **buffer, int async);
  int (*consume_input)(void *connection);
  int (*socket)(const void *connection);
  void (*free)(void *memory);
} api;

enum { FIRST_ROWS = 1024, HEADER_BYTES = 19, XLOG_BYTES = 25, KEEPALIVE_BYTES = 18, GATHER_US = 300 };

int hp_load(const char *path, char *error, size_t error_size) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    snprintf(error, error_size, "%s", dlerror());
    return -1;
  }
  *(void **)&api.get_copy_data = dlsym(library, "PQgetCopyData");
  *(void **)&api.consume_input = dlsym(library, "PQconsumeInput");
  *(void **)&api.socket = dlsym(library, "PQsocket");
  *(void **)&api.free = dlsym(library, "PQfreemem");
  if (api.get_copy_data != NULL && api.consume_input != NULL && api.socket != NULL && api.free != NULL) return 0;
  snprintf(error, error_size, "%s lacks a function of libpq", path);
  return -1;
}

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t be32(const uint8_t *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }
static int64_t be64(const uint8_t *p) { return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4)); }

/* ---- the rows being gathered ---- */

typedef struct rows {
  uint8_t *data;
  int32_t *offsets; /* count + 1 */
  int64_t *lsns;
  int64_t bytes, count, data_capacity, row_capacity;
} rows;

/* Room for one more message of that size; false where memory ran out or offsets would pass 2^31-1. */
static int room(rows *r, int64_t size) {
  if (size > INT32_MAX - r->bytes) return 0;
  if (r->count + 1 >= r->row_capacity) {
    int64_t capacity = r->row_capacity == 0 ? FIRST_ROWS : r->row_capacity * 2;
    int32_t *offsets = realloc(r->offsets, (size_t)(capacity + 1) * sizeof *offsets);
    if (offsets == NULL) return 0;
    r->offsets = offsets;
    int64_t *lsns = realloc(r->lsns, (size_t)capacity * sizeof *lsns);
    if (lsns == NULL) return 0;
    r->lsns = lsns;
    r->row_capacity = capacity;
    if (r->count == 0) r->offsets[0] = 0;
  }
  if (r->bytes + size > r->data_capacity) {
    int64_t capacity = r->data_capacity == 0 ? 1 << 16 : r->data_capacity * 2;
    if (capacity < r->bytes + size) capacity = r->bytes + size;
    uint8_t *data = realloc(r->data, (size_t)capacity);
    if (data == NULL) return 0;
    r->data = data;
    r->data_capacity = capacity;
  }
  return 1;
}

static void added(rows *r, int64_t size, int64_t lsn) {
  r->bytes += size;
  r->lsns[r->count++] = lsn;
  r->offsets[r->count] = (int32_t)r->bytes;
}

static void discard(rows *r) {
  free(r->data);
  free(r->offsets);
  free(r->lsns);
  memset(r, 0, sizeof *r);
}

/* ---- Arrow ---- */

typedef struct column {
  const void *buffers[3];
} column;

static void release_column(struct ArrowArray *array) {
  column *own = array->private_data;
  for (int i = 0; i < 3; i++) free((void *)own->buffers[i]);
  free(own);
  array->release = NULL;
}

static void release_rows(struct ArrowArray *array) {
  for (int64_t i = 0; i < array->n_children; i++) {
    struct ArrowArray *child = array->children[i];
    if (child == NULL) continue;
    if (child->release != NULL) child->release(child);
    free(child);
  }
  free(array->children);
  free(array->private_data);
  array->release = NULL;
}

/* A child array that takes the two buffers over; NULL where memory ran out, the buffers are the caller's then. */
static struct ArrowArray *new_column(int64_t count, void *first, void *second) {
  struct ArrowArray *array = calloc(1, sizeof *array);
  column *own = calloc(1, sizeof *own);
  if (array == NULL || own == NULL) {
    free(array);
    free(own);
    return NULL;
  }
  own->buffers[1] = first;
  own->buffers[2] = second;
  array->length = count;
  array->n_buffers = second == NULL ? 2 : 3;
  array->buffers = own->buffers;
  array->release = release_column;
  array->private_data = own;
  return array;
}

/* The gathered rows as a struct array, which takes their buffers over; frees them where memory ran out. */
static int hand_over(rows *r, struct ArrowArray *out) {
  memset(out, 0, sizeof *out);
  out->release = release_rows;
  out->length = r->count;
  out->n_buffers = 1;
  out->private_data = calloc(1, sizeof(void *)); /* the struct's one buffer: no validity */
  out->buffers = out->private_data;
  out->children = calloc(2, sizeof *out->children);
  if (out->buffers != NULL && out->children != NULL) {
    out->n_children = 2;
    if ((out->children[0] = new_column(r->count, r->offsets, r->data)) != NULL) r->offsets = NULL, r->data = NULL;
    if ((out->children[1] = new_column(r->count, r->lsns, NULL)) != NULL) r->lsns = NULL;
    if (out->children[0] != NULL && out->children[1] != NULL) return 1;
  }
  release_rows(out);
  discard(r);
  return 0;
}

/* ---- libpq ---- */

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One message, with its size; 0 where none comes until then (0: none is there); below 0 at the end, with *state set. */
static int next_message(void *connection, int64_t until_ms, int gather, uint8_t **message, int32_t *state) {
  for (int waited = 0;;) {
    char *found = NULL;
    int size = api.get_copy_data(connection, &found, 1);
    *message = (uint8_t *)found;
    if (size > 0) return size;
    if (size < 0) {
      *state = size == -1 ? HP_ENDED : HP_BROKEN;
      return -1;
    }
    int64_t wait_ms = waited || until_ms == 0 ? 0 : until_ms - now_ms();
    struct pollfd ready = {.fd = api.socket(connection), .events = POLLIN};
    if (poll(&ready, 1, wait_ms > 0 ? (int)wait_ms : 0) <= 0) {
      if (wait_ms <= 0) return 0;
    } else if (gather && wait_ms > 0) {
      usleep(GATHER_US); /* a walsender sends message by message: an eager reader would be woken for each */
    }
    waited = 1;
    if (!api.consume_input(connection)) {
      *state = HP_BROKEN;
      return -1;
    }
  }
}

/* Ends a call: hands over what was gathered. An error is told by the next call, behind all rows before it. */
static int64_t finished(rows *r, struct ArrowArray *out, hp_event *event) {
  int64_t count = r->count;
  if (count == 0) {
    discard(r);
    return 0;
  }
  if (event->state == HP_NO_MEMORY || event->state == HP_MALFORMED) {
    discard(r);
    return 0;
  }
  if (!hand_over(r, out)) {
    event->state = HP_NO_MEMORY;
    return 0;
  }
  return count;
}

static void see(hp_event *event, int64_t wal_end) {
  if (wal_end > event->wal_end) event->wal_end = wal_end;
}

/* One message of a walsender; 0 where it cannot be kept. */
static int take_stream(rows *r, const uint8_t *message, int size, hp_event *event) {
  if (size >= KEEPALIVE_BYTES && message[0] == 'k') {
    event->keepalive_lsn = be64(message + 1);
    see(event, event->keepalive_lsn);
    event->reply |= message[17] != 0;
    return 1;
  }
  if (size <= XLOG_BYTES || message[0] != 'w') {
    event->state = HP_MALFORMED;
    return 0;
  }
  if (!room(r, size - XLOG_BYTES)) {
    event->state = HP_NO_MEMORY;
    return 0;
  }
  memcpy(r->data + r->bytes, message + XLOG_BYTES, (size_t)(size - XLOG_BYTES));
  if (message[XLOG_BYTES] == 'B') event->last_begin = r->count;
  if (message[XLOG_BYTES] == 'C' || message[XLOG_BYTES] == 'c') event->last_commit = r->count;
  added(r, size - XLOG_BYTES, be64(message + 1));
  see(event, be64(message + 9));
  event->keepalive_lsn = -1;
  return 1;
}

int64_t hp_stream(uintptr_t connection, int64_t rows_max, int64_t bytes_max, int32_t wait_ms, struct ArrowArray *out,
                  hp_event *event) {
  rows r = {0};
  *event = (hp_event){.keepalive_lsn = -1, .wal_end = -1, .last_begin = -1, .last_commit = -1};
  int64_t until_ms = now_ms() + wait_ms;
  while (r.count < rows_max && r.bytes < bytes_max) {
    uint8_t *message;
    int size = next_message((void *)connection, r.count > 0 ? 0 : until_ms, 1, &message, &event->state);
    if (size <= 0) break;
    int kept = take_stream(&r, message, size, event);
    api.free(message);
    if (!kept || event->reply) break;
  }
  return finished(&r, out, event);
}

/* ---- rows of a binary COPY ---- */

static uint8_t *put32(uint8_t *p, uint32_t value) {
  for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> (24 - 8 * i));
  return p + 4;
}

/* A row as an I message; 0 where it is malformed or cannot be kept. */
static int take_row(rows *r, const uint8_t *p, const uint8_t *end, uint32_t oid, const char *forms, int32_t columns,
                    int64_t lsn, hp_event *event) {
  event->state = HP_MALFORMED;
  if (end - p < 2 || be16(p) != columns) return 0;
  if (!room(r, 8 + (end - p) + columns)) {
    event->state = HP_NO_MEMORY;
    return 0;
  }
  uint8_t *start = r->data + r->bytes, *out = start;
  *out++ = 'I';
  out = put32(out, oid);
  *out++ = 'N';
  *out++ = p[0];
  *out++ = p[1];
  p += 2;
  for (int32_t i = 0; i < columns; i++) {
    if (end - p < 4) return 0;
    int32_t size = (int32_t)be32(p);
    if (size < 0) {
      p += 4;
      *out++ = 'n';
      continue;
    }
    if (end - p - 4 < size) return 0;
    *out++ = (uint8_t)forms[i];
    memcpy(out, p, (size_t)size + 4);
    out += size + 4;
    p += size + 4;
  }
  if (p != end) return 0;
  added(r, out - start, lsn);
  event->state = HP_OPEN;
  return 1;
}

int64_t hp_rows(uintptr_t connection, uint32_t oid, const char *forms, int32_t columns, int64_t lsn, int64_t rows_max,
                int64_t bytes_max, int32_t wait_ms, int32_t *started, struct ArrowArray *out, hp_event *event) {
  static const char signature[] = "PGCOPY\n\377\r\n";
  rows r = {0};
  *event = (hp_event){.keepalive_lsn = -1, .wal_end = -1, .last_begin = -1, .last_commit = -1};
  int64_t until_ms = now_ms() + wait_ms; /* of all rows: nobody waits for the first one */
  while (r.count < rows_max && r.bytes < bytes_max) {
    uint8_t *message;
    int size = next_message((void *)connection, until_ms, 0, &message, &event->state);
    if (size <= 0) break;
    const uint8_t *p = message, *end = message + size;
    int kept = 1;
    if (!*started) { /* signature with its NUL, flags, bytes of extension */
      kept = size >= HEADER_BYTES && memcmp(p, signature, sizeof signature) == 0 &&
             (int64_t)be32(p + 15) <= size - HEADER_BYTES;
      if (kept) p += HEADER_BYTES + be32(p + 15);
      else event->state = HP_MALFORMED;
      *started = 1;
    }
    int trailer = end - p == 2 && be16(p) == 0xFFFF;
    if (kept && p < end && !trailer) kept = take_row(&r, p, end, oid, forms, columns, lsn, event);
    api.free(message);
    if (!kept) break;
  }
  return finished(&r, out, event);
}
