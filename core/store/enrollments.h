// SPDX-License-Identifier: Apache-2.0
#pragma once
// Devices that an operator enrolled, by node attestor and by an identifier of that attestor's own choice (a hash of a
// key, a serial number). Loop thread only.

#include <functional>
#include <string>
#include <string_view>

#include "store/store.h"

namespace limpet {

inline constexpr size_t kEnrollmentIdBytes = 128;
inline constexpr size_t kEnrollmentNoteBytes = 256;

struct Enrollment {
  std::string attestor;
  std::string identifier;
  std::string note;         // the operator's own words
  int64_t enrolled_at = 0;  // Unix seconds
  bool operator==(const Enrollment&) const = default;
};

// NOT_FOUND "device not enrolled"; DATA_LOSS.
Result<Enrollment> find_enrollment(const Snapshot& snapshot, std::string_view attestor, std::string_view identifier);
// By attestor and identifier, after the row with this key (empty: all), until `visit` returns false.
Result<void> scan_enrollments(const Snapshot& snapshot, BytesView after,
                              const std::function<bool(Enrollment&&)>& visit);
Bytes enrollment_key(std::string_view attestor, std::string_view identifier);
// ABORTED when the device is enrolled by then.
void create_enrollment(ChangeSet& changes, const Enrollment& enrollment);
// ABORTED when it is gone by then.
void remove_enrollment(ChangeSet& changes, std::string_view attestor, std::string_view identifier);

Bytes encode_enrollment(const Enrollment& enrollment);
Result<Enrollment> decode_enrollment(BytesView bytes);

}  // namespace limpet
