/* Messages of Kafka partitions straight into Arrow buffers, over a librdkafka that is loaded at run time.
 *
 * The library is the one that confluent-kafka's wheel carries; nothing of it is needed to compile.  Only its public
 * interface is used (https://github.com/confluentinc/librdkafka, rdkafka.h), the simple consumer: offsets are given and
 * kept by the caller, no group is joined and nothing is committed.
 *
 * Threads: hr_load once, before all else.  A client may be shared by threads, a reader belongs to one at a time.  No
 * function takes the GIL, and none waits for the broker except hr_reader_seek and the closing ones.
 */
#ifndef HEADRACE_KAFKA_READER_H
#define HEADRACE_KAFKA_READER_H

#include "libcore/types.h"

/* cdef */
typedef struct hr_client hr_client; /* a connection to a cluster, with librdkafka's threads */
typedef struct hr_reader hr_reader; /* one partition of one topic, with a queue of its own */

/* What a poll met besides messages. */
typedef struct hr_event {
  int32_t code;       /* rd_kafka_resp_err_t that stopped the batch, 0 where there is none */
  int64_t offset;     /* the offset that the error names, -1001 where it names none */
  int64_t end_offset; /* the newest end of the partition that was reached, -1 where none was yet */
  char text[512];     /* the error's own sentence; NUL-terminated */
} hr_event;

/* Load librdkafka from `path` and find its functions.  Returns 0, or -1 with `error` filled (NUL-terminated). */
int hr_load(const char *path, char *error, size_t error_size);

/* The loaded library's version text. */
const char *hr_version(void);

/* A client from `count` pairs of property name and value; the texts are copied.  Returns NULL with `error` filled; the
 * error never holds a value.  Freed by hr_client_close, after all its readers. */
hr_client *hr_client_new(const char *const *names, const char *const *values, int32_t count, char *error,
                         size_t error_size);
void hr_client_close(hr_client *client);

/* Take the oldest line that librdkafka logged.  Returns its syslog level (0-7) with `line` filled, or -1 where there is
 * none.  The newest 64 lines are kept. */
int hr_client_log(hr_client *client, char *line, size_t line_size);

/* Read a partition from `offset` on.  Returns NULL with `error` filled.  The client must outlive the reader. */
hr_reader *hr_reader_open(hr_client *client, const char *topic, int32_t partition, int64_t offset, char *error,
                          size_t error_size);
void hr_reader_close(hr_reader *reader);

/* Take what is queued: at most `rows_max` messages and, unless a single one is larger, `bytes_max` bytes of keys and
 * values.  Never waits.
 *
 *   out    a struct array of key binary, value binary, offset int64, timestamp_ms int64 (-1: none); released by the
 *          caller through its callback.  Filled only where a number above 0 is returned.
 *   event  always filled.  An error comes after all messages before it, in a call of its own that returns 0.
 *
 * Returns the number of messages, or -1 where memory ran out: nothing is lost then, the next call gives them.
 */
int64_t hr_reader_poll(hr_reader *reader, int64_t rows_max, int64_t bytes_max, struct ArrowArray *out,
                       hr_event *event);

/* Drop what is queued and go on at `offset`.  Returns 0, or -1 with `error` filled. */
int hr_reader_seek(hr_reader *reader, int64_t offset, char *error, size_t error_size);

/* The lowest and the next offset of the partition as last told by the broker; -1001 where still unknown. */
void hr_reader_watermarks(hr_reader *reader, int64_t *low, int64_t *high);
/* end cdef */

#endif
