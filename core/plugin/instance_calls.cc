// SPDX-License-Identifier: Apache-2.0
// The services that a plugin calls and that answer later (gRPC, HTTP, the server's agents and devices, private state),
// and the one that answers at once (the server's identity). What does the work is given by main; where it is missing,
// so is the service.
#include <cstring>

#include "base/limits.h"
#include "plugin/borrow.h"
#include "plugin/instance_host.h"
#include "plugin/lent_bundle.h"
#include "plugin/service_policy.h"
#include "plugin/shim_wire.h"

namespace limpet {

template <class T>
Instance::CallOf<T>* Instance::begin_call(CallDone<T> tell) {
  if (calls_.size() >= limits::kPluginCalls) return nullptr;
  while (++last_call_ == 0 || calls_.contains(last_call_)) {
  }
  auto started = std::make_unique<CallOf<T>>(*this, last_call_, std::move(tell));
  CallOf<T>* kept = started.get();
  calls_.emplace(last_call_, std::move(started));
  return kept;
}

void Instance::call_stop(const limpet_host* host, uint32_t id) { static_cast<Instance*>(host->ctx)->calls_.erase(id); }

const void* Instance::call_service(const char* id) const {
  static constexpr limpet_grpc_service kGrpc = {sizeof(limpet_grpc_service), 0, &grpc_start, &call_stop};
  static constexpr limpet_http_service kHttp = {sizeof(limpet_http_service), 0, &http_start, &call_stop};
  static constexpr limpet_agent_store_service kAgents = {sizeof(limpet_agent_store_service), 0, &agent_start,
                                                         &call_stop};
  static constexpr limpet_enrollment_service kEnrollment = {sizeof(limpet_enrollment_service), 0, &enrollment_start,
                                                            &call_stop};
  static constexpr limpet_kv_service kState = {sizeof(limpet_kv_service), 0, &kv_get, &kv_put, &kv_remove, &call_stop};
  static constexpr limpet_identity_service kIdentity = {sizeof(limpet_identity_service), 0, &identity_get};
  static constexpr limpet_keys_service kKeys = {sizeof(limpet_keys_service), 0, &keys_find, &keys_sign, &call_stop};
  static constexpr limpet_seal_service kSeal = {sizeof(limpet_seal_service), 0, &seal_start, &unseal_start, &call_stop};
  // in the daemon's process it has the daemon's network; through the shim the proxy cuts what its process has not
  const uint32_t allowed = allowed_services(component_.interface_id, true);
  const auto is = [&](const char* name, shim::Service service) {
    return std::strcmp(id, name) == 0 && (allowed & static_cast<uint32_t>(service)) != 0;
  };
  if (is(LIMPET_SERVICE_GRPC, shim::Service::grpc)) return services_.grpc != nullptr ? &kGrpc : nullptr;
  if (is(LIMPET_SERVICE_HTTP, shim::Service::http)) return services_.http != nullptr ? &kHttp : nullptr;
  if (is(LIMPET_SERVICE_AGENT_STORE, shim::Service::agent_store))
    return services_.agents != nullptr ? &kAgents : nullptr;
  if (is(LIMPET_SERVICE_ENROLLMENT, shim::Service::enrollment))
    return services_.devices != nullptr ? &kEnrollment : nullptr;
  if (is(LIMPET_SERVICE_KV, shim::Service::kv)) return services_.state != nullptr ? &kState : nullptr;
  if (is(LIMPET_SERVICE_IDENTITY, shim::Service::identity)) return services_.identity != nullptr ? &kIdentity : nullptr;
  if (is(LIMPET_SERVICE_KEYS, shim::Service::keys)) return services_.keys != nullptr ? &kKeys : nullptr;
  if (is(LIMPET_SERVICE_SEAL, shim::Service::seal)) return services_.sealer != nullptr ? &kSeal : nullptr;
  return nullptr;
}

uint32_t Instance::grpc_start(const limpet_host* host, const limpet_grpc_call* call, limpet_grpc_done done, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  if (!LIMPET_HAS(call, limpet_grpc_call, timeout_ms) || call->port == 0 || call->port > UINT16_MAX) return 0;
  if (call->timeout_ms == 0) return 0;
  if (call->request.len > limits::kMessageBytes || (call->request.ptr == nullptr && call->request.len > 0)) return 0;
  GrpcRequest request;
  request.host = bounded(call->host);
  request.port = static_cast<uint16_t>(call->port);
  request.trust_domain = bounded(call->trust_domain);
  request.socket_path = bounded(call->workload_api_socket);
  request.method = bounded(call->method);
  request.message.assign(call->request.ptr, call->request.ptr + call->request.len);
  request.timeout_ms = call->timeout_ms;
  auto* started = self->begin_call<Bytes>([done, arg](const limpet_status* error, const Bytes* reply) {
    done(arg, error, reply != nullptr ? lend(*reply) : limpet_bytes{});
  });
  if (started == nullptr) return 0;
  self->services_.grpc->call(std::move(request), started->arm());
  return started->id;
}

uint32_t Instance::http_start(const limpet_host* host, const limpet_http_call* call, limpet_http_done done, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  if (!LIMPET_HAS(call, limpet_http_call, timeout_ms) || call->timeout_ms == 0) return 0;
  if (call->max_body > limits::kHttpReplyBytes || !self->services_.http->has_room()) return 0;
  auto* started = self->begin_call<PlainReply>([done, arg](const limpet_status* error, const PlainReply* reply) {
    if (reply == nullptr) return done(arg, error, nullptr);
    const limpet_http_reply lent = {sizeof(limpet_http_reply), static_cast<uint32_t>(reply->status), lend(reply->body)};
    done(arg, nullptr, &lent);
  });
  if (started == nullptr) return 0;
  self->services_.http->get({bounded(call->url), call->max_body, call->timeout_ms}, started->arm());
  return started->id;
}

uint32_t Instance::agent_start(const limpet_host* host, limpet_str id, limpet_agent_done done, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  auto* started = self->begin_call<KnownAgent>([done, arg](const limpet_status* error, const KnownAgent* agent) {
    if (agent == nullptr) return done(arg, error, nullptr);
    const limpet_agent_info lent = {sizeof(limpet_agent_info), agent->banned ? 1u : 0u, lend(agent->id),
                                    lend(agent->attestation_type)};
    done(arg, nullptr, &lent);
  });
  if (started == nullptr) return 0;
  self->services_.agents->find(bounded(id), started->arm());
  return started->id;
}

uint32_t Instance::enrollment_start(const limpet_host* host, limpet_str identifier, limpet_enrollment_done done,
                                    void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  auto* started = self->begin_call<KnownDevice>([done, arg](const limpet_status* error, const KnownDevice* device) {
    if (device == nullptr) return done(arg, error, nullptr);
    const limpet_enrollment lent = {sizeof(limpet_enrollment), device->enrolled ? 1u : 0u, lend(device->note),
                                    device->enrolled_at};
    done(arg, nullptr, &lent);
  });
  if (started == nullptr) return 0;
  self->services_.devices->find(self->name_, bounded(identifier), started->arm());
  return started->id;
}

uint32_t Instance::keys_find(const limpet_host* host, limpet_str id, limpet_key_found_done done, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  auto* started = self->begin_call<ManagedKey>([done, arg](const limpet_status* error, const ManagedKey* key) {
    if (key == nullptr) return done(arg, error, nullptr);
    const limpet_public_key lent = {sizeof(limpet_public_key), static_cast<uint32_t>(key->type), lend(key->id),
                                    lend(key->key.spki()), lend(key->fingerprint)};
    done(arg, nullptr, &lent);
  });
  if (started == nullptr) return 0;
  self->services_.keys->find(bounded(id), started->arm());
  return started->id;
}

uint32_t Instance::keys_sign(const limpet_host* host, const limpet_sign_request* request, limpet_key_used_done done,
                             void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  if (!LIMPET_HAS(request, limpet_sign_request, pss_salt_len) || request->hash < 5 || request->hash > 7) return 0;
  const auto alg = static_cast<HashAlg>(request->hash);
  if (request->digest.len != (alg == HashAlg::sha256   ? 32u
                              : alg == HashAlg::sha384 ? 48u
                                                       : 64u) ||
      request->digest.ptr == nullptr)
    return 0;
  auto* started = self->begin_call<Bytes>([done, arg](const limpet_status* error, const Bytes* signature) {
    done(arg, error, signature != nullptr ? lend(*signature) : limpet_bytes{});
  });
  if (started == nullptr) return 0;
  self->services_.keys->sign(bounded(request->key_id), alg, request->pss_salt_len,
                             to_bytes({request->digest.ptr, request->digest.len}), started->arm());
  return started->id;
}

// A plugin's blobs are its own: the component is bound to them, by the digest of its name.
std::optional<Bytes> Instance::seal_context(limpet_bytes context) const {
  constexpr size_t kMost = 32;
  if (context.len > kMost || (context.ptr == nullptr && context.len > 0)) return std::nullopt;
  Bytes out = sha256(as_bytes(label_));
  append(out, {context.ptr, context.len});
  return out;
}

uint32_t Instance::seal_start(const limpet_host* host, limpet_bytes plain, limpet_bytes context, limpet_seal_done done,
                              void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  auto bound = self->seal_context(context);
  if (!bound || plain.ptr == nullptr || plain.len > limits::kPluginTextBytes) return 0;
  auto* started = self->begin_call<Bytes>([done, arg](const limpet_status* error, const Bytes* blob) {
    done(arg, error, blob != nullptr ? lend(*blob) : limpet_bytes{});
  });
  if (started == nullptr) return 0;
  self->services_.sealer->seal(SecretBytes(BytesView(plain.ptr, plain.len)), std::move(*bound), started->arm());
  return started->id;
}

uint32_t Instance::unseal_start(const limpet_host* host, limpet_bytes blob, limpet_bytes context, limpet_seal_done done,
                                void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  auto bound = self->seal_context(context);
  if (!bound || blob.ptr == nullptr || blob.len > limits::kMessageBytes) return 0;
  auto* started = self->begin_call<SecretBytes>([done, arg](const limpet_status* error, const SecretBytes* plain) {
    done(arg, error, plain != nullptr ? lend(plain->view()) : limpet_bytes{});
  });
  if (started == nullptr) return 0;
  self->services_.sealer->unseal(to_bytes({blob.ptr, blob.len}), std::move(*bound), started->arm());
  return started->id;
}

// start(key, done) hands the request on; one beyond the bounds is answered here.
template <class Start>
uint32_t Instance::begin_kv(limpet_str key, size_t value_bytes, limpet_kv_done done, void* arg, Start start) {
  auto* started = begin_call<Bytes>([done, arg](const limpet_status* error, const Bytes* value) {
    done(arg, error, value != nullptr ? lend(*value) : limpet_bytes{});
  });
  if (started == nullptr) return 0;
  const char* wrong = nullptr;
  if (key.ptr == nullptr || key.len == 0 || key.len > kPluginStateKeyBytes) wrong = "a key has 1 to 255 bytes";
  if (value_bytes > kPluginStateValueBytes) wrong = "a value has at most 64 KiB";
  if (wrong == nullptr) {
    start(std::string(key.ptr, key.len), started->arm());
  } else {
    timers_loop_.post([held = started->arm(), wrong]() mutable { held(fail(Code::invalid_argument, wrong)); });
  }
  return started->id;
}

uint32_t Instance::kv_get(const limpet_host* host, limpet_str key, limpet_kv_done done, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  return self->begin_kv(key, 0, done, arg, [self](std::string name, Done<Bytes> answer) {
    self->services_.state->get(self->label_, std::move(name), std::move(answer));
  });
}

uint32_t Instance::kv_put(const limpet_host* host, limpet_str key, limpet_bytes value, limpet_kv_done done, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  if (value.ptr == nullptr && value.len > 0) return 0;
  return self->begin_kv(key, value.len, done, arg, [self, value](std::string name, Done<Bytes> answer) {
    self->services_.state->put(self->label_, std::move(name), Bytes(value.ptr, value.ptr + value.len),
                               std::move(answer));
  });
}

uint32_t Instance::kv_remove(const limpet_host* host, limpet_str key, limpet_kv_done done, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  return self->begin_kv(key, 0, done, arg, [self](std::string name, Done<Bytes> answer) {
    self->services_.state->remove(self->label_, std::move(name), std::move(answer));
  });
}

limpet_code Instance::identity_get(const limpet_host* host, limpet_identity_use use, void* arg) {
  auto* self = static_cast<Instance*>(host->ctx);
  const IdentityBoard::Shared identity = self->services_.identity->get();
  if (identity == nullptr) return LIMPET_UNAVAILABLE;
  const LentBundle bundle(identity->bundle);
  std::vector<limpet_bytes> svid;
  svid.reserve(identity->svid.size());
  for (const Bytes& certificate : identity->svid) svid.push_back(lend(certificate));
  const limpet_identity lent = {
      sizeof(limpet_identity), 0, lend(self->trust_domain_), bundle.get(), {svid.data(), svid.size()}};
  use(arg, &lent);
  return LIMPET_OK;
}

}  // namespace limpet
