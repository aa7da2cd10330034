// SPDX-License-Identifier: Apache-2.0
#include "cli/tpm_commands.h"

#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/clock.h"
#include "base/errno_text.h"
#include "cli/json.h"
#include "cli/session.h"
#include "crypto/x509.h"
#include "proto/limpet_enrollment.pb.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::set_string;
using wire::view;

namespace {

using CreateRequest = limpet_api_enrollment_v1_CreateEnrollmentRequest;
using ListRequest = limpet_api_enrollment_v1_ListEnrollmentsRequest;
using ListResponse = limpet_api_enrollment_v1_ListEnrollmentsResponse;
using DeleteRequest = limpet_api_enrollment_v1_DeleteEnrollmentRequest;
using DeleteResponse = limpet_api_enrollment_v1_DeleteEnrollmentResponse;
using Device = limpet_api_enrollment_v1_Device;
constexpr const char* kAttestor = "tpm";
constexpr const char* kService = "/limpet.api.enrollment.v1.Enrollment/";
constexpr size_t kHashDigits = 64;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<std::string> parse_hash(std::string text) {
  const auto bytes = hex_decode(text);
  if (!bytes || text.size() != kHashDigits)
    return invalid("\"" + text + "\" is not an EK hash: 64 hexadecimal digits, as \"limpet tpm info\" prints it");
  return hex_encode(*bytes);
}

// The endorsement key's public key or its certificate, PEM or DER.
Result<std::string> hash_of_file(const std::string& path) {
  TRY_ASSIGN(const std::string text, read_file(path));
  Bytes der = to_bytes(text);
  if (text.contains("-----BEGIN ")) {
    TRY_ASSIGN_WITHIN(path, const std::vector<PemBlock> blocks, pem_decode(text));
    der = blocks.empty() ? Bytes() : blocks.front().der;
  }
  auto key = PublicKey::from_spki(der);
  if (!key) {
    if (const auto certificate = Certificate::parse(der)) key = certificate->key;
  }
  if (!key) return invalid(path + ": neither a public key nor a certificate, PEM or DER: " + key.error().message);
  return hex_encode(sha256(key->spki()));
}

// The hash_path directory of the SPIRE plugin: empty files named by hash.
Result<std::vector<std::string>> hashes_in(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return invalid(path + ": cannot be opened: " + errno_text(errno));
  std::vector<std::string> out;
  while (const dirent* entry = ::readdir(directory))
    if (const auto hash = parse_hash(entry->d_name)) out.push_back(*hash);
  ::closedir(directory);
  if (out.empty()) return invalid(path + ": no file in it is named by an EK hash");
  return out;
}

Result<std::vector<std::string>> wanted_hashes(const Flags& flags) {
  const bool hash = flags.given("hash");
  const bool file = flags.given("ekFile");
  const bool directory = flags.given("hashDir");
  if (hash + file + directory != 1) return invalid("one of -hash, -ekFile and -hashDir is needed");
  if (directory) return hashes_in(flags.text("hashDir"));
  TRY_ASSIGN(std::string one, hash ? parse_hash(flags.text("hash")) : hash_of_file(flags.text("ekFile")));
  return std::vector{std::move(one)};
}

void print_device(const Device& device) {
  std::printf("EK hash       : %.*s\n", static_cast<int>(view(device.identifier).size()),
              view(device.identifier).data());
  if (!view(device.note).empty())
    std::printf("Note          : %.*s\n", static_cast<int>(view(device.note).size()), view(device.note).data());
  std::printf("Enrolled at   : %s\n\n", TimeText(device.enrolled_at).rfc3339());
}

int enroll(Context& context) {
  const auto hashes = wanted_hashes(*context.flags);
  if (!hashes) return failed(hashes.error());
  return with_rpc(context, kServer, [&](Rpc& rpc, bool json) {
    const bool many = context.flags->given("hashDir");
    size_t known = 0;
    for (const std::string& hash : *hashes) {
      Message<CreateRequest> request;
      set_string(request->attestor, kAttestor);
      set_string(request->identifier, hash);
      set_string(request->note, context.flags->text("note"));
      const auto device = rpc.call<CreateRequest, Device>(std::string(kService) + "CreateEnrollment", request);
      if (many && !device && device.error().code == Code::already_exists) {
        ++known;
        continue;
      }
      if (!device) return failed("", device.error());
      if (json) std::printf("%s\n", wire::to_json(*device).c_str());
      if (!json && !many) print_device(**device);
    }
    if (many && !json)
      std::printf("Enrolled %s; %zu had been enrolled before\n",
                  counted(hashes->size() - known, "device", "devices").c_str(), known);
    return 0;
  });
}

int list(Context& context) {
  return with_rpc(context, kServer, [](Rpc& rpc, bool json) {
    std::vector<Message<ListResponse>> pages;
    size_t count = 0;
    std::string token;
    do {
      Message<ListRequest> request;
      set_string(request->attestor, kAttestor);
      request->page_size = 1000;
      set_string(request->page_token, token);
      auto page = rpc.call<ListRequest, ListResponse>(std::string(kService) + "ListEnrollments", request);
      if (!page) return failed("", page.error());
      token = view((*page)->next_page_token);
      count += (*page)->devices_count;
      pages.push_back(std::move(*page));
    } while (!token.empty());
    JsonWriter out;
    out.begin_object().key("devices").begin_array();
    if (!json) std::printf("Found %s\n\n", counted(count, "enrolled device", "enrolled devices").c_str());
    for (const auto& page : pages) {
      for (const Device& device : items(page->devices, page->devices_count))
        json ? static_cast<void>(out.raw(wire::to_json(device))) : print_device(device);
    }
    if (json) std::printf("%s\n", out.end_array().end_object().text().c_str());
    return 0;
  });
}

int remove(Context& context) {
  const auto hash = parse_hash(context.flags->text("hash"));
  if (!hash) return failed(hash.error());
  return with_rpc(context, kServer, [&](Rpc& rpc, bool json) {
    Message<DeleteRequest> request;
    set_string(request->attestor, kAttestor);
    set_string(request->identifier, *hash);
    const auto removed = rpc.call<DeleteRequest, DeleteResponse>(std::string(kService) + "DeleteEnrollment", request);
    if (!removed) return failed("", removed.error());
    if (json) {
      std::puts("{}");
      return 0;
    }
    std::printf(
        "Device removed; its agent keeps its SVID until it is evicted or banned.\n"
        "It attests again where the server trusts its maker (ca_path without require_enrollment) or hash_path names "
        "it;\n"
        "to keep it out there: limpet agent ban -spiffeID spiffe://TRUST_DOMAIN/spire/agent/tpm/%s\n",
        hash->c_str());
    return 0;
  });
}

// Beside this program, as in a build folder, or where it was installed.
std::string helper_path() {
  constexpr const char* kHelper = "/limpet-tpm";
  std::string self(4096, '\0');
  const ssize_t size = ::readlink("/proc/self/exe", self.data(), self.size());
  self.resize(size > 0 ? static_cast<size_t>(size) : 0);
  std::string beside = self.substr(0, self.rfind('/')) + kHelper;
  return ::access(beside.c_str(), X_OK) == 0 ? beside : std::string(LIMPET_LIBEXEC) + kHelper;
}

int info(Context& context) {
  const Flags& flags = *context.flags;
  const auto json = wants_json(flags);
  if (!json) return failed(json.error());
  const std::string path = helper_path();
  const char* arguments[] = {path.c_str(),
                             flags.text("device").c_str(),
                             flags.text("endorsementAuthFile").c_str(),
                             flags.text("ownerAuthFile").c_str(),
                             flags.text("bank").c_str(),
                             flags.text("pcrs").c_str(),
                             *json ? "json" : "pretty",
                             nullptr};
  ::execv(path.c_str(), const_cast<char* const*>(arguments));
  return failed(
      Error{Code::unavailable, path + " cannot be run: " + errno_text(errno) + "; it comes with the TPM plugins"});
}

}  // namespace

