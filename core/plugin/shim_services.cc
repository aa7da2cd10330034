// SPDX-License-Identifier: Apache-2.0
// Host services for a child: its calls are put to the host's own tables, and the answers are framed. The child chose
// the numbers of its calls; a number in use, or too many at once, is its end.
#include <bit>

#include "base/limits.h"
#include "plugin/service_policy.h"
#include "plugin/shim_proxy.h"

namespace limpet::shim {

void Proxy::ServiceCall::finish(FrameWriter&& frame) {
  Proxy& proxy = owner;
  if (!frame.good()) {
    frame = FrameWriter(Method::service_done, number);
    put_status(frame, {sizeof(limpet_status), LIMPET_RESOURCE_EXHAUSTED,
                       lend_text("the answer is larger than a plugin's process may be sent at once"), 0, 0});
  }
  proxy.services_.erase(number);
  if (proxy.child_ != nullptr) proxy.child_->send(std::move(frame).finish());
}

namespace {

template <class Call>
Call& object(void* arg) {
  return *static_cast<Call*>(arg);
}

template <class Table>
const Table* table(const limpet_host& host, const char* id) {
  return static_cast<const Table*>(host.service(&host, id));
}

}  // namespace

uint32_t Proxy::offered_services() {
  const auto bit = [this](const char* id, Service service) {
    return host_.service(&host_, id) != nullptr ? static_cast<uint32_t>(service) : 0u;
  };
  const uint32_t here = bit(LIMPET_SERVICE_GRPC, Service::grpc) | bit(LIMPET_SERVICE_HTTP, Service::http) |
                        bit(LIMPET_SERVICE_AGENT_STORE, Service::agent_store) |
                        bit(LIMPET_SERVICE_ENROLLMENT, Service::enrollment) | bit(LIMPET_SERVICE_KV, Service::kv) |
                        bit(LIMPET_SERVICE_IDENTITY, Service::identity) | bit(LIMPET_SERVICE_KEYS, Service::keys) |
                        bit(LIMPET_SERVICE_SEAL, Service::seal);
  return offered_ = here & allowed_services(component_.interface_id, settings_.network);
}

void Proxy::on_service_call(const Frame& frame) {
  if (!unsolicited(frame.payload.size())) return;
  if (frame.number == 0 || services_.contains(frame.number) || services_.size() >= limits::kPluginCalls)
    return violation("a service call too many, or one with a number in use");
  FieldReader in(frame.payload);
  const uint32_t bit = in.u32();
  if (!std::has_single_bit(bit & offered_) || (bit & ~offered_) != 0)
    return violation("a call of a service that it was not offered");
  const auto service = static_cast<Service>(bit);
  auto owned = std::make_unique<ServiceCall>(ServiceCall{*this, frame.number});
  ServiceCall* call = owned.get();
  services_.emplace(frame.number, std::move(owned));
  const limpet_host* host = &host_;
  const auto started = [&](const auto* t, uint32_t id) {
    call->host_id = id;
    call->stop = t->stop;
    if (id != 0) return;
    const limpet_status full = {sizeof(limpet_status), LIMPET_RESOURCE_EXHAUSTED,
                                lend_text("the host has too many calls in flight, or cannot make this one"), 0, 0};
    call->end(&full, [](FrameWriter&) {});
  };
  // the answer of every service that has only bytes to tell
  static constexpr limpet_kv_done kBytes = [](void* arg, const limpet_status* error, limpet_bytes answer) {
    object<ServiceCall>(arg).end(error, [&](FrameWriter& f) { put(f, answer); });
  };
  if (service == Service::grpc) {
    const auto* t = table<limpet_grpc_service>(host_, LIMPET_SERVICE_GRPC);
    limpet_grpc_call c = {sizeof(limpet_grpc_call), in.u32(), {}, {}, {}, {}, {}, 0, 0};
    c.host = get_text(in);
    c.trust_domain = get_text(in);
    c.workload_api_socket = get_text(in);
    c.method = get_text(in);
    c.request = get_bytes(in);
    c.timeout_ms = in.u32();
    if (t == nullptr || !in.done()) return violation("a gRPC call that cannot be read");
    return started(t, t->start(host, &c, kBytes, call));
  }
  if (service == Service::http) {
    const auto* t = table<limpet_http_service>(host_, LIMPET_SERVICE_HTTP);
    limpet_http_call c = {sizeof(limpet_http_call), in.u32(), {}, 0, 0};
    c.url = get_text(in);
    c.timeout_ms = in.u32();
    if (t == nullptr || !in.done()) return violation("an HTTP call that cannot be read");
    return started(t, t->start(
                          host, &c,
                          [](void* arg, const limpet_status* error, const limpet_http_reply* reply) {
                            object<ServiceCall>(arg).end(error, [&](FrameWriter& f) {
                              f.u32(reply->status);
                              put(f, reply->body);
                            });
                          },
                          call));
  }
  if (service == Service::agent_store) {
    const auto* t = table<limpet_agent_store_service>(host_, LIMPET_SERVICE_AGENT_STORE);
    const limpet_str id = get_text(in);
    if (t == nullptr || !in.done()) return violation("a question for an agent that cannot be read");
    return started(t, t->start(
                          host, id,
                          [](void* arg, const limpet_status* error, const limpet_agent_info* agent) {
                            object<ServiceCall>(arg).end(error, [&](FrameWriter& f) {
                              f.u32(agent->banned);
                              put(f, agent->id);
                              put(f, agent->attestation_type);
                            });
                          },
                          call));
  }
  if (service == Service::enrollment) {
    const auto* t = table<limpet_enrollment_service>(host_, LIMPET_SERVICE_ENROLLMENT);
    const limpet_str id = get_text(in);
    if (t == nullptr || !in.done()) return violation("a question for an enrolment that cannot be read");
    return started(t, t->start(
                          host, id,
                          [](void* arg, const limpet_status* error, const limpet_enrollment* found) {
                            object<ServiceCall>(arg).end(error, [&](FrameWriter& f) {
                              f.u32(found->enrolled);
                              put(f, found->note);
                              f.i64(found->enrolled_at);
                            });
                          },
                          call));
  }
  if (service == Service::keys) {
    const auto* t = table<limpet_keys_service>(host_, LIMPET_SERVICE_KEYS);
    const auto action = static_cast<KeyAction>(in.u32());
    if (action == KeyAction::sign) {
      const limpet_sign_request request = get_sign_request(in);
      if (t == nullptr || !in.done()) return violation("a signature's request that cannot be read");
      return started(t, t->sign(host, &request, kBytes, call));
    }
    const limpet_str id = get_text(in);
    if (t == nullptr || !in.done()) return violation("a question for a key that cannot be read");
    return started(t, t->find(
                          host, id,
                          [](void* arg, const limpet_status* error, const limpet_public_key* key) {
                            object<ServiceCall>(arg).end(error, [&](FrameWriter& f) { put(f, key); });
                          },
                          call));
  }
  if (service == Service::seal) {
    const auto* t = table<limpet_seal_service>(host_, LIMPET_SERVICE_SEAL);
    const auto action = static_cast<SealAction>(in.u32());
    const limpet_bytes data = get_bytes(in), context = get_bytes(in);
    if (t == nullptr || !in.done()) return violation("a call of the sealer that cannot be read");
    const auto fn = action == SealAction::seal ? t->seal : t->unseal;
    return started(t, fn(host, data, context, kBytes, call));
  }
  const auto* t = table<limpet_kv_service>(host_, LIMPET_SERVICE_KV);
  const auto action = static_cast<KvAction>(in.u32());
  const limpet_str key = get_text(in);
  const limpet_bytes value = get_bytes(in);
  if (service != Service::kv || t == nullptr || !in.done()) return violation("a service call that cannot be read");
  if (action == KvAction::put) return started(t, t->put(host, key, value, kBytes, call));
  started(t, action == KvAction::get ? t->get(host, key, kBytes, call) : t->remove(host, key, kBytes, call));
}

void Proxy::on_service_stop(uint32_t number) {
  const auto place = services_.find(number);
  if (place == services_.end()) return;  // it has ended, and the answer is on its way
  place->second->stop(&host_, place->second->host_id);
  services_.erase(place);
}

void Proxy::stop_services() {
  for (auto& [number, call] : services_) {
    if (call->host_id != 0) call->stop(&host_, call->host_id);
  }
  services_.clear();
}

// limpet.identity/1 answers at once, so the child keeps what it says, and is told before a call when that has changed.
void Proxy::tell_identity() {
  const auto* t = table<limpet_identity_service>(host_, LIMPET_SERVICE_IDENTITY);
  if (t == nullptr || (offered_ & static_cast<uint32_t>(Service::identity)) == 0) return;
  Bytes now_known;
  const limpet_code code = t->get(
      &host_,
      [](void* arg, const limpet_identity* identity) {
        FrameWriter f(Method::identity, 0);
        put(f, identity->trust_domain);
        put(f, identity->bundle);
        put(f, identity->x509_svid_der);
        if (f.good()) object<Bytes>(arg) = std::move(f).finish();
      },
      &now_known);
  if (code != LIMPET_OK || now_known.empty() || now_known == identity_) return;
  identity_ = now_known;
  child_->send(std::move(now_known));
}

}  // namespace limpet::shim
