/* See reader.h for the contract. */
#include "rdkafka_api.h"
#include "reader.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1000, LOG_LINES = 64, LOG_LINE_BYTES = 384, ALIGNMENT = 64, COLUMNS = 4 };

static struct {
#define MEMBER(result, name, arguments) result(*name) arguments;
  FUNCTIONS(MEMBER)
#undef MEMBER
} api;

struct hr_client {
  rd_kafka_t *handle;
  pthread_mutex_t log_lock;
  int log_first, log_count;
  int log_level[LOG_LINES];
  char log_line[LOG_LINES][LOG_LINE_BYTES];
};

struct hr_reader {
  hr_client *client;
  rd_kafka_topic_t *topic;
  rd_kafka_queue_t *queue;
  char *name;
  int32_t partition;
  int64_t end_offset;
  /* Taken from the queue and not yet handed out: [first, first + count) of `held`. */
  rd_kafka_message_t **held;
  size_t first, count, capacity;
};

int hr_load(const char *path, char *error, size_t error_size) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    snprintf(error, error_size, "%s", dlerror());
    return -1;
  }
#define FIND(result, name, arguments)                             \
  *(void **)&api.name = dlsym(library, #name);                    \
  if (api.name == NULL) {                                         \
    snprintf(error, error_size, "%s has no symbol " #name, path); \
    return -1;                                                    \
  }
  FUNCTIONS(FIND)
#undef FIND
  return 0;
}

const char *hr_version(void) { return api.rd_kafka_version_str(); }

/* Runs on librdkafka's threads, which Python does not know: the line waits in a ring until Python asks for it. */
static void keep_log(const rd_kafka_t *handle, int level, const char *facility, const char *text) {
  hr_client *client = api.rd_kafka_opaque(handle);
  if (client == NULL) return;
  pthread_mutex_lock(&client->log_lock);
  if (client->log_count == LOG_LINES) {
    client->log_first = (client->log_first + 1) % LOG_LINES;
    client->log_count--;
  }
  int slot = (client->log_first + client->log_count++) % LOG_LINES;
  client->log_level[slot] = level;
  snprintf(client->log_line[slot], LOG_LINE_BYTES, "%s: %s", facility, text);
  pthread_mutex_unlock(&client->log_lock);
}

int hr_client_log(hr_client *client, char *line, size_t line_size) {
  int level = -1;
  pthread_mutex_lock(&client->log_lock);
  if (client->log_count > 0) {
    level = client->log_level[client->log_first];
    snprintf(line, line_size, "%s", client->log_line[client->log_first]);
    client->log_first = (client->log_first + 1) % LOG_LINES;
    client->log_count--;
  }
  pthread_mutex_unlock(&client->log_lock);
  return level;
}

hr_client *hr_client_new(const char *const *names, const char *const *values, int32_t count, char *error,
                         size_t error_size) {
  hr_client *client = calloc(1, sizeof *client);
  if (client == NULL) {
    snprintf(error, error_size, "out of memory");
    return NULL;
  }
  rd_kafka_conf_t *conf = api.rd_kafka_conf_new();
  for (int32_t i = 0; i < count; i++) {
    /* librdkafka's own text would quote the value, which may be a password. */
    char hidden[512];
    if (api.rd_kafka_conf_set(conf, names[i], values[i], hidden, sizeof hidden) != RD_KAFKA_CONF_OK) {
      snprintf(error, error_size, "librdkafka refuses the value or the name of property %s", names[i]);
      api.rd_kafka_conf_destroy(conf);
      free(client);
      return NULL;
    }
  }
  pthread_mutex_init(&client->log_lock, NULL);
  api.rd_kafka_conf_set_opaque(conf, client);
  api.rd_kafka_conf_set_log_cb(conf, keep_log);
  client->handle = api.rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, error_size);
  if (client->handle == NULL) {
    api.rd_kafka_conf_destroy(conf);
    pthread_mutex_destroy(&client->log_lock);
    free(client);
    return NULL;
  }
  return client;
}

void hr_client_close(hr_client *client) {
  if (client == NULL) return;
  api.rd_kafka_destroy(client->handle);
  pthread_mutex_destroy(&client->log_lock);
  free(client);
}

static void drop_held(hr_reader *reader) {
  for (size_t i = 0; i < reader->count; i++) api.rd_kafka_message_destroy(reader->held[reader->first + i]);
  reader->first = reader->count = 0;
}

/* Everything but the consuming itself; takes a reader that is only partly made, too. */
static void free_reader(hr_reader *reader) {
  if (reader->queue != NULL) api.rd_kafka_queue_destroy(reader->queue);
  if (reader->topic != NULL) api.rd_kafka_topic_destroy(reader->topic);
  free(reader->held);
  free(reader->name);
  free(reader);
}

