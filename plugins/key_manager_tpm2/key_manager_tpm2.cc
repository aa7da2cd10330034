// SPDX-License-Identifier: Apache-2.0
// Key manager "tpm2": keys that a TPM made and that only it can use. The files hold them encrypted by the TPM; the
// public halves are read from there, so that starting and listing work while the TPM is away. BLOCKING: a TPM takes
// 10 ms to seconds; SERIAL: it does one thing at a time.
#include <limpet_plugin.h>

#include <memory>

#include "key_manager_tpm2/key_directory.h"
#include "kit/key_table.h"
#include "kit_tpm/settings.h"

namespace {

using limpet::Bytes;
using limpet::Code;
using limpet::fail;
using limpet::Result;
using limpet::key_manager_tpm2::KeyDirectory;
using limpet::key_manager_tpm2::TpmKey;
using limpet::tpm::Device;
using limpet::tpm::Object;
using limpet::tpm::Tpm;

struct Config {
  limpet::tpm::DeviceKeys device;
  std::string directory;
  bool operator==(const Config&) const = default;
};

// The storage root key, saved, so that it is not derived anew for each key.
struct Root {
  Bytes saved;
  Bytes public_area;
  Bytes name;
};

struct Tpm2 {
  const limpet_host* host;
  Config config;
  std::unique_ptr<Device> device;
  std::unique_ptr<KeyDirectory> directory;
  KeyDirectory::Map keys;
  std::optional<Root> root;
  bool answered = true;  // the last time; changes are logged
};
Tpm2& self_of(limpet_instance* self) { return *reinterpret_cast<Tpm2*>(self); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Tpm2{host, {}, nullptr, nullptr, {}, {}, true});
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete &self_of(self); }

// ---- configuration: the TPM is not touched, it may come later ----

Result<Config> read_config(std::string_view json) {
  limpet::kit::ConfigReader reader(json);
  Config out;
  out.device = limpet::tpm::read_keys(reader, false);
  out.directory = reader.text("directory");
  TRY(reader.finish());
  if (out.directory.empty()) return fail(Code::invalid_argument, "set directory, where the TPM's keys are kept");
  return out;
}

Result<void> apply(Tpm2& self, const limpet_config& given) {
  TRY_ASSIGN(Config config, read_config(limpet::kit::view(given.json)));
  TRY_ASSIGN(auto settings, limpet::tpm::read_settings(config.device));
  if (given.dry_run != 0) {
    if (config.directory == self.config.directory) return {};
    auto readable = KeyDirectory(config.directory).load();
    return readable ? Result<void>() : fail(std::move(readable).error());
  }
  if (self.directory == nullptr || config.directory != self.config.directory) {
    auto directory = std::make_unique<KeyDirectory>(config.directory);
    TRY(directory->lock());
    TRY_ASSIGN(self.keys, directory->load());
    self.directory = std::move(directory);
  }
  self.device = std::make_unique<Device>(std::move(settings));
  self.root.reset();
  for (auto& [id, key] : self.keys) key.saved.clear();
  self.config = std::move(config);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::end(op, done, apply(self_of(self), *config));
}

// ---- the TPM ----

// Whether the TPM answers is worth a line when it changes.
void note(Tpm2& self, bool answers, std::string_view why) {
  if (answers == self.answered) return;
  self.answered = answers;
  limpet::kit::log(self.host, answers ? 3 : 2,
                   answers ? "the TPM answers again"
                           : "the TPM does not answer; it is tried again at each use: " + std::string(why));
}
template <class T>
Result<T> noted(Tpm2& self, Result<T> result) {
  note(self, result || result.error().code != Code::unavailable, result ? "" : result.error().message);
  return result;
}

// Where this TPM's root is not the one that the key was made under, no attempt is needed to know the answer.
limpet::Error other_tpm(Tpm2& self, std::string_view id) {
  return {Code::failed_precondition,
          "key " + std::string(id) + " was made by another TPM, or this one was cleared since; its file " +
              self.directory->file_of(id) + " was left untouched: bring the old TPM back, or let a new key be made"};
}

Result<Object> root_of(Tpm2& self, Tpm& tpm) {
  if (self.root) {
    auto loaded = tpm.load_saved(self.root->saved, self.root->public_area, self.root->name);
    if (loaded || loaded.error().code == Code::unavailable) return loaded;
    self.root.reset();  // the TPM was reset
  }
  TRY_ASSIGN_WITHIN("storage root key", Object made,
                    tpm.create_primary(limpet::tpm::Hierarchy::owner, limpet::tpm::srk_ecc()));
  TRY_ASSIGN(Bytes saved, tpm.save(made));
  self.root = Root{std::move(saved), made.public_area(), made.name()};
  return made;
}

Result<Object> load_key(Tpm2& self, Tpm& tpm, std::string_view id, TpmKey& key) {
  if (!key.saved.empty()) {
    auto loaded = tpm.load_saved(key.saved, key.blob.public_area, key.name);
    if (loaded || loaded.error().code == Code::unavailable) return loaded;  // away or busy: it stays good
    key.saved.clear();
  }
  TRY_ASSIGN(const Object root, root_of(self, tpm));
  if (root.name() != key.root_name) return fail(other_tpm(self, id));
  auto loaded = tpm.load(root, key.blob);
  if (!loaded && limpet::tpm::base_code(tpm.last_rc()) == limpet::tpm::kRcIntegrity) return fail(other_tpm(self, id));
  if (!loaded) return loaded;
  TRY_ASSIGN(key.saved, tpm.save(*loaded));
  key.name = loaded->name();
  return loaded;
}

