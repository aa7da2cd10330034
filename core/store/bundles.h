// SPDX-License-Identifier: Apache-2.0
#pragma once
// Trust bundles in the store, by trust domain name. Loop thread only.

#include <functional>

#include "spiffe/bundle.h"
#include "store/store.h"

namespace limpet {

// NOT_FOUND `bundle for trust domain "x" not found`; DATA_LOSS.
Result<Bundle> find_bundle(const Snapshot& snapshot, const TrustDomain& trust_domain);
// In the order of the names, after `after` (empty: all), until `visit` returns false.
Result<void> scan_bundles(const Snapshot& snapshot, std::string_view after, const std::function<bool(Bundle&&)>& visit);
void put_bundle(ChangeSet& changes, const Bundle& bundle);
// ABORTED when the stored bundle is no longer `old`: for read, change, write.
void update_bundle(ChangeSet& changes, const Bundle& old, const Bundle& bundle);
void remove_bundle(ChangeSet& changes, const TrustDomain& trust_domain);

Bytes encode_bundle(const Bundle& bundle);
Result<Bundle> decode_bundle(BytesView bytes);

}  // namespace limpet
