/* The one setting of the process that libcore offers. */
#include "libcore/memory.h"

#if defined(__GLIBC__)
#include <malloc.h>

/* Above it glibc refuses the setting (half of its HEAP_MAX_SIZE on 64 bits). */
#define MMAP_THRESHOLD_MAX (32 << 20)
#define ARENAS 2

int32_t lc_keep_freed(int64_t bytes) {
  int keep = bytes < 0 ? 0 : bytes > INT32_MAX ? INT32_MAX : (int)bytes;
  return mallopt(M_MMAP_THRESHOLD, keep < MMAP_THRESHOLD_MAX ? keep : MMAP_THRESHOLD_MAX) &&
         mallopt(M_TRIM_THRESHOLD, keep) && mallopt(M_ARENA_MAX, ARENAS);
}
#else
int32_t lc_keep_freed(int64_t bytes) { return 0; }
#endif
