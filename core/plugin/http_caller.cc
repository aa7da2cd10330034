// SPDX-License-Identifier: Apache-2.0
#include "plugin/http_caller.h"

#include "base/limits.h"
#include "wire/http_client.h"

namespace limpet {
namespace {

// One GET, with its answer reduced to what the ABI hands over. The asker holds nothing but his Pending, so the loop
// keeps the flow.
class GetFlow final : public LoopGuest {
 public:
  GetFlow(UvLoop& loop, std::shared_ptr<size_t> in_flight, Done<PlainReply> done)
      : loop_(loop), in_flight_(std::move(in_flight)), done_(std::move(done)), later_(loop) {
    ++*in_flight_;
  }
  ~GetFlow() override { --*in_flight_; }
  GetFlow(const GetFlow&) = delete;
  GetFlow& operator=(const GetFlow&) = delete;

  void start(const PlainGet& request) {
    auto url = wire::Url::parse(request.url);
    if (url && url->https) url = fail(Code::invalid_argument, "https is not offered, the URL must start with http://");
    if (!url) {
      refused_ = std::move(url).error();
      return later_.start<&GetFlow::on_refused>(0, this);
    }
    wire::HttpGet get;
    get.url = std::move(*url);
    get.timeout_ms = request.timeout_ms;
    get.max_body = request.max_body;
    wire::http_get(loop_, std::move(get), got_.then<&GetFlow::on_reply>(this));
  }

 private:
  void on_refused() { end(std::unexpected(std::move(refused_))); }
  void on_reply(Result<wire::HttpReply> reply) {
    if (!reply) return end(std::unexpected(std::move(reply).error()));
    end(PlainReply{reply->status, std::move(reply->body)});
  }
  void end(Result<PlainReply> result) {
    Done<PlainReply> done = std::move(done_);
    loop_.dismiss(*this);
    done(std::move(result));
  }

  UvLoop& loop_;
  std::shared_ptr<size_t> in_flight_;
  Done<PlainReply> done_;
  Timer later_;
  Error refused_;
  Pending<wire::HttpReply> got_;
};

}  // namespace

bool WireHttpCaller::has_room() const { return *in_flight_ < limits::kHttpFetches; }

void WireHttpCaller::get(PlainGet request, Done<PlainReply> done) {
  auto flow = std::make_unique<GetFlow>(loop_, in_flight_, std::move(done));
  GetFlow& started = *flow;
  loop_.keep(std::move(flow));
  started.start(request);
}

}  // namespace limpet
