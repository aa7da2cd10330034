// SPDX-License-Identifier: Apache-2.0
#pragma once
// SSH's wire format (RFC 4251 section 5) as far as host certificates (OpenSSH PROTOCOL.certkeys) need it: public keys,
// certificates and signatures of RSA, P-256 and P-384 keys. Ed25519 is refused with UNIMPLEMENTED: mbedTLS lacks it.
// Every length is checked before it is believed. Pure functions, any thread.

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/key.h"

namespace limpet::sshpop {

inline constexpr size_t kNonceBytes = 32;
inline constexpr uint32_t kHostCertificate = 2;

class WireReader {
 public:
  explicit WireReader(BytesView input) : rest_(input) {}
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  Result<uint32_t> u32();
  Result<uint64_t> u64();
  Result<BytesView> string();  // borrowed from the input
  Result<BytesView> take(size_t size);

 private:
  BytesView rest_;
};
void put_string(Bytes& out, BytesView bytes);
void put_number(Bytes& out, BytesView big_endian);  // an mpint from an unsigned number

struct SshKey {
  std::string type;  // "ssh-rsa", "ecdsa-sha2-nistp256"...
  PublicKey key;
};
Result<SshKey> parse_key(BytesView blob);             // INVALID_ARGUMENT, UNIMPLEMENTED
Result<Bytes> parse_key_line(std::string_view line);  // "type base64 comment" to the blob

struct SshSignature {
  std::string format;
  Bytes blob;
};

struct SshCertificate {
  Bytes wire;
  SshKey key;
  uint32_t kind = 0;
  std::vector<std::string> principals;
  uint64_t valid_after = 0;  // Unix seconds
  uint64_t valid_before = 0;
  std::vector<std::string> critical_options;  // names
  Bytes authority;                            // the key that signed it, as a blob
  Bytes body;                                 // what was signed
  SshSignature signature;
  static Result<SshCertificate> parse(BytesView wire);
  // As kit::certificate_twin, after check_host. Go takes signatures that are written otherwise.
  [[nodiscard]] Result<Bytes> twin() const;
  // Go's CertChecker.CheckHostKey: a host certificate of one of `authorities` (blobs) for `host`, valid now.
  [[nodiscard]] Result<void> check_host(const std::string& host, const std::vector<Bytes>& authorities,
                                        int64_t now) const;
};

// SHA-1 ("ssh-rsa") only where asked for: in a fresh proof over two nonces, as SPIRE's agent makes it with RSA keys.
Result<void> verify(const SshKey& key, BytesView message, const SshSignature& signature, bool allow_sha1);
Result<SshSignature> sign(const PrivateKey& key, BytesView message);

}  // namespace limpet::sshpop
