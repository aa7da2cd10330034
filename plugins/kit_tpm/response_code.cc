// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/response_code.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

namespace limpet::tpm {
namespace {

struct Known {
  uint32_t rc;
  const char* name;
  Code code = Code::internal;
  const char* next = "";
};

constexpr const char* kOtherTpm =
    "it was made by another TPM, or this one was cleared since; nothing was deleted: bring the old TPM back, or move "
    "the file away and start anew";
constexpr const char* kPassword = "the password is not this object's; check the configured password files";
constexpr const char* kBusy = "the TPM stayed busy; try again";
constexpr const char* kSlots =
    "the TPM's memory is full of what other programs hold, or left there when they were killed; use /dev/tpmrm0, which "
    "shares it and tidies up, or empty it (tpm2_flushcontext -t and -l, or a reset)";

constexpr Known kCodes[] = {
    {0x100, "TPM_RC_INITIALIZE", Code::unavailable, "nobody has started this TPM: boot firmware or driver must"},
    {0x101, "TPM_RC_FAILURE", Code::unavailable, "the TPM is in failure mode; it takes a power cycle"},
    {0x120, "TPM_RC_DISABLED", Code::unavailable, "the command is disabled in this TPM"},
    {0x124, "TPM_RC_AUTH_TYPE"},
    {0x125, "TPM_RC_AUTH_MISSING"},
    {0x126, "TPM_RC_POLICY"},
    {0x127, "TPM_RC_PCR", Code::failed_precondition, "the PCRs do not have the value that the policy asks for"},
    {0x128, "TPM_RC_PCR_CHANGED", Code::unavailable, "a PCR was extended meanwhile; try again"},
    {0x12d, "TPM_RC_UPGRADE", Code::unavailable, "the TPM's firmware is being upgraded"},
    {0x12e, "TPM_RC_TOO_MANY_CONTEXTS", Code::unavailable, kSlots},
    {0x12f, "TPM_RC_AUTH_UNAVAILABLE", Code::permission_denied, kPassword},
    {0x130, "TPM_RC_REBOOT", Code::unavailable, "the TPM asks for a reboot"},
    {0x142, "TPM_RC_COMMAND_SIZE"},
    {0x143, "TPM_RC_COMMAND_CODE", Code::unimplemented, "this TPM lacks the command"},
    {0x144, "TPM_RC_AUTHSIZE"},
    {0x146, "TPM_RC_NV_RANGE"},
    {0x148, "TPM_RC_NV_LOCKED", Code::permission_denied, "the index is locked until the next boot"},
    {0x149, "TPM_RC_NV_AUTHORIZATION", Code::permission_denied, "the index may not be read this way"},
    {0x14a, "TPM_RC_NV_UNINITIALIZED", Code::not_found, "the index was defined and never written"},
    {0x150, "TPM_RC_BAD_CONTEXT"},
    {0x155, "TPM_RC_SENSITIVE", Code::failed_precondition, kOtherTpm},
    {0x081, "TPM_RC_ASYMMETRIC", Code::unimplemented, "this TPM does not have that kind of key"},
    {0x082, "TPM_RC_ATTRIBUTES"},
    {0x083, "TPM_RC_HASH", Code::unimplemented, "this TPM does not have that hash"},
    {0x084, "TPM_RC_VALUE"},
    {0x085, "TPM_RC_HIERARCHY", Code::unavailable, "the hierarchy is disabled; enable it in the firmware"},
    {0x087, "TPM_RC_KEY_SIZE", Code::unimplemented, "this TPM does not have keys of that size"},
    {0x08a, "TPM_RC_TYPE"},
    {0x08b, "TPM_RC_HANDLE", Code::not_found, "there is no such object in this TPM"},
    {0x08c, "TPM_RC_KDF", Code::unimplemented},
    {0x08d, "TPM_RC_RANGE"},
    {0x08e, "TPM_RC_AUTH_FAIL", Code::permission_denied, kPassword},
    {0x08f, "TPM_RC_NONCE"},
    {0x092, "TPM_RC_SCHEME", Code::unimplemented, "this TPM does not have that signature scheme for this key"},
    {0x095, "TPM_RC_SIZE"},
    {0x096, "TPM_RC_SYMMETRIC", Code::unimplemented, "this TPM does not have that cipher"},
    {0x097, "TPM_RC_TAG"},
    {0x098, "TPM_RC_SELECTOR"},
    {0x09a, "TPM_RC_INSUFFICIENT"},
    {0x09b, "TPM_RC_SIGNATURE"},
    {0x09c, "TPM_RC_KEY"},
    {0x09d, "TPM_RC_POLICY_FAIL", Code::failed_precondition, "the policy is not met: the machine's PCRs have changed"},
    {0x09f, "TPM_RC_INTEGRITY", Code::failed_precondition, kOtherTpm},
    {0x0a0, "TPM_RC_TICKET"},
    {0x0a2, "TPM_RC_BAD_AUTH", Code::permission_denied, kPassword},
    {0x0a5, "TPM_RC_BINDING", Code::failed_precondition, "its two halves do not belong together; restore the file"},
    {0x0a6, "TPM_RC_CURVE", Code::unimplemented, "this TPM does not have that curve"},
    {0x0a7, "TPM_RC_ECC_POINT"},
    {0x901, "TPM_RC_CONTEXT_GAP", Code::unavailable, kSlots},
    {0x902, "TPM_RC_OBJECT_MEMORY", Code::unavailable, kSlots},
    {0x903, "TPM_RC_SESSION_MEMORY", Code::unavailable, kSlots},
    {0x904, "TPM_RC_MEMORY", Code::unavailable, kSlots},
    {0x905, "TPM_RC_SESSION_HANDLES", Code::unavailable, kSlots},
    {0x906, "TPM_RC_OBJECT_HANDLES", Code::unavailable, kSlots},
    {0x907, "TPM_RC_LOCALITY", Code::permission_denied},
    {0x908, "TPM_RC_YIELDED", Code::unavailable, kBusy},
    {0x909, "TPM_RC_CANCELED", Code::unavailable, kBusy},
    {0x90a, "TPM_RC_TESTING", Code::unavailable, kBusy},
    {0x920, "TPM_RC_NV_RATE", Code::unavailable, kBusy},
    {0x921, "TPM_RC_LOCKOUT", Code::unavailable,
     "too many wrong passwords: the TPM refuses protected objects until its lockout ends or is cleared with the "
     "lockout password"},
    {0x922, "TPM_RC_RETRY", Code::unavailable, kBusy},
    {0x923, "TPM_RC_NV_UNAVAILABLE", Code::unavailable, kBusy},
};

constexpr uint32_t kFormatOne = 0x080;
constexpr uint32_t kParameter = 0x040;
constexpr uint32_t kLayer = 0xffff0000;  // set by tss2's own layers, and by resource managers

const Known* find(uint32_t base) {
  const auto* at = std::ranges::find(kCodes, base, &Known::rc);
  return at == std::end(kCodes) ? nullptr : at;
}

std::string hex(uint32_t value) {
  char text[12] = {};
  std::snprintf(text, sizeof text, "0x%x", value);
  return text;
}

// Part 2, table 15: bit 6 says parameter, else bit 11 session, else handle.
std::string place(uint32_t rc) {
  if ((rc & kFormatOne) == 0) return {};
  const uint32_t number = rc >> 8 & 15;
  if ((rc & kParameter) != 0) return number == 0 ? "" : ", parameter " + std::to_string(number);
  if ((number & 7) == 0) return {};
  return ((number & 8) != 0 ? ", session " : ", handle ") + std::to_string(number & 7);
}

}  // namespace

uint32_t base_code(uint32_t rc) {
  if ((rc & kLayer) != 0) return rc;
  if ((rc & kFormatOne) != 0) return rc & 0xbf;
  if (rc >= 0x910 && rc <= 0x91e) return 0x910;  // REFERENCE_H0 and on
  return rc;
}

uint32_t parameter_of(uint32_t rc) {
  const bool has_one = (rc & kLayer) == 0 && (rc & kFormatOne) != 0 && (rc & kParameter) != 0;
  return has_one ? rc >> 8 & 15 : 0;
}

std::string code_text(uint32_t rc) {
  if ((rc & kLayer) != 0) return "error " + hex(rc) + " of the TPM library";
  const Known* known = find(base_code(rc));
  return (known == nullptr ? "TPM response" : known->name) + std::string(" (") + hex(rc) + place(rc) + ")";
}

bool asks_for_retry(uint32_t rc) {
  for (const uint32_t code : {0x908u, 0x909u, 0x90au, 0x920u, 0x922u, 0x923u}) {
    if (rc == code) return true;
  }
  return false;
}

Error error_of(const char* command, uint32_t rc) {
  const Known* known = (rc & kLayer) != 0 ? nullptr : find(base_code(rc));
  std::string text = std::string(command) + ": " + code_text(rc);
  if (known != nullptr && known->next[0] != '\0') text += std::string(": ") + known->next;
  return Error{known == nullptr ? Code::internal : known->code, std::move(text)};
}

}  // namespace limpet::tpm
