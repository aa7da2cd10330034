// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_drafts.h"

#include "base/limits.h"
#include "store/codec.h"

namespace limpet::server {
namespace {

Result<void> check_growth(size_t before, size_t after, size_t bound, const char* kind) {
  if (after <= before || after <= bound - kOwnAuthoritiesReserve) return {};
  return fail(Code::resource_exhausted, std::string("the bundle would have more than ") +
                                            std::to_string(bound - kOwnAuthoritiesReserve) + " " + kind +
                                            " authorities, and the rest of its " + std::to_string(bound) +
                                            " is kept for this server's own: revoke some, or wait until they expire");
}

}  // namespace

Result<void> check_own_growth(const Bundle& before, const Bundle& after) {
  TRY(check_growth(before.x509_authorities.size(), after.x509_authorities.size(), limits::kBundleCertificates,
                   "X.509"));
  return check_growth(before.jwt_authorities.size(), after.jwt_authorities.size(), limits::kBundleKeys, "JWT");
}

Result<void> check_bundle_size(const Bundle& bundle) {
  if (bundle.x509_authorities.size() > limits::kBundleCertificates) {
    return fail(Code::invalid_argument,
                "more than " + std::to_string(limits::kBundleCertificates) + " X.509 authorities in one bundle");
  }
  if (bundle.jwt_authorities.size() > limits::kBundleKeys) {
    return fail(Code::invalid_argument,
                "more than " + std::to_string(limits::kBundleKeys) + " JWT authorities in one bundle");
  }
  return {};
}

Result<const Bundle*> BundleDrafts::find(const TrustDomain& trust_domain) {
  auto place = drafts_.find(trust_domain);
  if (place == drafts_.end()) {
    auto stored = find_bundle(snapshot_, trust_domain);
    if (!stored && stored.error().code != Code::not_found) return fail(std::move(stored).error());
    Draft draft;
    if (stored) draft.stored = draft.now = std::move(*stored);
    place = drafts_.emplace(trust_domain, std::move(draft)).first;
  }
  return place->second.now ? &*place->second.now : nullptr;
}

void BundleDrafts::put(const Bundle& bundle) {
  Draft& draft = drafts_[bundle.trust_domain];
  draft.now = bundle;
  draft.touched = true;
}

void BundleDrafts::remove(const TrustDomain& trust_domain) {
  Draft& draft = drafts_[trust_domain];
  draft.now.reset();
  draft.touched = true;
}

void BundleDrafts::write(ChangeSet& changes) const {
  for (const auto& [trust_domain, draft] : drafts_) {
    if (!draft.touched || draft.stored == draft.now) continue;
    const Bytes key = text_key(trust_domain.name());
    if (draft.stored) {
      changes.require_equal(TableId::bundles, key, encode_bundle(*draft.stored));
    } else {
      changes.require_absent(TableId::bundles, key);
    }
    if (draft.now) {
      put_bundle(changes, *draft.now);
    } else {
      remove_bundle(changes, trust_domain);
    }
  }
}

}  // namespace limpet::server
