/* SPDX-License-Identifier: Apache-2.0
 *
 * limpet_plugin.h - everything a plugin author needs; nothing else crosses the boundary.
 * C11, no libc types beyond stdint/stddef, no enum/bool/long/time_t/off_t in any layout.
 * Marks: [loop] called on the event-loop thread only. [any] may be called from any thread.
 * Growth: every struct whose first member is `size` may gain members at its end, never
 * elsewhere; such a struct is never embedded or put in an array by value. limpet_str, limpet_bytes
 * and the list types have no size and are frozen. A change that cannot be appended gets a
 * new interface id ("/2"); the host keeps serving "/1".
 */
#ifndef LIMPET_PLUGIN_H
#define LIMPET_PLUGIN_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define LIMPET_ABI_MAJOR 1u
#define LIMPET_ABI_MINOR 0u
#define LIMPET_EXPORT __attribute__((visibility("default")))
/* True when a peer's struct is long enough to contain member m. */
#define LIMPET_HAS(p, type, m) ((p)->size >= offsetof(type, m) + sizeof(((type *)0)->m))

/* ---- borrowed values: valid only until the function they were passed to returns ---- */
typedef struct limpet_bytes { const uint8_t *ptr; size_t len; } limpet_bytes;
typedef struct limpet_str { const char *ptr; size_t len; } limpet_str; /* UTF-8, no NUL promised */
typedef struct limpet_bytes_list { const limpet_bytes *items; size_t count; } limpet_bytes_list;
typedef struct limpet_str_list { const limpet_str *items; size_t count; } limpet_str_list;
typedef struct limpet_field { limpet_str key; limpet_str value; } limpet_field; /* log key/value, frozen */

/* ---- errors: gRPC canonical codes, so a status survives every hop unchanged ---- */
typedef int32_t limpet_code;
#define LIMPET_OK 0
#define LIMPET_CANCELLED 1
#define LIMPET_INVALID_ARGUMENT 3
#define LIMPET_DEADLINE_EXCEEDED 4
#define LIMPET_NOT_FOUND 5
#define LIMPET_PERMISSION_DENIED 7
#define LIMPET_RESOURCE_EXHAUSTED 8
#define LIMPET_FAILED_PRECONDITION 9
#define LIMPET_UNIMPLEMENTED 12
#define LIMPET_INTERNAL 13
#define LIMPET_UNAVAILABLE 14

typedef struct limpet_status {
  uint32_t size;
  limpet_code code;
  limpet_str message;         /* for the operator; no secrets, no key material */
  uint32_t retry_after_ms; /* 0: the host decides */
  uint32_t reserved;       /* zero */
} limpet_status;

/* ---- one request in flight ----
 * The host owns the op. The plugin ends it by calling the `done` it was given exactly once,
 * inside the call or later, from any thread [any]. err NULL means success. The host copies
 * everything before done returns and never re-enters the plugin from done. */
typedef struct limpet_op limpet_op;
typedef void (*limpet_done)(limpet_op *op, const limpet_status *err);

/* ---- what the host gives a plugin; one limpet_host per instance, outlives the instance ---- */
#define LIMPET_LOG_ERROR 1 /* 2 warn, 3 info, 4 debug */
typedef struct limpet_host limpet_host;
struct limpet_host {
  uint32_t size;
  uint32_t abi_minor;
  void *ctx; /* the host's, do not touch */
  /* [any] further services by id, NULL when this host lacks it. Table valid for life. */
  const void *(*service)(const limpet_host *host, const char *id);
  /* [any] one record; the host adds plugin name, instance and trust domain */
  void (*log)(const limpet_host *host, int32_t level, limpet_str message,
              const limpet_field *fields, size_t field_count);
  /* [any] run fn(arg) on the loop thread; the only way back from your own threads */
  void (*post)(const limpet_host *host, void (*fn)(void *arg), void *arg);
  /* [any] milliseconds left for op, INT64_MAX when unlimited, <= 0 when too late */
  int64_t (*time_left_ms)(const limpet_host *host, const limpet_op *op);
};