static int start(hr_reader *reader, int64_t offset, char *error, size_t error_size) {
  reader->queue = api.rd_kafka_queue_new(reader->client->handle);
  if (api.rd_kafka_consume_start_queue(reader->topic, reader->partition, offset, reader->queue) == 0) return 0;
  snprintf(error, error_size, "%s", api.rd_kafka_err2str(api.rd_kafka_last_error()));
  return -1;
}

hr_reader *hr_reader_open(hr_client *client, const char *topic, int32_t partition, int64_t offset, char *error,
                          size_t error_size) {
  hr_reader *reader = calloc(1, sizeof *reader);
  if (reader == NULL || (reader->name = strdup(topic)) == NULL) {
    snprintf(error, error_size, "out of memory");
    free(reader);
    return NULL;
  }
  reader->client = client;
  reader->partition = partition;
  reader->end_offset = -1;
  reader->topic = api.rd_kafka_topic_new(client->handle, topic, NULL);
  if (reader->topic == NULL)
    snprintf(error, error_size, "%s", api.rd_kafka_err2str(api.rd_kafka_last_error()));
  else if (start(reader, offset, error, error_size) == 0)
    return reader;
  free_reader(reader);
  return NULL;
}

void hr_reader_close(hr_reader *reader) {
  if (reader == NULL) return;
  drop_held(reader);
  api.rd_kafka_consume_stop(reader->topic, reader->partition);
  free_reader(reader);
}

int hr_reader_seek(hr_reader *reader, int64_t offset, char *error, size_t error_size) {
  drop_held(reader);
  reader->end_offset = -1;
  /* A fresh queue: the old one may still hold messages and events from before the stop. */
  api.rd_kafka_consume_stop(reader->topic, reader->partition);
  api.rd_kafka_queue_destroy(reader->queue);
  return start(reader, offset, error, error_size);
}

void hr_reader_watermarks(hr_reader *reader, int64_t *low, int64_t *high) {
  *low = *high = INVALID_OFFSET;
  api.rd_kafka_get_watermark_offsets(reader->client->handle, reader->name, reader->partition, low, high);
}

/* ---- messages -> Arrow ---- */

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

static void *buffer(size_t bytes) {
  size_t padded = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT; /* never 0 */
  return aligned_alloc(ALIGNMENT, padded);
}

/* A child array that owns the buffers given; frees them and returns NULL where memory ran out. */
static struct ArrowArray *new_column(int64_t rows, int64_t nulls, int buffers, void *a, void *b, void *c) {
  struct ArrowArray *array = calloc(1, sizeof *array);
  column *own = calloc(1, sizeof *own);
  if (array == NULL || own == NULL || b == NULL || (buffers == 3 && c == NULL) || (nulls > 0 && a == NULL)) {
    free(array);
    free(own);
    free(a);
    free(b);
    free(c);
    return NULL;
  }
  own->buffers[0] = a;
  own->buffers[1] = b;
  own->buffers[2] = c;
  array->length = rows;
  array->null_count = nulls;
  array->n_buffers = buffers;
  array->buffers = own->buffers;
  array->release = release_column;
  array->private_data = own;
  return array;
}

/* Keys (key != 0) or values of `rows` messages as a binary column; NULL where memory ran out. */
static struct ArrowArray *binary_column(rd_kafka_message_t *const *messages, int64_t rows, int key) {
  size_t bytes = 0;
  int64_t nulls = 0;
  for (int64_t i = 0; i < rows; i++) {
    bytes += key ? messages[i]->key_len : messages[i]->len;
    nulls += (key ? messages[i]->key : messages[i]->payload) == NULL;
  }
  uint8_t *valid = NULL;
  int32_t *offsets = buffer((size_t)(rows + 1) * sizeof *offsets);
  uint8_t *data = buffer(bytes);
  if (nulls > 0 && (valid = buffer((size_t)(rows + 7) / 8)) != NULL) memset(valid, 0, (size_t)(rows + 7) / 8);
  struct ArrowArray *array = new_column(rows, nulls, 3, valid, offsets, data);
  if (array == NULL) return NULL;
  size_t end = 0;
  offsets[0] = 0;
  for (int64_t i = 0; i < rows; i++) {
    const void *from = key ? messages[i]->key : messages[i]->payload;
    if (from != NULL) {
      size_t length = key ? messages[i]->key_len : messages[i]->len;
      memcpy(data + end, from, length);
      end += length;
      if (valid != NULL) valid[i / 8] |= (uint8_t)(1u << (i % 8));
    }
    offsets[i + 1] = (int32_t)end;
  }
  return array;
}

