// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/refused_pin.h"

#include "kit/kit.h"

namespace limpet::pkcs11 {
namespace {

// Behind when the file was written: it is being tried, for the first or the second time. Nothing: it was refused.
constexpr std::string_view kTried = "\n1";
constexpr std::string_view kTriedTwice = "\n2";

std::string key_of(const std::string& token) { return "refused-pin/" + token; }

void on_answer(void* arg, const limpet_status* err, limpet_bytes value) {
  if (err != nullptr) return kit::HostWait::finish<std::string>(arg, fail(kit::error_of(*err)));
  kit::HostWait::finish<std::string>(arg, std::string(as_text(kit::view(value))));
}

std::unexpected<Error> cannot(const std::string& what, const Error& why) {
  return fail(Code::unavailable, what + ", so it is not shown: " + why.message);
}

}  // namespace

const limpet_kv_service* RefusedPin::service() const {
  return static_cast<const limpet_kv_service*>(wait_.host()->service(wait_.host(), LIMPET_SERVICE_KV));
}

Result<PinPast> RefusedPin::begin_try(const std::string& token, const std::string& written) {
  const auto* kv = service();
  if (kv == nullptr) return PinPast::none;
  const auto found = wait_.run<std::string>([key = key_of(token), kv, host = wait_.host()](void* arg) {
    return kv->get(host, kit::lend(key), &on_answer, arg);
  });
  if (!found && found.error().code != Code::not_found)
    return cannot("whether this PIN was refused before cannot be looked up", found.error());
  if (found && *found == written) return PinPast::refused;
  if (found && *found == written + std::string(kTriedTwice)) return PinPast::never_told_twice;
  const bool again = found && *found == written + std::string(kTried);
  const std::string mark = written + std::string(again ? kTriedTwice : kTried);
  const auto noted = wait_.run<std::string>([key = key_of(token), mark, kv, host = wait_.host()](void* arg) {
    return kv->put(host, kit::lend(key), kit::lend(as_bytes(mark)), &on_answer, arg);
  });
  if (noted) return PinPast::none;
  (void)keep(token, again ? *found : "");  // a put that nobody waited for may have happened, and this was no try
  return cannot("that this PIN is tried cannot be noted", noted.error());
}

Result<void> RefusedPin::end_try(const std::string& token, const std::string& written, bool refused) {
  return keep(token, refused ? written : "");
}

// An empty value: nothing.
Result<void> RefusedPin::keep(const std::string& token, const std::string& value) {
  const auto* kv = service();
  if (kv == nullptr) return {};
  const auto kept = wait_.run_anyway<std::string>([key = key_of(token), value, kv, host = wait_.host()](void* arg) {
    return value.empty() ? kv->remove(host, kit::lend(key), &on_answer, arg)
                         : kv->put(host, kit::lend(key), kit::lend(as_bytes(value)), &on_answer, arg);
  });
  if (!kept) return fail(kept.error());
  return {};
}

}  // namespace limpet::pkcs11
