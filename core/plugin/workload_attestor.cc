// SPDX-License-Identifier: Apache-2.0
// Asks a plugin what it knows of a process.
#include "plugin/workload_attestor.h"

#include <fcntl.h>
#include <unistd.h>

#include "plugin/borrow.h"

namespace limpet {
namespace {

using Selectors = std::vector<std::string>;

void on_selectors(limpet_op* op, const limpet_status* err, limpet_str_list selectors) {
  answer_op<Selectors>(op, err, [&] { return take(op->owner->label(), selectors); });
}

// The caller's pidfd lives until attest() returns; a call that starts later needs its own.
struct OwnedFd {
  explicit OwnedFd(int descriptor) : fd(descriptor) {}
  OwnedFd(OwnedFd&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  OwnedFd& operator=(OwnedFd&&) = delete;
  ~OwnedFd() {
    if (fd >= 0) ::close(fd);
  }
  int fd;
};

class Facade final : public WorkloadAttestor {
 public:
  explicit Facade(std::shared_ptr<Instance> instance) : instance_(std::move(instance)) {}
  ~Facade() override { instance_->close(); }
  [[nodiscard]] const std::string& name() const override { return instance_->name(); }

  void attest(const WorkloadReference& workload, Done<Selectors> done) override {
    const bool keep_fd = instance_->deferred() && workload.pidfd >= 0;
    instance_->run<Selectors>(
        [table = instance_->table<limpet_workload_attestor>(), who = workload, keep_fd,
         own = OwnedFd(keep_fd ? ::fcntl(workload.pidfd, F_DUPFD_CLOEXEC, 0) : -1)](limpet_instance* self,
                                                                                    limpet_op* op) {
          if (keep_fd && own.fd < 0) {  // told -1 it would take the number of the process for the process
            const limpet_status full = {sizeof(limpet_status), LIMPET_RESOURCE_EXHAUSTED,
                                        lend("no descriptor is free for the workload's pidfd"), 0, 0};
            return on_selectors(op, &full, {});
          }
          const limpet_workload w = {
              sizeof(limpet_workload), who.pid, keep_fd ? own.fd : who.pidfd, who.uid, who.gid, 0, {}, {}};
          table->attest(self, op, &w, &on_selectors);
        },
        limits::kWorkloadAttestMs, std::move(done));
  }

 private:
  std::shared_ptr<Instance> instance_;
};

}  // namespace

std::unique_ptr<WorkloadAttestor> make_workload_attestor(std::shared_ptr<Instance> instance) {
  return std::make_unique<Facade>(std::move(instance));
}

}  // namespace limpet
