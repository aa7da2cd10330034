// SPDX-License-Identifier: Apache-2.0
#include "kit/chains.h"

#include <algorithm>

#include "base/limits.h"

namespace limpet::kit {
namespace {

constexpr int kMaxSignatureChecks = 100;  // 2.6 ms each with P-256

struct Search {
  std::span<const Certificate> intermediates;
  std::span<const Certificate> roots;
  int64_t now = 0;
  int checks = 0;
  bool expired = false;  // a path failed only because of a time
  std::vector<Chain> chains = {};
  Chain path = {};

  // Whether `issuer` may stand above the path and signed its end.
  bool issues(const Certificate& issuer) {
    const Certificate& below = *path.back();
    if (issuer.subject != below.issuer || !issuer.ca || issuer.unknown_critical) return false;
    if (issuer.has_key_usage && (issuer.key_usage & kKeyCertSign) == 0) return false;
    if (issuer.path_len >= 0 && path.size() - 1 > static_cast<size_t>(issuer.path_len)) return false;
    if (++checks > kMaxSignatureChecks || !below.verify_signed_by(issuer)) return false;
    const bool in_time = issuer.not_before <= now && now <= issuer.not_after;
    expired = expired || !in_time;
    return in_time;
  }
  [[nodiscard]] bool has(const Certificate& certificate) const {
    return std::ranges::any_of(path, [&](const Certificate* c) { return c->der == certificate.der; });
  }
  // At most limits::kChainCertificates deep.
  void walk() {
    for (const Certificate& root : roots) {
      if (has(root) || !issues(root)) continue;
      chains.push_back(path);
      chains.back().push_back(&root);
    }
    if (path.size() >= limits::kChainCertificates) return;
    for (const Certificate& intermediate : intermediates) {
      if (has(intermediate) || !issues(intermediate)) continue;
      path.push_back(&intermediate);
      walk();
      path.pop_back();
    }
  }
};

}  // namespace

Result<std::vector<Chain>> find_chains(const Certificate& leaf, std::span<const Certificate> intermediates,
                                       std::span<const Certificate> roots, int64_t now) {
  const auto refuse = [](const char* why) { return fail(Code::invalid_argument, why); };
  if (leaf.unknown_critical) return refuse("x509: unhandled critical extension");
  if (now < leaf.not_before || now > leaf.not_after) return refuse("x509: certificate has expired or is not yet valid");
  Search search{intermediates, roots, now};
  search.path.push_back(&leaf);
  if (std::ranges::any_of(roots, [&](const Certificate& root) { return root.der == leaf.der; }))
    search.chains.push_back(search.path);
  search.walk();
  if (search.checks > kMaxSignatureChecks) return refuse("x509: signature check attempts limit reached");
  if (!search.chains.empty()) return std::move(search.chains);
  return refuse(search.expired ? "x509: certificate has expired or is not yet valid"
                               : "x509: certificate signed by unknown authority");
}

}  // namespace limpet::kit
