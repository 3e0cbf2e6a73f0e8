/* For tests of contracts: a call that must be refused, and counts of what is accepted. */
#ifndef LIBCORE_TEST_REFUSED_H
#define LIBCORE_TEST_REFUSED_H

#include "check.h"

static lc_error refused_error;

/* The call answers LC_INVALID with a sentence; it is given &refused_error. */
#define REFUSED(call)                                                                       \
  do {                                                                                      \
    refused_error = (lc_error){.message = ""};                                              \
    CHECK_EQUAL(LC_INVALID, (call));                                                        \
    CHECK(refused_error.message[0] != 0);                                                   \
  } while (0)

/* Change one member of a plan for one call that must be refused, then put it back. */
#define REFUSED_WITH(member, value, call)     \
  do {                                        \
    __typeof__(member) refused_kept = member; \
    member = value;                           \
    REFUSED(call);                            \
    member = refused_kept;                    \
  } while (0)

#endif
