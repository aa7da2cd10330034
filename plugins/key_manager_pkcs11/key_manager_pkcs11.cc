// SPDX-License-Identifier: Apache-2.0
// The plugin "pkcs11": a key manager and a sealer over the tokens of any PKCS#11 module. BLOCKING: tokens are slow, and
// all calls of an instance come from the host's one thread for it. The token is first asked when it is needed: one that
// is away must not keep a role from starting.
#include <limpet_plugin.h>

#include <memory>

#include "key_manager_pkcs11/key_store.h"
#include "key_manager_pkcs11/wrap_key.h"
#include "kit/key_table.h"
#include "kit/kit.h"

namespace {

using limpet::Bytes;
using limpet::Code;
using limpet::fail;
using limpet::KeyType;
using limpet::Result;
using namespace limpet::pkcs11;

struct Settings {
  std::string module;
  TokenMatch token;
  PinSource pin;
  std::string name_space;
  bool operator==(const Settings&) const = default;
};

struct Instance {
  explicit Instance(const limpet_host* given) : host(given), refused(given) {}
  const limpet_host* host;
  RefusedPin refused;
  Settings settings = {};
  std::unique_ptr<Token> token = nullptr;
  std::unique_ptr<KeyStore> keys = nullptr;
  std::unique_ptr<WrapKey> wrap = nullptr;
};
Instance* self_of(limpet_instance* self) { return reinterpret_cast<Instance*>(self); }
Instance* begin(limpet_instance* self, const limpet_op* op) {
  self_of(self)->refused.begin(op);
  return self_of(self);
}

limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new Instance(host));
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }
void cancel(limpet_instance* self, limpet_op* op) { self_of(self)->refused.cancel(op); }

Result<void> check_namespace(const std::string& name) {
  bool good = !name.empty() && name.size() <= 64;
  for (const char c : name)
    good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                    c == '_' || c == '.');
  if (good) return {};
  return fail(
      Code::invalid_argument,
      "namespace must have 1 to 64 letters, digits, '.', '-' or '_'; no two users of a token may have the same");
}

Result<Settings> read_settings(std::string_view json) {
  limpet::kit::ConfigReader reader(json);
  Settings out;
  out.module = reader.text("module");
  const std::string token = reader.text("token");
  out.pin.file = reader.text("pin_file");
  out.pin.env = reader.text("pin_env");
  out.name_space = reader.text("namespace");
  TRY(reader.finish());
  TRY_ASSIGN(TokenUri uri, parse_token(token));
  const auto from_uri = [](std::string& place, std::string& value, const char* key) -> Result<void> {
    if (value.empty()) return {};
    if (!place.empty())
      return fail(Code::invalid_argument, std::string(key) + " is set, and the token's URI has one too");
    place = std::move(value);
    return {};
  };
  TRY(from_uri(out.module, uri.module_path, "module"));
  TRY(from_uri(out.pin.file, uri.pin_file, "pin_file"));
  if (out.module.empty()) return fail(Code::invalid_argument, "set module, the path of the PKCS#11 module");
  if (!out.pin.file.empty() && !out.pin.env.empty())
    return fail(Code::invalid_argument, "set pin_file or pin_env, not both");
  TRY(check_namespace(out.name_space));
  out.token = std::move(uri.token);
  return out;
}

Result<void> apply(Instance& self, const limpet_config& config) {
  TRY_ASSIGN(Settings settings, read_settings(limpet::kit::view(config.json)));
  TRY(Module::check_file(settings.module));
  if (auto pin = check_pin(settings.pin); !pin) return fail(Code::invalid_argument, pin.error().message);
  if (config.dry_run != 0 || (self.token != nullptr && settings == self.settings)) return {};
  TRY_ASSIGN(Module * module, Module::open(settings.module));
  self.keys.reset();
  self.wrap.reset();
  self.token = std::make_unique<Token>(*module, settings.token, settings.pin, self.refused, self.host);
  self.keys = std::make_unique<KeyStore>(*self.token, settings.name_space, self.host);
  self.wrap = std::make_unique<WrapKey>(*self.token, settings.name_space);
  self.settings = std::move(settings);
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::end(op, done, apply(*self_of(self), *config));
}

// ---- the key manager ----
limpet_public_key describe_key(std::string_view id, const TokenKey& key) {
  return {sizeof(limpet_public_key), static_cast<uint32_t>(key.type), limpet::kit::lend(id),
          limpet::kit::lend(key.key.spki()), limpet::kit::lend(key.fingerprint)};
}

