// SPDX-License-Identifier: Apache-2.0
// Key manager "memory": keys live until the process ends. BLOCKING, because RSA keys take seconds to make; all calls of
// an instance come from the host's one thread for it.
#include <limpet_plugin.h>

#include <memory>

#include "kit/key_table.h"
#include "kit/kit.h"

namespace {

using limpet::Result;

struct Memory {
  limpet::kit::KeyTable table;
};
Memory* self_of(limpet_instance* self) { return reinterpret_cast<Memory*>(self); }

limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Memory());
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

void configure(limpet_instance*, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::ConfigReader reader(limpet::kit::view(config->json));
  limpet::kit::end(op, done, reader.finish());
}

void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  auto& table = self_of(self)->table;
  auto key = table.make(limpet::kit::view(id), type);
  if (!key) {
    const limpet_status status = limpet::kit::status_of(key.error());
    return done(op, &status, nullptr);
  }
  table.put(limpet::kit::view(id), std::move(*key));
  table.answer_key(op, limpet::kit::view(id), done);
}

void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) { self_of(self)->table.answer_list(op, done); }

void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* request, limpet_signature_done done) {
  self_of(self)->table.answer_sign(op, request, done);
}

void remove_key(limpet_instance* self, limpet_op* op, limpet_str id, limpet_done done) {
  const bool had = self_of(self)->table.take(limpet::kit::view(id)).has_value();
  limpet::kit::end(
      op, done,
      had ? Result<void>()
          : limpet::fail(limpet::Code::not_found, "no such key \"" + std::string(limpet::kit::view(id)) + "\""));
}

constexpr limpet_key_manager kTable = {sizeof(limpet_key_manager), 0, generate, list, sign, remove_key};
constexpr limpet_component kComponent = {sizeof(limpet_component),
                                         LIMPET_BLOCKING,
                                         LIMPET_KEY_MANAGER,
                                         "memory",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.keymanager.memory",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
