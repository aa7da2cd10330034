/* SPDX-License-Identifier: Apache-2.0 */
/* bytes fields that may exceed 65,535 bytes, which nanopb's own byte arrays cannot hold: their sizes are 16 bits wide.
 * A .options file names such a field (callback_datatype "limpet_large_bytes*") and gives its message
 * callback_function "limpet_large_bytes_field". The field is then a pointer from malloc, null when absent. */
#ifndef LIMPET_LARGE_BYTES_H
#define LIMPET_LARGE_BYTES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct limpet_large_bytes {
  size_t size;
  struct limpet_large_bytes* next; /* during a decode only: everything it allocated */
  uint8_t bytes[1];
} limpet_large_bytes;

/* Null when memory is out. */
limpet_large_bytes* limpet_large_bytes_new(const uint8_t* data, size_t size);

/* The state of the input stream every decode uses, so that a decode that fails midway can free what nanopb cannot see.
 */
typedef struct limpet_decode_state {
  const uint8_t* at;
  limpet_large_bytes* allocated;
} limpet_decode_state;

#ifdef __cplusplus
}
#endif

#endif
