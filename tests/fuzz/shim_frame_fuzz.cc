// SPDX-License-Identifier: Apache-2.0
// What a plugin's process says to the daemon: how the bytes were cut changes nothing, no frame is longer than allowed,
// and what the fields say is read within bounds. The frames go to a real Proxy with calls in flight (answers, updates,
// log records, calls of services, refusals), the bytes as they are to the first look at a file. The process itself and
// the plugin's file are played here, under the names of shim_child.h and loader.h: the linker takes these. The other
// direction is shim_host_fuzz.cc's.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "fuzz.h"
#include "plugin/shim_proxy.h"
#include "shim_stub_host.h"

namespace limpet {

// ---- the plugin's file ----
Result<PluginFile> PluginFile::open(const std::string&, std::string_view) { return PluginFile(); }
Result<PluginFile> PluginFile::open_any(const std::string&) { return PluginFile(); }
Result<void> PluginFile::check_again(std::string_view) { return {}; }
PluginFile& PluginFile::operator=(PluginFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
PluginFile::~PluginFile() = default;

namespace shim {
namespace {

struct Seen {
  std::vector<std::pair<uint16_t, uint32_t>> heads;
  std::vector<Bytes> payloads;
  bool broken = false;
  bool operator==(const Seen&) const = default;
};

Seen split(BytesView bytes, size_t piece) {
  FrameSplitter splitter;
  Seen out;
  while (!bytes.empty() && !out.broken) {
    const size_t now = std::min(piece, bytes.size());
    splitter.add(bytes.first(now));
    bytes = bytes.subspan(now);
    while (const auto frame = splitter.next()) {
      FUZZ_CHECK(frame->payload.size() <= kFrameBytes);
      out.heads.emplace_back(static_cast<uint16_t>(frame->method), frame->number);
      out.payloads.push_back(to_bytes(frame->payload));
    }
    out.broken = splitter.broken();
  }
  return out;
}

// What it says before it is killed.
struct Child {
  ShimChild::Listener* listener = nullptr;
  bool killed = false;
  std::string why;
};
Child child;
Bytes looked_at;                    // what a throw-away child says
constexpr pid_t kNobody = INT_MAX;  // no kernel counts this far: to wait for it, or to kill it, is an error

}  // namespace

// ---- the process ----
Result<Started> start_process(const std::string&, int) {
  int pair[2];
  FUZZ_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  (void)::send(pair[1], looked_at.data(), looked_at.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::close(pair[1]);
  return Started{kNobody, pair[0]};
}
ShimChild::ShimChild(UvLoop& loop, Started started, Listener& listener)
    : loop_(loop), listener_(listener), pid_(started.pid), fd_(started.fd), bury_timer_(loop) {}
Result<std::unique_ptr<ShimChild>> ShimChild::start(UvLoop& loop, const std::string&, int, Listener& listener) {
  child = {&listener, false, {}};
  return std::unique_ptr<ShimChild>(new ShimChild(loop, {}, listener));
}
ShimChild::~ShimChild() { child.listener = nullptr; }
void ShimChild::send(Bytes frame, int) {
  const Seen sent = split(frame, frame.size());
  FUZZ_CHECK(sent.heads.size() == 1 && !sent.broken);
}
void ShimChild::kill(std::string why) {
  if (child.killed) return;
  child.killed = true;
  child.why = std::move(why);
}

namespace {

constexpr const char* kKinds[] = {LIMPET_KEY_MANAGER,         LIMPET_SEALER,
                                  LIMPET_NODE_ATTESTOR_AGENT, LIMPET_NODE_ATTESTOR_SERVER,
                                  LIMPET_WORKLOAD_ATTESTOR,   LIMPET_UPSTREAM_AUTHORITY,
                                  LIMPET_BUNDLE_PUBLISHER};
constexpr size_t kKindCount = std::size(kKinds);

// ---- calls, each of which ends at most once ----
char places[8];
int ended[std::size(places)];
limpet_op* op_at(size_t i) { return reinterpret_cast<limpet_op*>(&places[i % std::size(places)]); }
void end(limpet_op* op, const limpet_status* error) {
  int& count = ended[reinterpret_cast<char*>(op) - places];
  FUZZ_CHECK(++count == 1);
  touch(error);
}
void on_done(limpet_op* op, const limpet_status* error) { end(op, error); }
void on_bytes(limpet_op* op, const limpet_status* error, limpet_bytes bytes) {
  end(op, error);
  touch(bytes);
}
void on_key(limpet_op* op, const limpet_status* error, const limpet_public_key* key) {
  end(op, error);
  if (error == nullptr) touch(*key);
}
void on_keys(limpet_op* op, const limpet_status* error, const limpet_public_key* const* keys, size_t count) {
  end(op, error);
  for (size_t i = 0; i < count; ++i) touch(*keys[i]);
}
void on_signature(limpet_op* op, const limpet_status* error, limpet_bytes signature, limpet_str fingerprint) {
  end(op, error);
  touch(signature);
  touch(fingerprint);
}
void on_step(limpet_op* op, const limpet_status* error, const limpet_attest_step* step) {
  end(op, error);
  if (error != nullptr) return;
  touch(step->challenge);
  touch(step->agent_path);
  touch(step->selectors);
}
void on_selectors(limpet_op* op, const limpet_status* error, limpet_str_list list) {
  end(op, error);
  touch(list);
}
void on_minted(limpet_op* op, const limpet_status* error, limpet_bytes_list chain, limpet_bytes_list roots) {
  end(op, error);
  touch(chain);
  touch(roots);
}
void on_update(limpet_op*, const limpet_bundle* bundle) { touch(*bundle); }

// All that a component of this kind can be asked, numbered from 1. The session of an attestor, where it has one.
limpet_session* make_calls(size_t kind, limpet_instance* self) {
  const limpet_config config = {sizeof config, 0, lend_text("example.org"), lend_text("{}")};
  component->configure(self, op_at(0), &config, on_done);
  switch (kind) {
    case 0: {
      const auto& t = *static_cast<const limpet_key_manager*>(component->vtable);
      const limpet_sign_request request = {sizeof request, 5, lend_text("k"), kSome, -1, 0, {}};
      t.generate(self, op_at(1), lend_text("k"), 1, on_key);
      t.list(self, op_at(2), on_keys);
      t.sign(self, op_at(3), &request, on_signature);
      t.remove(self, op_at(4), lend_text("k"), on_done);
      return nullptr;
    }
    case 1: {
      const auto& t = *static_cast<const limpet_sealer*>(component->vtable);
      t.seal(self, op_at(1), kSome, kSome, on_bytes);
      t.unseal(self, op_at(2), kSome, kSome, on_bytes);
      return nullptr;
    }
    case 2: {
      const auto& t = *static_cast<const limpet_node_attestor_agent*>(component->vtable);
      limpet_session* session = t.open(self);
      t.payload(session, op_at(1), on_bytes);
      t.answer(session, op_at(2), kSome, on_bytes);
      return session;
    }
    case 3: {
      const auto& t = *static_cast<const limpet_node_attestor_server*>(component->vtable);
      const limpet_attempt attempt = {sizeof attempt, 0, lend_text("::1"), {}, lend_text("example.org")};
      limpet_session* session = t.open(self, &attempt);
      t.step(session, op_at(1), kSome, on_step);
      return session;
    }
    case 4: {
      const limpet_workload workload = {sizeof workload, 1, -1, 0, 0, 0, {}, {}};
      static_cast<const limpet_workload_attestor*>(component->vtable)->attest(self, op_at(1), &workload, on_selectors);
      return nullptr;
    }
    case 5: {
      const auto& t = *static_cast<const limpet_upstream_authority*>(component->vtable);
      t.mint_ca(self, op_at(1), kSome, 60, on_minted);
      t.publish_jwt_key(self, op_at(2), &kJwtKey, on_done);
      t.watch_bundle(self, op_at(3), on_update, on_done);
      return nullptr;
    }
    default:
      static_cast<const limpet_bundle_publisher*>(component->vtable)->publish(self, op_at(1), &kBundle, on_done);
      return nullptr;
  }
}

// Every kind of answer from these fields, whether or not a call of that kind is in flight.
void answer_everything(BytesView payload) {
  const auto answer = [payload](Method method, auto done) {
    FieldReader in(payload);
    limpet_status status = {};
    if (get_status(in, status)) return touch(&status);
    ended[0] = 0;
    ProxyOp op;
    op.op = op_at(0);
    op.method = method;
    op.done = reinterpret_cast<void (*)()>(done);
    (void)give_answer(op, in);
  };
  answer(Method::configure, limpet_done(on_done));
  answer(Method::generate, limpet_key_done(on_key));
  answer(Method::list, limpet_keys_done(on_keys));
  answer(Method::sign, limpet_signature_done(on_signature));
  answer(Method::payload, limpet_bytes_done(on_bytes));
  answer(Method::step, limpet_step_done(on_step));
  answer(Method::attest, limpet_selectors_done(on_selectors));
  answer(Method::mint_ca, limpet_minted_done(on_minted));
  ProxyOp watch;
  watch.update = on_update;
  FieldReader in(payload);
  (void)give_update(watch, in);
}

// ---- what the input is given to ----
Bytes greeting() {
  FrameWriter out(Method::greeting, 0);
  out.u32(kWireVersion);
  out.u32(0);
  return std::move(out).finish();
}

UvLoop& the_loop() {
  static auto* const loop = new UvLoop();
  return *loop;
}

// One for each kind, as its own first look described it.
const Component& component_of(size_t kind) {
  static std::unique_ptr<Component> made[kKindCount];
  if (made[kind] != nullptr) return *made[kind];
  FrameWriter out(Method::described, 0);
  for (const char* text : {"id", "1", "Apache-2.0"}) out.text(text);
  for (const uint32_t number : {1u, 0u, 1u}) out.u32(number);
  out.text(kKinds[kind]);
  out.text("x");
  out.u32(0);
  looked_at = greeting();
  append(looked_at, std::move(out).finish());
  Settings settings;
  settings.program = "/nowhere";
  settings.user = "65534";
  settings.network = true;
  settings.look_ms = 0;  // all is there to be read
  auto opened = Component::open(the_loop(), settings, "/nowhere.so", "", kKinds[kind], "x");
  FUZZ_CHECK(opened && (*opened)->found());
  made[kind] = std::move(*opened);
  return *made[kind];
}

void hear(Method method, uint32_t number, BytesView payload) {
  if (!child.killed) child.listener->on_frame({method, number, payload});
}

// Frames that no child sends stand for what the daemon does in between.
void as_the_proxy(const Seen& seen, size_t kind, bool starting) {
  component = &component_of(kind);
  limpet_instance* self = nullptr;
  std::ranges::fill(ended, 0);
  FUZZ_CHECK(component->create(&kHost, &self) == LIMPET_OK);
  limpet_session* session = make_calls(kind, self);
  if (!starting) {
    hear(Method::greeting, 0, BytesView(greeting()).subspan(kFrameHead));
    hear(Method::ready, 0, {});
  }
  for (size_t i = 0; i < seen.heads.size() && !child.killed; ++i) {
    const auto method = static_cast<Method>(seen.heads[i].first);
    const uint32_t number = seen.heads[i].second;
    if (method == Method::cancel) component->cancel(self, op_at(number));
    if (method == Method::service_done) answer_calls();
    if (method == Method::cancel || method == Method::service_done) continue;
    hear(method, number, seen.payloads[i]);
  }
  if (child.killed) child.listener->on_end(child.why);
  FUZZ_CHECK(!child.killed || pending.empty());
  if (session != nullptr && kind == 2)
    static_cast<const limpet_node_attestor_agent*>(component->vtable)->close(session);
  if (session != nullptr && kind == 3)
    static_cast<const limpet_node_attestor_server*>(component->vtable)->close(session);
  component->destroy(self);
  FUZZ_CHECK(pending.empty());
}

void as_the_first_look(BytesView wire) {
  looked_at = to_bytes(wire);
  const auto found = look_into("/nowhere", -1, "x", {}, 0);
  if (!found) return touch(found.error().message);
  for (const std::string& text : found->missing) touch(std::string_view(text));
  for (const auto& one : found->components) FUZZ_CHECK(!one.interface_id.empty() && !one.name.empty());
}

}  // namespace
}  // namespace shim
}  // namespace limpet

// The first byte says how the rest is cut, and whom it is for: in its lower three bits the kind of plugin, or 7, a
// first look; with the fourth set, the child has not greeted yet.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  if (size == 0) return 0;
  const size_t piece = 1 + data[0], kind = data[0] % 8;
  const BytesView wire(data + 1, size - 1);
  const shim::Seen seen = shim::split(wire, piece);
  FUZZ_CHECK(seen == shim::split(wire, wire.size() + 1));
  for (const Bytes& payload : seen.payloads) shim::answer_everything(payload);
  shim::answer_everything(wire);
  kind < shim::kKindCount ? shim::as_the_proxy(seen, kind, (data[0] & 8) != 0) : shim::as_the_first_look(wire);
  return 0;
}
