// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands behind the host service limpet.http/1: one GET without TLS. WireHttpCaller is the real one; tests use
// fakes. Loop thread only.

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "loop/uv_loop.h"

namespace limpet {

struct PlainGet {
  std::string url;
  size_t max_body = 0;
  int64_t timeout_ms = 0;
};
struct PlainReply {
  int status = 0;
  Bytes body;
};

class HttpCaller {
 public:
  virtual ~HttpCaller() = default;
  [[nodiscard]] virtual bool has_room() const = 0;  // false: too many are in flight, do not call get()
  // INVALID_ARGUMENT: not an http URL; else as wire::http_get.
  virtual void get(PlainGet request, Done<PlainReply> done) = 0;
};

// Over core/wire. Owned by main, it outlives the plugins; so does the loop.
class WireHttpCaller final : public HttpCaller {
 public:
  explicit WireHttpCaller(UvLoop& loop) : loop_(loop) {}
  // For limits::kHttpFetches, those counted for which nobody waits any more.
  [[nodiscard]] bool has_room() const override;
  void get(PlainGet request, Done<PlainReply> done) override;

 private:
  UvLoop& loop_;
  std::shared_ptr<size_t> in_flight_ =
      std::make_shared<size_t>(0);  // owners: this, and the flows, which may live longer
};

}  // namespace limpet
