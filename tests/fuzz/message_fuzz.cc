// SPDX-License-Identifier: Apache-2.0
// Every message type: the first two bytes choose it, the rest is scanned and decoded. What was taken must encode, and
// that must decode to the same again; the commands' JSON and the domain's values must cope with it.
#include "all_messages.h"
#include "fuzz.h"
#include "wire/api_types.h"
#include "wire/message.h"
#include "wire/proto_json.h"

namespace limpet::wire {
namespace {

template <class T>
void to_domain(const Message<T>&) {}
void to_domain(const Message<spire_api_types_Entry>& message) {
  const auto entry = read_entry(*message);
  if (!entry) return;
  Message<spire_api_types_Entry> out;
  write_entry(*out, *entry);
  FUZZ_CHECK(read_entry(*out).has_value());
}
void to_domain(const Message<spire_api_types_Bundle>& message) {
  const auto bundle = read_bundle(*message);
  if (!bundle) return;
  Message<spire_api_types_Bundle> out;
  write_bundle(*out, *bundle);
  const auto again = read_bundle(*out);
  FUZZ_CHECK(again.has_value() && *again == *bundle);
}
void to_domain(const Message<spire_api_types_X509SVID>& message) { (void)read_x509_svid(*message); }
void to_domain(const Message<spire_api_types_JWTSVID>& message) { (void)read_jwt_svid(*message); }

// nanopb grows an array by one element at a time, and AddressSanitizer's realloc copies it whole each time.
constexpr ScanLimits kBounds{.depth = limits::kMessageDepth, .items = 1000, .memory = limits::kMessageMemory};

template <class T>
void decode(BytesView bytes) {
  const auto message = Message<T>::decode(bytes, kBounds);
  if (!message) return;
  const auto wire = message->encode();
  FUZZ_CHECK(wire.has_value());
  const auto again = Message<T>::decode(*wire, kBounds);
  FUZZ_CHECK(again.has_value());
  const auto wire_again = again->encode();
  FUZZ_CHECK(wire_again.has_value() && *wire_again == *wire);
  (void)to_json(*message);
  to_domain(*message);
}

using Decode = void (*)(BytesView);
#define LIMPET_DECODE(type) &decode<type>,
constexpr Decode kTypes[] = {LIMPET_ALL_MESSAGES(LIMPET_DECODE)};

}  // namespace
}  // namespace limpet::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t type = (static_cast<size_t>(data[0]) << 8 | data[1]) % std::size(limpet::wire::kTypes);
  limpet::wire::kTypes[type]({data + 2, size - 2});
  return 0;
}
