// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys that the key manager holds for plugins, behind the host service limpet.keys/1. A prefix keeps them apart from
// the role's own: no plugin can name the CA's key. Owned by the Catalog; loop thread only.

#include <list>
#include <map>

#include "plugin/key_manager.h"

namespace limpet {

// In the key manager the ids of such keys begin with this.
inline constexpr std::string_view kPluginKeyPrefix = "attest-";

class PluginKeys {
 public:
  explicit PluginKeys(KeyManager& keys) : keys_(keys) {}
  // By its id without the prefix. NOT_FOUND says how to make it.
  void find(std::string id, Done<ManagedKey> done);
  // With a key that was found before: FAILED_PRECONDITION when it was not, or was replaced since. No PSS: -1.
  void sign(const std::string& id, HashAlg alg, int32_t pss_salt_len, Bytes digest, Done<Bytes> done);

 private:
  struct Search {
    Search(PluginKeys& keys, std::string wanted, Done<ManagedKey> waiter)
        : owner(keys), id(std::move(wanted)), done(std::move(waiter)) {}
    void on_listed(Result<std::vector<ManagedKey>> listed);
    PluginKeys& owner;
    const std::string id;
    Done<ManagedKey> done;
    Pending<std::vector<ManagedKey>> listed_;
  };
  [[nodiscard]] Result<ManagedKey> pick(const std::string& id, std::vector<ManagedKey> listed);

  KeyManager& keys_;
  std::map<std::string, ManagedKey> found_;  // by id without the prefix
  std::list<Search> searches_;
};

}  // namespace limpet
