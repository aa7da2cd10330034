// SPDX-License-Identifier: Apache-2.0
#pragma once
// Objects of a session: finding them and reading their attributes, with bounds on what a token may answer. Used by the
// thread that has the session.

#include <optional>
#include <vector>

#include "base/bytes.h"
#include "key_manager_pkcs11/token.h"

namespace limpet::pkcs11 {

// Attributes for a search or a new object. What they point to must outlive them.
class Template {
 public:
  Template() = default;
  Template(const Template&) = delete;  // it points into itself
  Template& operator=(const Template&) = delete;
  Template& number(CK_ATTRIBUTE_TYPE type, CK_ULONG value);
  Template& flag(CK_ATTRIBUTE_TYPE type, bool value);
  Template& bytes(CK_ATTRIBUTE_TYPE type, BytesView value);
  [[nodiscard]] CK_ATTRIBUTE* data() { return list_; }
  [[nodiscard]] CK_ULONG size() const { return size_; }

 private:
  CK_ATTRIBUTE& add(CK_ATTRIBUTE_TYPE type);
  static constexpr size_t kMost = 16;
  CK_ATTRIBUTE list_[kMost] = {};
  CK_ULONG numbers_[kMost] = {};
  CK_BBOOL flags_[kMost] = {};
  CK_ULONG size_ = 0;
};

// RESOURCE_EXHAUSTED: the token holds more than 10,000 such objects.
Result<std::vector<CK_OBJECT_HANDLE>> find_objects(Session& session, Template& wanted);
// nullopt: the object has no such attribute, or does not show it.
Result<std::optional<Bytes>> read_attribute(Session& session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type);
Result<void> destroy_object(Session& session, CK_OBJECT_HANDLE object);

}  // namespace limpet::pkcs11
