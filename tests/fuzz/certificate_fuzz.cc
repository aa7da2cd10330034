// SPDX-License-Identifier: Apache-2.0
// Certificates: PEM, one DER certificate, and concatenated DER as a chain that is verified against its own last member.
#include "crypto/x509.h"
#include "fuzz.h"
#include "spiffe/bundle.h"

namespace limpet {
namespace {

void verify(const std::vector<Certificate>& chain) {
  const auto id = spiffe_id_of(chain.front());
  BundleSet bundles;
  if (id) bundles.set(id->trust_domain(), {chain.back()});
  const auto verified = verify_chain(chain, bundles, chain.front().not_before);
  FUZZ_CHECK(!verified || (id && *verified == *id));
}

void run(BytesView input) {
  if (const auto one = Certificate::parse(input)) {
    (void)one->serial_decimal();
    (void)one->subject_text();
    FUZZ_CHECK(one->der.size() == input.size());
  }
  const auto chain = parse_certificates(input);
  if (chain && !chain->empty()) verify(*chain);
  if (const auto blocks = pem_decode(as_text(input))) {
    for (const PemBlock& block : *blocks) FUZZ_CHECK(pem_decode(pem_encode(block.label, block.der)).has_value());
  }
}

}  // namespace
}  // namespace limpet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  limpet::run({data, size});
  return 0;
}
