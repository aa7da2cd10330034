// SPDX-License-Identifier: Apache-2.0
#pragma once
// A firmware's event log and the PCRs that follow from it, for tests. Digests are SHA-256 only.

#include "kit_tpm/event_log.h"

namespace limpet::test {

// UEFI_VARIABLE_DATA of a global variable.
inline Bytes variable_data(std::string_view name, Bytes value) {
  Bytes out = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
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
    out.event(7, 0x80000001, variable_data("PK", {1, 2, 3}), variable_data("PK", {1, 2, 3}));
    out.fill();
    return out;
  }
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
  void locality(uint8_t number) {
    Bytes data = to_bytes(std::string_view("StartupLocality\0", 16));
    data.push_back(number);
    event(0, 3, {}, data);
    bank_.values[0].back() = number;
  }
  void secure_boot_variable(bool on) {
    const Bytes data = variable_data("SecureBoot", {static_cast<uint8_t>(on ? 1 : 0)});
    event(7, 0x80000001, data, data);
  }
  // The separators that every firmware measures before it hands over.
  void fill() {
    for (uint32_t pcr = 0; pcr < 8; ++pcr) event(pcr, 4, Bytes(4), Bytes(4));
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
