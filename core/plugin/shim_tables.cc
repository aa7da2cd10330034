// SPDX-License-Identifier: Apache-2.0
// The tables of a shimmed component: each function writes its arguments into a frame; the answers come back here and
// are lent to the `done` of the call, as a plugin in this process would have done. What they say is judged there.
#include "plugin/shim_proxy.h"

namespace limpet::shim {
namespace {

template <class Done>
void start(Proxy& proxy, FrameWriter&& frame, limpet_op* op, Method method, Done done, ProxySession* session = nullptr,
           int fd = -1) {
  ProxyOp kept;
  kept.op = op;
  kept.method = method;
  kept.done = reinterpret_cast<void (*)()>(done);
  kept.session = session;
  kept.fd = fd;
  proxy.call(std::move(frame), std::move(kept));
}

// ---- the component ----
limpet_code create(const limpet_host* host, limpet_instance** out) {
  const void* component = host->service(host, kComponentService);
  if (component == nullptr) return LIMPET_INTERNAL;
  const auto* ours = static_cast<const Component*>(static_cast<const limpet_component*>(component));
  *out = reinterpret_cast<limpet_instance*>(new Proxy(host, *ours));
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete &Proxy::of(self); }
void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  Proxy::of(self).configure(op, config, done);
}
void cancel(limpet_instance* self, limpet_op* op) { Proxy::of(self).cancel(op); }

// ---- key manager ----
void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  FrameWriter f = Proxy::of(self).begin(Method::generate);
  put(f, id);
  f.u32(type);
  start(Proxy::of(self), std::move(f), op, Method::generate, done);
}
void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) {
  start(Proxy::of(self), Proxy::of(self).begin(Method::list), op, Method::list, done);
}
void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* r, limpet_signature_done done) {
  FrameWriter f = Proxy::of(self).begin(Method::sign);
  put(f, r);
  start(Proxy::of(self), std::move(f), op, Method::sign, done);
}
void remove(limpet_instance* self, limpet_op* op, limpet_str id, limpet_done done) {
  FrameWriter f = Proxy::of(self).begin(Method::remove);
  put(f, id);
  start(Proxy::of(self), std::move(f), op, Method::remove, done);
}
constexpr limpet_key_manager kKeyManager = {sizeof(limpet_key_manager), 0, generate, list, sign, remove};

// ---- sealer ----
template <Method M>
void seal_or_unseal(limpet_instance* self, limpet_op* op, limpet_bytes data, limpet_bytes context,
                    limpet_bytes_done done) {
  FrameWriter f = Proxy::of(self).begin(M);
  put(f, data);
  put(f, context);
  start(Proxy::of(self), std::move(f), op, M, done);
}
constexpr limpet_sealer kSealer = {sizeof(limpet_sealer), 0, seal_or_unseal<Method::seal>,
                                   seal_or_unseal<Method::unseal>};

// ---- node attestors ----
ProxySession* session_of(limpet_session* s) { return reinterpret_cast<ProxySession*>(s); }
void close_session(limpet_session* s) { session_of(s)->owner->close_session(session_of(s)); }

limpet_session* open_agent(limpet_instance* self) { return Proxy::of(self).open_session(); }
void payload(limpet_session* s, limpet_op* op, limpet_bytes_done done) {
  ProxySession* session = session_of(s);
  FrameWriter f = session->owner->begin(Method::payload);
  f.u32(session->number);
  start(*session->owner, std::move(f), op, Method::payload, done, session);
}
void answer(limpet_session* s, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  ProxySession* session = session_of(s);
  FrameWriter f = session->owner->begin(Method::answer);
  f.u32(session->number);
  put(f, challenge);
  start(*session->owner, std::move(f), op, Method::answer, done, session);
}
constexpr limpet_node_attestor_agent kAgent = {
    sizeof(limpet_node_attestor_agent), 0, open_agent, payload, answer, close_session};

// The child opens its session with the first step; what the host knows of the caller goes with each.
std::string copy(limpet_str text) { return text.len > 0 ? std::string(text.ptr, text.len) : std::string(); }

