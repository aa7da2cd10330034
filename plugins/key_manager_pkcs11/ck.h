// SPDX-License-Identifier: Apache-2.0
#pragma once
// PKCS#11's answers as errors, and its structs where p11-kit's header names none. Pure functions, any thread.

#include <p11-kit/pkcs11.h>

#include <string>

#include "base/result.h"

namespace limpet::pkcs11 {

// "C_Sign: CKR_DEVICE_REMOVED"; the code says what a caller may do about it. Never FAILED_PRECONDITION: to whom a
// sealer answers, that means "for ever". Never INTERNAL: that is our own word on what a token shows.
Error ck_error(const char* call, CK_RV rv);
// The session, or the token it was to, is gone: another one may be had.
bool is_lost(CK_RV rv);

}  // namespace limpet::pkcs11
