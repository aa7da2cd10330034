// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/event_log.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace limpet::tpm_wire {
namespace {

constexpr uint32_t kNoAction = 0x00000003;  // never extends
constexpr uint32_t kSeparator = 0x00000004;
constexpr uint32_t kVariableDriverConfig = 0x80000001;
constexpr uint32_t kEfiAction = 0x80000007;
constexpr uint32_t kFirmwarePcrs = 8;  // 0 to 7 are the firmware's
constexpr uint32_t kSecureBootPcr = 7;
constexpr size_t kMaxEvents = 20'000;
constexpr size_t kMaxAlgorithms = 16;
constexpr size_t kSha1Bytes = 20;
constexpr std::string_view kSpecId("Spec ID Event03\0", 16);
constexpr std::string_view kLocality("StartupLocality\0", 16);
constexpr std::string_view kDebugMode = "UEFI Debug Mode";
// 8be4df61-93ca-11d2-aa0d-00e098032b8c, as it lies in memory
constexpr std::array<uint8_t, 16> kGlobalVariable = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11,
                                                     0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
constexpr std::string_view kSecureBoot("S\0e\0c\0u\0r\0e\0B\0o\0o\0t\0", 20);

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

class LittleReader {
 public:
  explicit LittleReader(BytesView input) : rest_(input) {}
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  Result<BytesView> take(uint64_t size) {
    if (size > rest_.size()) return invalid("truncated");
    const BytesView out = rest_.first(static_cast<size_t>(size));
    rest_ = rest_.subspan(static_cast<size_t>(size));
    return out;
  }
  template <class T>
  Result<T> number() {
    TRY_ASSIGN(const BytesView bytes, take(sizeof(T)));
    uint64_t out = 0;
    for (size_t i = 0; i < sizeof(T); ++i) out |= static_cast<uint64_t>(bytes[i]) << (8 * i);
    return static_cast<T>(out);
  }

 private:
  BytesView rest_;
};

using DigestSizes = std::map<uint16_t, uint16_t>;

// The first event is in the old format and says which digests the others carry.
Result<DigestSizes> read_header(LittleReader& log) {
  TRY(log.number<uint32_t>());  // PCR
  TRY_ASSIGN(const uint32_t type, log.number<uint32_t>());
  TRY(log.take(kSha1Bytes));
  TRY_ASSIGN(const uint32_t size, log.number<uint32_t>());
  TRY_ASSIGN(const BytesView body, log.take(size));
  LittleReader fields(body);
  TRY_ASSIGN(const BytesView signature, fields.take(kSpecId.size()));
  if (type != kNoAction || as_text(signature) != kSpecId)
    return invalid("not a crypto-agile log (it does not begin with \"Spec ID Event03\")");
  TRY(fields.take(8));  // platform class, versions, size of a UINTN
  TRY_ASSIGN(const uint32_t count, fields.number<uint32_t>());
  if (count > kMaxAlgorithms) return invalid("more than 16 hash algorithms");
  DigestSizes out;
  for (uint32_t i = 0; i < count; ++i) {
    TRY_ASSIGN(const uint16_t alg, fields.number<uint16_t>());
    TRY_ASSIGN(const uint16_t bytes, fields.number<uint16_t>());
    out[alg] = bytes;
  }
  return out;
}

Result<BootEvent> read_event(LittleReader& log, const DigestSizes& sizes, uint16_t hash) {
  BootEvent out;
  TRY_ASSIGN(out.pcr, log.number<uint32_t>());
  TRY_ASSIGN(out.type, log.number<uint32_t>());
  TRY_ASSIGN(const uint32_t count, log.number<uint32_t>());
  if (count > kMaxAlgorithms) return invalid("more than 16 digests");
  for (uint32_t i = 0; i < count; ++i) {
    TRY_ASSIGN(const uint16_t alg, log.number<uint16_t>());
    const auto size = sizes.find(alg);
    if (size == sizes.end()) return invalid("a digest of an algorithm that the log did not announce");
    TRY_ASSIGN(const BytesView digest, log.take(size->second));
    if (alg == hash) out.digest = to_bytes(digest);
  }
  TRY_ASSIGN(const uint32_t size, log.number<uint32_t>());
  TRY_ASSIGN(out.data, log.take(size));
  return out;
}

Result<std::vector<BootEvent>> read_all(BytesView bytes, uint16_t hash) {
  if (bytes.size() > kMaxEventLogBytes) return invalid("larger than 512 KiB");
  TRY_ASSIGN(const HashAlg alg, hash_of(hash));
  LittleReader log(bytes);
  TRY_ASSIGN(const DigestSizes sizes, read_header(log));
  const auto size = sizes.find(hash);
  if (size == sizes.end() || size->second != hash_bytes(alg))
    return invalid("no digests of bank " + bank_name(hash) + " in it");
  std::vector<BootEvent> out;
  while (!log.empty()) {
    if (out.size() == kMaxEvents) return invalid("more than 20,000 events");
    TRY_ASSIGN_WITHIN("event " + std::to_string(out.size() + 1), BootEvent event, read_event(log, sizes, hash));
    if (event.pcr >= kPcrs && event.type != kNoAction) return invalid("an event of PCR " + std::to_string(event.pcr));
    if (event.digest.empty() && event.type != kNoAction) return invalid("an event without a digest of the bank");
    out.push_back(std::move(event));
  }
  return out;
}

// A variable measured as UEFI_VARIABLE_DATA: whether it is the global SecureBoot, and its value.
Result<std::optional<bool>> read_secure_boot(BytesView data) {
  LittleReader fields(data);
  TRY_ASSIGN(const BytesView guid, fields.take(kGlobalVariable.size()));
  TRY_ASSIGN(const uint64_t name_size, fields.number<uint64_t>());
  TRY_ASSIGN(const uint64_t value_size, fields.number<uint64_t>());
  if (name_size > data.size()) return invalid("truncated");
  TRY_ASSIGN(const BytesView name, fields.take(name_size * 2));
  TRY_ASSIGN(const BytesView value, fields.take(value_size));
  if (!std::ranges::equal(guid, kGlobalVariable) || as_text(name) != kSecureBoot) return std::optional<bool>();
  return std::optional(value.size() == 1 && value[0] == 1);
}

}  // namespace

