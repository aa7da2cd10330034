// SPDX-License-Identifier: Apache-2.0
#include "server/bundle_endpoint.h"

namespace limpet::server {

void BundleEndpoint::handle(wire::HttpRequest request, Done<wire::HttpResponse> done) {
  if (request.path != "/") return wire::http_answer(loop_, std::move(done), wire::http_text(404, "not found\n"));
  const Bundle* own = bundles_.own();
  if (own == nullptr) return wire::http_answer(loop_, std::move(done), wire::http_text(503, "no bundle yet\n"));
  if (document_.body.empty() || rendered_ != *own) {
    rendered_ = *own;
    Bundle shown = *own;
    shown.refresh_hint = refresh_hint_s_;
    document_ = wire::http_body(200, "application/json", bundle_to_json(shown));
    document_.fields.emplace_back("etag", wire::http_etag(document_.body));
  }
  wire::http_answer(loop_, std::move(done), document_);
}

}  // namespace limpet::server