#define LIMPET_SERVICE_TIMER "limpet.timer/1"
typedef struct limpet_timer_service { /* [loop]; one-shot; stopping a fired id is a no-op */
  uint32_t size, reserved;
  uint32_t (*start)(const limpet_host *host, uint32_t ms, void (*fn)(void *arg), void *arg);
  void (*stop)(const limpet_host *host, uint32_t timer_id);
} limpet_timer_service;

#define LIMPET_SERVICE_POLL "limpet.poll/1"
#define LIMPET_POLL_READ 1u
#define LIMPET_POLL_WRITE 2u
typedef struct limpet_poll_service { /* [loop]; level-triggered; the plugin still owns the fd */
  uint32_t size, reserved;
  /* A limpet_code. Watching an fd again replaces what was watched; unwatch it before you close it. The host
   * makes it non-blocking. An error of the fd shows as all the events asked for: the next read or write says
   * which; unwatch it then. At most 64 for an instance; they end with it. */
  int32_t (*watch)(const limpet_host *host, int32_t fd, uint32_t events,
                   void (*fn)(void *arg, int32_t fd, uint32_t events), void *arg);
  void (*unwatch)(const limpet_host *host, int32_t fd);
} limpet_poll_service;

/* One unary gRPC call to a SPIFFE server, so that a plugin brings no TLS stack. The host takes an
 * X509-SVID from a Workload API socket, shows it as its client certificate, and believes nobody but
 * spiffe://<trust_domain>/spire/server under the bundle of that socket. It keeps the SVID, its
 * updates and the connection for the next call. */
#define LIMPET_SERVICE_GRPC "limpet.grpc/1"
typedef struct limpet_grpc_call {
  uint32_t size;
  uint32_t port;
  limpet_str host;                /* name or address */
  limpet_str trust_domain;        /* of the server, "example.org" */
  limpet_str workload_api_socket; /* path of a Unix socket */
  limpet_str method;              /* "/package.Service/Method" */
  limpet_bytes request;           /* one serialized message */
  uint32_t timeout_ms;            /* for all of it: SVID, connection, call; not 0 */
  uint32_t reserved;
} limpet_grpc_call;
typedef void (*limpet_grpc_done)(void *arg, const limpet_status *err, limpet_bytes reply); /* [loop] */
typedef struct limpet_grpc_service { /* [loop] */
  uint32_t size, reserved;
  /* The call's number, or 0 when there are too many: done is then not called. Else it is called
   * once, after start has returned and not after stop. */
  uint32_t (*start)(const limpet_host *host, const limpet_grpc_call *call, limpet_grpc_done done, void *arg);
  void (*stop)(const limpet_host *host, uint32_t call_id); /* of a call that has ended: a no-op */
} limpet_grpc_service;

/* One HTTP/1.1 GET without TLS. Redirects are not followed: the reply is what the server said. */
#define LIMPET_SERVICE_HTTP "limpet.http/1"
typedef struct limpet_http_call {
  uint32_t size;
  uint32_t max_body;   /* bytes; a longer body ends the call with LIMPET_RESOURCE_EXHAUSTED */
  limpet_str url;      /* "http://name-or-address:port/path" */
  uint32_t timeout_ms; /* for all of it; not 0 */
  uint32_t reserved;
} limpet_http_call;
typedef struct limpet_http_reply {
  uint32_t size;
  uint32_t status; /* 200, or whatever the server thinks */
  limpet_bytes body;
} limpet_http_reply;
typedef void (*limpet_http_done)(void *arg, const limpet_status *err, const limpet_http_reply *reply); /* [loop] */
typedef struct limpet_http_service { /* [loop]; start and stop as those of limpet_grpc_service */
  uint32_t size, reserved;
  uint32_t (*start)(const limpet_host *host, const limpet_http_call *call, limpet_http_done done, void *arg);
  void (*stop)(const limpet_host *host, uint32_t call_id);
} limpet_http_service;