limpet_session* open_server(limpet_instance* self, const limpet_attempt* attempt) {
  limpet_session* made = Proxy::of(self).open_session();
  session_of(made)->peer_ip = copy(attempt->peer_ip);
  session_of(made)->forwarded_host = copy(attempt->forwarded_host);
  session_of(made)->trust_domain = copy(attempt->trust_domain);
  return made;
}
void step(limpet_session* s, limpet_op* op, limpet_bytes from_agent, limpet_step_done done) {
  ProxySession* session = session_of(s);
  FrameWriter f = session->owner->begin(Method::step);
  f.u32(session->number);
  f.text(session->peer_ip);
  f.text(session->forwarded_host);
  f.text(session->trust_domain);
  put(f, from_agent);
  start(*session->owner, std::move(f), op, Method::step, done, session);
}
constexpr limpet_node_attestor_server kServer = {sizeof(limpet_node_attestor_server), 0, open_server, step,
                                                 close_session};

// ---- workload attestor ----
void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  FrameWriter f = Proxy::of(self).begin(Method::attest);
  f.u32(static_cast<uint32_t>(w->pid));
  f.u32(w->pidfd >= 0 ? 1 : 0);
  f.u32(w->uid);
  f.u32(w->gid);
  put(f, LIMPET_HAS(w, limpet_workload, reference) ? w->reference_type : limpet_str{});
  put(f, LIMPET_HAS(w, limpet_workload, reference) ? w->reference : limpet_bytes{});
  start(Proxy::of(self), std::move(f), op, Method::attest, done, nullptr, w->pidfd);
}
constexpr limpet_workload_attestor kWorkload = {sizeof(limpet_workload_attestor), 0, attest};

// ---- upstream authority and bundle publisher ----
void mint_ca(limpet_instance* self, limpet_op* op, limpet_bytes csr, uint32_t ttl_s, limpet_minted_done done) {
  FrameWriter f = Proxy::of(self).begin(Method::mint_ca);
  put(f, csr);
  f.u32(ttl_s);
  start(Proxy::of(self), std::move(f), op, Method::mint_ca, done);
}
void publish_jwt_key(limpet_instance* self, limpet_op* op, const limpet_jwt_key* key, limpet_done done) {
  FrameWriter f = Proxy::of(self).begin(Method::publish_jwt_key);
  put(f, key);
  start(Proxy::of(self), std::move(f), op, Method::publish_jwt_key, done);
}
void watch_bundle(limpet_instance* self, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  ProxyOp kept;
  kept.op = op;
  kept.method = Method::watch_bundle;
  kept.done = reinterpret_cast<void (*)()>(done);
  kept.update = update;
  Proxy::of(self).call(Proxy::of(self).begin(Method::watch_bundle), std::move(kept));
}
constexpr limpet_upstream_authority kUpstream = {sizeof(limpet_upstream_authority), 0, mint_ca, publish_jwt_key,
                                                 watch_bundle};
void publish_bundle(limpet_instance* self, limpet_op* op, const limpet_bundle* bundle, limpet_done done) {
  FrameWriter f = Proxy::of(self).begin(Method::publish_bundle);
  put(f, bundle);
  start(Proxy::of(self), std::move(f), op, Method::publish_bundle, done);
}
constexpr limpet_bundle_publisher kPublisher = {sizeof(limpet_bundle_publisher), 0, publish_bundle};

const void* table_of(std::string_view id) {
  if (id == LIMPET_KEY_MANAGER) return &kKeyManager;
  if (id == LIMPET_SEALER) return &kSealer;
  if (id == LIMPET_NODE_ATTESTOR_AGENT) return &kAgent;
  if (id == LIMPET_NODE_ATTESTOR_SERVER) return &kServer;
  if (id == LIMPET_WORKLOAD_ATTESTOR) return &kWorkload;
  if (id == LIMPET_UPSTREAM_AUTHORITY) return &kUpstream;
  if (id == LIMPET_BUNDLE_PUBLISHER) return &kPublisher;
  return nullptr;
}

// What a call's done looks like, by its method.
enum class Answer { nothing, key, keys, signature, bytes, step, selectors, minted };
Answer answer_of(Method m) {
  switch (m) {
    case Method::generate:
      return Answer::key;
    case Method::list:
      return Answer::keys;
    case Method::sign:
      return Answer::signature;
    case Method::seal:
    case Method::unseal:
    case Method::payload:
    case Method::answer:
      return Answer::bytes;
    case Method::step:
      return Answer::step;
    case Method::attest:
      return Answer::selectors;
    case Method::mint_ca:
      return Answer::minted;
    default:
      return Answer::nothing;
  }
}

