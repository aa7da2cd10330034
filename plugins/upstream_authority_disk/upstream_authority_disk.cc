// SPDX-License-Identifier: Apache-2.0
// Upstream authority "disk": a CA in PEM files signs the server's CA certificates. BLOCKING: it reads files and signs.
// The files are looked at before each signature and each time the host watches the bundle (every 5 s).
#include <limpet_plugin.h>

#include <ctime>
#include <optional>

#include "kit/kit.h"
#include "upstream_authority_disk/ca_files.h"

namespace {

using limpet::Bytes;
using limpet::Code;
using limpet::Error;
using limpet::fail;
using limpet::Result;
using limpet::kit::lend;
using limpet::kit::view;
using limpet::upstream_authority_disk::Paths;
using limpet::upstream_authority_disk::Stamps;
using limpet::upstream_authority_disk::stamps_of;
using limpet::upstream_authority_disk::UpstreamCa;

struct Disk {
  const limpet_host* host = nullptr;
  std::string trust_domain_id;
  Paths paths;
  Stamps seen = {};
  std::optional<UpstreamCa> ca;
  std::optional<Error> reload_error;  // why the files as they are now are not in use
};
Disk* self_of(limpet_instance* self) { return reinterpret_cast<Disk*>(self); }
int64_t now() { return static_cast<int64_t>(std::time(nullptr)); }

limpet_code create(const limpet_host* host, limpet_instance** out) {
  auto* disk = new Disk();
  disk->host = host;
  *out = reinterpret_cast<limpet_instance*>(disk);
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

Result<Paths> read_paths(std::string_view json) {
  limpet::kit::ConfigReader reader(json);
  Paths paths;
  paths.cert = reader.text("cert_file_path");
  paths.key = reader.text("key_file_path");
  paths.bundle = reader.text("bundle_file_path");
  TRY(reader.finish());
  if (paths.cert.empty()) return fail(Code::invalid_argument, "set cert_file_path, the PEM file of the CA certificate");
  if (paths.key.empty()) return fail(Code::invalid_argument, "set key_file_path, the PEM file of the CA's private key");
  return paths;
}

Result<void> apply(Disk& self, const limpet_config& config) {
  TRY_ASSIGN(Paths paths, read_paths(view(config.json)));
  const Stamps stamps = stamps_of(paths);
  TRY_ASSIGN(UpstreamCa ca, UpstreamCa::load(paths, now()));
  if (config.dry_run != 0) return {};
  self.trust_domain_id = "spiffe://" + std::string(view(config.trust_domain));
  self.paths = std::move(paths);
  self.seen = stamps;
  self.ca = std::move(ca);
  self.reload_error.reset();
  return {};
}

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::end(op, done, apply(*self_of(self), *config));
}

// Files that changed are taken over when they are sound; until then what was loaded before stays in use.
void reload(Disk& self) {
  const Stamps stamps = stamps_of(self.paths);
  if (stamps == self.seen) return;
  auto ca = UpstreamCa::load(self.paths, now());
  self.seen = stamps;
  if (ca) {
    self.ca = std::move(*ca);
    self.reload_error.reset();
    return limpet::kit::log(self.host, 3, "The upstream CA's files changed and were loaded anew");
  }
  self.reload_error = std::move(ca).error().within("the changed files are not used, those loaded before are");
  limpet::kit::log(self.host, 2, self.reload_error->message);
}

std::vector<limpet_bytes> lend_all(const std::vector<Bytes>& list) {
  std::vector<limpet_bytes> out;
  out.reserve(list.size());
  for (const Bytes& item : list) out.push_back(lend(item));
  return out;
}

void mint_ca(limpet_instance* self, limpet_op* op, limpet_bytes csr, uint32_t ttl, limpet_minted_done done) {
  Disk& disk = *self_of(self);
  reload(disk);
  const auto minted = disk.ca->sign(view(csr), disk.trust_domain_id, ttl, now());
  if (!minted) {
    const limpet_status status = limpet::kit::status_of(minted.error());
    return done(op, &status, {}, {});
  }
  std::vector<limpet_bytes> chain = {lend(*minted)};
  for (const Bytes& issuer : disk.ca->chain()) chain.push_back(lend(issuer));
  const std::vector<limpet_bytes> roots = lend_all(disk.ca->roots());
  done(op, nullptr, {chain.data(), chain.size()}, {roots.data(), roots.size()});
}

void publish_jwt_key(limpet_instance*, limpet_op* op, const limpet_jwt_key*, limpet_done done) {
  limpet::kit::end(op, done, fail(Code::unimplemented, "files on disk take no JWT keys"));
}

void watch_bundle(limpet_instance* self, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  Disk& disk = *self_of(self);
  reload(disk);
  const std::vector<limpet_bytes> roots = lend_all(disk.ca->roots());
  const limpet_bundle bundle = {sizeof(limpet_bundle), 0, {roots.data(), roots.size()}, nullptr, 0, {}};
  update(op, &bundle);
  limpet::kit::end(op, done, disk.reload_error ? fail(*disk.reload_error) : Result<void>());
}

constexpr limpet_upstream_authority kTable = {sizeof(limpet_upstream_authority), 0, mint_ca, publish_jwt_key,
                                              watch_bundle};
constexpr limpet_component kComponent = {sizeof(limpet_component),
                                         LIMPET_BLOCKING,
                                         LIMPET_UPSTREAM_AUTHORITY,
                                         "disk",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.upstreamauthority.disk",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}