/* Server only: what it knows of an agent, so that an attestor can insist on the first use of its evidence. */
#define LIMPET_SERVICE_AGENT_STORE "limpet.agent-store/1"
typedef struct limpet_agent_info {
  uint32_t size;
  uint32_t banned;             /* 1: it has attested once and may not come back */
  limpet_str id;               /* "spiffe://example.org/spire/agent/x/1" */
  limpet_str attestation_type; /* the attestor's name, "x" */
} limpet_agent_info;
/* err LIMPET_NOT_FOUND: no agent of this ID has attested, or it was deleted since. [loop] */
typedef void (*limpet_agent_done)(void *arg, const limpet_status *err, const limpet_agent_info *agent);
typedef struct limpet_agent_store_service { /* [loop]; start and stop as those of limpet_grpc_service */
  uint32_t size, reserved;
  uint32_t (*start)(const limpet_host *host, limpet_str agent_id, limpet_agent_done done, void *arg);
  void (*stop)(const limpet_host *host, uint32_t call_id);
} limpet_agent_store_service;

/* Devices that an operator enrolled for this node attestor, by an identifier of the attestor's choice
 * (a hash of the endorsement key, a serial number): at most 128 bytes. */
#define LIMPET_SERVICE_ENROLLMENT "limpet.enrollment/1"
typedef struct limpet_enrollment {
  uint32_t size;
  uint32_t enrolled;   /* 0: nobody enrolled this identifier; the rest is then empty */
  limpet_str note;     /* the operator's own words */
  int64_t enrolled_at; /* Unix seconds */
} limpet_enrollment;
typedef void (*limpet_enrollment_done)(void *arg, const limpet_status *err, const limpet_enrollment *found); /* [loop] */
typedef struct limpet_enrollment_service { /* [loop]; start and stop as those of limpet_grpc_service */
  uint32_t size, reserved;
  uint32_t (*start)(const limpet_host *host, limpet_str identifier, limpet_enrollment_done done, void *arg);
  void (*stop)(const limpet_host *host, uint32_t call_id);
} limpet_enrollment_service;

/* Small private state of a component, kept with the role's own state on disk: keys of 1 to 255 bytes, values
 * of at most 64 KiB, 1,000 keys. put and remove answer when the change is on disk. */
#define LIMPET_SERVICE_KV "limpet.kv/1"
/* value: what get found, else empty. A key that is not there: LIMPET_NOT_FOUND for get, success for remove. */
typedef void (*limpet_kv_done)(void *arg, const limpet_status *err, limpet_bytes value); /* [loop] */
typedef struct limpet_kv_service { /* [loop]; numbers and stop as those of limpet_grpc_service */
  uint32_t size, reserved;
  uint32_t (*get)(const limpet_host *host, limpet_str key, limpet_kv_done done, void *arg);
  uint32_t (*put)(const limpet_host *host, limpet_str key, limpet_bytes value, limpet_kv_done done, void *arg);
  uint32_t (*remove)(const limpet_host *host, limpet_str key, limpet_kv_done done, void *arg);
  void (*stop)(const limpet_host *host, uint32_t call_id); /* a put that was begun may still happen */
} limpet_kv_service;

/* Keys that the role's key manager holds for its plugins, so that evidence may live in a TPM or an HSM. In the
 * key manager their ids begin with "attest-"; the host adds that, and no other key can be named. Key managers and
 * sealers have no such service. */
#define LIMPET_SERVICE_KEYS "limpet.keys/1"
typedef struct limpet_public_key limpet_public_key; /* below, with the key managers */
typedef struct limpet_sign_request limpet_sign_request;
/* err LIMPET_NOT_FOUND: the key manager has no such key; an operator makes it. [loop] */
typedef void (*limpet_key_found_done)(void *arg, const limpet_status *err, const limpet_public_key *key);
typedef void (*limpet_key_used_done)(void *arg, const limpet_status *err, limpet_bytes signature); /* [loop] */
typedef struct limpet_keys_service { /* [loop]; numbers and stop as those of limpet_grpc_service */
  uint32_t size, reserved;
  uint32_t (*find)(const limpet_host *host, limpet_str id, limpet_key_found_done done, void *arg);
  /* With a key that find gave. LIMPET_FAILED_PRECONDITION: it gave none, or another stands behind the id by now. */
  uint32_t (*sign)(const limpet_host *host, const limpet_sign_request *request, limpet_key_used_done done, void *arg);
  void (*stop)(const limpet_host *host, uint32_t call_id);
} limpet_keys_service;

