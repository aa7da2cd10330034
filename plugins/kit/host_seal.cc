// SPDX-License-Identifier: Apache-2.0
#include "kit/host_seal.h"

#include "kit/kit.h"

namespace limpet::kit {
namespace {

const limpet_seal_service* service_of(const limpet_host* host) {
  const auto* seals = static_cast<const limpet_seal_service*>(host->service(host, LIMPET_SERVICE_SEAL));
  return seals != nullptr && LIMPET_HAS(seals, limpet_seal_service, stop) ? seals : nullptr;
}

std::unexpected<Error> no_sealer() {
  return fail(Code::unavailable, "this host has no sealer: configure a [[plugin]] with type = \"Sealer\"");
}

void on_sealed(void* arg, const limpet_status* err, limpet_bytes blob) {
  if (err != nullptr) return HostWait::finish<Bytes>(arg, fail(error_of(*err)));
  HostWait::finish<Bytes>(arg, to_bytes(view(blob)));
}

void on_unsealed(void* arg, const limpet_status* err, limpet_bytes plain) {
  if (err != nullptr) return HostWait::finish<SecretBytes>(arg, fail(error_of(*err)));
  HostWait::finish<SecretBytes>(arg, SecretBytes(view(plain)));
}

}  // namespace

bool host_seals(const limpet_host* host) { return service_of(host) != nullptr; }

Result<Bytes> seal_with_host(HostWait& host, const SecretBytes& plain, std::string_view context) {
  const limpet_seal_service* seals = service_of(host.host());
  if (seals == nullptr) return no_sealer();
  const auto secret = std::make_shared<SecretBytes>(plain.clone());  // the call may outlive us
  return host.run<Bytes>([seals, secret, on = host.host(), bound = std::string(context)](void* arg) {
    return seals->seal(on, lend(secret->view()), lend(as_bytes(bound)), &on_sealed, arg);
  });
}

Result<SecretBytes> unseal_with_host(HostWait& host, BytesView blob, std::string_view context) {
  const limpet_seal_service* seals = service_of(host.host());
  if (seals == nullptr) return no_sealer();
  return host.run<SecretBytes>(
      [seals, sealed = to_bytes(blob), on = host.host(), bound = std::string(context)](void* arg) {
        return seals->unseal(on, lend(sealed), lend(as_bytes(bound)), &on_unsealed, arg);
      });
}

}  // namespace limpet::kit
