// SPDX-License-Identifier: Apache-2.0
#include "plugin/plugin_keys.h"

#include <algorithm>

namespace limpet {

namespace {
constexpr size_t kMostFound = 64;
}

void PluginKeys::find(std::string id, Done<ManagedKey> done) {
  Search& search = searches_.emplace_back(*this, std::move(id), std::move(done));
  keys_.list(search.listed_.then<&Search::on_listed>(&search));
}

void PluginKeys::Search::on_listed(Result<std::vector<ManagedKey>> listed) {
  Result<ManagedKey> key = listed ? owner.pick(id, std::move(*listed)) : fail(std::move(listed).error());
  Done<ManagedKey> waiter = std::move(done);
  owner.searches_.remove_if([this](const Search& search) { return &search == this; });
  waiter(std::move(key));
}

Result<ManagedKey> PluginKeys::pick(const std::string& id, std::vector<ManagedKey> listed) {
  const std::string full = std::string(kPluginKeyPrefix) + id;
  const auto place = std::ranges::find_if(listed, [&full](const ManagedKey& key) { return key.id == full; });
  if (id.empty() || place == listed.end()) {
    return fail(Code::not_found, "key manager " + keys_.name() + " has no key \"" + full +
                                     "\"; `limpet key csr -keyID " + id + "` makes it");
  }
  if (found_.size() >= kMostFound && !found_.contains(id)) found_.clear();
  found_[id] = *place;
  ManagedKey shown = std::move(*place);
  shown.id = id;
  return shown;
}

void PluginKeys::sign(const std::string& id, HashAlg alg, int32_t pss_salt_len, Bytes digest, Done<Bytes> done) {
  const auto place = found_.find(id);
  // an id that is not there gives a key that is not there: the key manager says so, later, as it must
  if (place == found_.end()) {
    ManagedKey nothing;
    nothing.id = std::string(kPluginKeyPrefix) + id;
    return keys_.sign_pss(nothing, alg, pss_salt_len, std::move(digest), std::move(done));
  }
  keys_.sign_pss(place->second, alg, pss_salt_len, std::move(digest), std::move(done));
}

}  // namespace limpet
