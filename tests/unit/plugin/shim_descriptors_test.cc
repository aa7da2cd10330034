// SPDX-License-Identifier: Apache-2.0
// Plugins in child processes when the daemon has no descriptor left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "plugin/workload_attestor.h"
#include "shimmed.h"

namespace limpet {
namespace {

using namespace test;
using ::testing::HasSubstr;

// No descriptor above the ones in use, but `more`.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t more) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int next = ::dup(0);
    ::close(next);
    const rlimit few = {static_cast<rlim_t>(next) + more, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &few);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

TEST_F(ShimTest, WithoutAFreeDescriptorAPidfdIsNotReplacedByAnothers) {
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
  ASSERT_GE(pidfd, 0);
  for (const char* file : {"mock_moody", "mock_moody_blocking"}) {
    auto attestor = make_workload_attestor(start(LIMPET_WORKLOAD_ATTESTOR, file));
    Await<std::vector<std::string>> refused(loop_), served(loop_);
    {
      const FewDescriptors none(0);
      attestor->attest({::getpid(), pidfd, 0, 0}, refused.done());
      const auto end = refused.get();
      ASSERT_FALSE(end.has_value()) << file;
      EXPECT_EQ(end.error().code, Code::resource_exhausted) << file;
      EXPECT_THAT(end.error().message, HasSubstr("no descriptor is free")) << file;
    }
    attestor->attest({::getpid(), pidfd, 0, 0}, served.done());
    EXPECT_TRUE(served.get().has_value()) << file;
  }
  ::close(pidfd);
}

TEST_F(ShimTest, AChildThatCannotBeStartedForWantOfDescriptorsSaysSo) {
  const std::string path = mock();
  const std::string digest = digest_of_file(path);
  bool opened = false;
  for (rlim_t more = 0; !opened && more < 20; ++more) {
    const FewDescriptors few(more);
    const auto component = shim::Component::open(loop_, settings_, path, digest, LIMPET_KEY_MANAGER, "moody");
    opened = component.has_value();
    const std::string why = opened ? "oo many open files" : component.error().message;
    EXPECT_THAT(why, HasSubstr("oo many open files")) << more;
  }
  EXPECT_TRUE(opened);
}

}  // namespace
}  // namespace limpet
