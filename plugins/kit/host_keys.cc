// SPDX-License-Identifier: Apache-2.0
#include "kit/host_keys.h"

#include "kit/kit.h"

namespace limpet::kit {
namespace {

constexpr int32_t kSaltBytes = 32;

Result<const limpet_keys_service*> service_of(const limpet_host* host) {
  const auto* keys = static_cast<const limpet_keys_service*>(host->service(host, LIMPET_SERVICE_KEYS));
  if (keys != nullptr && LIMPET_HAS(keys, limpet_keys_service, stop)) return keys;
  return fail(Code::failed_precondition, "this host has no keys for plugins (limpet.keys/1)");
}

void on_found(void* arg, const limpet_status* err, const limpet_public_key* key) {
  if (err != nullptr) return HostWait::finish<PublicKey>(arg, fail(error_of(*err)));
  HostWait::finish<PublicKey>(arg, PublicKey::from_spki(view(key->spki_der)));
}

void on_used(void* arg, const limpet_status* err, limpet_bytes signature) {
  if (err != nullptr) return HostWait::finish<Bytes>(arg, fail(error_of(*err)));
  HostWait::finish<Bytes>(arg, to_bytes(view(signature)));
}

}  // namespace

Result<PublicKey> find_host_key(HostWait& host, const std::string& id) {
  TRY_ASSIGN(const limpet_keys_service* keys, service_of(host.host()));
  return host.run<PublicKey>(
      [keys, id, on = host.host()](void* arg) { return keys->find(on, lend(id), &on_found, arg); });
}

Result<Bytes> prove_with_host_key(HostWait& host, const std::string& id, const PublicKey& key, BytesView digest) {
  TRY_ASSIGN(const limpet_keys_service* keys, service_of(host.host()));
  return host.run<Bytes>([keys, id, on = host.host(), rsa = key.is_rsa(), data = to_bytes(digest)](void* arg) {
    const limpet_sign_request request = {sizeof(limpet_sign_request),
                                         static_cast<uint32_t>(HashAlg::sha256),
                                         lend(id),
                                         lend(data),
                                         rsa ? kSaltBytes : -1,
                                         0,
                                         {}};
    return keys->sign(on, &request, &on_used, arg);
  });
}

}  // namespace limpet::kit
