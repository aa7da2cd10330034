// SPDX-License-Identifier: Apache-2.0
// Frames between the daemon and a plugin's process, both ways: how the bytes were cut changes nothing, no frame is
// longer than allowed, and what the fields say is read within bounds - the daemon's reading of a child's answers, and
// the child's reading of calls.
#include "fuzz.h"
#include "plugin/shim_proxy.h"

namespace limpet::shim {
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

// Reads every byte that was lent.
size_t touched = 0;
void touch(const void* data, size_t size) {
  for (size_t i = 0; i < size; ++i) touched += static_cast<const uint8_t*>(data)[i];
}
void touch(limpet_str s) { touch(s.ptr, s.len); }
void touch(limpet_bytes b) { touch(b.ptr, b.len); }
void touch(limpet_bytes_list list) {
  for (size_t i = 0; i < list.count; ++i) touch(list.items[i]);
}
void touch(limpet_str_list list) {
  for (size_t i = 0; i < list.count; ++i) touch(list.items[i]);
}
void touch(const limpet_bundle& bundle) {
  touch(bundle.x509_roots_der);
  for (size_t i = 0; i < bundle.jwt_key_count; ++i) {
    touch(bundle.jwt_keys[i]->id);
    touch(bundle.jwt_keys[i]->spki_der);
  }
}
void touch(const limpet_public_key& key) {
  touch(key.id);
  touch(key.spki_der);
  touch(key.fingerprint);
}

template <class Done>
void answer(Method method, BytesView payload, Done done) {
  FieldReader in(payload);
  limpet_status status = {};
  if (get_status(in, status)) return touch(status.message);
  ProxyOp op;
  op.method = method;
  op.done = reinterpret_cast<void (*)()>(done);
  (void)give_answer(op, in);
}

void as_the_daemon(BytesView payload) {
  answer(Method::configure, payload, limpet_done([](limpet_op*, const limpet_status*) {}));
  answer(Method::generate, payload,
         limpet_key_done([](limpet_op*, const limpet_status*, const limpet_public_key* k) { touch(*k); }));
  answer(Method::list, payload,
         limpet_keys_done([](limpet_op*, const limpet_status*, const limpet_public_key* const* keys, size_t count) {
           for (size_t i = 0; i < count; ++i) touch(*keys[i]);
         }));
  answer(Method::sign, payload,
         limpet_signature_done([](limpet_op*, const limpet_status*, limpet_bytes signature, limpet_str fingerprint) {
           touch(signature);
           touch(fingerprint);
         }));
  answer(Method::payload, payload,
         limpet_bytes_done([](limpet_op*, const limpet_status*, limpet_bytes bytes) { touch(bytes); }));
  answer(Method::step, payload, limpet_step_done([](limpet_op*, const limpet_status*, const limpet_attest_step* step) {
           touch(step->challenge);
           touch(step->agent_path);
           touch(step->selectors);
         }));
  answer(Method::attest, payload,
         limpet_selectors_done([](limpet_op*, const limpet_status*, limpet_str_list list) { touch(list); }));
  answer(Method::mint_ca, payload,
         limpet_minted_done([](limpet_op*, const limpet_status*, limpet_bytes_list chain, limpet_bytes_list roots) {
           touch(chain);
           touch(roots);
         }));
  ProxyOp watch;
  watch.update = [](limpet_op*, const limpet_bundle* bundle) { touch(*bundle); };
  FieldReader in(payload);
  (void)give_update(watch, in);
}

// What was read of a bundle can be written, and reads the same.
void as_the_child(BytesView payload) {
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

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  if (size == 0) return 0;
  const size_t piece = 1 + data[0];
  const BytesView wire(data + 1, size - 1);
  const shim::Seen seen = shim::split(wire, piece);
  FUZZ_CHECK(seen == shim::split(wire, wire.size() + 1));
  for (const Bytes& payload : seen.payloads) {
    shim::as_the_daemon(payload);
    shim::as_the_child(payload);
  }
  shim::as_the_daemon(wire);
  shim::as_the_child(wire);
  return 0;
}