static struct ArrowArray *number_column(rd_kafka_message_t *const *messages, int64_t rows, int timestamp) {
  int64_t *values = buffer((size_t)rows * sizeof *values);
  struct ArrowArray *array = new_column(rows, 0, 2, NULL, values, NULL);
  if (array == NULL) return NULL;
  for (int64_t i = 0; i < rows; i++) {
    int kind;
    values[i] = timestamp ? api.rd_kafka_message_timestamp(messages[i], &kind) : messages[i]->offset;
  }
  return array;
}

static int fill(struct ArrowArray *out, rd_kafka_message_t *const *messages, int64_t rows) {
  memset(out, 0, sizeof *out);
  out->release = release_rows;
  out->length = rows;
  out->n_buffers = 1;
  out->n_children = 0;
  out->private_data = calloc(1, sizeof(void *)); /* the struct's one buffer: no validity */
  out->buffers = out->private_data;
  out->children = calloc(COLUMNS, sizeof *out->children);
  if (out->buffers != NULL && out->children != NULL) {
    out->n_children = COLUMNS;
    out->children[0] = binary_column(messages, rows, 1);
    out->children[1] = binary_column(messages, rows, 0);
    out->children[2] = number_column(messages, rows, 0);
    out->children[3] = number_column(messages, rows, 1);
    if (out->children[0] != NULL && out->children[1] != NULL && out->children[2] != NULL && out->children[3] != NULL)
      return 0;
  }
  release_rows(out);
  return -1;
}

/* Take one more chunk from the queue into `held`.  Returns messages taken, or -1 where memory ran out. */
static ssize_t take(hr_reader *reader) {
  if (reader->first > 0) {
    memmove(reader->held, reader->held + reader->first, reader->count * sizeof *reader->held);
    reader->first = 0;
  }
  if (reader->capacity < reader->count + CHUNK) {
    size_t capacity = (reader->count + CHUNK) * 2;
    rd_kafka_message_t **held = realloc(reader->held, capacity * sizeof *held);
    if (held == NULL) return -1;
    reader->held = held;
    reader->capacity = capacity;
  }
  ssize_t taken = api.rd_kafka_consume_batch_queue(reader->queue, 0, reader->held + reader->count, CHUNK);
  if (taken <= 0) return 0;
  /* The end of the partition is a mark, not a message: note it and close the gap. */
  size_t kept = reader->count;
  for (ssize_t i = 0; i < taken; i++) {
    rd_kafka_message_t *message = reader->held[reader->count + (size_t)i];
    if (message->err == PARTITION_EOF) {
      if (message->offset > reader->end_offset) reader->end_offset = message->offset;
      api.rd_kafka_message_destroy(message);
    } else {
      reader->held[kept++] = message;
    }
  }
  reader->count = kept;
  return taken;
}

static void report(hr_reader *reader, hr_event *event) {
  rd_kafka_message_t *message = reader->held[reader->first];
  event->code = message->err;
  event->offset = message->offset;
  int length = message->payload != NULL ? (int)message->len : 0;
  if (length > 0)
    snprintf(event->text, sizeof event->text, "%.*s", length, (const char *)message->payload);
  else
    snprintf(event->text, sizeof event->text, "%s", api.rd_kafka_err2str(message->err));
  api.rd_kafka_message_destroy(message);
  reader->first++;
  reader->count--;
}

int64_t hr_reader_poll(hr_reader *reader, int64_t rows_max, int64_t bytes_max, struct ArrowArray *out,
                       hr_event *event) {
  memset(event, 0, sizeof *event);
  event->offset = INVALID_OFFSET;
  api.rd_kafka_poll(reader->client->handle, 0); /* serves token refresh and the like */
  int64_t rows = 0, bytes = 0;
  for (;;) {
    if ((size_t)rows == reader->count) {
      ssize_t taken = rows < rows_max ? take(reader) : 0;
      if (taken < 0) return -1;
      if (taken == 0) break;
      continue;
    }
    const rd_kafka_message_t *message = reader->held[reader->first + (size_t)rows];
    int64_t size = (int64_t)(message->len + message->key_len);
    if (rows == rows_max || message->err != 0 || (rows > 0 && bytes + size > bytes_max)) break;
    bytes += size;
    rows++;
  }
  event->end_offset = reader->end_offset;
  if (rows == 0) {
    if (reader->count > 0 && rows_max > 0) report(reader, event);
    return 0;
  }
  if (fill(out, reader->held + reader->first, rows) != 0) return -1;
  for (int64_t i = 0; i < rows; i++) api.rd_kafka_message_destroy(reader->held[reader->first + (size_t)i]);
  reader->first += (size_t)rows;
  reader->count -= (size_t)rows;
  return rows;
}
