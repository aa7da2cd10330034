// SPDX-License-Identifier: Apache-2.0
#include "kit_tpm/event_log.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

namespace limpet::tpm_wire {
namespace {

constexpr uint32_t kNoAction = 0x00000003;  // never extends
constexpr uint32_t kSeparator = 0x00000004;
constexpr uint32_t kVariableDriverConfig = 0x80000001;
constexpr uint32_t kEfiAction = 0x80000007;
constexpr uint32_t kVariableAuthority = 0x800000e0;
constexpr uint32_t kFirmwarePcrs = 8;  // 0 to 7 are the firmware's
constexpr uint32_t kSecureBootPcr = 7;
constexpr size_t kMaxEvents = 20'000;
constexpr size_t kMaxAlgorithms = 16;
constexpr size_t kSha1Bytes = 20;
constexpr std::string_view kSpecId("Spec ID Event03\0", 16);
constexpr std::string_view kLocality("StartupLocality\0", 16);
constexpr std::string_view kDebugMode = "UEFI Debug Mode";
// In no specification; seen with and without a zero byte at its end (canonical/secboot issue 440).
constexpr std::string_view kDmaProtectionOff = "DMA Protection Disabled";
// 8be4df61-93ca-11d2-aa0d-00e098032b8c and d719b2cb-3d3a-4596-a3bc-dad00e67656f, as they lie in memory
constexpr std::array<uint8_t, 16> kGlobalVariable = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11,
                                                     0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
constexpr std::array<uint8_t, 16> kImageDatabase = {0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45,
                                                    0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f};
constexpr std::string_view kSecureBoot = "SecureBoot";

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
  if (bytes.size() > kMaxEventLogBytes) return invalid("larger than 720 KiB");
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

Bytes utf16(std::string_view ascii) {
  Bytes out;
  for (const char c : ascii) {
    out.push_back(static_cast<uint8_t>(c));
    out.push_back(0);
  }
  return out;
}

// UEFI_VARIABLE_DATA.
struct Variable {
  BytesView guid;
  BytesView name;  // UTF-16
  BytesView value;

  [[nodiscard]] bool is(std::span<const uint8_t> vendor, std::string_view ascii) const {
    return std::ranges::equal(guid, vendor) && std::ranges::equal(name, utf16(ascii));
  }
  [[nodiscard]] std::string name_text() const {
    std::string out;
    for (size_t i = 0; i < name.size(); i += 2)
      out += name[i + 1] == 0 && name[i] > 0x20 && name[i] < 0x7f ? static_cast<char>(name[i]) : '?';
    return out;
  }
};

Result<Variable> read_variable(BytesView data) {
  LittleReader fields(data);
  Variable out;
  TRY_ASSIGN(out.guid, fields.take(kGlobalVariable.size()));
  TRY_ASSIGN(const uint64_t name_size, fields.number<uint64_t>());
  TRY_ASSIGN(const uint64_t value_size, fields.number<uint64_t>());
  if (name_size > data.size()) return invalid("truncated");
  TRY_ASSIGN(out.name, fields.take(name_size * 2));
  TRY_ASSIGN(out.value, fields.take(value_size));
  return out;
}

Bytes secure_boot_data(BytesView value) {
  Bytes out = to_bytes(kGlobalVariable);
  for (const size_t size : {kSecureBoot.size(), value.size()}) {
    out.push_back(static_cast<uint8_t>(size));
    out.insert(out.end(), 7, 0);
  }
  append(out, utf16(kSecureBoot));
  append(out, value);
  return out;
}

// The events of PCR 7, one after the other. A quote covers their digests and not their types, and whoever is root may
// extend the PCR after the boot. So each event's type must follow from what was measured: an event is believed if it is
// of a type that belongs there and its digest is that of its data, and then the data has the form of its type. The true
// SecureBoot and the true separator thus cannot be passed off as something else, and what comes after the true
// separator does not count. The rules are those of go-attestation's ParseSecurebootState, but for one: it wants an
// authority to have been used, which U-Boot does not measure and root can.
class PcrSeven {
 public:
  explicit PcrSeven(HashAlg alg) : alg_(alg), separator_(limpet::hash(alg, kSeparatorData)) {
    for (const Bytes& value : {Bytes{}, Bytes{0}, Bytes{1}})
      secure_boot_.push_back(limpet::hash(alg, secure_boot_data(value)));
  }

