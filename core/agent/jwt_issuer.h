// SPDX-License-Identifier: Apache-2.0
#pragma once
// JWT-SVIDs for workloads: asks the server to sign, keeps each by SPIFFE ID and audiences, and hands it out until half
// of its life is over; then it asks again, and gives the kept one, as long as it is valid, when the server refuses, is
// slow or is gone. Tokens are asked for when somebody wants one, never ahead. Owned by the Agent; loop thread only.

#include <pb.h>

#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/link.h"
#include "base/clock.h"
#include "spiffe/entry.h"

namespace limpet::agent {

// The audiences of a request for a token. INVALID_ARGUMENT: none, or beyond limits::kJwtAudiences, kJwtAudienceBytes.
Result<std::vector<std::string>> read_audience(char* const* audience, pb_size_t count);

struct JwtIssuerOptions {
  size_t cache_limit = 1000;        // kept tokens; the one used longest ago goes first
  int64_t hit_timeout_ms = 30'000;  // how long the server may take while a valid token is kept
};

class JwtIssuer {
 public:
  JwtIssuer(Loop& loop, const Clock& clock, Logger& log, Link& link, JwtIssuerOptions options);
  ~JwtIssuer();

  // A valid token for this entry. Those who want the same at the same time share one call. An entry that asks for a
  // `jti` gets a token of its own each time. The error is the server's or the link's.
  void issue(const Entry& entry, std::vector<std::string> audience, Done<std::string> done);
  // Forgets the tokens that tainted keys of this bundle signed. Returns how many.
  size_t forget_tainted(const Bundle& bundle);
  [[nodiscard]] size_t cached() const { return cache_.size(); }

 private:
  class Ask;
  struct Token {
    std::string text;
    std::string key_id;
    int64_t issued_at = 0;
    int64_t expires_at = 0;
    std::list<std::string>::iterator place;  // in used_
  };

  const Token* valid(const std::string& key);
  void keep(const std::string& key, Token token);
  void on_answer(Ask& ask, Result<Token> answer);

  Loop& loop_;
  const Clock& clock_;
  Logger& log_;
  Link& link_;
  JwtIssuerOptions options_;
  std::map<std::string, Token> cache_;
  std::list<std::string> used_;  // keys of cache_, the latest first
  std::map<std::string, std::unique_ptr<Ask>> asks_;
  bool failing_ = false;  // said, and not over yet
  uint64_t unique_ = 0;   // tells the calls for tokens with a `jti` apart
};

}  // namespace limpet::agent
