/* A main() for a fuzz entry where no libFuzzer is: runs every corpus file as it is, then random mutations of them.
 *
 * Include it at the end of a fuzz_*.c; -DLC_LIBFUZZER leaves main to libFuzzer (clang -fsanitize=fuzzer).
 *
 *   ./fuzz_NAME [-runs=N] [-max_total_time=SECONDS] [-seed=N] [file ...]
 *
 * Without files: an empty input and mutations of it.  With a time the mutations end there, whatever the runs say.
 */
#ifndef LIBCORE_TEST_FUZZ_DRIVER_H
#define LIBCORE_TEST_FUZZ_DRIVER_H

#ifndef LC_LIBFUZZER

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_FILES_MAX 4096
#define FUZZ_GROWTH_MAX 64

typedef struct fuzz_input {
  uint8_t *data;
  size_t size;
} fuzz_input;

static uint64_t fuzz_state;

/* xorshift64*: a seed and a commit reproduce any run. */
static uint64_t fuzz_random(uint64_t below) {
  fuzz_state ^= fuzz_state >> 12;
  fuzz_state ^= fuzz_state << 25;
  fuzz_state ^= fuzz_state >> 27;
  return (fuzz_state * 0x2545F4914F6CDD1DULL >> 11) % below;
}

static size_t fuzz_mutate(uint8_t *data, size_t size, size_t capacity) {
  for (uint64_t change = 1 + fuzz_random(8); change > 0; change--) {
    size_t at = size ? (size_t)fuzz_random(size) : 0;
    switch (fuzz_random(6)) {
      case 0:
        if (size) data[at] ^= (uint8_t)(1u << fuzz_random(8));
        break;
      case 1:
        if (size) data[at] = (uint8_t)fuzz_random(256);
        break;
      case 2: size = at; break; /* cut */
      case 3:                   /* insert a byte */
        if (size >= capacity) break;
        memmove(data + at + 1, data + at, size - at);
        data[at] = (uint8_t)fuzz_random(256);
        size++;
        break;
      case 4: /* take a byte out */
        if (!size) break;
        memmove(data + at, data + at + 1, size - at - 1);
        size--;
        break;
      default: { /* copy a piece to another place */
        if (size < 2) break;
        size_t from = (size_t)fuzz_random(size), most = size - (from > at ? from : at);
        memmove(data + at, data + from, (size_t)fuzz_random(most + 1));
        break;
      }
    }
  }
  return size;
}

/* Each input is a block of its own size, so that a sanitizer sees one byte too far. */
static void fuzz_once(const uint8_t *data, size_t size) {
  uint8_t *exact = malloc(size ? size : 1);
  if (exact == NULL) abort();
  if (size) memcpy(exact, data, size);
  LLVMFuzzerTestOneInput(exact, size);
  free(exact);
}

static fuzz_input fuzz_read(const char *path) {
  fuzz_input input = {0};
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    fprintf(stderr, "%s: cannot be read\n", path);
    exit(2);
  }
  long size = ftell(file);
  rewind(file);
  input.data = malloc((size_t)size + FUZZ_GROWTH_MAX);
  if (input.data == NULL || fread(input.data, 1, (size_t)size, file) != (size_t)size) {
    fprintf(stderr, "%s: cannot be read\n", path);
    exit(2);
  }
  input.size = (size_t)size;
  fclose(file);
  return input;
}

int main(int argc, char **argv) {
  static fuzz_input inputs[FUZZ_FILES_MAX + 1];
  static uint8_t nothing[FUZZ_GROWTH_MAX];
  int count = 0;
  long long runs = 10000, seed = 1, seconds = 0, done = 0;
  for (int i = 1; i < argc; i++) {
    if (sscanf(argv[i], "-runs=%lld", &runs) == 1 || sscanf(argv[i], "-seed=%lld", &seed) == 1) continue;
    if (sscanf(argv[i], "-max_total_time=%lld", &seconds) == 1) continue;
    if (count < FUZZ_FILES_MAX) inputs[count++] = fuzz_read(argv[i]);
  }
  if (count == 0) inputs[count++] = (fuzz_input){.data = nothing};
  fuzz_state = (uint64_t)seed * 0x9E3779B97F4A7C15ULL | 1;
  for (int i = 0; i < count; i++)
    fuzz_once(inputs[i].data, inputs[i].size);
  time_t begun = time(NULL);
  for (; seconds > 0 ? time(NULL) - begun < seconds : done < runs; done++) {
    const fuzz_input *input = &inputs[fuzz_random((uint64_t)count)];
    uint8_t *mutant = malloc(input->size + FUZZ_GROWTH_MAX);
    if (mutant == NULL) abort();
    if (input->size) memcpy(mutant, input->data, input->size);
    fuzz_once(mutant, fuzz_mutate(mutant, input->size, input->size + FUZZ_GROWTH_MAX));
    free(mutant);
  }
  for (int i = 0; i < count; i++)
    if (inputs[i].data != nothing) free(inputs[i].data);
  printf("%s: %d files, %lld mutations, seed %lld\n", argv[0], count, done, seed);
  return 0;
}

#endif
#endif
