/* segment: a sealed frame is found; every flipped bit, cut and impossible length is corruption. */
#include "check.h"

#include "libcore/hash.h"
#include "libcore/segment.h"

#define BODY "0123456789"
#define FOOTER "{}"
#define SIZE (8 + 10 + 2 + 20)

static void put_le(uint8_t *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++)
    at[i] = (uint8_t)(value >> (8 * i));
}

static void seal(uint8_t *data, uint32_t footer_size) {
  memcpy(data, "HRSEG1\r\n" BODY FOOTER, 20);
  put_le(data + 20, footer_size, 4);
  put_le(data + 24, lc_xxh64(data, 24, 0), 8);
  memcpy(data + 32, "HRSEG1\r\n", 8);
}

static void the_footer_is_found(void) {
  uint8_t data[SIZE];
  lc_segment_frame frame;
  seal(data, 2);
  CHECK_EQUAL(LC_OK, lc_segment_check(data, SIZE, &frame, NULL));
  CHECK_EQUAL(18, frame.footer_offset);
  CHECK_EQUAL(2, frame.footer_size);
}

static void every_bit_counts(void) {
  uint8_t data[SIZE];
  lc_segment_frame frame;
  lc_error error;
  for (int bit = 0; bit < 8 * SIZE; bit++) {
    seal(data, 2);
    data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    CHECK_EQUAL(LC_CORRUPT, lc_segment_check(data, SIZE, &frame, &error));
  }
}

static void every_cut_shows(void) {
  uint8_t data[SIZE];
  lc_segment_frame frame;
  seal(data, 2);
  for (int64_t size = 0; size < SIZE; size++)
    CHECK_EQUAL(LC_CORRUPT, lc_segment_check(data, size, &frame, NULL));
}

static void a_footer_longer_than_the_segment_is_refused(void) {
  uint8_t data[SIZE];
  lc_segment_frame frame;
  seal(data, 13); /* 12 bytes stand between the first magic and the tail */
  CHECK_EQUAL(LC_CORRUPT, lc_segment_check(data, SIZE, &frame, NULL));
  seal(data, 12);
  CHECK_EQUAL(LC_OK, lc_segment_check(data, SIZE, &frame, NULL));
}

int main(void) {
  the_footer_is_found();
  every_bit_counts();
  every_cut_shows();
  a_footer_longer_than_the_segment_is_refused();
  return check_result("segment");
}
