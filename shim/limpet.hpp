// SPDX-License-Identifier: Apache-2.0
#pragma once
// For plugin authors who write C++: limpet_plugin.h with classes in place of tables. C++17, one header, nothing to
// link.
//
// You write a class with ordinary member functions; a component function below makes its table:
//
//   class Attestor {
//    public:
//     explicit Attestor(limpet::Host host);
//     limpet::Status configure(const limpet::Config& config);          // may be called again, also between other calls
//     void attest(const limpet_workload& workload, limpet::SelectorsReply reply);
//   };
//   static const limpet_component attestor = limpet::workload_attestor<Attestor>("mine");
//   LIMPET_PLUGIN("org.example.mine", "1.0.0", "Apache-2.0", &attestor)
//
// What the header takes off your hands: a reply is given exactly once (a Reply that dies unused answers INTERNAL, a
// second answer is ignored), statuses and lists have their sizes filled in, and nothing is thrown across the boundary
// (what escapes a member function ends the process: catch what you throw). What it does not: which thread calls you and
// how long you may stay (see the marks in limpet_plugin.h and the rules in abi/README.md).
//
// A class may have a public `void cancel(limpet_op*)`; without it, requests to end an op soon are passed over. One that
// is given a WatchReply must have it.

#include <limpet_plugin.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace limpet {

// ---- borrowed values; a view lives as long as what it was made of ----
inline std::string_view view(limpet_str s) { return s.len == 0 ? std::string_view() : std::string_view(s.ptr, s.len); }
inline limpet_str lend(std::string_view s) { return {s.data(), s.size()}; }
using Bytes = std::vector<uint8_t>;
inline Bytes copy(limpet_bytes b) { return b.len == 0 ? Bytes() : Bytes(b.ptr, b.ptr + b.len); }
inline limpet_bytes lend(const Bytes& b) { return {b.data(), b.size()}; }

// How a request ended. The message is for the operator: name the object and the next step, and no secrets.
struct Status {
  limpet_code code = LIMPET_OK;
  std::string message;
  uint32_t retry_after_ms = 0;
  [[nodiscard]] bool ok() const { return code == LIMPET_OK; }
};

using Config =
    limpet_config;  // json: the table `data` of the plugin's block. Answer unknown keys with INVALID_ARGUMENT

// ---- one request, answered once ----
template <class Done>
class Reply {
 public:
  Reply(limpet_op* op, Done done) : op_(op), done_(done) {}
  Reply(Reply&& other) noexcept : op_(std::exchange(other.op_, nullptr)), done_(other.done_) {}
  Reply& operator=(Reply&&) = delete;
  ~Reply() { fail({LIMPET_INTERNAL, "the plugin dropped the request", 0}); }

  // For Host::time_left_ms, and to know the request again in cancel().
  [[nodiscard]] limpet_op* op() const { return op_; }
  [[nodiscard]] bool answered() const { return op_ == nullptr; }

  void fail(const Status& why) {
    if (op_ == nullptr) return;
    const limpet_status status = {sizeof(limpet_status), why.code == LIMPET_OK ? LIMPET_INTERNAL : why.code,
                                  lend(why.message), why.retry_after_ms, 0};
    finish(&status);
  }
  void fail(limpet_code code, std::string message) { fail({code, std::move(message), 0}); }

 protected:
  // `values`: what the callback takes after the error.
  template <class... Values>
  void succeed(Values... values) {
    if (limpet_op* op = std::exchange(op_, nullptr)) done_(op, nullptr, values...);
  }

 private:
  void finish(const limpet_status* error) {
    limpet_op* op = std::exchange(op_, nullptr);
    call(done_, op, error);
  }
  // Every callback takes zeroes for its values beside an error.
  template <class... Values>
  static void call(void (*done)(limpet_op*, const limpet_status*, Values...), limpet_op* op,
                   const limpet_status* error) {
    done(op, error, Values{}...);
  }
  limpet_op* op_;
  Done done_;
};

