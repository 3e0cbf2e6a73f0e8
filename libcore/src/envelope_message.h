/* Between the batch loop and the message: what a message is, and what became of it. */
#ifndef LIBCORE_ENVELOPE_MESSAGE_H
#define LIBCORE_ENVELOPE_MESSAGE_H

#include "envelope_internal.h"

enum { BEFORE, AFTER, SOURCE, OP, TS_MS, STATUS, ID, TRANSACTION, FIELD_COUNT }; /* members of an envelope */

enum { LC_OP_UPSERT = 1, LC_OP_DELETE = 2, LC_OP_INSERT = 6 }; /* libcore.change.Op */

/* The operation of a row that stays, of a table with a key. */
static inline uint8_t lc_op_of_upsert(const lc_decoder *d) {
  return d->plan->creates && d->op != 'u' ? LC_OP_INSERT : LC_OP_UPSERT;
}

typedef struct lc_message {
  const uint8_t *key; /* NULL: the message has none */
  size_t key_size;
} lc_message;

const char *const *lc_top_fields(int32_t *count);

/* `size` bytes with LC_PADDING readable ones behind them: the bytes themselves, or a copy where they end the input's
 * buffer
 * (`copy`: always).  The copies of a value and of a key stand apart.  NULL: no memory. */
const uint8_t *lc_message_padded(lc_decoder *d, const uint8_t *data, size_t size, bool copy);

/* Read the envelope at p (d->start..d->end is the value, `depth` brackets with its own will be open).  false: nothing
 * happened. */
bool lc_message_fast(lc_decoder *d, const uint8_t *p, int depth);

/* The same for any value, with its exact fault; sets d->stop where the call must end before this message. */
void lc_message_careful(lc_decoder *d, const lc_message *m);

/* A message without a value. */
void lc_message_null(lc_decoder *d, const lc_message *m);

/* Forget the message before. */
void lc_message_reset(lc_decoder *d);

/* The letter of an operation, 1 where it is no known one. */
uint8_t lc_op_letter(const uint8_t *text, size_t size);

void lc_message_error(lc_decoder *d, int32_t code, int64_t position, int32_t column);
void lc_message_event(lc_decoder *d, int32_t kind);

#endif