void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  const std::string name(limpet::kit::view(id));
  auto made = type >= 1 && type <= 4
                  ? begin(self, op)->keys->generate(name, static_cast<KeyType>(type))
                  : fail(Code::invalid_argument, "key type " + std::to_string(type) + " is not known");
  if (!made) {
    const limpet_status status = limpet::kit::status_of(made.error());
    return done(op, &status, nullptr);
  }
  const limpet_public_key key = describe_key(name, *made);
  done(op, nullptr, &key);
}

void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) {
  const auto keys = begin(self, op)->keys->list();
  if (!keys) {
    const limpet_status status = limpet::kit::status_of(keys.error());
    return done(op, &status, nullptr, 0);
  }
  std::vector<limpet_public_key> values;
  std::vector<const limpet_public_key*> pointers;
  values.reserve(keys->size());
  pointers.reserve(keys->size());
  for (const auto& [id, key] : *keys) values.push_back(describe_key(id, key));
  for (const limpet_public_key& value : values) pointers.push_back(&value);
  done(op, nullptr, pointers.data(), pointers.size());
}

Result<SignWish> read_wish(const limpet_sign_request& r) {
  TRY_ASSIGN(const limpet::HashAlg alg, limpet::kit::check_request(r));
  if (r.pss_salt_len > 512) return fail(Code::invalid_argument, "a PSS salt of more than 512 bytes");
  return SignWish{std::string(limpet::kit::view(r.key_id)), alg, limpet::to_bytes(limpet::kit::view(r.digest)),
                  r.pss_salt_len};
}

void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* request, limpet_signature_done done) {
  std::string fingerprint;
  const auto wish = read_wish(*request);
  const Result<Bytes> signature = wish ? begin(self, op)->keys->sign(*wish, fingerprint) : fail(wish.error());
  if (signature) return done(op, nullptr, limpet::kit::lend(*signature), limpet::kit::lend(fingerprint));
  const limpet_status status = limpet::kit::status_of(signature.error());
  done(op, &status, {}, {});
}

void remove_key(limpet_instance* self, limpet_op* op, limpet_str id, limpet_done done) {
  limpet::kit::end(op, done, begin(self, op)->keys->remove(std::string(limpet::kit::view(id))));
}

// ---- the sealer ----
void end_bytes(limpet_op* op, limpet_bytes_done done, const Result<limpet::BytesView>& bytes) {
  if (bytes) return done(op, nullptr, limpet::kit::lend(*bytes));
  const limpet_status status = limpet::kit::status_of(bytes.error());
  done(op, &status, {});
}

constexpr size_t kMaxPlainBytes = 4096;  // the interface's bounds
constexpr size_t kMaxContextBytes = 64;

void seal(limpet_instance* self, limpet_op* op, limpet_bytes plain, limpet_bytes context, limpet_bytes_done done) {
  if (plain.len == 0 || plain.len > kMaxPlainBytes || context.len > kMaxContextBytes) {
    return end_bytes(op, done, fail(Code::invalid_argument, "1 to 4096 bytes with at most 64 of context are sealed"));
  }
  const auto blob = begin(self, op)->wrap->seal(limpet::kit::view(plain), limpet::kit::view(context));
  end_bytes(op, done, blob ? Result<limpet::BytesView>(*blob) : fail(blob.error()));
}

void unseal(limpet_instance* self, limpet_op* op, limpet_bytes blob, limpet_bytes context, limpet_bytes_done done) {
  const auto plain = begin(self, op)->wrap->unseal(limpet::kit::view(blob), limpet::kit::view(context));
  end_bytes(op, done, plain ? Result<limpet::BytesView>(plain->view()) : fail(plain.error()));
}

constexpr limpet_key_manager kKeys = {sizeof(limpet_key_manager), 0, generate, list, sign, remove_key};
constexpr limpet_sealer kSealer = {sizeof(limpet_sealer), 0, seal, unseal};
constexpr limpet_component kKeyManager = {sizeof(limpet_component),
                                          LIMPET_BLOCKING,
                                          LIMPET_KEY_MANAGER,
                                          "pkcs11",
                                          create,
                                          destroy,
                                          configure,
                                          cancel,
                                          &kKeys};
constexpr limpet_component kSealerComponent = {
    sizeof(limpet_component), LIMPET_BLOCKING, LIMPET_SEALER, "pkcs11", create, destroy, configure, cancel, &kSealer};
constexpr const limpet_component* kComponents[] = {&kKeyManager, &kSealerComponent, nullptr};
constexpr limpet_plugin kPlugin = {sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.pkcs11",
                                   LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
