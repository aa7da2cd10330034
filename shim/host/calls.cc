// SPDX-License-Identifier: Apache-2.0
// The daemon's calls, made on the plugin's tables, and their answers in frames.
#include "plugin_host.h"

namespace limpet::shim {
namespace {

template <class Put>
void answer_with(limpet_op* op, const limpet_status* err, bool fits, Put put_fields) {
  op->host->check_answer(op, fits);
  FrameWriter frame(Method::done, op->number);
  if (err != nullptr) {
    put_status(frame, *err);
  } else {
    put_success(frame);
    put_fields(frame);
  }
  op->host->answer(op, std::move(frame));
}

void on_plain(limpet_op* op, const limpet_status* err) {
  const bool fits = op->method == Method::configure || op->method == Method::remove ||
                    op->method == Method::publish_jwt_key || op->method == Method::watch_bundle ||
                    op->method == Method::publish_bundle;
  answer_with(op, err, fits, [](FrameWriter&) {});
}
void on_key(limpet_op* op, const limpet_status* err, const limpet_public_key* key) {
  answer_with(op, err, op->method == Method::generate, [key](FrameWriter& f) { put(f, key); });
}
void on_keys(limpet_op* op, const limpet_status* err, const limpet_public_key* const* keys, size_t count) {
  answer_with(op, err, op->method == Method::list, [keys, count](FrameWriter& f) {
    if (count > kListItems || (keys == nullptr && count > 0)) return f.spoil();
    f.u32(static_cast<uint32_t>(count));
    for (size_t i = 0; i < count; ++i) put(f, keys[i]);
  });
}
void on_signature(limpet_op* op, const limpet_status* err, limpet_bytes signature, limpet_str fingerprint) {
  answer_with(op, err, op->method == Method::sign, [signature, fingerprint](FrameWriter& f) {
    put(f, signature);
    put(f, fingerprint);
  });
}
void on_bytes(limpet_op* op, const limpet_status* err, limpet_bytes bytes) {
  const bool fits = op->method == Method::seal || op->method == Method::unseal || op->method == Method::payload ||
                    op->method == Method::answer;
  answer_with(op, err, fits, [bytes](FrameWriter& f) { put(f, bytes); });
}
void on_step(limpet_op* op, const limpet_status* err, const limpet_attest_step* step) {
  answer_with(op, err, op->method == Method::step, [step](FrameWriter& f) { put(f, step); });
}
void on_selectors(limpet_op* op, const limpet_status* err, limpet_str_list selectors) {
  answer_with(op, err, op->method == Method::attest, [selectors](FrameWriter& f) { put(f, selectors); });
}
void on_minted(limpet_op* op, const limpet_status* err, limpet_bytes_list chain, limpet_bytes_list roots) {
  answer_with(op, err, op->method == Method::mint_ca, [chain, roots](FrameWriter& f) {
    put(f, chain);
    put(f, roots);
  });
}
void on_update(limpet_op* op, const limpet_bundle* bundle) {
  FrameWriter frame(Method::update, op->number);
  put(frame, bundle);
  op->host->update(std::move(frame));
}

limpet_status no_session() {
  return {sizeof(limpet_status), LIMPET_RESOURCE_EXHAUSTED, lend_text("the plugin could not open a session"), 0, 0};
}

}  // namespace

limpet_session* PluginHost::session_of(limpet_op* op, FieldReader& in) {
  const uint32_t number = in.u32();
  {
    const std::lock_guard lock(mutex_);
    if (sessions_[number].raw != nullptr) return sessions_[number].raw;
  }
  limpet_session* raw = nullptr;
  if (op->method == Method::payload) {
    raw = static_cast<const limpet_node_attestor_agent*>(component_->vtable)->open(self_);
  } else if (op->method == Method::step) {
    FieldReader rest = in;
    limpet_attempt attempt = {sizeof(limpet_attempt), 0, {}, {}, {}};
    attempt.peer_ip = get_text(rest);
    attempt.forwarded_host = get_text(rest);
    attempt.trust_domain = get_text(rest);
    raw = static_cast<const limpet_node_attestor_server*>(component_->vtable)->open(self_, &attempt);
  }
  const std::lock_guard lock(mutex_);
  sessions_[number].raw = raw;
  return raw;
}

void PluginHost::call(limpet_op* op) {
  const Bytes payload = std::move(op->payload);  // the op may be gone when the call returns
  FieldReader in(payload);
  const void* t = component_->vtable;
  const auto* keys = static_cast<const limpet_key_manager*>(t);
  const auto* sealer = static_cast<const limpet_sealer*>(t);
  const auto* agent = static_cast<const limpet_node_attestor_agent*>(t);
  const auto* upstream = static_cast<const limpet_upstream_authority*>(t);
  switch (op->method) {
    case Method::configure: {
      limpet_config config = {sizeof(limpet_config), in.u32(), {}, {}};
      config.trust_domain = get_text(in);
      config.json = get_text(in);
      return component_->configure(self_, op, &config, &on_plain);
    }
    case Method::generate: {
      const limpet_str id = get_text(in);
      return keys->generate(self_, op, id, in.u32(), &on_key);
    }
    case Method::list:
      return keys->list(self_, op, &on_keys);
    case Method::sign: {
      const limpet_sign_request r = get_sign_request(in);
      return keys->sign(self_, op, &r, &on_signature);
    }
    case Method::remove: {
      const limpet_str id = get_text(in);
      if (LIMPET_HAS(keys, limpet_key_manager, remove) && keys->remove != nullptr)
        return keys->remove(self_, op, id, &on_plain);
      const limpet_status status = {sizeof(limpet_status), LIMPET_UNIMPLEMENTED,
                                    lend_text("the plugin cannot remove keys"), 0, 0};
      return on_plain(op, &status);
    }
    case Method::seal:
    case Method::unseal: {
      const limpet_bytes data = get_bytes(in);
      const limpet_bytes context = get_bytes(in);
      return (op->method == Method::seal ? sealer->seal : sealer->unseal)(self_, op, data, context, &on_bytes);
    }
    case Method::payload:
    case Method::answer: {
      limpet_session* session = session_of(op, in);
      const limpet_status status = no_session();
      if (session == nullptr) return on_bytes(op, &status, {});
      if (op->method == Method::payload) return agent->payload(session, op, &on_bytes);
      return agent->answer(session, op, get_bytes(in), &on_bytes);
    }
    case Method::step: {
      limpet_session* session = session_of(op, in);
      const limpet_status status = no_session();
      if (session == nullptr) return on_step(op, &status, nullptr);
      for (int i = 0; i < 3; ++i) (void)in.text();  // what open() was told
      return static_cast<const limpet_node_attestor_server*>(t)->step(session, op, get_bytes(in), &on_step);
    }
    case Method::attest: {
      limpet_workload w = {sizeof(limpet_workload), static_cast<int32_t>(in.u32()), op->fd, 0, 0, 0, {}, {}};
      (void)in.u32();  // whether a descriptor came
      w.uid = in.u32();
      w.gid = in.u32();
      w.reference_type = get_text(in);
      w.reference = get_bytes(in);
      return static_cast<const limpet_workload_attestor*>(t)->attest(self_, op, &w, &on_selectors);
    }
    case Method::mint_ca: {
      const limpet_bytes csr = get_bytes(in);
      return upstream->mint_ca(self_, op, csr, in.u32(), &on_minted);
    }
    case Method::publish_jwt_key: {
      const limpet_jwt_key key = get_jwt_key(in);
      return upstream->publish_jwt_key(self_, op, &key, &on_plain);
    }
    case Method::watch_bundle:
      return upstream->watch_bundle(self_, op, &on_update, &on_plain);
    default: {
      const ReadBundle bundle(in);
      return static_cast<const limpet_bundle_publisher*>(t)->publish(self_, op, &bundle.bundle, &on_plain);
    }
  }
}

}  // namespace limpet::shim
