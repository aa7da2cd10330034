// SPDX-License-Identifier: Apache-2.0
#pragma once
// limpet.api.enrollment.v1.Enrollment: the devices that may attest. And what the node attestors' plugins learn of it
// (limpet.enrollment/1). Loop thread only.

#include <memory>

#include "plugin/server_facts.h"
#include "server/caller.h"
#include "server/context.h"

namespace limpet::server {

class EnrollmentApi final : public Api {
 public:
  explicit EnrollmentApi(Context& context) : context_(context) {}
  std::unique_ptr<wire::ServerFlow> open(wire::ServerCall& call, const Caller& caller) override;

 private:
  Context& context_;
};

// Owned by main beside the plugins; store and loop outlive it.
class StoredDevices final : public DeviceLookup {
 public:
  StoredDevices(Loop& loop, const Store& store) : loop_(loop), store_(store) {}
  void find(const std::string& attestor, const std::string& identifier, Done<KnownDevice> done) override;

 private:
  Loop& loop_;
  const Store& store_;
};

}  // namespace limpet::server
