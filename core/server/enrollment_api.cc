// SPDX-License-Identifier: Apache-2.0
#include "server/enrollment_api.h"

#include <algorithm>

#include "proto/limpet_enrollment.pb.h"
#include "server/wire_values.h"
#include "store/enrollments.h"
#include "wire/unary.h"

namespace limpet::server {
namespace {

using CreateRequest = limpet_api_enrollment_v1_CreateEnrollmentRequest;
using ListRequest = limpet_api_enrollment_v1_ListEnrollmentsRequest;
using ListResponse = limpet_api_enrollment_v1_ListEnrollmentsResponse;
using DeleteRequest = limpet_api_enrollment_v1_DeleteEnrollmentRequest;
using DeleteResponse = limpet_api_enrollment_v1_DeleteEnrollmentResponse;
using Device = limpet_api_enrollment_v1_Device;

constexpr size_t kAttestorBytes = 64;
constexpr std::string_view kTpm = "tpm";
constexpr size_t kTpmHashBytes = 32;

Error invalid(std::string message) { return {Code::invalid_argument, std::move(message)}; }

bool visible(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

Result<void> check_device(std::string_view attestor, std::string_view identifier) {
  if (attestor.empty() || attestor.size() > kAttestorBytes || !visible(attestor) || attestor.contains('/'))
    return fail(invalid("attestor must be the name of a node attestor, like \"tpm\""));
  if (identifier.empty() || identifier.size() > kEnrollmentIdBytes || !visible(identifier))
    return fail(invalid("identifier must be 1 to 128 characters, plain and without spaces"));
  return {};
}

// What the attestor will ask for: "tpm" asks for a hash in lower case.
Result<std::string> known_as(std::string_view attestor, std::string_view identifier) {
  if (attestor != kTpm) return std::string(identifier);
  const auto hash = hex_decode(identifier);
  if (!hash || hash->size() != kTpmHashBytes)
    return fail(invalid("\"" + std::string(identifier) +
                        "\" is not an EK hash: 64 hexadecimal digits, as \"limpet tpm info\" prints it"));
  return hex_encode(*hash);
}

void write_device(Device& out, const Enrollment& row) {
  wire::set_string(out.attestor, row.attestor);
  wire::set_string(out.identifier, row.identifier);
  wire::set_string(out.note, row.note);
  out.enrolled_at = row.enrolled_at;
}

class CreateFlow final : public wire::UnaryFlow<CreateRequest, Device> {
 public:
  CreateFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const CreateRequest& request) override {
    row_ = {std::string(wire::view(request.attestor)), std::string(wire::view(request.identifier)),
            std::string(wire::view(request.note)), context_.clock.now()};
    if (auto good = check_device(row_.attestor, row_.identifier); !good) return refuse(std::move(good).error());
    auto identifier = known_as(row_.attestor, row_.identifier);
    if (!identifier) return refuse(std::move(identifier).error());
    row_.identifier = std::move(*identifier);
    if (row_.note.size() > kEnrollmentNoteBytes || !is_utf8(row_.note))
      return refuse(invalid("note must be text of at most 256 bytes"));
    ChangeSet changes;
    create_enrollment(changes, row_);
    context_.store.commit(std::move(changes), committed_.then<&CreateFlow::on_committed>(this));
  }
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted)
      return refuse({Code::already_exists, "device " + row_.identifier + " is enrolled already"});
    if (!revision) return refuse(std::move(revision).error().within("failed to enroll the device"));
    context_.logger.info("Device enrolled",
                         {{"attestor", row_.attestor}, {"identifier", row_.identifier}, {"note", row_.note}});
    wire::Message<Device> response;
    write_device(*response, row_);
    reply(response);
  }

  Context& context_;
  Enrollment row_;
  Pending<uint64_t> committed_;
};

class ListFlow final : public wire::UnaryFlow<ListRequest, ListResponse> {
 public:
  ListFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const ListRequest& request) override {
    const std::string_view attestor = wire::view(request.attestor);
    const std::string_view token = wire::view(request.page_token);
    const auto after = hex_decode(token);
    if (!after) return refuse(invalid("could not parse token \"" + std::string(token.substr(0, 64)) + "\""));
    const size_t limit = page_limit(request.page_size);
    std::vector<Enrollment> page;
    auto scanned = scan_enrollments(context_.store.read(), *after, [&](Enrollment&& row) {
      if (attestor.empty() || row.attestor == attestor) page.push_back(std::move(row));
      return page.size() < limit;
    });
    if (!scanned) return refuse(std::move(scanned).error().within("failed to list enrolled devices"));
    wire::Message<ListResponse> response;
    Device* devices = wire::set_array(response->devices, response->devices_count, page.size());
    for (size_t i = 0; i < page.size(); ++i) write_device(devices[i], page[i]);
    if (page.size() == limit)
      wire::set_string(response->next_page_token,
                       hex_encode(enrollment_key(page.back().attestor, page.back().identifier)));
    reply(response);
  }

  Context& context_;
};

class DeleteFlow final : public wire::UnaryFlow<DeleteRequest, DeleteResponse> {
 public:
  DeleteFlow(Context& context, wire::ServerCall& call) : UnaryFlow(call), context_(context) {}

 private:
  void handle(const DeleteRequest& request) override {
    attestor_ = wire::view(request.attestor);
    identifier_ = wire::view(request.identifier);
    if (auto good = check_device(attestor_, identifier_); !good) return refuse(std::move(good).error());
    // A row may be older than the rule.
    if (auto now = known_as(attestor_, identifier_);
        now && !find_enrollment(context_.store.read(), attestor_, identifier_))
      identifier_ = std::move(*now);
    ChangeSet changes;
    remove_enrollment(changes, attestor_, identifier_);
    context_.store.commit(std::move(changes), committed_.then<&DeleteFlow::on_committed>(this));
  }
  void on_committed(Result<uint64_t> revision) {
    if (!revision && revision.error().code == Code::aborted)
      return refuse({Code::not_found, "device " + identifier_ + " is not enrolled"});
    if (!revision) return refuse(std::move(revision).error().within("failed to remove the device"));
    context_.logger.info("Device no longer enrolled", {{"attestor", attestor_}, {"identifier", identifier_}});
    reply(wire::Message<DeleteResponse>());
  }

  Context& context_;
  std::string attestor_;
  std::string identifier_;
  Pending<uint64_t> committed_;
};

}  // namespace

std::unique_ptr<wire::ServerFlow> EnrollmentApi::open(wire::ServerCall& call, const Caller&) {
  const std::string_view path = call.method();
  const std::string_view method = path.substr(path.rfind('/') + 1);
  if (method == "CreateEnrollment") return std::make_unique<CreateFlow>(context_, call);
  if (method == "ListEnrollments") return std::make_unique<ListFlow>(context_, call);
  if (method == "DeleteEnrollment") return std::make_unique<DeleteFlow>(context_, call);
  return nullptr;
}

void StoredDevices::find(const std::string& attestor, const std::string& identifier, Done<KnownDevice> done) {
  Result<KnownDevice> answer;
  if (auto row = find_enrollment(store_.read(), attestor, identifier)) {
    answer = KnownDevice{true, std::move(row->note), row->enrolled_at};
  } else if (row.error().code != Code::not_found) {
    answer = std::unexpected(std::move(row).error());
  }
  loop_.post([held = std::move(done), found = std::move(answer)]() mutable { held(std::move(found)); });
}

}  // namespace limpet::server
