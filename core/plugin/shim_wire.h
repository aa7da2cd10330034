// SPDX-License-Identifier: Apache-2.0
#pragma once
// The frames between the daemon and a shim child (shim/README.md): what both sides put on the socket and how they read
// it. Little-endian, no alignment: u32 length of the rest, u32 number of the operation, u16 method, then the method's
// fields. Texts and bytes carry a u32 length, lists a u32 count. The daemon reads what a hostile child wrote: every
// length is checked before it is believed, and a reader that met nonsense stays failed. Values, any thread.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace limpet::shim {

inline constexpr uint32_t kWireVersion = 1;
inline constexpr size_t kFrameHead = 10;                         // length, number, method
inline constexpr size_t kFrameBytes = (1u << 20) + (64u << 10);  // length field: a 1 MiB argument and what goes with it
inline constexpr size_t kListItems = 4096;                       // as limits::kPluginItems
inline constexpr int kSocketFd = 3, kPluginFd = 4, kFirstFreeFd = 5;  // in the child

enum class Method : uint16_t {
  // daemon to child
  hello = 1,      // the first frame: what to load and under which policy
  configure = 2,  // from here to publish_bundle: one operation each, answered with `done`
  generate = 3,   // key manager
  list = 4,
  sign = 5,
  remove = 6,
  seal = 7,  // sealer
  unseal = 8,
  payload = 9,  // node attestor, agent half
  answer = 10,
  step = 11,     // node attestor, server half
  attest = 12,   // workload attestor; a pidfd may come with it
  mint_ca = 13,  // upstream authority
  publish_jwt_key = 14,
  watch_bundle = 15,    // answered with any number of `update`, then `done`
  publish_bundle = 16,  // bundle publisher
  cancel = 17,          // of the operation with that number
  session_close = 18,
  ping = 19,
  identity = 20,  // what limpet.identity/1 says from now on
  service_done = 21,
  stop = 22,
  // child to daemon
  greeting = 39,  // the first, before the plugin is mapped: what its sandbox lacks
  ready = 40,     // the answer to hello: the plugin is loaded and has an instance
  refused = 41,
  described = 42,  // the answer to a hello that only asks what the plugin has
  done = 43,
  update = 44,
  log = 45,
  pong = 46,
  service_call = 47,
  service_stop = 48,
};
inline constexpr Method kLastCall = Method::publish_bundle;
inline bool is_call(Method m) { return m >= Method::configure && m <= kLastCall; }

// The services that are carried over the socket; a bit each in the hello. Timers and polls are the child's own.
enum class Service : uint32_t {
  grpc = 1,
  http = 2,
  agent_store = 4,
  enrollment = 8,
  kv = 16,
  identity = 32,
  keys = 64,
  seal = 128,
};
enum class KvAction : uint32_t { get = 1, put = 2, remove = 3 };
enum class KeyAction : uint32_t { find = 1, sign = 2 };
enum class SealAction : uint32_t { seal = 1, unseal = 2 };

// ---- writing ----
class FrameWriter {
 public:
  FrameWriter(Method method, uint32_t number);
  void u32(uint32_t value);
  void u64(uint64_t value);
  void i64(int64_t value) { u64(static_cast<uint64_t>(value)); }
  void bytes(const void* data, size_t size);  // NULL with a size spoils the frame
  void bytes(BytesView data) { bytes(data.data(), data.size()); }
  void text(std::string_view value) { bytes(value.data(), value.size()); }
  void spoil() { spoiled_ = true; }
  [[nodiscard]] bool spoiled() const { return spoiled_; }
  // Whether it is larger than a frame may be: a long text is then not even copied.
  [[nodiscard]] bool too_large() const { return too_large_; }
  [[nodiscard]] bool good() const { return !spoiled_ && !too_large_; }
  Bytes finish() &&;

 private:
  Bytes out_;
  bool spoiled_ = false;
  bool too_large_ = false;
};

// ---- reading ----
struct Frame {
  Method method = Method::hello;
  uint32_t number = 0;
  BytesView payload;  // within the splitter's buffer, until its next call
};

// The fields of a payload. After the first one that is not there, everything reads as zero and good() is false.
class FieldReader {
 public:
  explicit FieldReader(BytesView payload) : rest_(payload) {}
  uint32_t u32();
  uint64_t u64();
  int64_t i64() { return static_cast<int64_t>(u64()); }
  BytesView bytes();
  std::string_view text() { return as_text(bytes()); }
  // The count of a list whose items take at least `item_bytes` each: never more than what can still be there.
  size_t count(size_t item_bytes, size_t most = kListItems);
  void fail() { good_ = false; }
  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] bool done() const { return good_ && rest_.empty(); }  // all read, nothing left over

 private:
  BytesView rest_;
  bool good_ = true;
};

// Cuts the stream into frames.
class FrameSplitter {
 public:
  void add(BytesView data);
  // The next whole frame; nothing: more bytes are needed, or broken().
  std::optional<Frame> next();
  [[nodiscard]] bool broken() const { return broken_; }  // a length that no frame has: nothing after it can be read

 private:
  Bytes buffer_;
  size_t at_ = 0;
  bool broken_ = false;
};

}  // namespace limpet::shim