std::vector<Command> tpm_commands() {
  return {
      {"tpm info",
       kAgent,
       "Prints what this machine's TPM is known by: endorsement key, certificate, PCRs",
       {{"device", FlagType::text, "", "The TPM: /dev/tpmrm0, or swtpm:path=SOCKET; absent: the machine's only one"},
        {"endorsementAuthFile", FlagType::text, "",
         "A file with the endorsement hierarchy's password, where one was set"},
        {"ownerAuthFile", FlagType::text, "",
         "A file with the owner hierarchy's password, where one was set: some TPMs give the certificate to the owner "
         "only"},
        {"bank", FlagType::text, "sha256", "The bank whose PCRs are printed"},
        {"pcrs", FlagType::text, "", "PCRs to print the digest of, as a PCR policy has it: 0,2,7"},
        output_flag()},
       info},
  };
}

std::vector<Command> enrollment_commands() {
  const Flag hash = {"hash", FlagType::text, "",
                     "SHA-256 of the TPM's endorsement key, as \"limpet tpm info\" prints it"};
  return {
      {"tpm enroll",
       kServer,
       "Lets a device attest by its TPM's endorsement key",
       {hash,
        {"ekFile", FlagType::text, "", "In place of -hash: the endorsement key or its certificate, PEM or DER"},
        {"hashDir", FlagType::text, "", "In place of -hash: a directory of files named by hash (SPIRE's hash_path)"},
        {"note", FlagType::text, "", "Words to know the device by"},
        server_socket_flag(),
        instance_flag(),
        output_flag()},
       enroll},
      {"tpm list",
       kServer,
       "Lists the devices that may attest by their TPM",
       {server_socket_flag(), instance_flag(), output_flag()},
       list},
      {"tpm remove",
       kServer,
       "Takes a device from that list; where its maker is trusted, it attests all the same until its agent is banned",
       {hash, server_socket_flag(), instance_flag(), output_flag()},
       remove},
  };
}

}  // namespace limpet::cli
