// SPDX-License-Identifier: Apache-2.0
#include "store/enrollments.h"

#include "store/codec.h"

namespace limpet {

Bytes encode_enrollment(const Enrollment& enrollment) {
  ProtoWriter out;
  out.text(1, enrollment.attestor);
  out.text(2, enrollment.identifier);
  out.text(3, enrollment.note);
  out.number(4, enrollment.enrolled_at);
  return out.take();
}

Result<Enrollment> decode_enrollment(BytesView bytes) {
  Enrollment out;
  ProtoReader in(bytes);
  while (in.next()) {
    if (in.field() == 1) out.attestor = in.text();
    if (in.field() == 2) out.identifier = in.text();
    if (in.field() == 3) out.note = in.text();
    if (in.field() == 4) out.enrolled_at = in.number();
  }
  if (!in.ok()) return malformed_row("enrollment");
  return out;
}

// An attestor's name has no slash, so no two pairs share a key.
Bytes enrollment_key(std::string_view attestor, std::string_view identifier) {
  return text_key(std::string(attestor) + "/" + std::string(identifier));
}

Result<Enrollment> find_enrollment(const Snapshot& snapshot, std::string_view attestor, std::string_view identifier) {
  auto bytes = snapshot.get(TableId::enrollments, enrollment_key(attestor, identifier));
  if (!bytes && bytes.error().code == Code::not_found) return fail(Code::not_found, "device not enrolled");
  if (!bytes) return fail(std::move(bytes).error());
  return decode_enrollment(*bytes);
}

Result<void> scan_enrollments(const Snapshot& snapshot, BytesView after,
                              const std::function<bool(Enrollment&&)>& visit) {
  Result<void> verdict;
  auto on_row = [&visit, &verdict](BytesView, BytesView value) {
    Result<Enrollment> row = decode_enrollment(value);
    if (row) return visit(std::move(*row));
    verdict = fail(std::move(row).error());
    return false;
  };
  Bytes from = to_bytes(after);
  if (!after.empty()) from.push_back(0);  // the least key above it
  TRY(snapshot.scan(TableId::enrollments, from, on_row));
  return verdict;
}

void create_enrollment(ChangeSet& changes, const Enrollment& enrollment) {
  const Bytes key = enrollment_key(enrollment.attestor, enrollment.identifier);
  changes.require_absent(TableId::enrollments, key);
  changes.put(TableId::enrollments, key, encode_enrollment(enrollment));
}

void remove_enrollment(ChangeSet& changes, std::string_view attestor, std::string_view identifier) {
  const Bytes key = enrollment_key(attestor, identifier);
  changes.require_present(TableId::enrollments, key);
  changes.remove(TableId::enrollments, key);
}

}  // namespace limpet
