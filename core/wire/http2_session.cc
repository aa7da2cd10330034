// SPDX-License-Identifier: Apache-2.0
#include "wire/http2_session.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/limits.h"

namespace limpet::wire {
namespace {

// Frames that carry nothing: empty DATA, PRIORITY, WINDOW_UPDATE for streams long gone. A busy download sends many
// WINDOW_UPDATEs, so those do not count.
constexpr uint32_t kEmptiesPerWindow = 1000;
// Unsent SETTINGS and PING acknowledgements before the session gives up.
constexpr size_t kUnsentAcks = 100;
constexpr size_t kSettingsEntries = 32;

std::vector<nghttp2_nv> to_nv(const HeaderFields& fields) {
  std::vector<nghttp2_nv> out;
  out.reserve(fields.size());
  for (const auto& [name, value] : fields) {
    // nghttp2 takes non-const pointers but only reads.
    out.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                   reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                   NGHTTP2_NV_FLAG_NONE});
  }
  return out;
}

struct OptionDeleter {
  void operator()(nghttp2_option* option) const { nghttp2_option_del(option); }
};
struct CallbacksDeleter {
  void operator()(nghttp2_session_callbacks* callbacks) const { nghttp2_session_callbacks_del(callbacks); }
};

bool is_reset_by_abuse(const nghttp2_frame& frame) {
  return frame.hd.type == NGHTTP2_RST_STREAM && (frame.rst_stream.error_code == NGHTTP2_PROTOCOL_ERROR ||
                                                 frame.rst_stream.error_code == NGHTTP2_STREAM_CLOSED ||
                                                 frame.rst_stream.error_code == NGHTTP2_FLOW_CONTROL_ERROR);
}

}  // namespace

