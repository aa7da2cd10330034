// SPDX-License-Identifier: Apache-2.0
#pragma once
// For the fuzzer of what a plugin's process says: a host with every service, which reads all that it is asked with and
// answers when it is told to, with errors, with answers too large for a frame, or not at all.

#include <functional>
#include <utility>

#include "plugin/shim_proxy.h"
#include "shim_touch.h"

namespace limpet::shim {
namespace {

// A call of a service, answered later or stopped before.
struct Pending {
  uint32_t id;
  std::function<void(const limpet_status* error)> end;
};
std::vector<Pending> pending;
uint32_t last_id = 0;
const limpet_status kNotFound = {sizeof(limpet_status), LIMPET_NOT_FOUND, lend_text("not there"), 0, 0};

uint32_t take_call(std::function<void(const limpet_status*)> end) {
  if (++last_id % 7 == 0) return 0;  // too many
  pending.push_back({last_id, std::move(end)});
  return last_id;
}
void stop_call(const limpet_host*, uint32_t id) {
  std::erase_if(pending, [id](const Pending& one) { return one.id == id; });
}
void answer_calls() {
  for (auto now = std::exchange(pending, {}); const Pending& one : now) one.end(one.id % 3 == 0 ? &kNotFound : nullptr);
}
uint32_t take_bytes_call(limpet_kv_done done, void* arg) {
  static const Bytes large(kFrameBytes + 1, 7);
  const BytesView reply = last_id % 5 == 0 ? BytesView(large) : BytesView(large).first(9);
  return take_call([done, arg, reply](const limpet_status* error) { done(arg, error, lend_bytes(reply)); });
}

const limpet_bytes kSome = lend_bytes(as_bytes("some"));
const limpet_bytes_list kSomeList = {&kSome, 1};
const limpet_jwt_key kJwtKey = {sizeof(limpet_jwt_key), 0, lend_text("kid"), kSome, 1};
const limpet_jwt_key* const kJwtKeys[] = {&kJwtKey};
const limpet_bundle kBundle = {sizeof(limpet_bundle), 60, kSomeList, kJwtKeys, 1, kSomeList};
const limpet_public_key kKey = {sizeof(limpet_public_key), 1, lend_text("k"), kSome, lend_text("f")};

const limpet_grpc_service kGrpc = {
    sizeof kGrpc, 0,
    [](const limpet_host*, const limpet_grpc_call* c, limpet_grpc_done done, void* arg) {
      for (const limpet_str text : {c->host, c->trust_domain, c->workload_api_socket, c->method}) touch(text);
      touch(c->request);
      return take_bytes_call(done, arg);
    },
    stop_call};
const limpet_http_service kHttp = {sizeof kHttp, 0,
                                   [](const limpet_host*, const limpet_http_call* c, limpet_http_done done, void* arg) {
                                     touch(c->url);
                                     return take_call([=](const limpet_status* error) {
                                       const limpet_http_reply reply = {sizeof reply, 200, kSome};
                                       done(arg, error, error != nullptr ? nullptr : &reply);
                                     });
                                   },
                                   stop_call};
const limpet_agent_store_service kAgents = {sizeof kAgents, 0,
                                            [](const limpet_host*, limpet_str id, limpet_agent_done done, void* arg) {
                                              touch(id);
                                              return take_call([=](const limpet_status* error) {
                                                const limpet_agent_info agent = {
                                                    sizeof agent, 0, lend_text("spiffe://x/y"), lend_text("x")};
                                                done(arg, error, error != nullptr ? nullptr : &agent);
                                              });
                                            },
                                            stop_call};
const limpet_enrollment_service kEnrollment = {
    sizeof kEnrollment, 0,
    [](const limpet_host*, limpet_str id, limpet_enrollment_done done, void* arg) {
      touch(id);
      return take_call([=](const limpet_status* error) {
        const limpet_enrollment found = {sizeof found, 1, lend_text("note"), 1};
        done(arg, error, error != nullptr ? nullptr : &found);
      });
    },
    stop_call};
uint32_t get_or_remove(const limpet_host*, limpet_str key, limpet_kv_done done, void* arg) {
  touch(key);
  return take_bytes_call(done, arg);
}
const limpet_kv_service kKv = {sizeof kKv,
                               0,
                               get_or_remove,
                               [](const limpet_host*, limpet_str key, limpet_bytes value, limpet_kv_done d, void* arg) {
                                 touch(key);
                                 touch(value);
                                 return take_bytes_call(d, arg);
                               },
                               get_or_remove,
                               stop_call};
const limpet_keys_service kKeys = {
    sizeof kKeys, 0,
    [](const limpet_host*, limpet_str id, limpet_key_found_done done, void* arg) {
      touch(id);
      return take_call([=](const limpet_status* error) { done(arg, error, error != nullptr ? nullptr : &kKey); });
    },
    [](const limpet_host*, const limpet_sign_request* request, limpet_key_used_done done, void* arg) {
      touch(*request);
      return take_bytes_call(done, arg);
    },
    stop_call};
uint32_t seal_or_unseal(const limpet_host*, limpet_bytes data, limpet_bytes context, limpet_seal_done d, void* arg) {
  touch(data);
  touch(context);
  return take_bytes_call(d, arg);
}
const limpet_seal_service kSeal = {sizeof kSeal, 0, seal_or_unseal, seal_or_unseal, stop_call};
const limpet_identity_service kIdentity = {
    sizeof kIdentity, 0, [](const limpet_host*, limpet_identity_use use, void* arg) -> limpet_code {
      const limpet_identity identity = {sizeof identity, 0, lend_text("example.org"), &kBundle, kSomeList};
      use(arg, &identity);
      return LIMPET_OK;
    }};

const limpet_component* component = nullptr;  // that of now

const void* service(const limpet_host*, const char* id) {
  static const std::pair<std::string_view, const void*> kTables[] = {{LIMPET_SERVICE_GRPC, &kGrpc},
                                                                     {LIMPET_SERVICE_HTTP, &kHttp},
                                                                     {LIMPET_SERVICE_AGENT_STORE, &kAgents},
                                                                     {LIMPET_SERVICE_ENROLLMENT, &kEnrollment},
                                                                     {LIMPET_SERVICE_KV, &kKv},
                                                                     {LIMPET_SERVICE_KEYS, &kKeys},
                                                                     {LIMPET_SERVICE_SEAL, &kSeal},
                                                                     {LIMPET_SERVICE_IDENTITY, &kIdentity}};
  for (const auto& [name, table] : kTables) {
    if (name == id) return table;
  }
  return std::string_view(id) == kComponentService ? component : nullptr;
}
void log(const limpet_host*, int32_t, limpet_str message, const limpet_field* fields, size_t count) {
  touch(message);
  for (size_t i = 0; i < count; ++i) {
    touch(fields[i].key);
    touch(fields[i].value);
  }
}
const limpet_host kHost = {sizeof kHost,
                           LIMPET_ABI_MINOR,
                           nullptr,
                           service,
                           log,
                           nullptr,
                           [](const limpet_host*, const limpet_op*) -> int64_t { return 1000; }};

}  // namespace
}  // namespace limpet::shim