Result<std::vector<BootEvent>> parse_event_log(BytesView log, uint16_t hash) {
  TRY_ASSIGN_WITHIN("event log", auto out, read_all(log, hash));
  return out;
}

Result<void> check_replay(const std::vector<BootEvent>& events, const PcrBank& quoted) {
  TRY_ASSIGN(const HashAlg alg, hash_of(quoted.hash));
  std::map<uint32_t, Bytes> replayed;
  uint8_t locality = 0;
  for (const BootEvent& event : events) {
    if (event.type == kNoAction) {
      // The TPM was started by a trusted module before the processor ran: PCR 0 begins with its locality (10.4.5.3).
      if (event.pcr == 0 && event.data.size() == kLocality.size() + 1 &&
          as_text(event.data.first(kLocality.size())) == kLocality && !replayed.contains(0))
        locality = event.data.back();
      continue;
    }
    if (event.pcr >= kFirmwarePcrs) continue;
    const auto [value, fresh] = replayed.try_emplace(event.pcr, Bytes(hash_bytes(alg)));
    if (fresh && event.pcr == 0) value->second.back() = locality;
    Bytes input = value->second;
    append(input, event.digest);
    value->second = hash(alg, input);
  }
  for (uint32_t pcr = 0; pcr < kFirmwarePcrs; ++pcr) {
    const auto theirs = quoted.values.find(pcr);
    const auto ours = replayed.find(pcr);
    if (theirs == quoted.values.end() || ours == replayed.end() || ours->second != theirs->second)
      return invalid("event log: it does not lead to the quoted value of PCR " + std::to_string(pcr));
  }
  return {};
}

Result<bool> secure_boot(const std::vector<BootEvent>& events, uint16_t hash) {
  TRY_ASSIGN(const HashAlg alg, hash_of(hash));
  std::optional<bool> state;
  bool separated = false;
  bool debug = false;
  for (const BootEvent& event : events) {
    if (event.pcr != kSecureBootPcr) continue;
    if (event.type == kSeparator) separated = true;
    if (event.type == kEfiAction && as_text(event.data).starts_with(kDebugMode)) debug = true;
    if (event.type != kVariableDriverConfig) continue;
    // Only what the digest covers was measured; a driver configuration's digest is that of the data.
    if (limpet::hash(alg, event.data) != event.digest)
      return invalid("event log: a variable's digest is not that of its data");
    TRY_ASSIGN_WITHIN("event log: variable", const std::optional<bool> found, read_secure_boot(event.data));
    if (!found) continue;
    if (state || separated) return invalid("event log: SecureBoot was measured twice, or after the separator");
    state = *found;
  }
  if (!state || !separated) return invalid("event log: SecureBoot was not measured before a separator");
  return *state && !debug;
}

}  // namespace limpet::tpm_wire
