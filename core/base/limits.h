// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every bound and budget of the project, with the reason beside it. Whatever a peer controls has its bound here.

#include <cstddef>
#include <cstdint>

namespace limpet::limits {

// ---- gRPC and HTTP/2 ----
inline constexpr size_t kMessageBytes = 4u << 20;  // grpc-go's default receive limit, which SPIRE peers rely on
inline constexpr size_t kHeaderBytes = 16u << 10;  // a request's decoded header list; SPIRE's peers send below 1 kB
inline constexpr uint32_t kStreamsPerConnection = 250;  // concurrent; grpc-go multiplexes a client on one connection
inline constexpr size_t kConnections = 2048;            // per listener; a TLS connection costs about 64 kB
inline constexpr size_t kConnectionsPerPeer = 1100;     // per uid or IP: 1,000 held streams of one user must fit
inline constexpr size_t kHandshakesInFlight = 64;       // each is 6 ms of CPU on the worker pool
inline constexpr int64_t kHandshakeMs = 20'000;         // a GEO link with loss needs several seconds
inline constexpr size_t kResetsPerWindow = 200;         // RST_STREAM by the peer within 10 s: rapid reset
inline constexpr size_t kPingsPerWindow = 100;  // PING or SETTINGS within 10 s; grpc-go pings every 10 s at most
inline constexpr int64_t kFloodWindowMs = 10'000;
inline constexpr size_t kSendQueueBytes = 8u << 20;  // unsent bytes of one connection before back-pressure ends it

inline constexpr size_t kReceiveBytes = 16u << 20;       // received by one connection and not yet handed to its calls
inline constexpr size_t kReceiveBytesInAll = 64u << 20;  // by all connections of a server, request headers included
inline constexpr size_t kReceiveBytesFair = 256u << 10;  // what a connection may hold even then: no large message
inline constexpr int64_t kRequestMs = 120'000;           // until a call's first message is there: 500 CSRs at 16 kbit/s
inline constexpr int64_t kSyncStepMs = 120'000;          // for an agent to ask for its next entries within one sync
inline constexpr size_t kDescriptorsKept = 128;  // of a process's, for files, dials and plugins rather than for peers

// ---- PROXY protocol ----
inline constexpr size_t kProxyHeaderBytes = 2048;  // of version 2, after its first 16: addresses take 36, then TLVs
inline constexpr size_t kProxyWaiting = 1024;      // connections of trusted proxies that have sent no header yet
inline constexpr int64_t kProxyHeaderMs = 10'000;  // for the header; the proxy is near

// ---- HTTP: bundle, discovery, health and metrics endpoints ----
inline constexpr size_t kHttpTargetBytes = 2048;        // request target; ours are below 50
inline constexpr size_t kHttpHeaders = 100;             // header fields and trailers of one message
inline constexpr size_t kHttpConnections = 256;         // per listener; each may hold a TLS context of 39 kB
inline constexpr size_t kHttpConnectionsPerPeer = 128;  // one proxy may stand before many clients
inline constexpr int64_t kHttpHeadMs = 10'000;          // from a request's first byte to its end
inline constexpr int64_t kHttpIdleMs = 60'000;          // kept alive between requests
inline constexpr int64_t kHttpAnswerMs = 30'000;        // for the handler, and again for the client to take the answer
inline constexpr size_t kHttpReplyBytes = 4u << 20;     // the most a client of ours takes, unless it says less
inline constexpr size_t kHttpFetches = 32;  // GETs in flight for plugins; whom they ask, a stranger may have chosen
inline constexpr size_t kUrlBytes = 2048;
inline constexpr size_t kPemFileBytes = 4u << 20;  // a certificate, key or CA file; a system's roots are 220 kB

// ---- metrics ----
inline constexpr size_t kMetricSeries = 2000;     // of one role; SPIRE's names come to about 300 on a busy server
inline constexpr size_t kMetricLabelBytes = 255;  // of one value; a trust domain's name fits

// ---- protobuf ----
inline constexpr int kMessageDepth = 32;             // nanopb has none of its own
inline constexpr size_t kMessageItems = 65'000;      // nanopb counts in 16 bits
inline constexpr size_t kMessageMemory = 32u << 20;  // what one request may grow to once decoded

// ---- SPIFFE ----
inline constexpr size_t kSpiffeIdBytes = 2048;    // SPIFFE-ID 2.3
inline constexpr size_t kTrustDomainBytes = 255;  // SPIFFE-ID 2.1
inline constexpr size_t kEntryIdBytes = 255;
inline constexpr size_t kHintBytes = 1024;
inline constexpr size_t kCertificateBytes = 65'535;  // what a protobuf field of ours holds
inline constexpr size_t kChainCertificates = 16;
inline constexpr size_t kCsrBytes = 16u << 10;
inline constexpr size_t kBundleCertificates = 1000;  // one trust domain's roots; a rotation keeps two or three
inline constexpr size_t kBundleKeys = 2000;          // members of a bundle's JSON "keys"
inline constexpr int kChainSignatureChecks = 32;     // tried while building one path; each costs up to 2.6 ms
inline constexpr size_t kBundleJsonBytes = 1u << 20;
inline constexpr size_t kAgentVersionBytes = 255;
inline constexpr size_t kJwtBytes = 32u << 10;         // a token travels in an HTTP header: most servers take 8 kB
inline constexpr int kJwtDepth = 16;                   // of objects and arrays in a token; ours have two levels
inline constexpr size_t kJwtAudiences = 64;            // in one FetchJWTSVID; they are a cache's key, and in the token
inline constexpr size_t kJwtAudienceBytes = 8u << 10;  // of them all

// ---- attestation ----
inline constexpr int kAttestationRounds = 8;  // challenges in one attempt

// ---- plugins ----
inline constexpr size_t kPluginFileBytes = 64u << 20;  // a shared object; hashed whole before it is mapped
inline constexpr size_t kPluginQueue = 1024;           // calls waiting for one BLOCKING or SERIAL plugin
inline constexpr size_t kPluginSpentOps = 64;          // answered calls remembered, to catch a second answer
inline constexpr size_t kPluginTextBytes = 8192;       // one message, selector or name that a plugin hands over
inline constexpr size_t kPluginItems = 4096;           // selectors or keys in one answer
inline constexpr int64_t kPluginBudgetMs = 10;         // a call on the loop thread; longer ones are logged
inline constexpr int64_t kPluginStopMs = 2'000;        // how long a plugin may take to end its calls when it is stopped
inline constexpr int64_t kPluginConfigureMs = 30'000;  // an HSM or a TPM may have to start
inline constexpr int64_t kNodeAttestMs = 60'000;       // one round; a TPM's credential activation takes seconds
inline constexpr int64_t kWorkloadAttestMs = 10'000;   // hashing a large executable on slow flash
inline constexpr int64_t kKeyGenerateMs = 120'000;     // RSA-4096 on a small ARM core
inline constexpr int64_t kKeySignMs = 10'000;          // a TPM's RSA signature behind a few others
inline constexpr int64_t kUpstreamMintMs = 60'000;     // a CA certificate from a server far away, or an HSM's signature
inline constexpr int64_t kUpstreamPublishMs = 5'000;   // SPIRE's; a JWT key is not used before it was published
inline constexpr size_t kPluginCalls = 16;             // of all services, in flight for one instance
inline constexpr size_t kWorkloadUpdateBytes = 1u << 20;  // one X509SVIDResponse for a plugin's own SVID

}  // namespace limpet::limits
