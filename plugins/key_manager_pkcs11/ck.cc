// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/ck.h"

#include <cstdio>

namespace limpet::pkcs11 {
namespace {

struct Known {
  CK_RV rv;
  const char* name;
  Code code;
  bool lost;
};
#define RV(name, code, lost) {name, #name, Code::code, lost}
constexpr Known kKnown[] = {
    RV(CKR_HOST_MEMORY, resource_exhausted, false),
    RV(CKR_SLOT_ID_INVALID, unavailable, true),
    RV(CKR_GENERAL_ERROR, unavailable, true),
    RV(CKR_FUNCTION_FAILED, unavailable, true),
    RV(CKR_ARGUMENTS_BAD, unimplemented, false),
    RV(CKR_ATTRIBUTE_READ_ONLY, unimplemented, false),
    RV(CKR_ATTRIBUTE_TYPE_INVALID, unimplemented, false),
    RV(CKR_ATTRIBUTE_VALUE_INVALID, unimplemented, false),
    RV(CKR_DATA_INVALID, invalid_argument, false),
    RV(CKR_DATA_LEN_RANGE, invalid_argument, false),
    RV(CKR_DEVICE_ERROR, unavailable, true),
    RV(CKR_DEVICE_MEMORY, resource_exhausted, false),
    RV(CKR_DEVICE_REMOVED, unavailable, true),
    RV(CKR_ENCRYPTED_DATA_INVALID, data_loss, false),
    RV(CKR_ENCRYPTED_DATA_LEN_RANGE, data_loss, false),
    RV(CKR_FUNCTION_NOT_SUPPORTED, unimplemented, false),
    RV(CKR_KEY_HANDLE_INVALID, unavailable, true),
    RV(CKR_KEY_SIZE_RANGE, unimplemented, false),
    RV(CKR_KEY_TYPE_INCONSISTENT, unimplemented, false),
    RV(CKR_KEY_FUNCTION_NOT_PERMITTED, permission_denied, false),
    RV(CKR_MECHANISM_INVALID, unimplemented, false),
    RV(CKR_MECHANISM_PARAM_INVALID, unimplemented, false),
    RV(CKR_OBJECT_HANDLE_INVALID, unavailable, true),
    RV(CKR_OPERATION_ACTIVE, unavailable, true),
    RV(CKR_PIN_INCORRECT, permission_denied, false),
    RV(CKR_PIN_INVALID, permission_denied, false),
    RV(CKR_PIN_LEN_RANGE, permission_denied, false),
    RV(CKR_PIN_EXPIRED, permission_denied, false),
    RV(CKR_PIN_LOCKED, permission_denied, false),
    RV(CKR_SESSION_CLOSED, unavailable, true),
    RV(CKR_SESSION_COUNT, resource_exhausted, false),
    RV(CKR_SESSION_HANDLE_INVALID, unavailable, true),
    RV(CKR_SESSION_READ_ONLY, permission_denied, false),
    RV(CKR_SIGNATURE_INVALID, data_loss, false),
    RV(CKR_TEMPLATE_INCOMPLETE, unimplemented, false),
    RV(CKR_TEMPLATE_INCONSISTENT, unimplemented, false),
    RV(CKR_TOKEN_NOT_PRESENT, unavailable, true),
    RV(CKR_TOKEN_NOT_RECOGNIZED, unavailable, true),
    RV(CKR_TOKEN_WRITE_PROTECTED, permission_denied, false),
    RV(CKR_USER_ALREADY_LOGGED_IN, unavailable, false),
    RV(CKR_USER_NOT_LOGGED_IN, unavailable, true),
    RV(CKR_USER_PIN_NOT_INITIALIZED, permission_denied, false),
    RV(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, unavailable, false),
    RV(CKR_USER_TOO_MANY_TYPES, unavailable, false),
    RV(CKR_BUFFER_TOO_SMALL, unimplemented, false),
    RV(CKR_CRYPTOKI_NOT_INITIALIZED, unavailable, true),
    RV(CKR_CURVE_NOT_SUPPORTED, unimplemented, false),
};
#undef RV

const Known* find(CK_RV rv) {
  for (const Known& known : kKnown)
    if (known.rv == rv) return &known;
  return nullptr;
}

}  // namespace

Error ck_error(const char* call, CK_RV rv) {
  if (const Known* known = find(rv)) return {known->code, std::string(call) + ": " + known->name};
  char number[32];
  std::snprintf(number, sizeof number, "CKR 0x%lx", rv);
  return {Code::unavailable, std::string(call) + ": " + number};
}

bool is_lost(CK_RV rv) {
  const Known* known = find(rv);
  return known != nullptr && known->lost;
}

}  // namespace limpet::pkcs11
