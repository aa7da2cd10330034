/* SPDX-License-Identifier: Apache-2.0 */
#include "large_bytes.h"

#include <pb.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <stdlib.h>
#include <string.h>

bool limpet_large_bytes_field(pb_istream_t* in, pb_ostream_t* out, const pb_field_t* field);

limpet_large_bytes* limpet_large_bytes_new(const uint8_t* data, size_t size) {
  limpet_large_bytes* made;
  if (size > SIZE_MAX - sizeof *made) return NULL;
  made = (limpet_large_bytes*)malloc(sizeof *made + size);
  if (made == NULL) return NULL;
  made->size = size;
  made->next = NULL;
  if (data != NULL && size > 0) memcpy(made->bytes, data, size);
  return made;
}

static bool read_field(pb_istream_t* in, limpet_large_bytes** slot) {
  limpet_decode_state* state = (limpet_decode_state*)in->state;
  limpet_large_bytes* made;
  if (*slot != NULL) PB_RETURN_ERROR(in, "field occurs twice");
  made = limpet_large_bytes_new(NULL, in->bytes_left);
  if (made == NULL) PB_RETURN_ERROR(in, "out of memory");
  made->next = state->allocated;
  state->allocated = made;
  *slot = made;
  return pb_read(in, made->bytes, made->size);
}

/* nanopb calls this for every field of a message that has a large one: with an input stream to read, or an output
 * stream to write the field with its tag (null: leave it out). */
bool limpet_large_bytes_field(pb_istream_t* in, pb_ostream_t* out, const pb_field_t* field) {
  limpet_large_bytes** slot = (limpet_large_bytes**)field->pData;
  if (in != NULL) return read_field(in, slot);
  if (out == NULL || *slot == NULL) return true;
  return pb_encode_tag_for_field(out, field) && pb_encode_string(out, (*slot)->bytes, (*slot)->size);
}
