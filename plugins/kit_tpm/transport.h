// SPDX-License-Identifier: Apache-2.0
#pragma once
// The way to a TPM: a device node, or a software TPM's socket that takes raw commands. One command at a time, each
// with its own time limit. It is the TCTI under tss2-sys: tpm2-tss's own TCTIs wait without a limit and write to
// stderr. One thread at a time.

#include <memory>
#include <string>

#include "base/bytes.h"

namespace limpet::tpm {

inline constexpr size_t kMaxMessageBytes = 4096;  // commands and responses; TPM_PT_MAX_RESPONSE_SIZE of every known TPM

struct Address {
  enum class Kind { device, tcp, socket } kind = Kind::device;
  std::string path;  // device, socket
  std::string host;  // tcp
  std::string port;
  [[nodiscard]] std::string text() const;
};

// "device:/dev/tpmrm0", "/dev/tpmrm0", "swtpm:host=127.0.0.1,port=2321", "swtpm:path=/run/swtpm.sock", or a path of
// either kind. Empty: the machine's only /dev/tpmrm<n>, else its only /dev/tpm<n>; what it is, is looked up when it is
// opened. INVALID_ARGUMENT names what is known.
Result<Address> parse_address(std::string_view text);

// The one TPM in `directory`, which is /dev, for an address without a path. UNAVAILABLE: there is none, or more than
// one.
Result<std::string> find_device(const std::string& directory);

class Transport {
 public:
  // UNAVAILABLE: not there, busy or refused. Waits at most `ms`.
  static Result<std::unique_ptr<Transport>> open(const Address& address, int64_t ms);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  Result<void> send(BytesView command);
  // One whole response: 10 to kMaxMessageBytes bytes, of the length that its header says. UNAVAILABLE: no answer within
  // `ms`, or the TPM went away.
  Result<Bytes> receive(int64_t ms);
  // Nobody but us has started this TPM: there is no driver below.
  [[nodiscard]] bool without_driver() const { return kind_ != Address::Kind::device; }

 private:
  Transport(int fd, Address::Kind kind, std::string name) : fd_(fd), kind_(kind), name_(std::move(name)) {}
  int fd_;
  Address::Kind kind_;
  std::string name_;
};

}  // namespace limpet::tpm
