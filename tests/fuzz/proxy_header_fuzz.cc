// SPDX-License-Identifier: Apache-2.0
// The PROXY header: what is taken is whole, names addresses that are some, and is not seen otherwise in its beginnings.
#include "base/ip_range.h"
#include "base/limits.h"
#include "fuzz.h"
#include "wire/proxy_header.h"

namespace limpet::wire {
namespace {

void run(BytesView bytes) {
  const auto header = read_proxy_header(bytes);
  if (header && *header) {
    FUZZ_CHECK((*header)->size <= bytes.size());
    FUZZ_CHECK((*header)->size <= 16 + limits::kProxyHeaderBytes);
    if ((*header)->source) {
      FUZZ_CHECK((*header)->size > 0);
      FUZZ_CHECK(parse_ip((*header)->source->ip).has_value());
      FUZZ_CHECK(ip_text(parse_ip((*header)->source->ip).value()) == (*header)->source->ip);
    }
    if ((*header)->size > 0) {  // it neither needs what follows nor is there before it is whole
      const auto alone = read_proxy_header(bytes.first((*header)->size));
      FUZZ_CHECK(alone && *alone && (*alone)->size == (*header)->size);
      const auto shorter = read_proxy_header(bytes.first((*header)->size - 1));
      FUZZ_CHECK(shorter && !*shorter);
    }
  }
  const std::string_view text = as_text(bytes);
  if (const auto range = IpRange::parse(text)) {
    if (const auto own = parse_ip(text.substr(0, text.find('/')))) FUZZ_CHECK(range->contains(*own));
  }
}

}  // namespace
}  // namespace limpet::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  limpet::wire::run({data, size});
  return 0;
}
