// SPDX-License-Identifier: Apache-2.0
#pragma once
// A firmware's event log and the PCRs that follow from it, for tests. Digests are SHA-256 only.

#include "kit_tpm/event_log.h"

namespace limpet::test {

// UEFI_VARIABLE_DATA of a global variable, or of one of the signature databases.
inline Bytes variable_data(std::string_view name, BytesView value) {
  Bytes out = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
  if (name.starts_with("db"))
    out = {0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f};
  const auto put = [&out](uint64_t number) {
    for (int i = 0; i < 8; ++i) out.push_back(static_cast<uint8_t>(number >> (8 * i)));
  };
  put(name.size());
  put(value.size());
  for (const char c : name) {
    out.push_back(static_cast<uint8_t>(c));
    out.push_back(0);
  }
  append(out, value);
  return out;
}

class BootLog {
 public:
  BootLog() {
    const Bytes spec = {0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0x00, 32, 0, 0};
    Bytes body = to_bytes(std::string_view("Spec ID Event03\0", 16));
    append(body, spec);
    put(0);
    put(3);
    append(bytes_, Bytes(20));
    put(static_cast<uint32_t>(body.size()));
    append(bytes_, body);
    for (uint32_t pcr = 0; pcr < 8; ++pcr) bank_.values[pcr] = Bytes(32);
  }
  static BootLog usual(bool secure) {
    BootLog out;
    out.secure_boot_variable(secure);
    out.keys();
    out.fill();
    if (secure) out.plain(7, kAuthority, variable_data("db", Bytes(40, 3)));
    return out;
  }
  static constexpr uint32_t kSeparator = 4;
  static constexpr uint32_t kConfig = 0x80000001;     // EV_EFI_VARIABLE_DRIVER_CONFIG
  static constexpr uint32_t kAuthority = 0x800000e0;  // EV_EFI_VARIABLE_AUTHORITY
  // An event whose digest is that of `measured`.
  void event(uint32_t pcr, uint32_t type, BytesView measured, BytesView data) {
    put(pcr);
    put(type);
    put(1);
    append(bytes_, Bytes{0x0b, 0x00});
    const Bytes digest = sha256(measured);
    append(bytes_, digest);
    put(static_cast<uint32_t>(data.size()));
    append(bytes_, data);
    if (type == 3) return;
    Bytes input = bank_.values[pcr];
    append(input, digest);
    bank_.values[pcr] = sha256(input);
  }
  // One that is what it says.
  void plain(uint32_t pcr, uint32_t type, BytesView data) { event(pcr, type, data, data); }
  void locality(uint8_t number) {
    Bytes data = to_bytes(std::string_view("StartupLocality\0", 16));
    data.push_back(number);
    event(0, 3, {}, data);
    bank_.values[0].back() = number;
  }
  void secure_boot_variable(bool on) {
    plain(7, kConfig, variable_data("SecureBoot", Bytes{static_cast<uint8_t>(on ? 1 : 0)}));
  }
  // Who may change the databases, and what may be booted.
  void keys() {
    for (const char* name : {"PK", "KEK", "db", "dbx"}) plain(7, kConfig, variable_data(name, Bytes{1, 2, 3}));
  }
  // The separators that every firmware measures before it hands over.
  void fill() {
    for (uint32_t pcr = 0; pcr < 8; ++pcr) plain(pcr, kSeparator, Bytes(4));
  }
  [[nodiscard]] const Bytes& bytes() const { return bytes_; }
  [[nodiscard]] const tpm_wire::PcrBank& bank() const { return bank_; }

 private:
  void put(uint32_t number) {
    for (int i = 0; i < 4; ++i) bytes_.push_back(static_cast<uint8_t>(number >> (8 * i)));
  }
  Bytes bytes_;
  tpm_wire::PcrBank bank_{tpm_wire::kAlgSha256, {}};
};

}  // namespace limpet::test
