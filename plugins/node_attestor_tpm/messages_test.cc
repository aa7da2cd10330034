// SPDX-License-Identifier: Apache-2.0
// What the attestor "tpm" reads: the three messages, and the file of PCR policies.
#include "node_attestor_tpm/messages.h"

#include <gtest/gtest.h>

#include "node_attestor_tpm/checks.h"
#include "node_attestor_tpm/policies.h"
#include "support/mint.h"

namespace limpet::tpm_attestor {
namespace {

using namespace test;
using test::read_file;

template <class T>
std::string said(const Result<T>& result) {
  return result ? "ok" : result.error().message;
}

TEST(TpmMessages, TheReferencePluginsPayloadIsRead) {
  const std::string text = read_file(std::string(TEST_VECTORS) + "/tpm/pubhash_payload.json");
  const auto payload = decode_payload(as_bytes(text));
  ASSERT_EQ(said(payload), "ok");
  EXPECT_FALSE(payload->quotes);
  EXPECT_FALSE(payload->ek_certificate);
  EXPECT_EQ(ek_hash(payload->ek).size(), 64u);
  EXPECT_EQ(said(check_ak(payload->ak)), "ok");
  // what we write is what it writes, and one member of our own
  EXPECT_EQ(encode_payload({{}, payload->ek, payload->ak, false}), text);
  const auto own = decode_payload(as_bytes(encode_payload({{}, payload->ek, payload->ak})));
  ASSERT_EQ(said(own), "ok");
  EXPECT_TRUE(own->quotes);
}

TEST(TpmMessages, TheReferencePluginsChallengeAndResponseAreReadAndWritten) {
  const std::string challenge = read_file(std::string(TEST_VECTORS) + "/tpm/pubhash_challenge.json");
  const auto read = decode_challenge(as_bytes(challenge));
  ASSERT_EQ(said(read), "ok");
  EXPECT_EQ(read->credential.id_object.size(), 68u);
  EXPECT_EQ(read->credential.secret.size(), 256u);
  EXPECT_FALSE(read->quote);
  EXPECT_EQ(encode_challenge(*read), challenge);
  const std::string response = read_file(std::string(TEST_VECTORS) + "/tpm/pubhash_response.json");
  const auto answer = decode_response(as_bytes(response));
  ASSERT_EQ(said(answer), "ok");
  EXPECT_EQ(answer->secret.size(), 32u);
  EXPECT_EQ(encode_response(*answer), response);
}

TEST(TpmMessages, OurAdditionsComeBackAsTheyWereSent) {
  Challenge challenge;
  challenge.credential = {Bytes(68, 1), Bytes(256, 2)};
  challenge.quote = QuoteRequest{Bytes(32, 3), {{tpm_wire::kAlgSha256, {0, 7, 23}}, {tpm_wire::kAlgSha384, {1}}}, true};
  const auto read = decode_challenge(as_bytes(encode_challenge(challenge)));
  ASSERT_EQ(said(read), "ok");
  ASSERT_TRUE(read->quote);
  EXPECT_EQ(read->quote->nonce, challenge.quote->nonce);
  EXPECT_EQ(read->quote->sets, challenge.quote->sets);
  EXPECT_TRUE(read->quote->event_log);
  Response response;
  response.secret = Bytes(32, 4);
  response.quote = QuoteAnswer{
      Bytes(100, 5), Bytes(70, 6), {{tpm_wire::kAlgSha256, {{0, Bytes(32, 7)}, {7, Bytes(32, 8)}}}}, {9}, {}};
  const auto back = decode_response(as_bytes(encode_response(response)));
  ASSERT_EQ(said(back), "ok");
  ASSERT_TRUE(back->quote);
  EXPECT_EQ(back->quote->quote, response.quote->quote);
  EXPECT_EQ(back->quote->signature, response.quote->signature);
  EXPECT_EQ(back->quote->event_log, response.quote->event_log);
  ASSERT_EQ(back->quote->banks.size(), 1u);
  EXPECT_EQ(back->quote->banks[0].values, response.quote->banks[0].values);
  EXPECT_EQ(back->quote_problem + back->quote->event_log_problem, "");
}

TEST(TpmMessages, WhatTheAgentCannotTellComesWithAReason) {
  Response response;
  response.secret = Bytes(32, 4);
  response.quote_problem = "bank sha384 is not switched on";
  auto back = decode_response(as_bytes(encode_response(response)));
  ASSERT_EQ(said(back), "ok");
  EXPECT_FALSE(back->quote);
  EXPECT_EQ(back->quote_problem, response.quote_problem);
  response.quote = QuoteAnswer{Bytes(100, 5), Bytes(70, 6), {{tpm_wire::kAlgSha256, {{0, Bytes(32, 7)}}}}, {}, {}};
  response.quote->event_log_problem = "/a \"log\"\\\n\xc3\xa4: " + std::string(300, 'x');
  back = decode_response(as_bytes(encode_response(response)));
  ASSERT_EQ(said(back), "ok");
  ASSERT_TRUE(back->quote);
  EXPECT_EQ(back->quote_problem, response.quote_problem);
  EXPECT_EQ(back->quote->event_log_problem, "/a ?log?????: " + std::string(242, 'x'));
  // it goes into a log line
  back = decode_response(as_bytes(R"({"Secret":"AAAA","Limpet":{"Problem":"a\nb=\"c\""}})"));
  ASSERT_EQ(said(back), "ok");
  EXPECT_EQ(back->quote_problem, "a?b=?c?");
}

TEST(TpmMessages, MissingAndOverlongMembersAreRefused) {
  const std::string key =
      base64_encode(as_bytes(pem_encode("PUBLIC KEY", shared_key(KeyType::rsa_2048, 1).public_key().spki())));
  const std::string ek = R"({"EK":")" + key + "\"";
  const std::string part = "\"" + base64_encode(Bytes(10)) + "\"";
  const std::string longer = "\"" + base64_encode(Bytes(1025)) + "\"";
  const std::string unknown = base64_encode(as_bytes(pem_encode("RSA PUBLIC KEY", Bytes(10))));
  for (const auto& [json, text] : std::initializer_list<std::pair<std::string, std::string>>{
           {"{}", "EK is missing"},
           {R"({"EK":""})", "EK is missing"},
           {R"({"EK":"AAAA"})", "EK: one or two PEM blocks are expected"},
           {R"({"EK":")" + unknown + "\"}", "EK: unexpected PEM block \"RSA PUBLIC KEY\""},
           {ek + "}", "AK is missing"},
           {ek + R"(,"AK":null})", "AK is missing"},
           {ek + R"(,"AK":5})", "json: AK must be an object"},
           {ek + R"(,"AK":{}})", "AK: Public is missing"},
           {ek + R"(,"AK":{"Public":)" + longer + "}}", "AK: Public is longer than 1024 bytes"},
           {ek + R"(,"AK":{"Public":)" + part + "}}", "AK: CreateData is missing"},
           {ek + R"(,"AK":{"Public":)" + part + R"(,"CreateData":)" + part + "}}", "AK: CreateAttestation is missing"},
           {ek + R"(,"AK":{"Public":)" + part + R"(,"CreateData":)" + part + R"(,"CreateAttestation":)" + part + "}}",
            "AK: CreateSignature is missing"},
           {std::string(70'000, ' '), "larger than 64 KiB"},
       }) {
    EXPECT_EQ(said(decode_payload(as_bytes(json))), text);
  }
  for (
      const auto& [json, text] : std::initializer_list<std::pair<std::string, std::string>>{
          {"{}", "EC is missing"},
          {R"({"EC":{}})", "Credential is missing"},
          {R"({"EC":{"Credential":"AAAA"}})", "Credential: trailing data"},
          {R"({"EC":{"Credential":"/////w=="}})", "Credential: a field of 65535 bytes; at most 256"},
          {R"({"EC":{"Credential":"AAEA","Secret":"AAEA"},"Limpet":{}})", "Limpet: Nonce is missing"},
          {R"({"EC":{"Credential":"AAEA","Secret":"AAEA"},"Limpet":{"Nonce":"AAAA","Banks":[]}})",
           "Limpet: Banks must be a list of 1 to 3"},
          {R"({"EC":{"Credential":"AAEA","Secret":"AAEA"},"Limpet":{"Nonce":"AAAA","Banks":[{"Hash":4,"PCRs":[0]}]}})",
           "Limpet: hash algorithm 0x0004 is not supported"},
          {R"({"EC":{"Credential":"AAEA","Secret":"AAEA"},"Limpet":{"Nonce":"AAAA","Banks":[{"Hash":11,"PCRs":[24]}]}})",
           "Limpet: a number is out of range"},
          {R"({"EC":{"Credential":"AAEA","Secret":"AAEA"},"Limpet":{"Nonce":"AAAA","Banks":[{"Hash":11,"PCRs":[1,1]}]}})",
           "Limpet: PCRs must be in ascending order"},
      }) {
    EXPECT_EQ(said(decode_challenge(as_bytes(json))), text);
  }
  EXPECT_EQ(said(decode_response(as_bytes(std::string_view("{}")))), "Secret is missing");
  EXPECT_EQ(said(decode_response(as_bytes(R"({"Secret":")" + base64_encode(Bytes(65)) + "\"}"))),
            "Secret is longer than 64 bytes");
}

// ---- policies ----

TEST(PcrPolicies, SayWhatIsWrongWithThem) {
  const std::string digest(64, 'a');
  const auto one = [](const std::string& members) { return R"({"policies":[{"name":"p",)" + members + "}]}"; };
  for (const auto& [json, text] : std::initializer_list<std::pair<std::string, std::string>>{
           {"{", "not valid JSON: unexpected end of data"},
           {"[]", "an object with the list \"policies\" is expected"},
           {R"({"policies":[],"more":1})", "unknown member \"more\""},
           {R"({"policies":[5]})", "policy 1: name must be 1 to 64 letters, digits, '-', '_' or '.'"},
           {R"({"policies":[{"name":"a:b"}]})", "policy 1: name must be 1 to 64 letters, digits, '-', '_' or '.'"},
           {one(R"("pcrs":[0])"), "policy p: accepted must be a list of digests"},
           {one(R"("pcrs":[],"accepted":[])"), "policy p: pcrs must be a list of numbers from 0 to 23"},
           {one(R"("pcrs":[24],"accepted":[])"), "policy p: pcrs must be a list of numbers from 0 to 23"},
           {one(R"("pcrs":[0],"accepted":["ab"])"), "policy p: accepted: \"ab\" is not a digest of 32 bytes in hex"},
           {one(R"("pcrs":[0],"bank":"sha1","accepted":[])"),
            "policy p: bank \"sha1\" is not one of sha256, sha384 and sha512"},
           {one(R"("pcrs":[0],"mode":"off","accepted":[])"), "policy p: mode must be \"enforce\" or \"observe\""},
           {one(R"("pcrs":[0],"accept":[])"), "policy p: unknown member \"accept\""},
           {one(R"("pcrs":[0],"accepted":[{"digest":")" + digest + R"(","until":"tomorrow"}])"),
            "policy p: accepted: \"tomorrow\" is not a time like 2026-11-22T02:00:35Z"},
           {R"({"policies":[{"name":"p","pcrs":[0],"accepted":[]},{"name":"p","pcrs":[0],"accepted":[]}]})",
            "policy p stands there twice"},
       }) {
    EXPECT_EQ(said(parse_policies(json)), text);
  }
}

TEST(PcrPolicies, AcceptSeveralDigestsEachInItsTime) {
  const std::string a(64, 'a'), b(64, 'b');
  const auto policies =
      parse_policies(R"({"policies":[{"name":"ab","pcrs":[7,0],"accepted":[")" + a + R"(",{"digest":")" + b +
                     R"(","from":"2026-11-22T02:00:35Z","until":"2026-11-22T02:00:36Z"}]}]})");
  ASSERT_EQ(said(policies), "ok");
  const PcrPolicy& policy = policies->front();
  EXPECT_EQ(policy.set.pcrs, (std::vector<uint32_t>{0, 7}));
  EXPECT_TRUE(policy.accepts(Bytes(32, 0xaa), 0));
  EXPECT_FALSE(policy.accepts(Bytes(32, 0xbb), kNow - 1));
  EXPECT_TRUE(policy.accepts(Bytes(32, 0xbb), kNow));
  EXPECT_FALSE(policy.accepts(Bytes(32, 0xbb), kNow + 1));
  EXPECT_FALSE(policy.accepts(Bytes(32, 0xcc), kNow));
  EXPECT_TRUE(parse_policies(R"({"policies":[{"name":"o","pcrs":[0],"mode":"observe"}]})")->front().observe);
}

}  // namespace
}  // namespace limpet::tpm_attestor
