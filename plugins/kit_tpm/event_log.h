// SPDX-License-Identifier: Apache-2.0
#pragma once
// The firmware's event log (TCG PC Client Platform Firmware Profile, 10): why PCRs have the values they have. The log
// comes from the agent and proves nothing by itself: only a log that replays to quoted values says what was measured.
// Little-endian, hostile, bounds first. Pure functions, any thread. Errors are INVALID_ARGUMENT.

#include <vector>

#include "kit_tpm/pcrs.h"

namespace limpet::tpm_wire {

// In base64, with a quote beside it, it fits into the 1 MiB that a message of JSON may have.
inline constexpr size_t kMaxEventLogBytes = 720u << 10;

struct BootEvent {
  uint32_t pcr = 0;
  uint32_t type = 0;
  Bytes digest;    // of the one bank that was asked for
  BytesView data;  // into the log
};

// The events of a crypto-agile log ("Spec ID Event03") with their digests for `hash`. `log` must outlive the result.
Result<std::vector<BootEvent>> parse_event_log(BytesView log, uint16_t hash);

// That the log extends each of PCRs 0 to 7 and leads to exactly the quoted values.
Result<void> check_replay(const std::vector<BootEvent>& events, const PcrBank& quoted);

// Whether UEFI Secure Boot was on, from events that replayed: the variable SecureBoot, measured once into PCR 7 before
// its only separator, and nothing in that PCR that cannot be accounted for. Debug mode counts as off.
Result<bool> secure_boot(const std::vector<BootEvent>& events, uint16_t hash);

}  // namespace limpet::tpm_wire
