// SPDX-License-Identifier: Apache-2.0
#include "wire/message.h"

#include <gtest/gtest.h>
#include <pb_common.h>

#include "all_messages.h"

namespace limpet::wire {
namespace {

// ---- bytes by hand ----
void varint(Bytes& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<uint8_t>(value | 0x80));
  out.push_back(static_cast<uint8_t>(value));
}
void key(Bytes& out, uint32_t tag, uint32_t wire_type) { varint(out, uint64_t{tag} << 3 | wire_type); }
void delimited(Bytes& out, uint32_t tag, BytesView value) {
  key(out, tag, PB_WT_STRING);
  varint(out, value.size());
  append(out, value);
}
Bytes field(uint32_t tag, std::string_view value) {
  Bytes out;
  delimited(out, tag, as_bytes(value));
  return out;
}
Bytes field(uint32_t tag, const Bytes& value) { return field(tag, as_text(value)); }
Bytes operator+(Bytes a, const Bytes& b) {
  append(a, b);
  return a;
}

// A message of `type` with every field set, as a careful encoder would write it: of a oneof only member `choice`.
Bytes filled(const pb_msgdesc_t* type, int depth, int choice, size_t large = 70'000) {
  Bytes out;
  pb_field_iter_t f;
  if (!pb_field_iter_begin(&f, type, nullptr)) return out;
  int member = 0;
  do {
    if (PB_HTYPE(f.type) == PB_HTYPE_ONEOF && member++ != choice) continue;
    const int times = PB_HTYPE(f.type) == PB_HTYPE_REPEATED ? 2 : 1;
    for (int i = 0; i < times; ++i) {
      if (PB_ATYPE(f.type) == PB_ATYPE_CALLBACK) {
        delimited(out, f.tag, Bytes(large, 7));
        continue;
      }
      switch (PB_LTYPE(f.type)) {
        case PB_LTYPE_BOOL:
        case PB_LTYPE_VARINT:
        case PB_LTYPE_UVARINT:
          key(out, f.tag, PB_WT_VARINT), varint(out, 1);
          break;
        case PB_LTYPE_FIXED32:
          key(out, f.tag, PB_WT_32BIT), append(out, Bytes{1, 2, 3, 4});
          break;
        case PB_LTYPE_FIXED64:
          key(out, f.tag, PB_WT_64BIT), append(out, Bytes{1, 2, 3, 4, 5, 6, 7, 8});
          break;
        case PB_LTYPE_SUBMESSAGE:
          if (depth > 0) delimited(out, f.tag, filled(f.submsg_desc, depth - 1, choice, large));
          break;
        case PB_LTYPE_STRING:
          delimited(out, f.tag, as_bytes("t\xc3\xa4xt"));
          break;
        case PB_LTYPE_BYTES:
          delimited(out, f.tag, Bytes{0, 255, 0});
          break;
        default:
          ADD_FAILURE() << "unexpected field type " << int{f.type};
      }
    }
  } while (pb_field_iter_next(&f));
  return out;
}

struct AnyType {
  const char* name;
  const pb_msgdesc_t* type;
  Result<Bytes> (*again)(BytesView);  // decode and encode
};
template <class T>
Result<Bytes> again(BytesView bytes) {
  auto message = Message<T>::decode(bytes);
  if (!message) return fail(message.error());
  auto ours = message->encode();
  // nanopb's own encoder must say the same
  size_t size = 0;
  EXPECT_TRUE(pb_get_encoded_size(&size, descriptor<T>(), &**message));
  Bytes theirs(size);
  pb_ostream_t stream = pb_ostream_from_buffer(theirs.data(), theirs.size());
  EXPECT_TRUE(pb_encode(&stream, descriptor<T>(), &**message));
  EXPECT_EQ(ours.value_or(Bytes{}), theirs);
  return ours;
}
#define ROW(T) {#T, descriptor<T>(), &again<T>},
const AnyType kTypes[] = {LIMPET_ALL_MESSAGES(ROW)};

TEST(Message, EveryTypeComesBackAsItWasSent) {
  for (const AnyType& t : kTypes) {
    for (int choice = 0; choice < 6; ++choice) {
      const Bytes sent = filled(t.type, 3, choice);
      const auto back = t.again(sent);
      ASSERT_TRUE(back) << t.name << ": " << back.error().text();
      EXPECT_EQ(sent, *back) << t.name;
    }
  }
}

// Cut anywhere, a message is refused or is a shorter message; nothing leaks, nothing is read beyond the end.
TEST(Message, EveryTypeSurvivesBeingCutAtEveryByte) {
  for (const AnyType& t : kTypes) {
    const Bytes whole = filled(t.type, 2, 0, 5);
    for (size_t size = 0; size < std::min<size_t>(whole.size(), 400); ++size) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));  // its own heap block, for ASan
      const auto back = t.again(cut);
      if (!back) {
        EXPECT_EQ(back.error().code, Code::invalid_argument) << t.name;
      }
    }
  }
}

