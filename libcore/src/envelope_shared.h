/* What the Avro decoder shares with the JSON one: the decoder's life, positions in text, array literals. */
#ifndef LIBCORE_ENVELOPE_SHARED_H
#define LIBCORE_ENVELOPE_SHARED_H

#include "envelope_internal.h"

lc_code lc_envelope_plan_check(const lc_envelope_plan *plan, lc_error *error);
bool lc_decoder_init(lc_decoder *d, int64_t messages); /* d->plan and d->kernels are set; free it in any case */
void lc_decoder_free(lc_decoder *d);

/* Decimal digits of at most 80 bits; "vvvvvvvv:bbbbbbbb:ssss"; the commit of "[commit,lsn]": low word, high word. */
bool lc_source_big_number(const uint8_t *text, const uint8_t *end, uint64_t number[2]);
bool lc_source_server_lsn(const uint8_t *text, size_t size, uint64_t number[2]);
bool lc_source_sequence(const uint8_t *text, const uint8_t *end, uint64_t commit[2]);

/* Onto the text in d->literal: as it is, quoted, or bytes in hexadecimal; false: d->failed is set. */
bool lc_literal_put(lc_decoder *d, const void *text, size_t size);
bool lc_literal_quoted(lc_decoder *d, const uint8_t *text, size_t size);
bool lc_literal_bytes(lc_decoder *d, const uint8_t *bytes, size_t size);
/* Whether the literal in d->literal is the one that stands for an array that was not sent. */
bool lc_literal_unsent(const lc_decoder *d, const lc_wire_column *array);
bool lc_is_java_print(const uint8_t *text, size_t size);

#endif