template <class Done>
Done as(const ProxyOp& op) {
  return reinterpret_cast<Done>(op.done);
}

bool give_step(const ProxyOp& op, FieldReader& in) {
  limpet_attest_step step = {sizeof(limpet_attest_step), in.u32(), {}, {}, {}, 0, 0};
  step.challenge = get_bytes(in);
  step.agent_path = get_text(in);
  const ReadTexts selectors(in);
  step.selectors = selectors.list();
  step.can_reattest = in.u32();
  if (in.done()) as<limpet_step_done>(op)(op.op, nullptr, &step);
  return in.done();
}

}  // namespace

void Component::fill(uint32_t theirs) {
  size = sizeof(limpet_component);
  // The child has the thread that a BLOCKING plugin needs; here its calls are one at a time, which costs no thread.
  flags = (theirs & (LIMPET_BLOCKING | LIMPET_SERIAL)) != 0 ? LIMPET_SERIAL : 0;
  interface_id = interface_.c_str();
  name = name_text_.c_str();
  create = &limpet::shim::create;
  destroy = &limpet::shim::destroy;
  configure = &limpet::shim::configure;
  cancel = &limpet::shim::cancel;
  vtable = table_of(interface_);
}

bool give_answer(const ProxyOp& op, FieldReader& in) {
  switch (answer_of(op.method)) {
    case Answer::nothing: {
      if (in.done()) as<limpet_done>(op)(op.op, nullptr);
      return in.done();
    }
    case Answer::key: {
      const limpet_public_key key = get_key(in);
      if (in.done()) as<limpet_key_done>(op)(op.op, nullptr, &key);
      return in.done();
    }
    case Answer::keys: {
      const ReadKeys keys(in);
      if (in.done()) as<limpet_keys_done>(op)(op.op, nullptr, keys.list.data(), keys.list.size());
      return in.done();
    }
    case Answer::signature: {
      const limpet_bytes signature = get_bytes(in);
      const limpet_str fingerprint = get_text(in);
      if (in.done()) as<limpet_signature_done>(op)(op.op, nullptr, signature, fingerprint);
      return in.done();
    }
    case Answer::bytes: {
      const limpet_bytes bytes = get_bytes(in);
      if (in.done()) as<limpet_bytes_done>(op)(op.op, nullptr, bytes);
      return in.done();
    }
    case Answer::step:
      return give_step(op, in);
    case Answer::selectors: {
      const ReadTexts selectors(in);
      if (in.done()) as<limpet_selectors_done>(op)(op.op, nullptr, selectors.list());
      return in.done();
    }
    case Answer::minted: {
      const ReadBytes chain(in);
      const ReadBytes roots(in);
      if (in.done()) as<limpet_minted_done>(op)(op.op, nullptr, chain.list(), roots.list());
      return in.done();
    }
  }
  return false;
}

void give_error(const ProxyOp& op, const limpet_status& status) {
  switch (answer_of(op.method)) {
    case Answer::nothing:
      return as<limpet_done>(op)(op.op, &status);
    case Answer::key:
      return as<limpet_key_done>(op)(op.op, &status, nullptr);
    case Answer::keys:
      return as<limpet_keys_done>(op)(op.op, &status, nullptr, 0);
    case Answer::signature:
      return as<limpet_signature_done>(op)(op.op, &status, {}, {});
    case Answer::bytes:
      return as<limpet_bytes_done>(op)(op.op, &status, {});
    case Answer::step:
      return as<limpet_step_done>(op)(op.op, &status, nullptr);
    case Answer::selectors:
      return as<limpet_selectors_done>(op)(op.op, &status, {});
    case Answer::minted:
      return as<limpet_minted_done>(op)(op.op, &status, {}, {});
  }
}

bool give_update(const ProxyOp& op, FieldReader& in) {
  const ReadBundle bundle(in);
  if (!in.done()) return false;
  op.update(op.op, &bundle.bundle);
  return true;
}

}  // namespace limpet::shim
