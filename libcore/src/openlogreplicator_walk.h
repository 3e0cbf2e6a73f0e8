/* What the walk over OpenLogReplicator's messages leaves for the output. */
#ifndef LIBCORE_OPENLOGREPLICATOR_WALK_H
#define LIBCORE_OPENLOGREPLICATOR_WALK_H

#include "libcore/openlogreplicator.h"
#include "scan.h"

typedef enum lc_olr_op { LC_OLR_NONE, LC_OLR_OTHER, LC_OLR_ROW, LC_OLR_DDL, LC_OLR_PASSED } lc_olr_op;

typedef struct lc_olr_change {
  const uint8_t *at; /* its text in the message */
  size_t size;
  int64_t message, place;
  int32_t table; /* -1: one that is not asked for */
} lc_olr_change;

typedef struct lc_olr_walk {
  const lc_olr_table *tables;
  int32_t table_count;
  const lc_kernels *kernels;
  int64_t message; /* in hand: the caller counts */
  bool failed;     /* no memory */

  lc_olr_change *changes;
  int64_t count, capacity;
  int64_t others; /* rows of tables that are not asked for, once the output leaves them out */
  int64_t *ddls;
  int64_t ddl_count, ddl_capacity;
  lc_row_error *errors;
  int64_t error_count, error_capacity;

  const uint8_t *end; /* of the message in hand */
  int64_t place;      /* of the change in hand */
  uint32_t seen;      /* members of the objects that are open */
  lc_olr_op op;       /* of the change in hand */
  const uint8_t *op_at;
  int32_t table; /* of the change in hand */
  bool named;    /* it has a table */
  bool ddl;      /* the message has a change of op ddl */
  int32_t fault; /* the message's first one */
  const uint8_t *fault_at;
  const uint8_t *known; /* the schema that was looked up last, and its table: most changes repeat it */
  size_t known_size;
  int32_t known_table;
  lc_buffer owner, name;
} lc_olr_walk;

/* Take the message in hand apart: its changes are kept, or it leaves an error and nothing else. */
void lc_olr_message(lc_olr_walk *w, const uint8_t *start, int64_t size);

void lc_olr_walk_free(lc_olr_walk *w);

/* memcmp, the shorter one first where one begins with the other. */
int lc_olr_compare(const uint8_t *a, size_t a_size, const char *b, size_t b_size);

#endif