/* The role's sealer, for a plugin's own secrets: as the sealer's table below, with a context of at most 32 bytes.
 * The host binds the component to it: what one sealed, another cannot open. Sealers have no such service, and no
 * host without a sealer has it. */
#define LIMPET_SERVICE_SEAL "limpet.seal/1"
typedef void (*limpet_seal_done)(void *arg, const limpet_status *err, limpet_bytes bytes); /* [loop] */
typedef struct limpet_seal_service { /* [loop]; numbers and stop as those of limpet_grpc_service */
  uint32_t size, reserved;
  uint32_t (*seal)(const limpet_host *host, limpet_bytes plain, limpet_bytes context, limpet_seal_done done, void *arg);
  uint32_t (*unseal)(const limpet_host *host, limpet_bytes blob, limpet_bytes context, limpet_seal_done done, void *arg);
  void (*stop)(const limpet_host *host, uint32_t call_id);
} limpet_seal_service;

/* Server only: who the server is, and whom it believes. Its private key stays with the host. */
#define LIMPET_SERVICE_IDENTITY "limpet.identity/1"
typedef struct limpet_bundle limpet_bundle; /* below, with the upstream authorities */
typedef struct limpet_identity {
  uint32_t size, reserved;
  limpet_str trust_domain;         /* "example.org" */
  const limpet_bundle *bundle;     /* the server's own; tainted authorities are still in it */
  limpet_bytes_list x509_svid_der; /* the server's X509-SVID, leaf first; empty while it has none */
} limpet_identity;
typedef void (*limpet_identity_use)(void *arg, const limpet_identity *identity);
typedef struct limpet_identity_service { /* [any] */
  uint32_t size, reserved;
  /* Calls use once, before it returns, with what holds now: ask each time. LIMPET_UNAVAILABLE: use is not called, the
   * server has no bundle yet. */
  limpet_code (*get)(const limpet_host *host, limpet_identity_use use, void *arg);
} limpet_identity_service;

/* ---- what a plugin gives the host ---- */
typedef struct limpet_instance limpet_instance; /* the plugin's own types */
typedef struct limpet_session limpet_session;
typedef struct limpet_config {
  uint32_t size;
  uint32_t dry_run;      /* 1: validate only, keep the running configuration */
  limpet_str trust_domain;  /* "example.org" */
  limpet_str json;          /* the plugin's block of the host configuration, as JSON text */
} limpet_config;

#define LIMPET_BLOCKING 1u /* calls may block: host uses a worker thread; done before return */
#define LIMPET_SERIAL 2u   /* at most one op in flight per instance; the host queues the rest */
typedef struct limpet_component {
  uint32_t size;
  uint32_t flags;
  const char *interface_id; /* which table `vtable` is */
  const char *name;         /* "tpm2"; also the selector type and the configuration key */
  /* [loop] cheap: no I/O, no threads */
  limpet_code (*create)(const limpet_host *host, limpet_instance **out);
  /* [loop] every op has been done and every session closed before this is called */
  void (*destroy)(limpet_instance *self);
  /* once before any other call; it may come again at run time, with a dry run before it or without */
  void (*configure)(limpet_instance *self, limpet_op *op, const limpet_config *config, limpet_done done);
  /* a hint: end op soon, with LIMPET_CANCELLED or its real result; may be NULL */
  void (*cancel)(limpet_instance *self, limpet_op *op);
  const void *vtable;
} limpet_component;

typedef struct limpet_plugin {
  uint32_t size;
  uint32_t abi_major; /* LIMPET_ABI_MAJOR the plugin was built with */
  uint32_t abi_minor; /* lowest host minor it can live with */
  uint32_t reserved;
  const char *id;      /* reverse DNS, "com.example.tpm2" */
  const char *version; /* the plugin's own */
  const char *license; /* SPDX expression, logged at load */
  const limpet_component *const *components; /* NULL-terminated, static */
} limpet_plugin;

/* The one exported symbol. Must not allocate, open, start threads or read the environment.
 * Returns NULL when it cannot live with this host. Everything it points to is static. */