class DoneReply final : public Reply<limpet_done> {
 public:
  using Reply::Reply;
  void ok() { succeed(); }
  void end(const Status& status) { status.ok() ? ok() : fail(status); }
};
class BytesReply final : public Reply<limpet_bytes_done> {
 public:
  using Reply::Reply;
  void ok(const Bytes& bytes) { succeed(lend(bytes)); }
  void ok(std::string_view text) { succeed(limpet_bytes{reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }
};
class SelectorsReply final : public Reply<limpet_selectors_done> {
 public:
  using Reply::Reply;
  // Values only: the host prefixes the component's name. None: not this attestor's kind of workload.
  void ok(const std::vector<std::string>& selectors = {}) {
    std::vector<limpet_str> lent;
    for (const std::string& one : selectors) lent.push_back(lend(one));
    succeed(limpet_str_list{lent.data(), lent.size()});
  }
};
class StepReply final : public Reply<limpet_step_done> {
 public:
  using Reply::Reply;
  void challenge(const Bytes& challenge) {
    limpet_attest_step step = {};
    step.size = sizeof step;
    step.challenge = lend(challenge);
    succeed(static_cast<const limpet_attest_step*>(&step));
  }
  // agent_path: "/spire/agent/<name>/<unique>".
  void attested(std::string_view agent_path, const std::vector<std::string>& selectors, bool can_reattest) {
    std::vector<limpet_str> lent;
    for (const std::string& one : selectors) lent.push_back(lend(one));
    limpet_attest_step step = {};
    step.size = sizeof step;
    step.attested = 1;
    step.agent_path = lend(agent_path);
    step.selectors = {lent.data(), lent.size()};
    step.can_reattest = can_reattest ? 1 : 0;
    succeed(static_cast<const limpet_attest_step*>(&step));
  }
};
struct PublicKey {
  std::string id;
  uint32_t type = 0;  // LIMPET_KEY_...
  Bytes spki_der;
  std::string fingerprint;  // changes whenever the key behind `id` is replaced
  [[nodiscard]] limpet_public_key lent() const {
    return {sizeof(limpet_public_key), type, lend(id), lend(spki_der), lend(fingerprint)};
  }

 private:
  static limpet_str lend(const std::string& s) { return {s.data(), s.size()}; }
  static limpet_bytes lend(const Bytes& b) { return {b.data(), b.size()}; }
};
class KeyReply final : public Reply<limpet_key_done> {
 public:
  using Reply::Reply;
  void ok(const PublicKey& key) {
    const limpet_public_key lent = key.lent();
    succeed(&lent);
  }
};
class KeysReply final : public Reply<limpet_keys_done> {
 public:
  using Reply::Reply;
  void ok(const std::vector<PublicKey>& keys) {
    std::vector<limpet_public_key> lent;
    std::vector<const limpet_public_key*> addresses;
    lent.reserve(keys.size());  // the addresses must stay
    for (const PublicKey& key : keys) {
      lent.push_back(key.lent());
      addresses.push_back(&lent.back());
    }
    succeed(static_cast<const limpet_public_key* const*>(addresses.data()), addresses.size());
  }
};
class SignatureReply final : public Reply<limpet_signature_done> {
 public:
  using Reply::Reply;
  void ok(const Bytes& signature, std::string_view key_fingerprint) { succeed(lend(signature), lend(key_fingerprint)); }
};

class MintedReply final : public Reply<limpet_minted_done> {
 public:
  using Reply::Reply;
  // DER. chain: the new CA certificate first, then its issuers without the root.
  void ok(const std::vector<Bytes>& chain, const std::vector<Bytes>& roots) {
    std::vector<limpet_bytes> lent_chain;
    std::vector<limpet_bytes> lent_roots;
    for (const Bytes& one : chain) lent_chain.push_back(lend(one));
    for (const Bytes& one : roots) lent_roots.push_back(lend(one));
    succeed(limpet_bytes_list{lent_chain.data(), lent_chain.size()},
            limpet_bytes_list{lent_roots.data(), lent_roots.size()});
  }
};
// A stream: any number of updates, then the end. Keep it to go on; one that dies ends the stream with an error.
// cancel() asks for the end of one that is kept: without that, every stop of the host waits 2 s for it and gives the
// instance up.
class WatchReply final : public Reply<limpet_done> {
 public:
  WatchReply(limpet_op* op, limpet_bundle_update updated, limpet_done done) : Reply(op, done), update_(updated) {}
  void update(const limpet_bundle& bundle) {
    if (!answered()) update_(op(), &bundle);
  }
  void end() { succeed(); }

 private:
  limpet_bundle_update update_;
};

// ---- the host ----
class Host {
 public:
  explicit Host(const limpet_host* host) : host_(host) {}
  [[nodiscard]] const limpet_host* get() const { return host_; }

  // [any] level: LIMPET_LOG_ERROR (1), 2 warn, 3 info, 4 debug
  void log(int32_t level, std::string_view message,
           std::initializer_list<std::pair<std::string_view, std::string_view>> fields = {}) const {
    std::vector<limpet_field> lent;
    for (const auto& [key, value] : fields) lent.push_back({lend(key), lend(value)});
    host_->log(host_, level, lend(message), lent.data(), lent.size());
  }
  // [any] Runs `function` on the host's loop. It is not run any more once the instance has ended: hold nothing in it
  // that only running it would release.
  template <class Function>
  void post(Function function) const {
    auto* held = new (std::nothrow) Function(std::move(function));
    if (held == nullptr) return;
    host_->post(
        host_,
        [](void* arg) {
          const std::unique_ptr<Function> owned(static_cast<Function*>(arg));
          (*owned)();
        },
        held);
  }
  // [any]
  [[nodiscard]] int64_t time_left_ms(const limpet_op* op) const { return host_->time_left_ms(host_, op); }
  // [any] The table of a service, or null when this host lacks it: service<limpet_timer_service>(LIMPET_SERVICE_TIMER).
  template <class Table>
  [[nodiscard]] const Table* service(const char* id) const {
    return static_cast<const Table*>(host_->service(host_, id));
  }

 private:
  const limpet_host* host_;
};

// ---- from a class to a component ----
namespace detail {

template <class T>
limpet_instance* opaque(T* self) {
  return reinterpret_cast<limpet_instance*>(self);
}
template <class T>
T& instance(limpet_instance* self) {
  return *reinterpret_cast<T*>(self);
}
template <class S>
S& session(limpet_session* self) {
  return *reinterpret_cast<S*>(self);
}

// `found`: a sanitizer keeps `function` from being compared at compile time.
template <class T, class = void>
struct Cancel {
  static constexpr bool found = false;
  static constexpr void (*function)(limpet_instance*, limpet_op*) = nullptr;
};
template <class T>
struct Cancel<T, std::void_t<decltype(std::declval<T&>().cancel(static_cast<limpet_op*>(nullptr)))>> {
  static constexpr bool found = true;
  static void run(limpet_instance* self, limpet_op* op) noexcept { instance<T>(self).cancel(op); }
  static constexpr void (*function)(limpet_instance*, limpet_op*) = &run;
};
template <class T, class = void>
struct NamesCancel : std::false_type {};
template <class T>
struct NamesCancel<T, std::void_t<decltype(&T::cancel)>> : std::true_type {};

template <class T>
limpet_code create(const limpet_host* host, limpet_instance** out) noexcept {
  T* made = new (std::nothrow) T(Host(host));
  *out = opaque(made);
  return made == nullptr ? LIMPET_RESOURCE_EXHAUSTED : LIMPET_OK;
}
template <class T>
void destroy(limpet_instance* self) noexcept {
  delete &instance<T>(self);
}
template <class T>
void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) noexcept {
  DoneReply(op, done).end(instance<T>(self).configure(*config));
}

template <class T>
constexpr limpet_component component(const char* interface_id, const char* name, uint32_t flags, const void* table) {
  static_assert(Cancel<T>::found || !NamesCancel<T>::value,
                "cancel is not what the host calls: void cancel(limpet_op*)");
  return {sizeof(limpet_component), flags, interface_id, name, &create<T>, &destroy<T>, &configure<T>,
          Cancel<T>::function,      table};
}

template <class T>
struct WorkloadAttestor {
  static void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w,
                     limpet_selectors_done done) noexcept {
    instance<T>(self).attest(*w, SelectorsReply(op, done));
  }
  static constexpr limpet_workload_attestor table = {sizeof(limpet_workload_attestor), 0, &attest};
};

template <class S>
void close(limpet_session* s) noexcept {
  delete &session<S>(s);
}
template <class T>
struct NodeAttestorAgent {
  using S = typename decltype(std::declval<T&>().open())::element_type;
  static limpet_session* open(limpet_instance* self) noexcept {
    return reinterpret_cast<limpet_session*>(instance<T>(self).open().release());
  }
  static void payload(limpet_session* s, limpet_op* op, limpet_bytes_done done) noexcept {
    session<S>(s).payload(BytesReply(op, done));
  }
  static void answer(limpet_session* s, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) noexcept {
    session<S>(s).answer(challenge, BytesReply(op, done));
  }
  static constexpr limpet_node_attestor_agent table = {
      sizeof(limpet_node_attestor_agent), 0, &open, &payload, &answer, &close<S>};
};
template <class T>
struct NodeAttestorServer {
  using S = typename decltype(std::declval<T&>().open(std::declval<const limpet_attempt&>()))::element_type;
  static limpet_session* open(limpet_instance* self, const limpet_attempt* attempt) noexcept {
    return reinterpret_cast<limpet_session*>(instance<T>(self).open(*attempt).release());
  }
  static void step(limpet_session* s, limpet_op* op, limpet_bytes from_agent, limpet_step_done done) noexcept {
    session<S>(s).step(from_agent, StepReply(op, done));
  }
  static constexpr limpet_node_attestor_server table = {sizeof(limpet_node_attestor_server), 0, &open, &step,
                                                        &close<S>};
};
template <class T>
struct KeyManager {
  static void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type,
                       limpet_key_done done) noexcept {
    instance<T>(self).generate(view(id), type, KeyReply(op, done));
  }
  static void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) noexcept {
    instance<T>(self).list(KeysReply(op, done));
  }
  static void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* request,
                   limpet_signature_done done) noexcept {
    instance<T>(self).sign(*request, SignatureReply(op, done));
  }
  static void remove(limpet_instance* self, limpet_op* op, limpet_str id, limpet_done done) noexcept {
    instance<T>(self).remove(view(id), DoneReply(op, done));
  }
  static constexpr limpet_key_manager table = {sizeof(limpet_key_manager), 0, &generate, &list, &sign, &remove};
};
template <class T>
struct Sealer {
  static void seal(limpet_instance* self, limpet_op* op, limpet_bytes plain, limpet_bytes context,
                   limpet_bytes_done done) noexcept {
    instance<T>(self).seal(plain, context, BytesReply(op, done));
  }
  static void unseal(limpet_instance* self, limpet_op* op, limpet_bytes blob, limpet_bytes context,
                     limpet_bytes_done done) noexcept {
    instance<T>(self).unseal(blob, context, BytesReply(op, done));
  }
  static constexpr limpet_sealer table = {sizeof(limpet_sealer), 0, &seal, &unseal};
};
template <class T>
struct UpstreamAuthority {
  static_assert(Cancel<T>::found,
                "a class with a stream (WatchReply) needs a public member function: void cancel(limpet_op*)");
  static void mint_ca(limpet_instance* self, limpet_op* op, limpet_bytes csr_der, uint32_t ttl_s,
                      limpet_minted_done done) noexcept {
    instance<T>(self).mint_ca(csr_der, ttl_s, MintedReply(op, done));
  }
  static void publish_jwt_key(limpet_instance* self, limpet_op* op, const limpet_jwt_key* key,
                              limpet_done done) noexcept {
    instance<T>(self).publish_jwt_key(*key, DoneReply(op, done));
  }
  static void watch_bundle(limpet_instance* self, limpet_op* op, limpet_bundle_update update,
                           limpet_done done) noexcept {
    instance<T>(self).watch_bundle(WatchReply(op, update, done));
  }
  static constexpr limpet_upstream_authority table = {sizeof(limpet_upstream_authority), 0, &mint_ca, &publish_jwt_key,
                                                      &watch_bundle};
};
template <class T>
struct BundlePublisher {
  static void publish(limpet_instance* self, limpet_op* op, const limpet_bundle* bundle, limpet_done done) noexcept {
    instance<T>(self).publish(*bundle, DoneReply(op, done));
  }
  static constexpr limpet_bundle_publisher table = {sizeof(limpet_bundle_publisher), 0, &publish};
};

}  // namespace detail