  Result<void> take(const BootEvent& event) {
    TRY(check_disguise(event));
    switch (event.type) {
      case kSeparator:
        return take_separator(event);
      case kVariableDriverConfig:
        return take_variable(event);
      case kVariableAuthority:
        return take_authority(event);
      case kEfiAction:
        return take_action(event);
      default:
        return invalid("an event of type " + hex_text(event.type) + " does not belong there");
    }
  }
  [[nodiscard]] Result<bool> secure_boot() const {
    if (!separated_) return invalid("no separator");
    if (!state_) return invalid("SecureBoot was not measured");
    if (!*state_ || debug_) return false;
    for (const std::string_view name : {"PK", "KEK", "db"})
      if (!keys_.contains(name)) return invalid("Secure Boot without " + std::string(name));
    return true;
  }

 private:
  static constexpr std::array<uint8_t, 4> kSeparatorData = {};

  // Follows from the other rules as well; does not depend on any of them.
  [[nodiscard]] Result<void> check_disguise(const BootEvent& event) const {
    const bool variable = std::ranges::find(secure_boot_, event.digest) != secure_boot_.end();
    if ((variable && event.type != kVariableDriverConfig) || (event.digest == separator_ && event.type != kSeparator))
      return invalid("the digest of SecureBoot or of a separator under type " + hex_text(event.type));
    return {};
  }
  [[nodiscard]] Result<void> check_digest(const BootEvent& event, BytesView data) const {
    if (limpet::hash(alg_, data) == event.digest) return {};
    return invalid("an event of type " + hex_text(event.type) + " whose digest is not that of its data");
  }
  Result<void> take_separator(const BootEvent& event) {
    TRY(check_digest(event, event.data));
    if (!std::ranges::equal(event.data, kSeparatorData)) return invalid("a separator of an error");
    if (separated_) return invalid("two separators");
    separated_ = true;
    return {};
  }
  Result<void> take_variable(const BootEvent& event) {
    TRY(check_digest(event, event.data));
    TRY_ASSIGN_WITHIN("variable", const Variable variable, read_variable(event.data));
    if (separated_) return invalid(variable.name_text() + " was measured after the separator");
    std::string whose(as_text(variable.guid));
    whose += as_text(variable.name);
    if (!seen_.insert(std::move(whose)).second) return invalid(variable.name_text() + " was measured twice");
    if (variable.is(kGlobalVariable, kSecureBoot)) return take_state(variable.value);
    if (variable.value.empty()) return {};
    for (const std::string_view name : {"PK", "KEK"})
      if (variable.is(kGlobalVariable, name)) keys_.insert(name);
    if (variable.is(kImageDatabase, "db")) keys_.insert("db");
    return {};
  }
  Result<void> take_state(BytesView value) {
    if (value.size() > 1 || (value.size() == 1 && value[0] > 1)) return invalid("SecureBoot is neither 0 nor 1");
    state_ = value.size() == 1 && value[0] == 1;  // empty: there is no such variable
    return {};
  }
  // What was booted, by whose signature. Versions of shim without its commit 8a27a480 log a byte more than they
  // measure.
  Result<void> take_authority(const BootEvent& event) {
    TRY_ASSIGN_WITHIN("authority", const Variable variable, read_variable(event.data));
    if (variable.is(kGlobalVariable, kSecureBoot)) return invalid("SecureBoot as an authority");
    if (limpet::hash(alg_, event.data.first(event.data.size() - 1)) == event.digest) return {};
    return check_digest(event, event.data);
  }
  Result<void> take_action(const BootEvent& event) {
    TRY(check_digest(event, event.data));
    if (separated_) return invalid("an event of type " + hex_text(event.type) + " after the separator");
    const std::string_view text = as_text(event.data);
    if (text == kDebugMode) {
      debug_ = true;
      return {};
    }
    if (text == kDmaProtectionOff || (text.ends_with('\0') && text.substr(0, text.size() - 1) == kDmaProtectionOff))
      return {};
    return invalid("an action that does not belong there");
  }

  HashAlg alg_;
  Bytes separator_;                 // its digest
  std::vector<Bytes> secure_boot_;  // digests of SecureBoot: absent, off, on
  bool separated_ = false;
  bool debug_ = false;
  std::optional<bool> state_;
  std::set<std::string> seen_;
  std::set<std::string_view> keys_;  // those of PK, KEK and db that have a value
};

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
  PcrSeven seven(alg);
  for (const BootEvent& event : events)
    if (event.pcr == kSecureBootPcr && event.type != kNoAction) TRY_WITHIN("event log: PCR 7", seven.take(event));
  TRY_ASSIGN_WITHIN("event log: PCR 7", const bool on, seven.secure_boot());
  return on;
}

}  // namespace limpet::tpm_wire
