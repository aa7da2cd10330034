// SPDX-License-Identifier: Apache-2.0
// What a plugin answers: copied, and looked at for what the real host would refuse.
#include "base/cut.h"
#include "base/limits.h"
#include "plugin_check/bench.h"

namespace limpet::check {
namespace {

Op& op_of(limpet_op* op) { return *reinterpret_cast<Op*>(op); }

// Copies a text or bytes; a flaw is noted and nothing copied when it cannot be used.
std::string take(Op& op, const void* ptr, size_t len, size_t limit, bool text, const char* what) {
  if (len == 0) return {};
  const char* flaw = ptr == nullptr ? " has a length and no address"
                     : len > limit  ? " is longer than the host takes"
                                    : nullptr;
  std::string out;
  if (flaw == nullptr) out.assign(static_cast<const char*>(ptr), len);
  if (flaw == nullptr && text && !is_utf8(out)) flaw = " is not UTF-8";
  if (flaw == nullptr) return out;
  op.host.bench().note(Flaw::bad_result, std::string(what) + flaw);
  return "(unusable)";
}
std::string take_text(Op& op, limpet_str s, const char* what) {
  return take(op, s.ptr, s.len, limits::kPluginTextBytes, true, what);
}
std::string take_bytes(Op& op, limpet_bytes b, const char* what) {
  return take(op, b.ptr, b.len, limits::kMessageBytes, false, what);
}
template <class List, class Take>
std::vector<std::string> take_list(Op& op, const List& list, Take take_one, const char* what) {
  std::vector<std::string> out;
  if (list.count > limits::kPluginItems || (list.count > 0 && list.items == nullptr)) {
    op.host.bench().note(Flaw::bad_result, std::string(what) + ": a list without an address, or of more than 4,096");
    return out;
  }
  for (size_t i = 0; i < list.count; ++i) out.push_back(take_one(op, list.items[i], what));
  return out;
}

void take_status(Op& op, const limpet_status& status) {
  Bench& bench = op.host.bench();
  op.code = 13;
  if (!LIMPET_HAS(&status, limpet_status, message))
    return bench.note(Flaw::bad_status, "a status whose size is too small");
  op.code = status.code;
  if (status.code < 1 || status.code > 16) {
    bench.note(Flaw::bad_status, "a status with code " + std::to_string(status.code) + "; an error has 1 to 16");
    op.code = 13;
  }
  if (status.message.ptr == nullptr || status.message.len == 0)
    return bench.note(Flaw::bad_status, "an error without a message: the operator learns nothing");
  const size_t length = std::min(status.message.len, limits::kPluginTextBytes);
  op.message.assign(status.message.ptr, length);
  if (!is_utf8(op.message)) bench.note(Flaw::bad_status, "a status message that is not UTF-8");
}

// True when the answer is to be read. `fill` copies it.
template <class Fill>
void answer(limpet_op* raw, Answer kind, const limpet_status* err, Fill fill) {
  Op& op = op_of(raw);
  Bench& bench = op.host.bench();
  if (op.host.closed()) return bench.note(Flaw::after_destroy, "done was called after destroy");
  if (op.kind != kind) return bench.note(Flaw::wrong_done, "an op was answered with another call's done");
  if (op.dones++ > 0) return bench.note(Flaw::done_twice, "done was called twice for one op");
  op.answered_inside = !op.returned;
  if (err != nullptr) {
    take_status(op, *err);
  } else {
    fill(op);
  }
  op.ready = true;
}

Key take_key(Op& op, const limpet_public_key* key) {
  if (key == nullptr || !LIMPET_HAS(key, limpet_public_key, fingerprint)) {
    op.host.bench().note(Flaw::bad_result, "no key, or a struct that is too short");
    return {};
  }
  return {take_text(op, key->id, "a key's id"), key->type, take_bytes(op, key->spki_der, "a key's SPKI"),
          take_text(op, key->fingerprint, "a key's fingerprint")};
}

}  // namespace

void done_plain(limpet_op* op, const limpet_status* err) {
  answer(op, Answer::plain, err, [](Op&) {});
}
void done_bytes(limpet_op* op, const limpet_status* err, limpet_bytes bytes) {
  answer(op, Answer::bytes, err, [&](Op& o) { o.bytes = take_bytes(o, bytes, "the answer"); });
}
void done_selectors(limpet_op* op, const limpet_status* err, limpet_str_list selectors) {
  answer(op, Answer::selectors, err, [&](Op& o) { o.selectors = take_list(o, selectors, take_text, "a selector"); });
}
void done_key(limpet_op* op, const limpet_status* err, const limpet_public_key* key) {
  answer(op, Answer::key, err, [&](Op& o) { o.keys.push_back(take_key(o, key)); });
}
void done_keys(limpet_op* op, const limpet_status* err, const limpet_public_key* const* keys, size_t count) {
  answer(op, Answer::keys, err, [&](Op& o) {
    if (count > limits::kPluginItems || (count > 0 && keys == nullptr))
      return o.host.bench().note(Flaw::bad_result, "a list of keys without an address, or of more than 4,096");
    for (size_t i = 0; i < count; ++i) o.keys.push_back(take_key(o, keys[i]));
  });
}
void done_signature(limpet_op* op, const limpet_status* err, limpet_bytes signature, limpet_str fingerprint) {
  answer(op, Answer::signature, err, [&](Op& o) {
    o.bytes = take_bytes(o, signature, "a signature");
    o.fingerprint = take_text(o, fingerprint, "a key's fingerprint");
  });
}
void done_step(limpet_op* op, const limpet_status* err, const limpet_attest_step* step) {
  answer(op, Answer::step, err, [&](Op& o) {
    if (step == nullptr || !LIMPET_HAS(step, limpet_attest_step, can_reattest))
      return o.host.bench().note(Flaw::bad_result, "no attestation step, or a struct that is too short");
    o.attested = step->attested != 0;
    if (!o.attested) {
      o.bytes = take_bytes(o, step->challenge, "a challenge");
      return;
    }
    o.agent_path = take_text(o, step->agent_path, "an agent path");
    o.selectors = take_list(o, step->selectors, take_text, "a selector");
  });
}
void done_minted(limpet_op* op, const limpet_status* err, limpet_bytes_list chain, limpet_bytes_list roots) {
  answer(op, Answer::minted, err, [&](Op& o) {
    o.chain = take_list(o, chain, take_bytes, "a certificate");
    o.roots = take_list(o, roots, take_bytes, "a root");
  });
}
void on_update(limpet_op* raw, const limpet_bundle* bundle) {
  Op& op = op_of(raw);
  Bench& bench = op.host.bench();
  if (op.host.closed()) return bench.note(Flaw::after_destroy, "update was called after destroy");
  if (op.dones > 0) return bench.note(Flaw::done_twice, "update was called after done");
  if (bundle == nullptr || !LIMPET_HAS(bundle, limpet_bundle, jwt_key_count))
    return bench.note(Flaw::bad_result, "an update without a bundle, or a struct that is too short");
  if (take_list(op, bundle->x509_roots_der, take_bytes, "a root").empty()) ++op.empty_updates;
  ++op.updates;
}

std::string Op::outcome() const {
  if (!ready) return "no answer";
  if (code == LIMPET_OK) return "ok";
  return code_name(static_cast<Code>(code)) + ": " + cut_text(message, 300);
}

}  // namespace limpet::check
