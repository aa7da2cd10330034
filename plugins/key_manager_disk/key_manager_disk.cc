// SPDX-License-Identifier: Apache-2.0
// Key manager "disk": keys in one file, loaded at start, saved before a new key is first used. BLOCKING: it waits for
// fsync and makes RSA keys; all calls of an instance come from the host's one thread for it.
#include <limpet_plugin.h>

#include <memory>

#include "key_manager_disk/key_file.h"
#include "kit/kit.h"

namespace {

using limpet::Code;
using limpet::fail;
using limpet::Result;
using limpet::key_manager_disk::KeyFile;

struct Disk {
  std::unique_ptr<KeyFile> file;
  limpet::kit::KeyTable table;
};
Disk* self_of(limpet_instance* self) { return reinterpret_cast<Disk*>(self); }

limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Disk());
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

Result<std::string> read_path(std::string_view json) {
  limpet::kit::ConfigReader reader(json);
  const std::string keys_path = reader.text("keys_path");
  const std::string directory = reader.text("directory");
  TRY(reader.finish());
  if (keys_path.empty() == directory.empty()) {
    return fail(Code::invalid_argument,
                "set either keys_path, the file to keep keys in, or directory, where the file is keys.json");
  }
  return keys_path.empty() ? directory + "/keys.json" : keys_path;
}

Result<void> apply(Disk& self, const limpet_config& config) {
  TRY_ASSIGN(std::string path, read_path(limpet::kit::view(config.json)));
  const bool same = self.file != nullptr && self.file->path() == path;
  if (config.dry_run != 0) {
    if (same) return {};
    auto readable = KeyFile(std::move(path)).load();
    return readable ? Result<void>() : fail(std::move(readable).error());
  }
  if (same) return {};
  auto file = std::make_unique<KeyFile>(std::move(path));
  TRY(file->lock());
  TRY_ASSIGN(self.table, file->load());
  self.file = std::move(file);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::end(op, done, apply(*self_of(self), *config));
}

// On disk first: a key that was handed out and is gone after a power cut would be worse than none.
Result<void> make_key(Disk& self, std::string_view id, uint32_t type) {
  TRY_ASSIGN(auto key, self.table.make(id, type));
  auto before = self.table.put(id, std::move(key));
  auto saved = self.file->save(self.table);
  if (saved) return {};
  self.table.take(id);
  if (before) self.table.put(id, std::move(*before));
  return saved;
}

void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  if (auto made = make_key(*self_of(self), limpet::kit::view(id), type); !made) {
    const limpet_status status = limpet::kit::status_of(made.error());
    return done(op, &status, nullptr);
  }
  self_of(self)->table.answer_key(op, limpet::kit::view(id), done);
}

void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) { self_of(self)->table.answer_list(op, done); }

void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* request, limpet_signature_done done) {
  self_of(self)->table.answer_sign(op, request, done);
}

Result<void> drop_key(Disk& self, std::string_view id) {
  auto before = self.table.take(id);
  if (!before) return fail(Code::not_found, "no such key \"" + std::string(id) + "\"");
  auto saved = self.file->save(self.table);
  if (!saved) self.table.put(id, std::move(*before));
  return saved;
}

void remove_key(limpet_instance* self, limpet_op* op, limpet_str id, limpet_done done) {
  limpet::kit::end(op, done, drop_key(*self_of(self), limpet::kit::view(id)));
}

constexpr limpet_key_manager kTable = {sizeof(limpet_key_manager), 0, generate, list, sign, remove_key};
constexpr limpet_component kComponent = {sizeof(limpet_component),
                                         LIMPET_BLOCKING,
                                         LIMPET_KEY_MANAGER,
                                         "disk",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.keymanager.disk",
                                   LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
