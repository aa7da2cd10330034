// SPDX-License-Identifier: Apache-2.0
#include "wire/message.h"

#include <pb_common.h>

#include "base/secret.h"

extern "C" bool limpet_large_bytes_field(pb_istream_t* in, pb_ostream_t* out, const pb_field_t* field);

namespace limpet::wire {
namespace {

bool read_from_memory(pb_istream_t* stream, pb_byte_t* buffer, size_t count) {
  auto* state = static_cast<limpet_decode_state*>(stream->state);
  if (buffer != nullptr && count > 0) std::memcpy(buffer, state->at, count);
  state->at += count;
  return true;
}

void* element(void* array, size_t index, size_t size) { return static_cast<uint8_t*>(array) + index * size; }

limpet_large_bytes** large_slot(const pb_field_iter_t& field) {
  const bool large =
      PB_ATYPE(field.type) == PB_ATYPE_CALLBACK && field.descriptor->field_callback == limpet_large_bytes_field;
  return large ? static_cast<limpet_large_bytes**>(field.pData) : nullptr;
}

bool active(const pb_field_iter_t& field) {
  return PB_HTYPE(field.type) != PB_HTYPE_ONEOF || *static_cast<const pb_size_t*>(field.pSize) == field.tag;
}

// After a failed decode nanopb has freed its own pointers; those to large bytes that stand in place now dangle.
void forget_large(const pb_msgdesc_t* type, void* message) {
  pb_field_iter_t field;
  if (!pb_field_iter_begin(&field, type, message)) return;
  do {
    if (limpet_large_bytes** slot = large_slot(field)) *slot = nullptr;
    const bool in_place = PB_ATYPE(field.type) == PB_ATYPE_STATIC && PB_LTYPE_IS_SUBMSG(field.type);
    if (in_place && active(field)) forget_large(field.submsg_desc, field.pData);
  } while (pb_field_iter_next(&field));
}

void free_all(limpet_large_bytes* list) {
  while (list != nullptr) {
    limpet_large_bytes* next = list->next;
    wipe(list->bytes, list->size);
    std::free(list);
    list = next;
  }
}

void free_leaf(pb_type_t type, void* data, bool wipe_secrets) {
  if (data == nullptr) return;
  if (wipe_secrets && PB_LTYPE(type) == PB_LTYPE_STRING) wipe(data, std::strlen(static_cast<char*>(data)));
  if (wipe_secrets && PB_LTYPE(type) == PB_LTYPE_BYTES) {
    auto* bytes = static_cast<pb_bytes_array_t*>(data);
    wipe(bytes->bytes, bytes->size);
  }
  std::free(data);
}

void release_array(const pb_field_iter_t& field, bool wipe_secrets) {
  auto& count = *static_cast<pb_size_t*>(field.pSize);
  void*& array = *static_cast<void**>(field.pField);
  for (size_t i = 0; array != nullptr && i < count; ++i) {
    if (PB_LTYPE_IS_SUBMSG(field.type)) {
      release(field.submsg_desc, element(array, i, field.data_size), wipe_secrets);
    } else if (PB_LTYPE(field.type) > PB_LTYPE_LAST_PACKABLE) {
      free_leaf(field.type, static_cast<void**>(array)[i], wipe_secrets);
    }
  }
  std::free(array);
  array = nullptr;
  count = 0;
}

void release_pointer(const pb_field_iter_t& field, bool wipe_secrets) {
  if (PB_HTYPE(field.type) == PB_HTYPE_REPEATED) return release_array(field, wipe_secrets);
  void*& data = *static_cast<void**>(field.pField);
  if (data != nullptr && PB_LTYPE_IS_SUBMSG(field.type)) release(field.submsg_desc, data, wipe_secrets);
  free_leaf(field.type, data, wipe_secrets);
  data = nullptr;
}

void release_field(const pb_field_iter_t& field, bool wipe_secrets) {
  if (!active(field)) return;
  if (limpet_large_bytes** slot = large_slot(field)) {
    if (*slot != nullptr && wipe_secrets) wipe((*slot)->bytes, (*slot)->size);
    std::free(*slot);
    *slot = nullptr;
  } else if (PB_ATYPE(field.type) == PB_ATYPE_POINTER) {
    release_pointer(field, wipe_secrets);
  } else if (PB_ATYPE(field.type) == PB_ATYPE_STATIC && PB_LTYPE_IS_SUBMSG(field.type)) {
    release(field.submsg_desc, field.pData, wipe_secrets);
  }
}

// The library has no exceptions: without memory for a few bytes there is nothing to go on with.
template <class T>
T* checked(T* allocated) {
  if (allocated == nullptr) std::abort();
  return allocated;
}

}  // namespace

Result<void> decode_into(const pb_msgdesc_t* type, void* message, BytesView bytes, const ScanLimits& bounds) {
  TRY(scan_message(type, bytes, bounds));
  limpet_decode_state state{bytes.data(), nullptr};
  pb_istream_t stream{read_from_memory, &state, bytes.size(), nullptr};
  if (pb_decode(&stream, type, message)) return {};
  forget_large(type, message);
  free_all(state.allocated);
  return fail(Code::invalid_argument, std::string("malformed message: ") + PB_GET_ERROR(&stream));
}

void release(const pb_msgdesc_t* type, void* message, bool wipe_secrets) {
  pb_field_iter_t field;
  if (!pb_field_iter_begin(&field, type, message)) return;
  do {
    release_field(field, wipe_secrets);
  } while (pb_field_iter_next(&field));
}

void set_string(char*& field, std::string_view text) {
  char* copy = nullptr;
  if (!text.empty()) {
    copy = checked(static_cast<char*>(std::malloc(text.size() + 1)));
    std::memcpy(copy, text.data(), text.size());
    copy[text.size()] = '\0';
  }
  std::free(field);
  field = copy;
}

void set_bytes(pb_bytes_array_t*& field, BytesView bytes) {
  if (bytes.size() > PB_SIZE_MAX) std::abort();
  pb_bytes_array_t* copy = nullptr;
  if (!bytes.empty()) {
    copy = checked(static_cast<pb_bytes_array_t*>(std::malloc(PB_BYTES_ARRAY_T_ALLOCSIZE(bytes.size()))));
    copy->size = static_cast<pb_size_t>(bytes.size());
    std::memcpy(copy->bytes, bytes.data(), bytes.size());
  }
  std::free(field);
  field = copy;
}

void set_bytes(limpet_large_bytes*& field, BytesView bytes) {
  if (!bytes.empty()) return set_present(field, bytes);
  std::free(field);
  field = nullptr;
}

void set_present(limpet_large_bytes*& field, BytesView bytes) {
  limpet_large_bytes* copy = checked(limpet_large_bytes_new(bytes.data(), bytes.size()));
  std::free(field);
  field = copy;
}

}  // namespace limpet::wire
