// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_sshpop/ssh_key_file.h"

#include <array>

#include "crypto/der.h"
#include "crypto/mbed.h"
#include "kit/pem_files.h"
#include "node_attestor_sshpop/ssh_wire.h"

namespace limpet::sshpop {
namespace {

constexpr size_t kMaxKeyBytes = 65536;
constexpr std::string_view kMagic("openssh-key-v1\0", 15);

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

// d mod (p - 1): OpenSSH leaves the two CRT exponents out.
Result<Bytes> crt_exponent(BytesView d, BytesView p) {
  MbedMpi exponent;
  MbedMpi prime;
  int code = mbedtls_mpi_read_binary(exponent.get(), d.data(), d.size());
  if (code == 0) code = mbedtls_mpi_read_binary(prime.get(), p.data(), p.size());
  if (code == 0) code = mbedtls_mpi_sub_int(prime.get(), prime.get(), 1);
  if (code == 0) code = mbedtls_mpi_mod_mpi(exponent.get(), exponent.get(), prime.get());
  Bytes out(p.size());
  if (code == 0) code = mbedtls_mpi_write_binary(exponent.get(), out.data(), out.size());
  if (code != 0) return fail(mbed_error("RSA key", code));
  return out;
}

Result<PrivateKey> read_rsa(WireReader& reader) {
  std::array<BytesView, 6> part;  // n e d iqmp p q
  for (BytesView& number : part) {
    TRY_ASSIGN(number, reader.string());
    if (number.empty()) return invalid("an empty number in the RSA key");
  }
  const auto& [n, e, d, iqmp, p, q] = part;
  TRY_ASSIGN(Bytes dp, crt_exponent(d, p));
  TRY_ASSIGN(Bytes dq, crt_exponent(d, q));
  const auto number = [](BytesView bytes) { return der::unsigned_integer(bytes); };
  Bytes pkcs1 = der::sequence(
      {number(Bytes{0}), number(n), number(e), number(d), number(p), number(q), number(dp), number(dq), number(iqmp)});
  auto key = PrivateKey::from_pkcs8(pkcs1);
  for (Bytes* secret : {&pkcs1, &dp, &dq}) wipe(*secret);
  return key;
}

Result<PrivateKey> read_ec(WireReader& reader) {
  TRY_ASSIGN(const BytesView curve, reader.string());
  TRY_ASSIGN(const BytesView point, reader.string());
  TRY_ASSIGN(BytesView d, reader.string());
  const bool p256 = as_text(curve) == "nistp256";
  if (!p256 && as_text(curve) != "nistp384") return fail(Code::unimplemented, "only P-256 and P-384 are supported");
  const size_t size = p256 ? 32 : 48;
  if (d.size() > size && d[0] == 0) d = d.subspan(1);
  if (d.size() > size) return invalid("the EC key is too long");
  Bytes scalar(size - d.size(), 0);
  append(scalar, d);
  Bytes sec1 = der::sequence({der::unsigned_integer(Bytes{1}), der::element(der::kOctetString, scalar),
                              der::element(der::kContext0, der::oid(p256 ? "1.2.840.10045.3.1.7" : "1.3.132.0.34")),
                              der::element(der::kContext0 + 1, der::bit_string(point))});
  auto key = PrivateKey::from_pkcs8(sec1);
  wipe(sec1);
  wipe(scalar);
  return key;
}

}  // namespace

Result<PrivateKey> parse_openssh_key(BytesView blob) {
  WireReader reader(blob);
  TRY_ASSIGN(const BytesView magic, reader.take(kMagic.size()));
  if (as_text(magic) != kMagic) return invalid("not an OpenSSH private key");
  TRY_ASSIGN(const BytesView cipher, reader.string());
  if (as_text(cipher) != "none") return invalid("encrypted keys are not supported");
  TRY(reader.string());  // key derivation
  TRY(reader.string());  // and its options
  TRY_ASSIGN(const uint32_t count, reader.u32());
  if (count != 1) return invalid("the file must hold one key");
  TRY(reader.string());  // the public key
  TRY_ASSIGN(const BytesView section, reader.string());
  WireReader key(section);
  TRY(key.u64());  // twice the same number, to tell a wrong passphrase
  TRY_ASSIGN(const BytesView type, key.string());
  if (as_text(type) == "ssh-rsa") return read_rsa(key);
  if (as_text(type).starts_with("ecdsa-sha2-")) return read_ec(key);
  return fail(Code::unimplemented, "key type \"" + std::string(as_text(type).substr(0, 64)) +
                                       "\" is not supported; use an RSA or ECDSA host key");
}

Result<PrivateKey> read_host_key(const std::string& path) {
  TRY_ASSIGN(std::string text, kit::read_file(path, kMaxKeyBytes));
  auto blocks = pem_decode(text);
  wipe(text.data(), text.size());
  if (!blocks) return fail(Code::failed_precondition, path + ": " + blocks.error().message);
  for (PemBlock& block : *blocks) {
    if (block.label != "OPENSSH PRIVATE KEY") continue;
    auto key = parse_openssh_key(block.der);
    wipe(block.der);
    if (!key) return fail(key.error().code, path + ": " + key.error().message);
    return key;
  }
  for (PemBlock& block : *blocks) wipe(block.der);
  return kit::read_private_key(path);
}

}  // namespace limpet::sshpop