LIMPET_EXPORT const limpet_plugin *limpet_plugin_main(uint32_t host_major, uint32_t host_minor);

/* ================= interfaces: each table starts with size ================= */
#define LIMPET_NODE_ATTESTOR_AGENT "limpet.node-attestor.agent/1"
typedef void (*limpet_bytes_done)(limpet_op *op, const limpet_status *err, limpet_bytes bytes);
typedef struct limpet_node_attestor_agent {
  uint32_t size, reserved;
  limpet_session *(*open)(limpet_instance *self); /* one attestation attempt; NULL: out of memory */
  void (*payload)(limpet_session *s, limpet_op *op, limpet_bytes_done done);
  void (*answer)(limpet_session *s, limpet_op *op, limpet_bytes challenge, limpet_bytes_done done);
  void (*close)(limpet_session *s); /* after the session's last op is done */
} limpet_node_attestor_agent;

#define LIMPET_NODE_ATTESTOR_SERVER "limpet.node-attestor.server/1"
typedef struct limpet_attempt { /* what the host knows of the caller before it says a word */
  uint32_t size, reserved;
  limpet_str peer_ip;        /* of the connection, or forwarded by a trusted proxy */
  limpet_str forwarded_host; /* as claimed; untrusted */
  limpet_str trust_domain;
} limpet_attempt;
typedef struct limpet_attest_step {
  uint32_t size;
  uint32_t attested;      /* 0: send challenge and come back; 1: the rest is the verdict */
  limpet_bytes challenge;
  limpet_str agent_path;     /* "/spire/agent/tpm2/<unique>" */
  limpet_str_list selectors; /* values only; the host prefixes the component name */
  uint32_t can_reattest, reserved;
} limpet_attest_step;
typedef void (*limpet_step_done)(limpet_op *op, const limpet_status *err, const limpet_attest_step *step);
typedef struct limpet_node_attestor_server {
  uint32_t size, reserved;
  limpet_session *(*open)(limpet_instance *self, const limpet_attempt *attempt);
  /* first call: the payload; then one call per challenge answer; the host bounds the rounds */
  void (*step)(limpet_session *s, limpet_op *op, limpet_bytes from_agent, limpet_step_done done);
  void (*close)(limpet_session *s);
} limpet_node_attestor_server;

#define LIMPET_WORKLOAD_ATTESTOR "limpet.workload-attestor/1"
typedef struct limpet_workload {
  uint32_t size;
  int32_t pid, pidfd; /* -1 when the kernel has none; borrowed: dup() it to keep it */
  uint32_t uid, gid, reserved;
  limpet_str reference_type; /* empty: attest by pid; else a broker reference type URL */
  limpet_bytes reference;    /* its serialized message */
} limpet_workload;
typedef void (*limpet_selectors_done)(limpet_op *op, const limpet_status *err, limpet_str_list selectors);
typedef struct limpet_workload_attestor {
  uint32_t size, reserved;
  /* not my kind of workload: success with no selectors. Mine but unreadable: an error. */
  void (*attest)(limpet_instance *self, limpet_op *op, const limpet_workload *w, limpet_selectors_done done);
} limpet_workload_attestor;

#define LIMPET_KEY_MANAGER "limpet.key-manager/1"
#define LIMPET_KEY_EC_P256 1u /* 2 P-384, 3 RSA-2048, 4 RSA-4096: the SPIRE SDK's numbers */
#define LIMPET_HASH_SHA256 5u /* 6 SHA-384, 7 SHA-512 */
struct limpet_public_key {
  uint32_t size;
  uint32_t type;       /* LIMPET_KEY_* */
  limpet_str id;
  limpet_bytes spki_der;
  limpet_str fingerprint; /* changes whenever the key behind id is replaced */
};
struct limpet_sign_request {
  uint32_t size;
  uint32_t hash;        /* LIMPET_HASH_* that made digest */
  limpet_str key_id;
  limpet_bytes digest;
  int32_t pss_salt_len; /* -1: not PSS */
  uint32_t reserved;
  limpet_bytes message; /* the whole message where hash is 0: Ed25519, ML-DSA */
};
typedef void (*limpet_key_done)(limpet_op *op, const limpet_status *err, const limpet_public_key *key);
typedef void (*limpet_keys_done)(limpet_op *op, const limpet_status *err,
                              const limpet_public_key *const *keys, size_t count);