TEST(Message, EveryTypeSurvivesOneChangedByteAnywhere) {
  for (const AnyType& t : kTypes) {
    const Bytes whole = filled(t.type, 2, 1, 5);
    for (size_t at = 0; at < std::min<size_t>(whole.size(), 300); ++at) {
      for (const uint8_t value : {0x00, 0x7f, 0xff}) {
        Bytes changed = whole;
        changed[at] = value;
        (void)t.again(changed);
      }
    }
  }
}

TEST(Message, HostileBytesAreRefusedWithTheReason) {
  using Entry = spire_api_types_Entry;
  const auto* entry = descriptor<Entry>();
  const auto* attest = descriptor<spire_api_server_agent_v1_AttestAgentRequest>();
  const auto* bundle = descriptor<spire_api_types_JWTKey>();
  const auto* level = descriptor<spire_api_types_Logger>();
  struct Case {
    const char* what;
    const pb_msgdesc_t* type;
    Bytes bytes;
    const char* reason;
  };
  const Case cases[] = {
      {"field number zero", entry, {0x00}, "bad field key"},
      {"field number beyond 2^29", entry, {0x82, 0x80, 0x80, 0x80, 0x10, 0x00}, "bad field key"},
      {"key without an end", entry, {0x80, 0x80}, "bad field key"},
      {"key of eleven bytes", entry, Bytes(11, 0x80), "bad field key"},
      {"a group", entry, {0x0b, 0x0c}, "field 1: wrong wire type"},
      {"an unknown group", entry, {0xa3, 0x06, 0xa4, 0x06}, "field 100: groups"},
      {"wire type 6", entry, {0xa6, 0x06}, "field 100: groups"},
      {"a varint where a string stands", entry, {0x08, 0x01}, "field 1: wrong wire type"},
      {"a string where a varint stands", entry, field(5, "abc"), "field 5: wrong wire type"},
      {"a fixed64 where a varint stands", entry, {0x29, 1, 2, 3, 4, 5, 6, 7, 8}, "field 5: wrong wire type"},
      {"a varint of eleven bytes", entry, Bytes{0x28} + Bytes(10, 0xff) + Bytes{0x01}, "field 5: bad varint"},
      {"a varint above 64 bits", entry, Bytes{0x28} + Bytes(9, 0xff) + Bytes{0x02}, "field 5: bad varint"},
      {"an enum that does not fit", level, {0x08, 0xff, 0xff, 0xff, 0xff, 0x7f}, "integer too large"},
      {"a length beyond the end", entry, {0x0a, 0x05, 'a'}, "field 1: length beyond the end"},
      {"a length of 2^63", entry, Bytes{0x0a} + Bytes(9, 0xff) + Bytes{0x01}, "field 1: length beyond the end"},
      {"a child longer than its parent",
       entry,
       {0x12, 0x02, 0x0a, 0x05, 'a', 'b', 'c', 'd', 'e'},
       "field 1: length beyond the end"},
      {"a child cut in a varint", entry, {0x12, 0x01, 0x80, 0x01}, "bad field key"},
      {"invalid UTF-8", entry, field(1, "a\xff"), "field 1: string is not valid UTF-8"},
      {"a surrogate", entry, field(1, "\xed\xa0\x80"), "field 1: string is not valid UTF-8"},
      {"an overlong form", entry, field(1, "\xc0\xaf"), "field 1: string is not valid UTF-8"},
      {"a NUL inside a string", entry, field(1, std::string_view("a\0b", 3)), "field 1: NUL inside a string"},
      {"invalid UTF-8 in a repeated string", entry, field(6, "\x80"), "field 6: string is not valid UTF-8"},
      {"a sub-message twice", entry, field(2, field(1, "a")) + field(2, field(1, "b")), "field 2: occurs twice"},
      {"a large field twice", attest, field(2, "abc") + field(2, "def"), "field 2: occurs twice"},
      {"bytes above what nanopb counts", bundle, field(1, std::string(65'536, 'x')), "more than 65535 bytes"},
      {"a skipped field that is truncated", entry, {0xa1, 0x06, 1, 2, 3}, "field 100: truncated"},
  };
  for (const Case& c : cases) {
    uint64_t storage[64] = {};
    const auto done = decode_into(c.type, storage, c.bytes, {});
    ASSERT_FALSE(done) << c.what;
    EXPECT_NE(done.error().message.find(c.reason), std::string::npos) << c.what << ": " << done.error().text();
    release(c.type, storage, false);  // frees nothing: a pointer left behind would be freed twice
  }
}

// The scan admits it, nanopb refuses it after it has read large fields: they must be freed. ASan's leak check is the
// judge.
TEST(Message, ADecodeThatFailsLateLeaksNothing) {
  // A DiscoveryRequest whose error details hold large values, in an array and behind sub-messages in place, followed by
  // a node whose version number does not fit into 32 bits.
  const Bytes any = field(1, "type") + field(2, std::string(1000, 'v'));
  const Bytes details = field(6, field(3, any) + field(3, any));
  const Bytes bad_version = field(2, field(8, field(1, Bytes{0x08, 0xff, 0xff, 0xff, 0xff, 0x7f})));
  ASSERT_TRUE(Message<envoy_service_secret_v3_DiscoveryRequest>::decode(details));
  EXPECT_FALSE(Message<envoy_service_secret_v3_DiscoveryRequest>::decode(details + bad_version));
  // The payload of the first message of an attestation stands in place and holds more than 65,535 bytes.
  const Bytes payload = field(1, field(1, field(1, "join_token") + field(2, std::string(100'000, 'p'))));
  const auto message = Message<spire_api_server_agent_v1_AttestAgentRequest>::decode(payload);
  ASSERT_TRUE(message);
  EXPECT_EQ(view((*message)->params.data.payload).size(), 100'000u);
}

TEST(Message, AHundredThousandNestedLevelsAreRefusedWithoutRecursion) {
  // A Value that holds a ListValue that holds a Value ...: built from the outside in, with lengths that shrink by the
  // size of each header.
  const size_t levels = 100'000;
  Bytes nested;
  size_t left = levels * 6;
  for (size_t level = 0; level < levels; ++level) {
    key(nested, level % 2 == 0 ? 6 : 1, PB_WT_STRING);
    left -= 6;
    for (int i = 0; i < 4; ++i)
      nested.push_back(static_cast<uint8_t>((left >> (7 * i)) | 0x80));  // padded to five bytes
    nested.push_back(0);
  }
  ASSERT_EQ(nested.size(), levels * 6);
  const auto done = Message<google_protobuf_Value>::decode(nested);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::resource_exhausted);
  EXPECT_NE(done.error().message.find("nested deeper than 32"), std::string::npos) << done.error().message;
}

TEST(Message, DepthIsCountedInclusively) {
  ScanLimits bounds;
  bounds.depth = 2;
  const Bytes two = field(2, field(1, "example.org"));
  EXPECT_TRUE(Message<spire_api_types_Entry>::decode(two, bounds));
  bounds.depth = 1;
  EXPECT_FALSE(Message<spire_api_types_Entry>::decode(two, bounds));
}

// Two bytes on the wire become one struct in memory: both the items and the memory are bounded.
TEST(Message, TwoByteBombsHitABound) {
  Bytes bomb;
  for (int i = 0; i < 2'000'000; ++i) append(bomb, Bytes{0x0a, 0x00});
  auto done = Message<spire_api_server_entry_v1_ListEntriesResponse>::decode(bomb);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::resource_exhausted);
  EXPECT_NE(done.error().message.find("65000 items"), std::string::npos) << done.error().message;
  ScanLimits bounds;
  bounds.items = 10'000'000;
  done = Message<spire_api_server_entry_v1_ListEntriesResponse>::decode(bomb, bounds);
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("bytes of memory"), std::string::npos) << done.error().message;
}

TEST(Message, UnknownFieldsAreSkipped) {
  const Bytes bytes = field(1, "id") + field(500, "later") + Bytes{0xa8, 0x1f, 0x05} + field(14, "hint");
  const auto entry = Message<spire_api_types_Entry>::decode(bytes);
  ASSERT_TRUE(entry) << entry.error().text();
  EXPECT_EQ(view((*entry)->id), "id");
  EXPECT_EQ(view((*entry)->hint), "hint");
}

TEST(Message, LargeFieldsHoldMoreThanSixtyFourKilobytesAndKeepPresence) {
  Message<spire_api_server_agent_v1_AttestAgentResponse> challenge;
  set_present(challenge->challenge, {});
  const auto empty = challenge.encode();
  ASSERT_TRUE(empty);
  EXPECT_EQ(*empty, (Bytes{0x12, 0x00}));
  auto back = Message<spire_api_server_agent_v1_AttestAgentResponse>::decode(*empty);
  ASSERT_TRUE(back);
  ASSERT_NE((*back)->challenge, nullptr);
  EXPECT_TRUE(view((*back)->challenge).empty());

  Message<X509SVIDResponse> svids;
  auto* svid = set_array(svids->svids, svids->svids_count, 1);
  const Bytes large(200'000, 9);
  set_bytes(svid->bundle, large);
  set_bytes(svid->bundle, large);  // replaces
  set_bytes(svid->x509_svid_key, as_bytes("key"));
  svids.mark_secret();
  const auto wire = svids.encode();
  ASSERT_TRUE(wire);
  const auto read = Message<X509SVIDResponse>::decode(*wire);
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(to_bytes(view((*read)->svids[0].bundle)), large);
  EXPECT_EQ(as_text(view((*read)->svids[0].x509_svid_key)), "key");
}

TEST(Message, EmptyTextAndBytesLeaveAFieldOut) {
  Message<spire_api_types_Entry> entry;
  set_string(entry->id, "x");
  set_string(entry->id, "");
  EXPECT_EQ(entry->id, nullptr);
  EXPECT_EQ(entry.encode()->size(), 0u);
}

TEST(Message, MovingLeavesNothingBehind) {
  Message<spire_api_types_Entry> a;
  set_string(a->id, "x");
  Message<spire_api_types_Entry> b = std::move(a);
  EXPECT_EQ(a->id, nullptr);
  EXPECT_EQ(view(b->id), "x");
  Message<spire_api_types_Entry> c;
  set_string(c->id, "y");
  c = std::move(b);
  EXPECT_EQ(view(c->id), "x");
}

}  // namespace
}  // namespace limpet::wire
