// SPDX-License-Identifier: Apache-2.0
#include "server/enrollment_api.h"

#include "proto/limpet_enrollment.pb.h"
#include "server_rig.h"
#include "store/enrollments.h"
#include "wire/api_types.h"

namespace limpet::server::test {
namespace {

using CreateRequest = limpet_api_enrollment_v1_CreateEnrollmentRequest;
using ListRequest = limpet_api_enrollment_v1_ListEnrollmentsRequest;
using ListResponse = limpet_api_enrollment_v1_ListEnrollmentsResponse;
using DeleteRequest = limpet_api_enrollment_v1_DeleteEnrollmentRequest;
using DeleteResponse = limpet_api_enrollment_v1_DeleteEnrollmentResponse;
using Device = limpet_api_enrollment_v1_Device;
constexpr const char* kService = "limpet.api.enrollment.v1.Enrollment";

struct Enrolling : ServerRig {
  Enrolling() { EXPECT_TRUE(start().has_value()); }
  template <class Response, class Request>
  Result<wire::Message<Response>> ask(const char* method, const wire::Message<Request>& request) {
    auto opened = open(kService, method, local());
    opened.call->say(*request.encode());
    opened.call->close();
    run();
    if (opened.call->code() != Code::ok) return fail(opened.call->code(), opened.call->message());
    return wire::Message<Response>::decode(opened.call->sent.at(0));
  }
  std::string enroll(std::string_view attestor, std::string_view identifier, std::string_view note = "") {
    wire::Message<CreateRequest> request;
    wire::set_string(request->attestor, attestor);
    wire::set_string(request->identifier, identifier);
    wire::set_string(request->note, note);
    auto device = ask<Device>("CreateEnrollment", request);
    return device ? std::string(wire::view((*device)->identifier)) : device.error().text();
  }
  std::string remove(std::string_view attestor, std::string_view identifier) {
    wire::Message<DeleteRequest> request;
    wire::set_string(request->attestor, attestor);
    wire::set_string(request->identifier, identifier);
    auto removed = ask<DeleteResponse>("DeleteEnrollment", request);
    return removed ? "ok" : removed.error().text();
  }
  // "a b|token" of one page.
  std::string page(std::string_view attestor, int32_t size, std::string& token) {
    wire::Message<ListRequest> request;
    wire::set_string(request->attestor, attestor);
    request->page_size = size;
    wire::set_string(request->page_token, token);
    auto response = ask<ListResponse>("ListEnrollments", request);
    if (!response) return response.error().text();
    std::string out;
    for (const Device& device : wire::items((*response)->devices, (*response)->devices_count))
      out += std::string(wire::view(device.identifier)) + " ";
    token = wire::view((*response)->next_page_token);
    return out;
  }
  std::string known(const std::string& attestor, const std::string& identifier) {
    struct Waiter {
      void on_done(Result<KnownDevice> r) { result = std::move(r); }
      Pending<KnownDevice> pending;
      std::optional<Result<KnownDevice>> result;
    } waiter;
    StoredDevices devices(loop, *store);
    devices.find(attestor, identifier, waiter.pending.then<&Waiter::on_done>(&waiter));
    EXPECT_FALSE(waiter.result) << "answered before find() returned";
    run();
    if (!waiter.result || !*waiter.result) return "no answer";
    return (*waiter.result)->enrolled ? "enrolled: " + (*waiter.result)->note : "not enrolled";
  }
};

TEST(EnrollmentApi, ADeviceIsEnrolledOnceAndKnownToItsAttestorOnly) {
  Enrolling rig;
  EXPECT_EQ(rig.known("box", "aa"), "not enrolled");
  EXPECT_EQ(rig.enroll("box", "aa", "rack 7"), "aa");
  EXPECT_EQ(rig.known("box", "aa"), "enrolled: rack 7");
  EXPECT_EQ(rig.known("other", "aa"), "not enrolled");
  EXPECT_EQ(rig.enroll("box", "aa", "another note"), "AlreadyExists: device aa is enrolled already");
  EXPECT_EQ(rig.known("box", "aa"), "enrolled: rack 7");
  EXPECT_EQ(rig.remove("other", "aa"), "NotFound: device aa is not enrolled");
  EXPECT_EQ(rig.remove("box", "aa"), "ok");
  EXPECT_EQ(rig.remove("box", "aa"), "NotFound: device aa is not enrolled");
  EXPECT_EQ(rig.known("box", "aa"), "not enrolled");
}

TEST(EnrollmentApi, NamesThatCannotBeAreRefused) {
  Enrolling rig;
  const std::string attestor = "InvalidArgument: attestor must be the name of a node attestor, like \"tpm\"";
  const std::string identifier = "InvalidArgument: identifier must be 1 to 128 characters, plain and without spaces";
  for (const std::string& bad : {std::string(), std::string(65, 'a'), std::string("a/b"), std::string("a b")}) {
    EXPECT_EQ(rig.enroll(bad, "aa"), attestor) << bad;
    EXPECT_EQ(rig.remove(bad, "aa"), attestor) << bad;
  }
  for (const std::string& bad :
       {std::string(), std::string(129, 'a'), std::string("a b"), std::string("a\nb"), std::string("\xc3\xa4")}) {
    EXPECT_EQ(rig.enroll("box", bad), identifier) << bad;
    EXPECT_EQ(rig.remove("box", bad), identifier) << bad;
  }
  EXPECT_EQ(rig.enroll("box", std::string(128, 'a'), std::string(256, 'n')), std::string(128, 'a'));
  EXPECT_EQ(rig.enroll("box", "b", std::string(257, 'n')), "InvalidArgument: note must be text of at most 256 bytes");
}

// The attestor asks for the hash in lower case; another spelling would be in the list and let nobody in.
TEST(EnrollmentApi, ATpmIsEnrolledByTheHashThatItsAttestorAsksFor) {
  Enrolling rig;
  const std::string hash = "0123456789abcdef" + std::string(48, 'a');
  const std::string shout = "0123456789ABCDEF" + std::string(48, 'A');
  EXPECT_EQ(rig.enroll("tpm", shout, "rack 7"), hash);
  EXPECT_EQ(rig.known("tpm", hash), "enrolled: rack 7");
  EXPECT_EQ(rig.enroll("tpm", hash), "AlreadyExists: device " + hash + " is enrolled already");
  EXPECT_EQ(rig.remove("tpm", shout), "ok");
  EXPECT_EQ(rig.known("tpm", hash), "not enrolled");
  for (const std::string& bad : {std::string("aa"), hash + "a", hash.substr(1) + "g", hash + hash})
    EXPECT_EQ(
        rig.enroll("tpm", bad),
        "InvalidArgument: \"" + bad + "\" is not an EK hash: 64 hexadecimal digits, as \"limpet tpm info\" prints it");
  // what is in the list all the same can be taken out
  for (const std::string& odd : {shout, std::string("aa")}) {
    ChangeSet changes;
    create_enrollment(changes, {"tpm", odd, "", 5});
    ASSERT_TRUE(rig.commit(std::move(changes)));
    EXPECT_EQ(rig.remove("tpm", odd), "ok");
    EXPECT_EQ(rig.remove("tpm", odd), "NotFound: device " + (odd == shout ? hash : odd) + " is not enrolled");
  }
}

TEST(EnrollmentApi, TheListComesInPages) {
  Enrolling rig;
  for (const char* one : {"c", "a", "d", "b"}) EXPECT_EQ(rig.enroll("box", one), one);
  EXPECT_EQ(rig.enroll("another", "x"), "x");
  std::string token;
  EXPECT_EQ(rig.page("box", 3, token), "a b c ");
  EXPECT_EQ(rig.page("box", 3, token), "d ");
  EXPECT_EQ(token, "");
  EXPECT_EQ(rig.page("", 0, token), "x a b c d ");
  EXPECT_EQ(token, "");
  token = "zz";
  EXPECT_EQ(rig.page("box", 3, token), "InvalidArgument: could not parse token \"zz\"");
}

}  // namespace
}  // namespace limpet::server::test