// The trampolines: each finds the stream or the session and hands over.
struct Http2Callbacks {
  static Http2Session& self(void* user) { return *static_cast<Http2Session*>(user); }
  static Http2Stream* stream_of(nghttp2_session* session, int32_t id) {
    return id == 0 ? nullptr : static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static int on_begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& me = self(user);
    if (me.side_ != Http2Session::Side::server || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    Http2Stream* stream = me.events_.on_request(frame->hd.stream_id);
    if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    stream->id = frame->hd.stream_id;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
    return 0;
  }
  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void*) {
    Http2Stream* stream = stream_of(session, frame->hd.stream_id);
    if (stream == nullptr) return 0;
    stream->header_bytes += name_size + value_size + 32;  // RFC 9113 6.5.2 SETTINGS_MAX_HEADER_LIST_SIZE
    if (stream->header_bytes > limits::kHeaderBytes) {
      stream->header_overflow = true;
      return 0;
    }
    stream->on_header(as_text({name, name_size}), as_text({value, value_size}));
    return 0;
  }
  static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& me = self(user);
    switch (frame->hd.type) {
      case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) return 0;
        me.events_.on_settings();
        me.count(Http2Session::Count::pings);
        return 0;
      case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
          me.events_.on_ping_answered();
        } else {
          me.count(Http2Session::Count::pings);
        }
        return 0;
      case NGHTTP2_GOAWAY:
        me.events_.on_goaway(frame->goaway.last_stream_id, frame->goaway.error_code,
                             {frame->goaway.opaque_data, frame->goaway.opaque_data_len});
        return 0;
      case NGHTTP2_RST_STREAM: {
        // A client that waited for the answer may go: one-shot readers of a stream do so all day long.
        const Http2Stream* leaving = stream_of(session, frame->hd.stream_id);
        if (leaving == nullptr || !leaving->answered) me.count(Http2Session::Count::resets);
        return 0;
      }
      case NGHTTP2_PRIORITY:
        me.count(Http2Session::Count::empties);
        return 0;
      case NGHTTP2_DATA:
        if (frame->hd.length == frame->data.padlen && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
          me.count(Http2Session::Count::empties);
        }
        break;
      default:
        break;
    }
    Http2Stream* stream = stream_of(session, frame->hd.stream_id);
    if (stream == nullptr) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS) stream->on_headers_done();
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      stream->peer_done = true;
      stream->on_peer_done();
    }
    return 0;
  }
  static int on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void*) {
    // The connection's window is given back at once: a stream nobody reads must not starve the others. What one
    // stream may hold unread is bounded by its own window.
    nghttp2_session_consume_connection(session, size);
    if (Http2Stream* stream = stream_of(session, id)) {
      stream->on_data({data, size});
    } else {
      nghttp2_session_consume_stream(session, id, size);
    }
    return 0;
  }
  static int on_close(nghttp2_session* session, int32_t id, uint32_t code, void*) {
    if (Http2Stream* stream = stream_of(session, id)) stream->on_closed(code);
    return 0;
  }
  static int on_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& me = self(user);
    if (me.side_ != Http2Session::Side::server) return 0;
    if (is_reset_by_abuse(*frame)) me.count(Http2Session::Count::resets);
    // grpc-go and C-core measure the link with a PING for data they receive, so an answer of ours earns some.
    if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) {
      me.counts_[static_cast<size_t>(Http2Session::Count::pings)] = 0;
      if (Http2Stream* stream = stream_of(session, frame->hd.stream_id)) stream->answered = true;
    }
    const bool ends = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                      (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (!ends || nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) != 0) return 0;
    // RFC 9113 8.1: a server that answered in full may ask the client to stop sending.
    return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR) ==
                   NGHTTP2_ERR_NOMEM
               ? NGHTTP2_ERR_CALLBACK_FAILURE
               : 0;
  }
  static ssize_t on_source(nghttp2_session* session, int32_t id, uint8_t*, size_t length, uint32_t* flags,
                           nghttp2_data_source*, void*) {
    Http2Stream* stream = stream_of(session, id);
    if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const size_t now = std::min(length, stream->outbox.bytes());
    if (now == 0 && !stream->ended) {
      stream->deferred = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (stream->ended && now == stream->outbox.bytes()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (!stream->trailers.empty()) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const auto nv = to_nv(stream->trailers);
        if (nghttp2_submit_trailer(session, id, nv.data(), nv.size()) != 0)
          return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
      }
    }
    return static_cast<ssize_t>(now);
  }
  static int on_send_data(nghttp2_session* session, nghttp2_frame* frame, const uint8_t* head, size_t length,
                          nghttp2_data_source*, void* user) {
    Http2Session& me = self(user);
    Bytes& out = *me.sink_;
    Http2Stream* stream = stream_of(session, frame->hd.stream_id);
    if (stream == nullptr || stream->outbox.bytes() < length) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    append(out, {head, 9});
    stream->outbox.take(length, out);
    stream->on_taken();
    return out.size() < me.sink_limit_ ? 0 : NGHTTP2_ERR_PAUSE;
  }

  static nghttp2_session_callbacks* table() {
    static const std::unique_ptr<nghttp2_session_callbacks, CallbacksDeleter> kTable = [] {
      nghttp2_session_callbacks* made = nullptr;
      nghttp2_session_callbacks_new(&made);
      nghttp2_session_callbacks_set_on_begin_headers_callback(made, on_begin_headers);
      nghttp2_session_callbacks_set_on_header_callback(made, on_header);
      nghttp2_session_callbacks_set_on_frame_recv_callback(made, on_frame);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, on_data);
      nghttp2_session_callbacks_set_on_stream_close_callback(made, on_close);
      nghttp2_session_callbacks_set_on_frame_send_callback(made, on_sent);
      nghttp2_session_callbacks_set_send_data_callback(made, on_send_data);
      return std::unique_ptr<nghttp2_session_callbacks, CallbacksDeleter>(made);
    }();
    return kTable.get();
  }
};

Http2Session::Http2Session(Side side, Windows windows, Http2Events& events) : events_(events), side_(side) {
  nghttp2_option* raw = nullptr;
  nghttp2_option_new(&raw);
  const std::unique_ptr<nghttp2_option, OptionDeleter> option(raw);
  nghttp2_option_set_no_auto_window_update(raw, 1);
  nghttp2_option_set_no_closed_streams(raw, 1);  // keeps no history of closed streams: memory
  nghttp2_option_set_max_outbound_ack(raw, kUnsentAcks);
  nghttp2_option_set_max_settings(raw, kSettingsEntries);
  nghttp2_option_set_peer_max_concurrent_streams(raw, limits::kStreamsPerConnection);
  // nghttp2 counts every reset, also of a stream that was answered, and ends the connection above 33 a second; count()
  // knows the difference.
  constexpr uint64_t kUnlimited = 1'000'000'000;
  nghttp2_option_set_stream_reset_rate_limit(raw, kUnlimited, kUnlimited);
  if (side == Side::server) {
    nghttp2_session_server_new2(&session_, Http2Callbacks::table(), this, raw);
  } else {
    nghttp2_session_client_new2(&session_, Http2Callbacks::table(), this, raw);
  }
  const std::array<nghttp2_settings_entry, 4> settings{{
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(windows.stream)},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(limits::kHeaderBytes)},
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits::kStreamsPerConnection},
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
  }};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), side == Side::server ? 3 : 4);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, windows.connection);
}

