// SPDX-License-Identifier: Apache-2.0
// Key manager "disk": keys in one file, loaded at start, saved before a new key is first used. Sealed, the file is
// opened when it is first needed: a sealer that is away must not keep a role from starting. BLOCKING: it waits for
// fsync and for the sealer, and makes RSA keys; all calls of an instance come from the host's one thread for it.
#include <limpet_plugin.h>

#include <memory>

#include "key_manager_disk/key_file.h"
#include "kit/host_seal.h"
#include "kit/kit.h"

namespace {

using limpet::Bytes;
using limpet::Code;
using limpet::fail;
using limpet::Result;
using limpet::SecretBytes;
using limpet::key_manager_disk::KeyFile;

constexpr std::string_view kContext = "key of the key file";
constexpr size_t kDataKeyBytes = 32;

struct Disk {
  explicit Disk(const limpet_host* host) : wait(host) {}
  limpet::kit::HostWait wait;
  std::unique_ptr<KeyFile> file;
  bool sealed = false;
  bool open = false;  // the table is what the file holds
  limpet::kit::KeyTable table;
  SecretBytes data_key;
  Bytes sealed_key;
};
Disk* self_of(limpet_instance* self) { return reinterpret_cast<Disk*>(self); }
Disk* begin(limpet_instance* self, const limpet_op* op) {
  self_of(self)->wait.begin(op);
  return self_of(self);
}

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Disk(host));
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }
void cancel(limpet_instance* self, limpet_op* op) { self_of(self)->wait.cancel(op); }

struct Settings {
  std::string path;
  bool sealed = false;
};

Result<Settings> read_settings(std::string_view json) {
  limpet::kit::ConfigReader reader(json);
  const std::string keys_path = reader.text("keys_path");
  const std::string directory = reader.text("directory");
  const bool sealed = reader.flag("sealed", false);
  TRY(reader.finish());
  if (keys_path.empty() == directory.empty()) {
    return fail(Code::invalid_argument,
                "set either keys_path, the file to keep keys in, or directory, where the file is keys.json");
  }
  return Settings{keys_path.empty() ? directory + "/keys.json" : keys_path, sealed};
}

std::unexpected<limpet::Error> sealed_file(const std::string& path) {
  return fail(Code::failed_precondition,
              "key file " + path + " is sealed: set sealed = true, and configure the sealer that sealed it");
}

Result<void> apply(Disk& self, const limpet_config& config) {
  TRY_ASSIGN(const Settings settings, read_settings(limpet::kit::view(config.json)));
  if (self.file != nullptr && self.file->path() == settings.path && self.sealed == settings.sealed) return {};
  if (config.dry_run != 0) {
    TRY_ASSIGN(const KeyFile::Content content, KeyFile(settings.path).load());
    return content.sealed_key.empty() || settings.sealed ? Result<void>() : sealed_file(settings.path);
  }
  if (settings.sealed && !limpet::kit::host_seals(self.wait.host()))
    return fail(Code::invalid_argument, "sealed = true needs a [[plugin]] with type = \"Sealer\"");
  if (self.file != nullptr && self.file->path() == settings.path)
    return fail(Code::failed_precondition, "sealed is in force only after a restart");
  auto file = std::make_unique<KeyFile>(settings.path);
  TRY(file->lock());
  TRY_ASSIGN(KeyFile::Content content, file->load());
  if (!settings.sealed && !content.sealed_key.empty()) return sealed_file(settings.path);
  self.table = std::move(content.table);
  self.sealed = settings.sealed;
  self.open = !settings.sealed;
  self.data_key = {};
  self.sealed_key.clear();
  self.file = std::move(file);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::end(op, done, apply(*self_of(self), *config));
}

Result<void> save(const Disk& self) {
  return self.sealed ? self.file->save_sealed(self.table, self.data_key, self.sealed_key) : self.file->save(self.table);
}

// A new data key; keys that lay in the file in the clear are sealed with it at once.
Result<void> begin_sealing(Disk& self, limpet::kit::KeyTable table) {
  SecretBytes key(kDataKeyBytes);
  limpet::random_bytes(key.data(), key.size());
  TRY_ASSIGN_WITHIN("seal the key file", Bytes blob, limpet::kit::seal_with_host(self.wait, key, kContext));
  TRY(self.file->save_sealed(table, key, blob));
  self.table = std::move(table);
  self.data_key = std::move(key);
  self.sealed_key = std::move(blob);
  return {};
}

Result<void> open_sealed(Disk& self, KeyFile::Content content) {
  auto key = limpet::kit::unseal_with_host(self.wait, content.sealed_key, kContext);
  if (!key) {
    limpet::Error error = std::move(key).error().within("key file " + self.file->path());
    if (error.code == Code::failed_precondition)
      error.message +=
          "; it was left untouched: bring back the device that sealed it, restore a backup, or move the "
          "file away to start with new keys";
    return fail(std::move(error));
  }
  TRY_ASSIGN(self.table, self.file->open(content, *key));
  self.data_key = std::move(*key);
  self.sealed_key = std::move(content.sealed_key);
  return {};
}

// Before every call: with a sealed file the keys are there once the sealer has answered.
Result<void> ready(Disk& self) {
  if (self.open) return {};
  TRY_ASSIGN(KeyFile::Content content, self.file->load());
  TRY(content.sealed_key.empty() ? begin_sealing(self, std::move(content.table))
                                 : open_sealed(self, std::move(content)));
  self.open = true;
  return {};
}

// On disk first: a key that was handed out and is gone after a power cut would be worse than none.
Result<void> make_key(Disk& self, std::string_view id, uint32_t type) {
  TRY(ready(self));
  TRY_ASSIGN(auto key, self.table.make(id, type));
  auto before = self.table.put(id, std::move(key));
  auto saved = save(self);
  if (saved) return {};
  self.table.take(id);
  if (before) self.table.put(id, std::move(*before));
  return saved;
}

void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  if (auto made = make_key(*begin(self, op), limpet::kit::view(id), type); !made) {
    const limpet_status status = limpet::kit::status_of(made.error());
    return done(op, &status, nullptr);
  }
  self_of(self)->table.answer_key(op, limpet::kit::view(id), done);
}

void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) {
  if (const auto open = ready(*begin(self, op)); !open) {
    const limpet_status status = limpet::kit::status_of(open.error());
    return done(op, &status, nullptr, 0);
  }
  self_of(self)->table.answer_list(op, done);
}

void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* request, limpet_signature_done done) {
  if (const auto open = ready(*begin(self, op)); !open) {
    const limpet_status status = limpet::kit::status_of(open.error());
    return done(op, &status, {}, {});
  }
  self_of(self)->table.answer_sign(op, request, done);
}

Result<void> drop_key(Disk& self, std::string_view id) {
  TRY(ready(self));
  auto before = self.table.take(id);
  if (!before) return fail(Code::not_found, "no such key \"" + std::string(id) + "\"");
  auto saved = save(self);
  if (!saved) self.table.put(id, std::move(*before));
  return saved;
}

void remove_key(limpet_instance* self, limpet_op* op, limpet_str id, limpet_done done) {
  limpet::kit::end(op, done, drop_key(*begin(self, op), limpet::kit::view(id)));
}

constexpr limpet_key_manager kTable = {sizeof(limpet_key_manager), 0, generate, list, sign, remove_key};
constexpr limpet_component kComponent = {
    sizeof(limpet_component), LIMPET_BLOCKING, LIMPET_KEY_MANAGER, "disk", create, destroy, configure, cancel, &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.keymanager.disk",
                                   LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
