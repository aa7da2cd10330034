// SPDX-License-Identifier: Apache-2.0
#include "kit/twin.h"

#include "crypto/der.h"
#include "kit/kit.h"

namespace limpet::kit {
namespace {

// SEC 2, sections 2.4.2 and 2.5.1: the orders of P-256 and P-384.
constexpr uint8_t kOrder256[] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
                                 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
                                 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
constexpr uint8_t kOrder384[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2,
                                 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73};

std::unexpected<Error> no_number() { return fail(Code::invalid_argument, "a signature's number is out of range"); }

void on_agent(void* arg, const limpet_status* err, const limpet_agent_info* agent) {
  if (err != nullptr) return HostWait::finish<bool>(arg, fail(error_of(*err)));
  HostWait::finish<bool>(arg, agent->banned != 0);
}

}  // namespace

Result<Bytes> negate_mod_order(BytesView s, uint32_t curve_bits) {
  if (curve_bits != 256 && curve_bits != 384) return no_number();
  Bytes out = to_bytes(curve_bits == 256 ? BytesView(kOrder256) : BytesView(kOrder384));
  while (!s.empty() && s[0] == 0) s = s.subspan(1);
  if (s.size() > out.size()) return no_number();
  int borrow = 0;
  for (size_t i = 0; i < out.size(); ++i) {  // from the last byte
    uint8_t& digit = out[out.size() - 1 - i];
    const int rest = digit - (i < s.size() ? s[s.size() - 1 - i] : 0) - borrow;
    borrow = rest < 0 ? 1 : 0;
    digit = static_cast<uint8_t>(rest + (borrow << 8));
  }
  if (borrow != 0) return no_number();
  return out;
}

Result<Bytes> certificate_twin(const Certificate& certificate, const PublicKey& issuer) {
  if (issuer.is_rsa()) return Bytes();
  TRY_ASSIGN(const der::Element outer, der::single(certificate.der, der::kSequence));
  der::Reader parts(outer.content);
  TRY_ASSIGN(const der::Element body, parts.expect(der::kSequence));
  TRY_ASSIGN(const der::Element algorithm, parts.expect(der::kSequence));
  TRY_ASSIGN(const der::Element bits, parts.expect(der::kBitString));
  TRY_ASSIGN(const BytesView signature, der::read_octet_bits(bits.content));
  TRY_ASSIGN(const der::Element pair, der::single(signature, der::kSequence));
  der::Reader numbers(pair.content);
  TRY_ASSIGN(const der::Element r, numbers.expect(der::kInteger));
  TRY_ASSIGN(const der::Element s, numbers.expect(der::kInteger));
  TRY(numbers.end());
  TRY(der::read_unsigned(r.content));  // in its shortest form
  TRY_ASSIGN(const Bytes number, der::read_unsigned(s.content));
  TRY_ASSIGN(const Bytes other, negate_mod_order(number, issuer.bits()));
  return der::sequence(
      {body.whole, algorithm.whole, der::bit_string(der::sequence({r.whole, der::unsigned_integer(other)}))});
}

TwinCheck::TwinCheck(const limpet_host* host)
    : HostWait(host),
      service_(static_cast<const limpet_agent_store_service*>(host->service(host, LIMPET_SERVICE_AGENT_STORE))) {}

Result<void> TwinCheck::refuse_known(const std::string& trust_domain, const std::string& twin_path) {
  if (twin_path.empty()) return {};
  const std::string twin_id = "spiffe://" + trust_domain + twin_path;
  const auto banned = run<bool>([twin_id, service = service_, on = host()](void* arg) {
    return service->start(on, lend(twin_id), &on_agent, arg);
  });
  if (banned)
    return fail(Code::permission_denied, "this certificate with its signature written otherwise is the agent " +
                                             twin_id + (*banned ? ", which is banned" : " already"));
  const Error& error = banned.error();
  if (error.code == Code::not_found) return {};
  if (error.code == Code::cancelled || error.code == Code::deadline_exceeded || error.code == Code::resource_exhausted)
    return fail(error);
  return fail(Code::internal, "unable to get agent info: " + error.message);
}

}  // namespace limpet::kit