// void attest(const limpet_workload&, SelectorsReply)
template <class T>
constexpr limpet_component workload_attestor(const char* name, uint32_t flags = 0) {
  return detail::component<T>(LIMPET_WORKLOAD_ATTESTOR, name, flags, &detail::WorkloadAttestor<T>::table);
}
// std::unique_ptr<Session> open(), where Session has void payload(BytesReply), void answer(limpet_bytes, BytesReply)
template <class T>
constexpr limpet_component node_attestor_agent(const char* name, uint32_t flags = 0) {
  return detail::component<T>(LIMPET_NODE_ATTESTOR_AGENT, name, flags, &detail::NodeAttestorAgent<T>::table);
}
// std::unique_ptr<Session> open(const limpet_attempt&), where Session has void step(limpet_bytes, StepReply)
template <class T>
constexpr limpet_component node_attestor_server(const char* name, uint32_t flags = 0) {
  return detail::component<T>(LIMPET_NODE_ATTESTOR_SERVER, name, flags, &detail::NodeAttestorServer<T>::table);
}
// void generate(std::string_view id, uint32_t type, KeyReply), void list(KeysReply),
// void sign(const limpet_sign_request&, SignatureReply), void remove(std::string_view id, DoneReply)
template <class T>
constexpr limpet_component key_manager(const char* name, uint32_t flags = 0) {
  return detail::component<T>(LIMPET_KEY_MANAGER, name, flags, &detail::KeyManager<T>::table);
}
// void seal(limpet_bytes plain, limpet_bytes context, BytesReply), void unseal(limpet_bytes blob, ..., BytesReply)
template <class T>
constexpr limpet_component sealer(const char* name, uint32_t flags = 0) {
  return detail::component<T>(LIMPET_SEALER, name, flags, &detail::Sealer<T>::table);
}
// void mint_ca(limpet_bytes csr_der, uint32_t ttl_s, MintedReply), void publish_jwt_key(const limpet_jwt_key&,
// DoneReply), void watch_bundle(WatchReply), void cancel(limpet_op*)
template <class T>
constexpr limpet_component upstream_authority(const char* name, uint32_t flags = 0) {
  return detail::component<T>(LIMPET_UPSTREAM_AUTHORITY, name, flags, &detail::UpstreamAuthority<T>::table);
}
// void publish(const limpet_bundle&, DoneReply)
template <class T>
constexpr limpet_component bundle_publisher(const char* name, uint32_t flags = 0) {
  return detail::component<T>(LIMPET_BUNDLE_PUBLISHER, name, flags, &detail::BundlePublisher<T>::table);
}

}  // namespace limpet

// The exported function, once in a plugin: identifier, version, SPDX licence expression, addresses of static
// components.
#define LIMPET_PLUGIN(plugin_id, plugin_version, spdx, ...)                                            \
  extern "C" LIMPET_EXPORT const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {    \
    static const limpet_component* const components[] = {__VA_ARGS__, nullptr};                        \
    static const limpet_plugin plugin = {sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,      0,           \
                                         (plugin_id),           (plugin_version), (spdx), components}; \
    return host_major == LIMPET_ABI_MAJOR ? &plugin : nullptr;                                         \
  }
