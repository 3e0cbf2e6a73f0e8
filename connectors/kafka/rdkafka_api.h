/* What the C reader uses of librdkafka, as its public header rdkafka.h has it: types, numbers, and functions by name.
 *
 * FUNCTIONS(X) lists X(result, name, arguments); the reader makes a table of pointers from it, filled at run time.
 */
#ifndef HEADRACE_RDKAFKA_API_H
#define HEADRACE_RDKAFKA_API_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_topic_conf_s rd_kafka_topic_conf_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_message_s {
  int err;
  rd_kafka_topic_t *rkt;
  int32_t partition;
  void *payload;
  size_t len;
  void *key;
  size_t key_len;
  int64_t offset;
  void *_private;
} rd_kafka_message_t;

enum { RD_KAFKA_CONSUMER = 1, RD_KAFKA_CONF_OK = 0, PARTITION_EOF = -191, INVALID_OFFSET = -1001 };

#define FUNCTIONS(X)                                                                                          \
  X(const char *, rd_kafka_version_str, (void))                                                               \
  X(rd_kafka_conf_t *, rd_kafka_conf_new, (void))                                                             \
  X(void, rd_kafka_conf_destroy, (rd_kafka_conf_t *))                                                         \
  X(int, rd_kafka_conf_set, (rd_kafka_conf_t *, const char *, const char *, char *, size_t))                  \
  X(void, rd_kafka_conf_set_opaque, (rd_kafka_conf_t *, void *))                                              \
  X(void, rd_kafka_conf_set_log_cb,                                                                           \
    (rd_kafka_conf_t *, void (*)(const rd_kafka_t *, int, const char *, const char *)))                       \
  X(rd_kafka_t *, rd_kafka_new, (int, rd_kafka_conf_t *, char *, size_t))                                     \
  X(void *, rd_kafka_opaque, (const rd_kafka_t *))                                                            \
  X(void, rd_kafka_destroy, (rd_kafka_t *))                                                                   \
  X(int, rd_kafka_poll, (rd_kafka_t *, int))                                                                  \
  X(rd_kafka_topic_t *, rd_kafka_topic_new, (rd_kafka_t *, const char *, rd_kafka_topic_conf_t *))            \
  X(void, rd_kafka_topic_destroy, (rd_kafka_topic_t *))                                                       \
  X(rd_kafka_queue_t *, rd_kafka_queue_new, (rd_kafka_t *))                                                   \
  X(void, rd_kafka_queue_destroy, (rd_kafka_queue_t *))                                                       \
  X(int, rd_kafka_consume_start_queue, (rd_kafka_topic_t *, int32_t, int64_t, rd_kafka_queue_t *))            \
  X(int, rd_kafka_consume_stop, (rd_kafka_topic_t *, int32_t))                                                \
  X(ssize_t, rd_kafka_consume_batch_queue, (rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t))          \
  X(int64_t, rd_kafka_message_timestamp, (const rd_kafka_message_t *, int *))                                 \
  X(void, rd_kafka_message_destroy, (rd_kafka_message_t *))                                                   \
  X(int, rd_kafka_get_watermark_offsets, (rd_kafka_t *, const char *, int32_t, int64_t *, int64_t *))         \
  X(int, rd_kafka_last_error, (void))                                                                         \
  X(const char *, rd_kafka_err2str, (int))

#endif
