// SPDX-License-Identifier: Apache-2.0
#pragma once
// TPM response codes (TPM 2.0 Part 2, 6.6) in words: name, what kind of error it is for us, and what to do next. Pure.

#include <cstdint>
#include <string>

#include "base/result.h"

namespace limpet::tpm {

// Without the number of the parameter, handle or session that format-one codes carry: TPM_RC_INTEGRITY is 0x9f.
uint32_t base_code(uint32_t rc);
uint32_t parameter_of(uint32_t rc);  // which of the command's parameters the TPM objects to, from 1; 0: none, or unsaid
std::string code_text(uint32_t rc);  // "TPM_RC_INTEGRITY (0x1df, parameter 1)"
bool asks_for_retry(uint32_t rc);    // RETRY, YIELDED, TESTING, NV_RATE, NV_UNAVAILABLE, CANCELED

// "TPM2_Load: TPM_RC_INTEGRITY (0x1df, parameter 1): <next step>", with the code that suits it.
Error error_of(const char* command, uint32_t rc);

inline constexpr uint32_t kRcInitialize = 0x100;
inline constexpr uint32_t kRcPcr = 0x127;
inline constexpr uint32_t kRcPcrChanged = 0x128;
inline constexpr uint32_t kRcSensitive = 0x155;
inline constexpr uint32_t kRcAttributes = 0x082;
inline constexpr uint32_t kRcValue = 0x084;
inline constexpr uint32_t kRcType = 0x08a;
inline constexpr uint32_t kRcHandle = 0x08b;
inline constexpr uint32_t kRcSize = 0x095;
inline constexpr uint32_t kRcPolicyFail = 0x09d;
inline constexpr uint32_t kRcIntegrity = 0x09f;
inline constexpr uint32_t kRcBinding = 0x0a5;
inline constexpr uint32_t kRcNoAnswer = 0xffffffff;  // ours: the transport failed

}  // namespace limpet::tpm
