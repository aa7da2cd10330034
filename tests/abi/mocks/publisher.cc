// SPDX-License-Identifier: Apache-2.0
// A bundle publisher for the tests: it appends "<roots> <JWT keys>" to the file {"path": "..."}, and fails while there
// is a file "<path>.fail".
#include <fstream>

#include <limpet.hpp>

namespace {

class Publisher {
 public:
  explicit Publisher(limpet::Host) {}
  limpet::Status configure(const limpet::Config& config) {
    const std::string json(limpet::view(config.json));
    const size_t from = json.find("\"/");
    if (from == std::string::npos) return {LIMPET_INVALID_ARGUMENT, "path is missing", 0};
    if (config.dry_run == 0) path_ = json.substr(from + 1, json.find('"', from + 1) - from - 1);
    return {};
  }
  void publish(const limpet_bundle& bundle, limpet::DoneReply reply) {
    if (std::ifstream(path_ + ".fail").good()) return reply.fail(LIMPET_UNAVAILABLE, "the bucket is gone");
    std::ofstream(path_, std::ios::app) << bundle.x509_roots_der.count << ' ' << bundle.jwt_key_count << '\n';
    reply.ok();
  }

 private:
  std::string path_;
};

const limpet_component publisher = limpet::bundle_publisher<Publisher>("lines", LIMPET_BLOCKING);

}  // namespace

LIMPET_PLUGIN("org.example.lines", "1.0.0", "Apache-2.0", &publisher)