Result<Bytes> sign_with(Tpm2& self, const limpet_op* op, const limpet_sign_request& request) {
  const std::string_view id = limpet::kit::view(request.key_id);
  const auto place = self.keys.find(id);
  if (place == self.keys.end()) return fail(limpet::kit::unknown_key(id));
  TRY_ASSIGN(const limpet::HashAlg alg, limpet::kit::check_request(request));
  TRY_ASSIGN(const auto tpm, limpet::tpm::open_for(*self.device, self.host, op));
  TRY_ASSIGN(const Object key, load_key(self, *tpm, id, place->second));
  const limpet::BytesView digest = limpet::kit::view(request.digest);
  return request.pss_salt_len >= 0 ? tpm->sign_pss(key, alg, digest) : tpm->sign(key, alg, digest);
}

Result<TpmKey> make_key(Tpm2& self, const limpet_op* op, std::string_view id, uint32_t type) {
  const bool full = self.keys.size() >= limpet::kit::kMaxKeys && !self.keys.contains(id);
  TRY(limpet::kit::check_new_key(id, type, full));
  TRY_ASSIGN(const auto tpm, limpet::tpm::open_for(*self.device, self.host, op));
  TRY_ASSIGN(const Object root, root_of(self, *tpm));
  TRY_ASSIGN_WITHIN("generate " + std::string(id), limpet::tpm::Created made,
                    tpm->create(root, limpet::tpm::signing_key(static_cast<limpet::KeyType>(type))));
  return limpet::key_manager_tpm2::make_tpm_key(std::move(made.blob), root.name());
}

// On disk first: a key that was handed out and is gone after a power cut would be worse than none.
Result<void> keep_key(Tpm2& self, std::string_view id, TpmKey key) {
  const auto before = self.keys.find(id);
  if (before != self.keys.end() && before->second.root_name != key.root_name) {
    TRY(self.directory->set_aside(id, before->second));
  }
  TRY(self.directory->save(id, key));
  self.keys.insert_or_assign(std::string(id), std::move(key));
  return {};
}

// The name of the TPM's root now; empty while the TPM is away.
Bytes current_root(Tpm2& self, const limpet_op* op) {
  if (self.keys.empty()) return {};
  const auto tpm = noted(self, limpet::tpm::open_for(*self.device, self.host, op));
  if (!tpm) return {};
  const auto root = noted(self, root_of(self, **tpm));
  return root ? root->name() : Bytes();
}

// ---- the table ----

limpet_public_key describe(std::string_view id, const TpmKey& key) {
  return {sizeof(limpet_public_key), static_cast<uint32_t>(key.type), limpet::kit::lend(id),
          limpet::kit::lend(key.key.spki()), limpet::kit::lend(key.fingerprint)};
}

void generate(limpet_instance* instance, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  Tpm2& self = self_of(instance);
  auto made = noted(self, make_key(self, op, limpet::kit::view(id), type));
  const auto kept = made ? keep_key(self, limpet::kit::view(id), std::move(*made)) : fail(made.error());
  if (!kept) {
    const limpet_status status = limpet::kit::status_of(kept.error());
    return done(op, &status, nullptr);
  }
  const auto place = self.keys.find(limpet::kit::view(id));
  const limpet_public_key key = describe(place->first, place->second);
  done(op, nullptr, &key);
}

// Keys of another TPM are no use to the host: it would keep an authority that it cannot sign with. What cannot be told
// now, because the TPM is away, is listed.
void list(limpet_instance* instance, limpet_op* op, limpet_keys_done done) {
  Tpm2& self = self_of(instance);
  const Bytes root = current_root(self, op);
  std::vector<limpet_public_key> values;
  std::vector<const limpet_public_key*> pointers;
  values.reserve(self.keys.size());
  for (auto& [id, key] : self.keys) {
    if (root.empty() || root == key.root_name) {
      values.push_back(describe(id, key));
    } else if (!std::exchange(key.reported, true)) {
      limpet::kit::log(self.host, LIMPET_LOG_ERROR, other_tpm(self, id).message);
    }
  }
  pointers.reserve(values.size());
  for (const limpet_public_key& value : values) pointers.push_back(&value);
  done(op, nullptr, pointers.data(), pointers.size());
}

void sign(limpet_instance* instance, limpet_op* op, const limpet_sign_request* request, limpet_signature_done done) {
  Tpm2& self = self_of(instance);
  const auto signature = noted(self, sign_with(self, op, *request));
  if (!signature) {
    const limpet_status status = limpet::kit::status_of(signature.error());
    return done(op, &status, {}, {});
  }
  const auto place = self.keys.find(limpet::kit::view(request->key_id));
  done(op, nullptr, limpet::kit::lend(*signature), limpet::kit::lend(place->second.fingerprint));
}

Result<void> drop_key(Tpm2& self, std::string_view id) {
  const auto place = self.keys.find(id);
  if (place == self.keys.end()) return fail(limpet::kit::unknown_key(id));
  TRY(self.directory->remove(id));
  self.keys.erase(place);
  return {};
}

void remove_key(limpet_instance* self, limpet_op* op, limpet_str id, limpet_done done) {
  limpet::kit::end(op, done, drop_key(self_of(self), limpet::kit::view(id)));
}

constexpr limpet_key_manager kTable = {sizeof(limpet_key_manager), 0, generate, list, sign, remove_key};
constexpr limpet_component kComponent = {sizeof(limpet_component),
                                         LIMPET_BLOCKING | LIMPET_SERIAL,
                                         LIMPET_KEY_MANAGER,
                                         "tpm2",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.keymanager.tpm2",
                                   LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