Http2Session::~Http2Session() { nghttp2_session_del(session_); }

Result<void> Http2Session::feed(BytesView bytes, int64_t now_ms) {
  now_ms_ = now_ms;
  const ssize_t taken = nghttp2_session_mem_recv(session_, bytes.data(), bytes.size());
  if (!flood_.empty()) return fail(Code::resource_exhausted, flood_);
  if (taken >= 0) return {};
  // nghttp2 answers protocol errors with a GOAWAY by itself; what it returns as an error is a bad preface or a flood.
  const bool preface = taken == NGHTTP2_ERR_BAD_CLIENT_MAGIC;
  terminate(preface ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_ENHANCE_YOUR_CALM);
  return fail(preface ? Code::internal : Code::resource_exhausted,
              std::string("HTTP/2: ") + nghttp2_strerror(static_cast<int>(taken)));
}

Result<void> Http2Session::collect(Bytes& out, size_t limit) {
  sink_ = &out;
  sink_limit_ = limit;
  while (out.size() < limit) {
    const uint8_t* data = nullptr;
    const size_t before = out.size();
    const ssize_t size = nghttp2_session_mem_send(session_, &data);
    if (size < 0) return fail(Code::internal, std::string("HTTP/2: ") + nghttp2_strerror(static_cast<int>(size)));
    append(out, {data, static_cast<size_t>(size)});
    if (out.size() == before) break;
  }
  sink_ = nullptr;
  return {};
}

bool Http2Session::want_write() const { return nghttp2_session_want_write(session_) != 0; }
bool Http2Session::finished() const {
  return nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
}

void Http2Session::respond(Http2Stream& stream, const HeaderFields& fields, bool end) {
  const auto nv = to_nv(fields);
  nghttp2_data_provider provider{.source = {.ptr = nullptr}, .read_callback = Http2Callbacks::on_source};
  nghttp2_submit_response(session_, stream.id, nv.data(), nv.size(), end ? nullptr : &provider);
}

bool Http2Session::request(Http2Stream& stream, const HeaderFields& fields) {
  const auto nv = to_nv(fields);
  nghttp2_data_provider provider{.source = {.ptr = nullptr}, .read_callback = Http2Callbacks::on_source};
  stream.id = nghttp2_submit_request(session_, nullptr, nv.data(), nv.size(), &provider, &stream);
  return stream.id > 0;
}

void Http2Session::resume(Http2Stream& stream) {
  if (!std::exchange(stream.deferred, false)) return;
  nghttp2_session_resume_data(session_, stream.id);
}

void Http2Session::reset(Http2Stream& stream, uint32_t code) {
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream.id, code);
}

void Http2Session::forget_stream(Http2Stream& stream) {
  nghttp2_session_set_stream_user_data(session_, stream.id, nullptr);
}

void Http2Session::consume_stream(int32_t id, size_t count) {
  if (count > 0) nghttp2_session_consume_stream(session_, id, count);
}

void Http2Session::ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }
void Http2Session::shutdown_notice() { nghttp2_submit_shutdown_notice(session_); }
void Http2Session::goaway() {
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
}
void Http2Session::terminate(uint32_t code) { nghttp2_session_terminate_session(session_, code); }

void Http2Session::count(Count what) {
  if (side_ != Side::server) return;
  if (now_ms_ - window_start_ms_ >= limits::kFloodWindowMs) {
    window_start_ms_ = now_ms_;
    std::fill(std::begin(counts_), std::end(counts_), 0u);
  }
  const uint32_t seen = ++counts_[static_cast<size_t>(what)];
  if (what == Count::resets && seen > limits::kResetsPerWindow) flooded("stream resets");
  if (what == Count::pings && seen > limits::kPingsPerWindow) flooded("PING or SETTINGS frames");
  if (what == Count::empties && seen > kEmptiesPerWindow) flooded("empty frames");
}

void Http2Session::flooded(const char* what) {
  if (!flood_.empty()) return;
  flood_ = std::string("HTTP/2: too many ") + what + " in 10 s";
  terminate(NGHTTP2_ENHANCE_YOUR_CALM);
}

}  // namespace limpet::wire
