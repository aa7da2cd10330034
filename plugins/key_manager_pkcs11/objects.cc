// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/objects.h"

#include <cstdlib>

namespace limpet::pkcs11 {
namespace {

constexpr size_t kMaxObjects = 10'000;
constexpr CK_ULONG kAtOnce = 64;
constexpr CK_ULONG kMaxAttributeBytes = 65'536;

}  // namespace

CK_ATTRIBUTE& Template::add(CK_ATTRIBUTE_TYPE type) {
  if (size_ == kMost) std::abort();  // ours to get right
  CK_ATTRIBUTE& place = list_[size_++];
  place.type = type;
  return place;
}

Template& Template::number(CK_ATTRIBUTE_TYPE type, CK_ULONG value) {
  CK_ATTRIBUTE& place = add(type);
  numbers_[size_ - 1] = value;
  place.pValue = &numbers_[size_ - 1];
  place.ulValueLen = sizeof value;
  return *this;
}

Template& Template::flag(CK_ATTRIBUTE_TYPE type, bool value) {
  CK_ATTRIBUTE& place = add(type);
  flags_[size_ - 1] = value ? CK_TRUE : CK_FALSE;
  place.pValue = &flags_[size_ - 1];
  place.ulValueLen = sizeof(CK_BBOOL);
  return *this;
}

Template& Template::bytes(CK_ATTRIBUTE_TYPE type, BytesView value) {
  CK_ATTRIBUTE& place = add(type);
  place.pValue = const_cast<uint8_t*>(value.data());  // PKCS#11 knows no const; an input is not written
  place.ulValueLen = value.size();
  return *this;
}

Result<std::vector<CK_OBJECT_HANDLE>> find_objects(Session& session, Template& wanted) {
  std::vector<CK_OBJECT_HANDLE> found;
  TRY(session.check("C_FindObjectsInit",
                    session.calls.C_FindObjectsInit(session.handle, wanted.data(), wanted.size())));
  Result<void> result;
  for (;;) {
    CK_OBJECT_HANDLE some[kAtOnce];
    CK_ULONG count = 0;
    result = session.check("C_FindObjects", session.calls.C_FindObjects(session.handle, some, kAtOnce, &count));
    if (!result || count == 0) break;
    if (count > kAtOnce || found.size() + count > kMaxObjects) {
      result =
          fail(Code::resource_exhausted, "the token shows more than 10,000 objects; give these keys one of their own");
      break;
    }
    found.insert(found.end(), some, some + count);
  }
  session.calls.C_FindObjectsFinal(session.handle);
  if (!result) return fail(std::move(result).error());
  return found;
}

Result<std::optional<Bytes>> read_attribute(Session& session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type) {
  CK_ATTRIBUTE wanted = {type, nullptr, 0};
  CK_RV rv = session.calls.C_GetAttributeValue(session.handle, object, &wanted, 1);
  if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE) return std::nullopt;
  TRY(session.check("C_GetAttributeValue", rv));
  if (wanted.ulValueLen == CK_UNAVAILABLE_INFORMATION) return std::nullopt;
  if (wanted.ulValueLen > kMaxAttributeBytes)
    return fail(Code::internal, "the token shows an attribute of more than 64 KiB");
  Bytes value(wanted.ulValueLen);
  if (value.empty()) return value;
  wanted.pValue = value.data();
  rv = session.calls.C_GetAttributeValue(session.handle, object, &wanted, 1);
  TRY(session.check("C_GetAttributeValue", rv));
  if (wanted.ulValueLen > value.size()) return fail(Code::internal, "the token's attribute changed its size");
  value.resize(wanted.ulValueLen);
  return value;
}

Result<void> destroy_object(Session& session, CK_OBJECT_HANDLE object) {
  return session.check("C_DestroyObject", session.calls.C_DestroyObject(session.handle, object));
}

}  // namespace limpet::pkcs11