typedef void (*limpet_signature_done)(limpet_op *op, const limpet_status *err, limpet_bytes signature,
                                   limpet_str key_fingerprint);
typedef struct limpet_key_manager { /* private keys never cross this table */
  uint32_t size, reserved;
  void (*generate)(limpet_instance *self, limpet_op *op, limpet_str id, uint32_t type, limpet_key_done done);
  void (*list)(limpet_instance *self, limpet_op *op, limpet_keys_done done);
  void (*sign)(limpet_instance *self, limpet_op *op, const limpet_sign_request *r,
               limpet_signature_done done);
  void (*remove)(limpet_instance *self, limpet_op *op, limpet_str id, limpet_done done); /* may be NULL */
} limpet_key_manager;

#define LIMPET_SEALER "limpet.sealer/1"
/* Binds a small secret to this machine or token. plain: 1 to 4096 bytes; context: up to 64 bytes, bound
 * to the blob. A blob that cannot be opened any more (another TPM, changed PCRs, a removed token key) is
 * LIMPET_FAILED_PRECONDITION with the reason; a device that does not answer is LIMPET_UNAVAILABLE. */
typedef struct limpet_sealer {
  uint32_t size, reserved;
  void (*seal)(limpet_instance *self, limpet_op *op, limpet_bytes plain, limpet_bytes context, limpet_bytes_done done);
  void (*unseal)(limpet_instance *self, limpet_op *op, limpet_bytes blob, limpet_bytes context, limpet_bytes_done done);
} limpet_sealer;

#define LIMPET_UPSTREAM_AUTHORITY "limpet.upstream-authority/1"
typedef struct limpet_jwt_key {
  uint32_t size;
  uint32_t tainted;
  limpet_str id;
  limpet_bytes spki_der;
  int64_t expires_at; /* Unix seconds, 0: never */
} limpet_jwt_key;
struct limpet_bundle {
  uint32_t size;
  uint32_t refresh_hint_s;
  limpet_bytes_list x509_roots_der;
  const limpet_jwt_key *const *jwt_keys;
  size_t jwt_key_count;
  limpet_bytes_list tainted_roots_der; /* those of the roots above that are about to be revoked */
};
typedef void (*limpet_minted_done)(limpet_op *op, const limpet_status *err, limpet_bytes_list chain_der,
                                limpet_bytes_list roots_der);
typedef void (*limpet_bundle_update)(limpet_op *op, const limpet_bundle *bundle); /* [any], 0..n times */
typedef struct limpet_upstream_authority {
  uint32_t size, reserved;
  /* chain: the new CA certificate first, then its issuers without the root. ttl_s is a wish */
  void (*mint_ca)(limpet_instance *self, limpet_op *op, limpet_bytes csr_der, uint32_t ttl_s,
                  limpet_minted_done done);
  /* LIMPET_UNIMPLEMENTED: this upstream knows nothing of JWT keys; that is no failure */
  void (*publish_jwt_key)(limpet_instance *self, limpet_op *op, const limpet_jwt_key *key, limpet_done done);
  /* a stream: update() for every new bundle, done() once at the end; cancel() asks for the end. A
   * BLOCKING or SERIAL instance cannot keep it open beside its other calls: it updates once and ends.
   * The host opens a stream that ended again, 5 s later. */
  void (*watch_bundle)(limpet_instance *self, limpet_op *op, limpet_bundle_update update, limpet_done done);
} limpet_upstream_authority;

#define LIMPET_BUNDLE_PUBLISHER "limpet.bundle-publisher/1"
typedef struct limpet_bundle_publisher {
  uint32_t size, reserved;
  void (*publish)(limpet_instance *self, limpet_op *op, const limpet_bundle *bundle, limpet_done done);
} limpet_bundle_publisher;

#ifdef __cplusplus
}
#endif
#endif
