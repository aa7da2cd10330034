// SPDX-License-Identifier: Apache-2.0
// What the daemon says to a plugin's process: calls of every kind, cancellations, sessions, the answers of services and
// the server's identity, read by a real PluginHost for a plugin that looks at every byte it is lent. What the plugin
// then says can be framed, and a bundle that was read can be written and reads the same. The socket is played here,
// under the name of link.h: the linker takes this. The daemon is no enemy of the process; it never calls a table of
// another kind, nor uses a number twice at a time, and what is so in the input is left out. The other direction is
// shim_frame_fuzz.cc's. The first frame, hello, is read before there is a PluginHost, by main.cc, and not here.
#include <fcntl.h>

#include <deque>

#include "fuzz.h"
#include "plugin_host.h"
#include "shim_touch.h"

namespace limpet::shim {
namespace {

std::deque<Bytes> incoming;  // whole frames
bool stopped = false;
int open_sessions = 0;

}  // namespace

// ---- the socket ----
void Link::send(FrameWriter&& frame) {
  FUZZ_CHECK(frame.good());
  const Bytes bytes = std::move(frame).finish();
  FrameSplitter splitter;
  splitter.add(bytes);
  FUZZ_CHECK(splitter.next() && !splitter.next() && !splitter.broken());
}
// At the end of the input the daemon says stop.
bool Link::receive(bool) {
  if (incoming.empty() && std::exchange(stopped, true)) return true;
  const Bytes frame = incoming.empty() ? FrameWriter(Method::stop, 0).finish() : std::move(incoming.front());
  if (!incoming.empty()) incoming.pop_front();
  splitter_.add(frame);
  return true;
}
int Link::take_fd() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

namespace {

// ---- the plugin: one instance, which answers at once ----
const limpet_host* host = nullptr;
limpet_instance* const kInstance = reinterpret_cast<limpet_instance*>(&incoming);
const limpet_bytes kSome = lend_bytes(as_bytes("some"));
const limpet_bytes_list kSomeList = {&kSome, 1};
const limpet_status kRefused = {sizeof(limpet_status), LIMPET_NOT_FOUND, lend_text("no"), 7, 0};

template <class Table>
const Table& table(const char* id) {
  return *static_cast<const Table*>(host->service(host, id));
}

void on_bytes_reply(void*, const limpet_status* error, limpet_bytes bytes) {
  touch(error);
  touch(bytes);
}

// A call of every service, with the numbers from 1 on.
void call_services() {
  const limpet_grpc_call grpc = {sizeof grpc, 1, {}, {}, {}, {}, {}, 1, 0};
  const limpet_http_call http = {sizeof http, 1, {}, 1, 0};
  const limpet_sign_request sign = {sizeof sign, 5, lend_text("k"), kSome, -1, 0, {}};
  table<limpet_grpc_service>(LIMPET_SERVICE_GRPC).start(host, &grpc, on_bytes_reply, nullptr);
  table<limpet_http_service>(LIMPET_SERVICE_HTTP)
      .start(
          host, &http,
          [](void*, const limpet_status* error, const limpet_http_reply* reply) {
            touch(error);
            if (error == nullptr) touch(reply->body);
          },
          nullptr);
  table<limpet_agent_store_service>(LIMPET_SERVICE_AGENT_STORE)
      .start(
          host, lend_text("id"),
          [](void*, const limpet_status* error, const limpet_agent_info* agent) {
            touch(error);
            if (error != nullptr) return;
            touch(agent->id);
            touch(agent->attestation_type);
          },
          nullptr);
  table<limpet_enrollment_service>(LIMPET_SERVICE_ENROLLMENT)
      .start(
          host, lend_text("id"),
          [](void*, const limpet_status* error, const limpet_enrollment* found) {
            touch(error);
            if (error == nullptr) touch(found->note);
          },
          nullptr);
  const auto& kv = table<limpet_kv_service>(LIMPET_SERVICE_KV);
  kv.get(host, lend_text("key"), on_bytes_reply, nullptr);
  kv.put(host, lend_text("key"), kSome, on_bytes_reply, nullptr);
  const auto& keys = table<limpet_keys_service>(LIMPET_SERVICE_KEYS);
  keys.find(
      host, lend_text("k"),
      [](void*, const limpet_status* error, const limpet_public_key* key) {
        touch(error);
        if (error == nullptr) touch(*key);
      },
      nullptr);
  keys.sign(host, &sign, on_bytes_reply, nullptr);
  const auto& seal = table<limpet_seal_service>(LIMPET_SERVICE_SEAL);
  seal.seal(host, kSome, kSome, on_bytes_reply, nullptr);
  seal.unseal(host, kSome, kSome, on_bytes_reply, nullptr);
}

void look_at_identity() {
  (void)table<limpet_identity_service>(LIMPET_SERVICE_IDENTITY)
      .get(
          host,
          [](void*, const limpet_identity* identity) {
            touch(identity->trust_domain);
            touch(*identity->bundle);
            touch(identity->x509_svid_der);
          },
          nullptr);
}

// What every call of the table begins with. Whether the call is refused.
bool refuses(limpet_op* op) {
  look_at_identity();
  return host->time_left_ms(host, op) % 2 != 0;
}

limpet_code create(const limpet_host* given, limpet_instance** out) {
  host = given;
  *out = kInstance;
  call_services();
  return LIMPET_OK;
}
void configure(limpet_instance*, limpet_op* op, const limpet_config* config, limpet_done done) {
  touch(config->trust_domain);
  touch(config->json);
  if (config->dry_run != 0) table<limpet_kv_service>(LIMPET_SERVICE_KV).stop(host, config->dry_run);
  done(op, refuses(op) ? &kRefused : nullptr);
}

constexpr limpet_key_manager kKeyManager = {
    sizeof kKeyManager,
    0,
    [](limpet_instance*, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
      touch(id);
      const limpet_public_key key = {sizeof key, type, id, kSome, lend_text("f")};
      refuses(op) ? done(op, &kRefused, nullptr) : done(op, nullptr, &key);
    },
    [](limpet_instance*, limpet_op* op, limpet_keys_done done) {
      const limpet_public_key key = {sizeof key, 1, lend_text("k"), kSome, lend_text("f")};
      const limpet_public_key* const keys[] = {&key, &key};
      refuses(op) ? done(op, &kRefused, nullptr, 0) : done(op, nullptr, keys, 2);
    },
    [](limpet_instance*, limpet_op* op, const limpet_sign_request* request, limpet_signature_done done) {
      touch(*request);
      refuses(op) ? done(op, &kRefused, {}, {}) : done(op, nullptr, request->digest, request->key_id);
    },
    [](limpet_instance*, limpet_op* op, limpet_str id, limpet_done done) {
      touch(id);
      done(op, refuses(op) ? &kRefused : nullptr);
    }};

void seal_or_unseal(limpet_instance*, limpet_op* op, limpet_bytes data, limpet_bytes context, limpet_bytes_done done) {
  touch(data);
  touch(context);
  refuses(op) ? done(op, &kRefused, {}) : done(op, nullptr, data);
}
constexpr limpet_sealer kSealer = {sizeof kSealer, 0, seal_or_unseal, seal_or_unseal};

limpet_session* new_session() {
  ++open_sessions;
  return reinterpret_cast<limpet_session*>(new int(open_sessions));
}
void close_session(limpet_session* session) {
  --open_sessions;
  delete reinterpret_cast<int*>(session);
}
constexpr limpet_node_attestor_agent kAgent = {
    sizeof kAgent,
    0,
    [](limpet_instance*) { return new_session(); },
    [](limpet_session* session, limpet_op* op, limpet_bytes_done done) {
      touch(session, sizeof(int));
      refuses(op) ? done(op, &kRefused, {}) : done(op, nullptr, kSome);
    },
    [](limpet_session* session, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
      touch(session, sizeof(int));
      touch(challenge);
      refuses(op) ? done(op, &kRefused, {}) : done(op, nullptr, challenge);
    },
    close_session};
constexpr limpet_node_attestor_server kServer = {
    sizeof kServer, 0,
    [](limpet_instance*, const limpet_attempt* attempt) -> limpet_session* {
      for (const limpet_str text : {attempt->peer_ip, attempt->forwarded_host, attempt->trust_domain}) touch(text);
      return attempt->peer_ip.len == 0 ? nullptr : new_session();
    },
    [](limpet_session* session, limpet_op* op, limpet_bytes said, limpet_step_done done) {
      touch(session, sizeof(int));
      touch(said);
      const limpet_str selector = lend_text("s");
      const limpet_attest_step step = {sizeof step, 1, said, lend_text("/spire/agent/x/1"), {&selector, 1}, 1, 0};
      refuses(op) ? done(op, &kRefused, nullptr) : done(op, nullptr, &step);
    },
    close_session};
constexpr limpet_workload_attestor kWorkload = {
    sizeof kWorkload, 0, [](limpet_instance*, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
      touch(w->reference_type);
      touch(w->reference);
      const limpet_str selectors[] = {lend_text("a"), w->reference_type};
      refuses(op) ? done(op, &kRefused, {}) : done(op, nullptr, {selectors, 2});
    }};
constexpr limpet_upstream_authority kUpstream = {
    sizeof kUpstream, 0,
    [](limpet_instance*, limpet_op* op, limpet_bytes csr, uint32_t, limpet_minted_done done) {
      touch(csr);
      refuses(op) ? done(op, &kRefused, {}, {}) : done(op, nullptr, {&csr, 1}, kSomeList);
    },
    [](limpet_instance*, limpet_op* op, const limpet_jwt_key* key, limpet_done done) {
      touch(*key);
      done(op, refuses(op) ? &kRefused : nullptr);
    },
    [](limpet_instance*, limpet_op* op, limpet_bundle_update update, limpet_done done) {
      const limpet_bundle bundle = {sizeof bundle, 60, kSomeList, nullptr, 0, kSomeList};
      update(op, &bundle);
      done(op, refuses(op) ? &kRefused : nullptr);
    }};
constexpr limpet_bundle_publisher kPublisher = {
    sizeof kPublisher, 0, [](limpet_instance*, limpet_op* op, const limpet_bundle* bundle, limpet_done done) {
      touch(*bundle);
      done(op, refuses(op) ? &kRefused : nullptr);
    }};

struct Kind {
  const char* id;
  const void* table;
  Method first, last;
};
constexpr Kind kKinds[] = {
    {LIMPET_KEY_MANAGER, &kKeyManager, Method::generate, Method::remove},
    {LIMPET_SEALER, &kSealer, Method::seal, Method::unseal},
    {LIMPET_NODE_ATTESTOR_AGENT, &kAgent, Method::payload, Method::answer},
    {LIMPET_NODE_ATTESTOR_SERVER, &kServer, Method::step, Method::step},
    {LIMPET_WORKLOAD_ATTESTOR, &kWorkload, Method::attest, Method::attest},
    {LIMPET_UPSTREAM_AUTHORITY, &kUpstream, Method::mint_ca, Method::watch_bundle},
    {LIMPET_BUNDLE_PUBLISHER, &kPublisher, Method::publish_bundle, Method::publish_bundle},
};

// ---- what the input is given to ----
void as_the_child(BytesView wire, const Kind& kind, uint32_t flags) {
  FrameSplitter splitter;
  splitter.add(wire);
  while (const auto frame = splitter.next()) {
    const Method m = frame->method;
    if (is_call(m) && m != Method::configure && (m < kind.first || m > kind.last)) continue;
    if (m == Method::stop) continue;  // nothing comes after it
    FrameWriter head(m, frame->number);
    Bytes whole = std::move(head).finish();
    const auto length = static_cast<uint32_t>(kFrameHead - 4 + frame->payload.size());
    for (size_t i = 0; i < 4; ++i) whole[i] = static_cast<uint8_t>(length >> (8 * i));
    append(whole, frame->payload);
    incoming.push_back(std::move(whole));
  }
  stopped = false;
  open_sessions = 0;
  static const int always_ready = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const limpet_component component = {sizeof component,        flags,     kind.id, "x",       create,
                                      [](limpet_instance*) {}, configure, nullptr, kind.table};
  Link link(always_ready);
  PluginHost plugin_host(link, ~0u);
  FUZZ_CHECK(plugin_host.create(component) == LIMPET_OK);
  FUZZ_CHECK(plugin_host.run());
  FUZZ_CHECK(incoming.empty() && open_sessions == 0);
}

void bundle_survives(BytesView payload) {
  FieldReader in(payload);
  const ReadBundle bundle(in);
  touch(bundle.bundle);
  if (!in.done()) return;
  FrameWriter out(Method::publish_bundle, 7);
  put(out, &bundle.bundle);
  FUZZ_CHECK(out.good());
  const Bytes frame = std::move(out).finish();
  FUZZ_CHECK(to_bytes(BytesView(frame).subspan(kFrameHead)) == to_bytes(payload));
}

}  // namespace
}  // namespace limpet::shim

// The first byte is the kind of the plugin; with the fourth bit set, it takes one call at a time.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  if (size == 0) return 0;
  const BytesView wire(data + 1, size - 1);
  shim::as_the_child(wire, shim::kKinds[data[0] % 8 % std::size(shim::kKinds)], (data[0] & 8) != 0 ? LIMPET_SERIAL : 0);
  shim::bundle_survives(wire);
  return 0;
}
