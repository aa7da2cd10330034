// SPDX-License-Identifier: Apache-2.0
// Upstream authority "spire": a SPIRE server, or one of ours, signs this server's CA certificates. The host makes the
// calls (limpet.grpc/1); nothing here blocks. Each watch asks for the bundle once and ends: the host opens it again 5 s
// later, which is how often SPIRE asks.
#include <limpet_plugin.h>

#include <list>
#include <memory>

#include "kit/kit.h"
#include "upstream_authority_spire/messages.h"

namespace {

using namespace limpet::upstream_authority_spire;
using limpet::Bytes;
using limpet::BytesView;
using limpet::Code;
using limpet::Error;
using limpet::fail;
using limpet::Result;
using limpet::kit::lend;
using limpet::kit::view;

constexpr uint32_t kMintMs = 30'000;  // SPIRE's limit of one call
constexpr uint32_t kBundleMs = 30'000;
constexpr uint32_t kPublishMs = 4'500;  // the host waits 5 s

struct Spire;

// One question to the server above, for one op. Owned by Spire::asked until it is answered or cancelled.
struct Asked {
  Spire* self = nullptr;
  limpet_op* op = nullptr;
  uint32_t id = 0;
  limpet_minted_done minted = nullptr;    // NewDownstreamX509CA, or
  limpet_bundle_update update = nullptr;  // GetBundle, then
  limpet_done done = nullptr;             // GetBundle and PublishJWTAuthority
};

struct Spire {
  const limpet_host* host = nullptr;
  const limpet_grpc_service* grpc = nullptr;
  std::string trust_domain;
  std::string address;
  std::string socket;
  uint32_t port = 0;
  std::list<std::unique_ptr<Asked>> asked;
};
Spire* self_of(limpet_instance* self) { return reinterpret_cast<Spire*>(self); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  auto* spire = new Spire();
  spire->host = host;
  spire->grpc = static_cast<const limpet_grpc_service*>(host->service(host, LIMPET_SERVICE_GRPC));
  *out = reinterpret_cast<limpet_instance*>(spire);
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

// ---- configuration ----

std::string strip_scheme(std::string path) {
  constexpr std::string_view kUnix = "unix://";
  return path.starts_with(kUnix) ? path.substr(kUnix.size()) : path;
}

Result<void> apply(Spire& self, const limpet_config& config) {
  limpet::kit::ConfigReader reader(view(config.json));
  std::string address = reader.text("server_address");
  const int64_t port = reader.number("server_port", 8081);
  std::string socket = strip_scheme(reader.text("workload_api_socket"));
  TRY(reader.finish());
  if (address.empty()) return fail(Code::invalid_argument, "set server_address, the host of the server above");
  if (port < 1 || port > 65535) return fail(Code::invalid_argument, "server_port must be between 1 and 65535");
  if (socket.empty() || socket.front() != '/') {
    return fail(Code::invalid_argument,
                "set workload_api_socket, the path of the Workload API socket of an agent of the server above");
  }
  if (config.dry_run != 0) return {};
  if (self.grpc == nullptr) return fail(Code::failed_precondition, "the host has no " LIMPET_SERVICE_GRPC);
  self.trust_domain = view(config.trust_domain);
  self.address = std::move(address);
  self.port = static_cast<uint32_t>(port);
  self.socket = std::move(socket);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::end(op, done, apply(*self_of(self), *config));
}

// ---- answers ----

void end_minted(const Asked& asked, const Result<NewCa>& ca) {
  if (!ca) {
    const limpet_status status = limpet::kit::status_of(ca.error());
    return asked.minted(asked.op, &status, {}, {});
  }
  std::vector<limpet_bytes> chain;
  std::vector<limpet_bytes> roots;
  for (const Bytes& certificate : ca->chain) chain.push_back(lend(certificate));
  for (const Bytes& root : ca->roots) roots.push_back(lend(root));
  asked.minted(asked.op, nullptr, {chain.data(), chain.size()}, {roots.data(), roots.size()});
}

Result<void> tell_bundle(const Asked& asked, BytesView reply) {
  TRY_ASSIGN(const UpBundle bundle, read_bundle(reply, asked.self->trust_domain));
  std::vector<limpet_bytes> roots;
  roots.reserve(bundle.roots.size());
  for (const Bytes& root : bundle.roots) roots.push_back(lend(root));
  std::vector<limpet_bytes> tainted;
  tainted.reserve(bundle.tainted_roots.size());
  for (const Bytes& root : bundle.tainted_roots) tainted.push_back(lend(root));
  std::vector<limpet_jwt_key> keys;
  keys.reserve(bundle.keys.size());
  for (const JwtKey& key : bundle.keys) {
    keys.push_back({sizeof(limpet_jwt_key), key.tainted ? 1u : 0u, lend(key.id), lend(key.spki), key.expires_at});
  }
  std::vector<const limpet_jwt_key*> list;
  list.reserve(keys.size());
  for (const limpet_jwt_key& key : keys) list.push_back(&key);
  const limpet_bundle lent = {sizeof(limpet_bundle),
                              static_cast<uint32_t>(bundle.refresh_hint),
                              {roots.data(), roots.size()},
                              list.data(),
                              list.size(),
                              {tainted.data(), tainted.size()}};
  asked.update(asked.op, &lent);
  return {};
}

// Ends the op with the reply, or with the error.
void answer(const Asked& asked, Result<BytesView> reply) {
  if (asked.minted != nullptr) return end_minted(asked, reply ? read_new_ca(*reply) : fail(std::move(reply).error()));
  Result<void> result;
  if (!reply) {
    result = fail(std::move(reply).error());
  } else if (asked.update != nullptr) {
    result = tell_bundle(asked, *reply);
  }
  limpet::kit::end(asked.op, asked.done, result);
}

std::unique_ptr<Asked> take(Spire& self, const Asked* asked) {
  for (auto place = self.asked.begin(); place != self.asked.end(); ++place) {
    if (place->get() != asked) continue;
    std::unique_ptr<Asked> taken = std::move(*place);
    self.asked.erase(place);
    return taken;
  }
  return nullptr;
}

void on_reply(void* arg, const limpet_status* err, limpet_bytes reply) {
  auto* mine = static_cast<Asked*>(arg);
  const auto asked = take(*mine->self, mine);
  if (err == nullptr) return answer(*asked, view(reply));
  answer(*asked, fail(static_cast<Code>(err->code), std::string(view(err->message))));
}

// ---- questions ----

void ask(Spire& self, Asked what, const char* method, Result<Bytes> request, uint32_t timeout_ms) {
  what.self = &self;
  if (!request) return answer(what, fail(std::move(request).error()));
  auto& asked = self.asked.emplace_back(std::make_unique<Asked>(what));
  const limpet_grpc_call call = {sizeof(limpet_grpc_call),  self.port,         lend(self.address),
                                 lend(self.trust_domain),   lend(self.socket), lend(std::string_view(method)),
                                 lend(BytesView(*request)), timeout_ms,        0};
  asked->id = self.grpc->start(self.host, &call, &on_reply, asked.get());
  if (asked->id != 0) return;
  const auto refused = take(self, asked.get());
  answer(*refused, fail(Code::resource_exhausted, "the host makes no further calls to the server above now"));
}

void mint_ca(limpet_instance* self, limpet_op* op, limpet_bytes csr, uint32_t ttl, limpet_minted_done done) {
  Asked what;
  what.op = op;
  what.minted = done;
  ask(*self_of(self), what, kNewCa, new_ca_request(view(csr), ttl), kMintMs);
}

void publish_jwt_key(limpet_instance* self, limpet_op* op, const limpet_jwt_key* key, limpet_done done) {
  Asked what;
  what.op = op;
  what.done = done;
  ask(*self_of(self), what, kPublishJwt, publish_request(*key), kPublishMs);
}

void watch_bundle(limpet_instance* self, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  Asked what;
  what.op = op;
  what.update = update;
  what.done = done;
  ask(*self_of(self), what, kGetBundle, Bytes(), kBundleMs);
}

void cancel(limpet_instance* self, limpet_op* op) {
  Spire& spire = *self_of(self);
  for (const auto& asked : spire.asked) {
    if (asked->op != op) continue;
    spire.grpc->stop(spire.host, asked->id);
    const auto mine = take(spire, asked.get());
    return answer(*mine, fail(Code::cancelled, "no longer wanted"));
  }
}

constexpr limpet_upstream_authority kTable = {sizeof(limpet_upstream_authority), 0, mint_ca, publish_jwt_key,
                                              watch_bundle};
constexpr limpet_component kComponent = {
    sizeof(limpet_component), 0, LIMPET_UPSTREAM_AUTHORITY, "spire", create, destroy, configure, cancel, &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.upstreamauthority.spire",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
