/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin for the tests of shim children. What its key manager is asked to sign with tells it how to behave: the key
 * "ok" signs, "crash" crashes, "read:/etc/passwd" reports whether that file can be opened, and so on. It has a
 * component of every kind, each named "moody"; with MOCK_BLOCKING or MOCK_SERIAL they say so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limpet_plugin.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef MOCK_BLOCKING
#define MOODY_FLAGS LIMPET_BLOCKING
#elif defined(MOCK_SERIAL)
#define MOODY_FLAGS LIMPET_SERIAL
#else
#define MOODY_FLAGS 0
#endif

struct limpet_instance {
  const limpet_host* host;
  limpet_op* kept; /* the op of "never", "late", and of services */
  limpet_signature_done kept_done;
  limpet_op* watch;
  limpet_done watch_done;
  unsigned signs;
};
struct limpet_session {
  limpet_instance* owner;
  unsigned rounds;
  char peer[64];
};

static limpet_str str(const char* text) {
  const limpet_str s = {text, strlen(text)};
  return s;
}
static limpet_status status_of(limpet_code code, const char* text) {
  const limpet_status s = {sizeof(limpet_status), code, str(text), 0, 0};
  return s;
}
static int is(limpet_str a, const char* b) { return a.len == strlen(b) && memcmp(a.ptr, b, a.len) == 0; }
static const char* after(limpet_str a, const char* prefix) {
  static char rest[256];
  const size_t n = strlen(prefix);
  if (a.len < n || a.len - n >= sizeof rest || memcmp(a.ptr, prefix, n) != 0) return NULL;
  memcpy(rest, a.ptr + n, a.len - n);
  rest[a.len - n] = 0;
  return rest;
}

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = calloc(1, sizeof **out);
  if (*out == NULL) return LIMPET_RESOURCE_EXHAUSTED;
  (*out)->host = host;
  return LIMPET_OK;
}
static void destroy(limpet_instance* self) { free(self); }
static void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "this configuration is refused");
  const char* json = config->json.ptr;
  (void)self;
  if (memmem(json, config->json.len, "refuse", 6)) {
    done(op, &bad);
    return;
  }
  if (memmem(json, config->json.len, "crash", 5)) abort();
  if (memmem(json, config->json.len, "once:", 5)) { /* only the first process may be configured */
    const char* path = (const char*)memmem(json, config->json.len, "once:", 5) + 5;
    char name[256];
    size_t n = 0;
    while (n < sizeof name - 1 && path[n] != '"') {
      name[n] = path[n];
      ++n;
    }
    name[n] = 0;
    if (access(name, F_OK) == 0) abort();
  }
  done(op, NULL);
}
static void cancel(limpet_instance* self, limpet_op* op) {
  limpet_status gone = status_of(LIMPET_CANCELLED, "cancelled");
  const limpet_bytes none = {NULL, 0};
  if (self->watch == op) {
    self->watch = NULL;
    self->watch_done(op, &gone);
  }
  if (self->kept == op) {
    self->kept = NULL;
    self->kept_done(op, &gone, none, str(""));
  }
}

/* ---- key manager ---- */
static void reply(limpet_op* op, limpet_signature_done done, const char* text) {
  const limpet_bytes signature = {(const uint8_t*)text, strlen(text)};
  done(op, NULL, signature, str("f"));
}
static void reply_errno(limpet_op* op, limpet_signature_done done, int ok) {
  reply(op, done, ok ? "ok" : strerror(errno));
}
static void raw(const void* data, size_t size) { (void)!write(3, data, size); }
static void raw_frame(uint32_t number, uint16_t method, const void* payload, uint32_t size) {
  const uint32_t length = size + 6;
  uint8_t head[10];
  memcpy(head, &length, 4);
  memcpy(head + 4, &number, 4);
  memcpy(head + 8, &method, 2);
  raw(head, sizeof head);
  if (size > 0) raw(payload, size);
}
static void* answer_on_thread(void* arg) {
  limpet_instance* self = arg;
  reply(self->kept, self->kept_done, "from a thread");
  return NULL;
}
static void on_late(void* arg) {
  limpet_instance* self = arg;
  limpet_op* op = self->kept;
  self->kept = NULL;
  if (op != NULL) reply(op, self->kept_done, "late");
}
static void on_kv(void* arg, const limpet_status* err, limpet_bytes value) {
  limpet_instance* self = arg;
  (void)value;
  reply(self->kept, self->kept_done, err == NULL ? "kv" : "no kv");
}
static void on_agent(void* arg, const limpet_status* err, const limpet_agent_info* agent) {
  limpet_instance* self = arg;
  char text[128];
  snprintf(text, sizeof text, "%s", "unknown");
  if (err == NULL) snprintf(text, sizeof text, "%.*s", (int)agent->attestation_type.len, agent->attestation_type.ptr);
  reply(self->kept, self->kept_done, text);
}
static void on_http(void* arg, const limpet_status* err, const limpet_http_reply* got) {
  limpet_instance* self = arg;
  char text[64];
  snprintf(text, sizeof text, err == NULL ? "%u" : "no answer", err == NULL ? (unsigned)got->status : 0);
  reply(self->kept, self->kept_done, text);
}
static void on_identity(void* arg, const limpet_identity* identity) {
  snprintf(arg, 64, "%.*s %u", (int)identity->trust_domain.len, identity->trust_domain.ptr,
           (unsigned)identity->bundle->x509_roots_der.count);
}
static void on_secret(void* arg, const limpet_status* err, limpet_bytes got) {
  limpet_instance* self = arg;
  char text[200];
  if (err != NULL)
    snprintf(text, sizeof text, "error %d %.*s", err->code, (int)err->message.len, err->message.ptr);
  else
    snprintf(text, sizeof text, "%.*s", (int)got.len, (const char*)got.ptr);
  reply(self->kept, self->kept_done, text);
}
static void on_sealed(void* arg, const limpet_status* err, limpet_bytes got) {
  limpet_instance* self = arg;
  const limpet_seal_service* seals = self->host->service(self->host, LIMPET_SERVICE_SEAL);
  const limpet_bytes context = {(const uint8_t*)"context", 7};
  if (err != NULL) return on_secret(self, err, got);
  seals->unseal(self->host, got, context, on_secret, self);
}
static void on_key_used(void* arg, const limpet_status* err, limpet_bytes signature) {
  limpet_instance* self = arg;
  if (err != NULL) return on_secret(self, err, signature);
  self->kept_done(self->kept, NULL, signature, str("f"));
}
static void on_key(void* arg, const limpet_status* err, const limpet_public_key* key) {
  limpet_instance* self = arg;
  const limpet_keys_service* keys = self->host->service(self->host, LIMPET_SERVICE_KEYS);
  static const uint8_t digest[32];
  limpet_sign_request request = {sizeof request, 5, {NULL, 0}, {digest, sizeof digest}, -1, 0, {NULL, 0}};
  const limpet_bytes nothing = {NULL, 0};
  if (err != NULL) return on_secret(self, err, nothing);
  request.key_id = key->id;
  if (keys->sign(self->host, &request, on_key_used, self) == 0)
    reply(self->kept, self->kept_done, "sign was not begun");
}
static void on_readable(void* arg, int32_t fd, uint32_t events) {
  limpet_instance* self = arg;
  const limpet_poll_service* poll_service = self->host->service(self->host, LIMPET_SERVICE_POLL);
  (void)events;
  poll_service->unwatch(self->host, fd);
  close(fd);
  reply(self->kept, self->kept_done, "readable");
}

static int services(limpet_instance* self, limpet_str key) {
  const limpet_host* host = self->host;
  if (is(key, "kv")) {
    const limpet_kv_service* kv = host->service(host, LIMPET_SERVICE_KV);
    const limpet_bytes value = {(const uint8_t*)"v", 1};
    if (kv == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    kv->put(host, str("k"), value, on_kv, self);
  } else if (is(key, "agent")) {
    const limpet_agent_store_service* agents = host->service(host, LIMPET_SERVICE_AGENT_STORE);
    if (agents == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    agents->start(host, str("spiffe://example.org/spire/agent/x/1"), on_agent, self);
  } else if (is(key, "http")) {
    const limpet_http_service* http = host->service(host, LIMPET_SERVICE_HTTP);
    limpet_http_call call = {sizeof call, 1024, str("http://127.0.0.1:1/"), 1000, 0};
    if (http == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    http->start(host, &call, on_http, self);
  } else if (after(key, "key:") != NULL) {
    const limpet_keys_service* keys = host->service(host, LIMPET_SERVICE_KEYS);
    if (keys == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    keys->find(host, str(after(key, "key:")), on_key, self);
  } else if (is(key, "seal")) {
    const limpet_seal_service* seals = host->service(host, LIMPET_SERVICE_SEAL);
    const limpet_bytes secret = {(const uint8_t*)"secret", 6}, context = {(const uint8_t*)"context", 7};
    if (seals == NULL) return reply(self->kept, self->kept_done, "no service"), 1;
    seals->seal(host, secret, context, on_sealed, self);
  } else if (is(key, "identity")) {
    const limpet_identity_service* identity = host->service(host, LIMPET_SERVICE_IDENTITY);
    char text[64] = "none yet";
    if (identity != NULL) identity->get(host, on_identity, text);
    reply(self->kept, self->kept_done, identity != NULL ? text : "no service");
  } else if (is(key, "poll")) {
    const limpet_poll_service* poll_service = host->service(host, LIMPET_SERVICE_POLL);
    int pair[2];
    if (poll_service == NULL || pipe(pair) != 0) return reply(self->kept, self->kept_done, "no service"), 1;
    (void)!write(pair[1], "x", 1);
    close(pair[1]);
    poll_service->watch(host, pair[0], LIMPET_POLL_READ, on_readable, self);
  } else if (is(key, "late")) {
    const limpet_timer_service* timers = host->service(host, LIMPET_SERVICE_TIMER);
    timers->start(host, 30, on_late, self);
  } else if (is(key, "post")) {
    host->post(host, on_late, self);
  } else if (is(key, "thread")) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, answer_on_thread, self) != 0) reply(self->kept, self->kept_done, "no thread");
  } else if (!is(key, "never")) {
    return 0;
  }
  return 1;
}

/* What the sandbox allows. */
static int probes(limpet_op* op, limpet_signature_done done, limpet_str key) {
  const char* path;
  int fd;
  if ((path = after(key, "read:")) != NULL) {
    fd = open(path, O_RDONLY | O_CLOEXEC);
    reply_errno(op, done, fd >= 0);
    if (fd >= 0) close(fd);
  } else if ((path = after(key, "write:")) != NULL) {
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    reply_errno(op, done, fd >= 0);
    if (fd >= 0) close(fd);
  } else if ((path = after(key, "mkdir:")) != NULL) {
    reply_errno(op, done, mkdir(path, 0700) == 0);
  } else if (is(key, "inet") || is(key, "unix")) {
    fd = socket(is(key, "inet") ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    reply_errno(op, done, fd >= 0);
    if (fd >= 0) close(fd);
  } else if (is(key, "fork")) {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    reply_errno(op, done, pid > 0);
    if (pid > 0) waitpid(pid, NULL, 0);
  } else if (is(key, "kill")) {
    reply_errno(op, done, kill(getppid(), 0) == 0);
  } else if (is(key, "memory")) {
    void* got = malloc((size_t)3 << 30);
    reply(op, done, got != NULL ? "ok" : "refused");
    free(got);
  } else if (is(key, "files")) {
    int count = 0;
    for (fd = 0; fd < 4096; ++fd) count += fcntl(fd, F_GETFD) >= 0;
    char text[16];
    snprintf(text, sizeof text, "%d", count);
    reply(op, done, text);
  } else if (is(key, "who")) {
    char text[64];
    snprintf(text, sizeof text, "%d %d", (int)getuid(), (int)getgid());
    reply(op, done, text);
  } else if (is(key, "exec")) {
    char* const none[] = {NULL};
    execve("/bin/true", none, none);
    reply_errno(op, done, 0);
  } else {
    return 0;
  }
  return 1;
}

/* What no plugin should do. */
static int misdeeds(limpet_instance* self, limpet_op* op, limpet_signature_done done, limpet_str key) {
  static uint8_t large[2 << 20];
  uint32_t i;
  if (is(key, "crash")) {
    *(volatile int*)8 = 1;
  } else if (is(key, "exit")) {
    _exit(3);
  } else if (is(key, "hang")) {
    for (;;) pause();
  } else if (is(key, "spin")) {
    for (volatile unsigned n = 0;; ++n) {
    }
  } else if (is(key, "twice")) {
    reply(op, done, "once");
    reply(op, done, "twice");
  } else if (is(key, "big")) {
    const limpet_bytes signature = {large, sizeof large};
    done(op, NULL, signature, str("f"));
  } else if (is(key, "null")) {
    const limpet_bytes signature = {NULL, 5};
    done(op, NULL, signature, str("f"));
  } else if (is(key, "no code")) {
    const limpet_status bad = status_of(0, "");
    const limpet_bytes none = {NULL, 0};
    done(op, &bad, none, str(""));
  } else if (is(key, "talk")) {
    for (i = 0; i < 1000; ++i) self->host->log(self->host, LIMPET_LOG_ERROR, str("chatter"), NULL, 0);
    reply(op, done, "talked");
  } else if (is(key, "flood")) {
    for (;;) self->host->log(self->host, LIMPET_LOG_ERROR, str("flood"), NULL, 0);
  } else if (is(key, "garbage")) {
    memset(large, 0xa5, 4096);
    raw(large, 4096);
  } else if (is(key, "length")) {
    raw("\xff\xff\xff\x7f\0\0\0\0\0\0", 10);
  } else if (is(key, "unknown op")) {
    raw_frame(0x7fffffff, 43, "\0\0\0\0", 4);
  } else if (is(key, "unknown method")) {
    raw_frame(1, 999, NULL, 0);
  } else if (is(key, "answer twice")) {
    reply(op, done, "once");
    for (i = 1; i < 64; ++i) raw_frame(i, 43, "\0\0\0\0\1\0\0\0x\1\0\0\0f", 14);
  } else if (is(key, "short answer")) {
    for (i = 2; i < 64; ++i) raw_frame(i, 43, "\0\0\0\0\377\0\0\0x", 9);
  } else if (is(key, "close")) {
    close(3);
    for (;;) pause();
  } else if (is(key, "pong")) {
    raw_frame(0, 46, NULL, 0);
  } else if (is(key, "stderr")) {
    fprintf(stderr, "a line on standard error\n");
    fflush(stderr);
    reply(op, done, "written");
  } else {
    return 0;
  }
  return 1;
}

static void sign(limpet_instance* self, limpet_op* op, const limpet_sign_request* r, limpet_signature_done done) {
  const limpet_status unknown = status_of(LIMPET_NOT_FOUND, "no such key");
  const limpet_bytes none = {NULL, 0};
  ++self->signs;
  if (is(r->key_id, "ok")) {
    done(op, NULL, r->digest, str("f"));
    return;
  }
  if (is(r->key_id, "time")) {
    const int64_t left = self->host->time_left_ms(self->host, op);
    reply(op, done, left > 0 && left <= 10000 ? "in time" : "no deadline");
    return;
  }
  if (probes(op, done, r->key_id)) return;
  self->kept = op;
  self->kept_done = done;
  if (services(self, r->key_id)) return;
  self->kept = NULL;
  if (!misdeeds(self, op, done, r->key_id)) done(op, &unknown, none, str(""));
}
static void list(limpet_instance* self, limpet_op* op, limpet_keys_done done) {
  (void)self;
  done(op, NULL, NULL, 0);
}
static void generate(limpet_instance* self, limpet_op* op, limpet_str id, uint32_t type, limpet_key_done done) {
  const limpet_status no = status_of(LIMPET_UNIMPLEMENTED, "this plugin makes no keys");
  (void)self;
  (void)type;
  if (is(id, "crash")) abort();
  done(op, &no, NULL);
}
static const limpet_key_manager key_manager = {sizeof key_manager, 0, generate, list, sign, NULL};

/* ---- sealer: turns the bits over ---- */
static void seal(limpet_instance* self, limpet_op* op, limpet_bytes in, limpet_bytes context, limpet_bytes_done done) {
  uint8_t out[4096];
  limpet_bytes result = {out, in.len};
  size_t i;
  (void)self;
  (void)context;
  for (i = 0; i < in.len && i < sizeof out; ++i) out[i] = (uint8_t)~in.ptr[i];
  done(op, NULL, result);
}
static const limpet_sealer sealer = {sizeof sealer, 0, seal, seal};

/* ---- node attestors ---- */
static limpet_session* open_agent(limpet_instance* self) {
  limpet_session* s = calloc(1, sizeof *s);
  s->owner = self;
  return s;
}
static void payload(limpet_session* s, limpet_op* op, limpet_bytes_done done) {
  const limpet_bytes out = {(const uint8_t*)"payload", 7};
  ++s->rounds;
  done(op, NULL, out);
}
static void answer(limpet_session* s, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  char text[32];
  limpet_bytes out = {(const uint8_t*)text, 0};
  if (challenge.len == 5 && memcmp(challenge.ptr, "crash", 5) == 0) abort();
  out.len = (size_t)snprintf(text, sizeof text, "round %u", ++s->rounds);
  done(op, NULL, out);
}
static void close_session(limpet_session* s) { free(s); }
static const limpet_node_attestor_agent agent = {sizeof agent, 0, open_agent, payload, answer, close_session};

static limpet_session* open_server(limpet_instance* self, const limpet_attempt* attempt) {
  limpet_session* s = calloc(1, sizeof *s);
  s->owner = self;
  snprintf(s->peer, sizeof s->peer, "peer:%.*s", (int)attempt->peer_ip.len, attempt->peer_ip.ptr);
  return s;
}
static void step(limpet_session* s, limpet_op* op, limpet_bytes said, limpet_step_done done) {
  limpet_attest_step out = {sizeof out, 0, {NULL, 0}, {NULL, 0}, {NULL, 0}, 0, 0};
  const limpet_str selector = str(s->peer);
  if (s->rounds++ == 0) {
    out.challenge = said;
  } else {
    out.attested = 1;
    out.agent_path = str("/spire/agent/moody/1");
    out.selectors.items = &selector;
    out.selectors.count = 1;
    out.can_reattest = 1;
  }
  done(op, NULL, &out);
}
static const limpet_node_attestor_server server = {sizeof server, 0, open_server, step, close_session};

/* ---- workload attestor: says what it can see of the workload ---- */
static void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  char link[64], exe[256], texts[6][320];
  limpet_str items[6];
  limpet_str_list list_of = {items, 6};
  struct pollfd alive = {w->pidfd, POLLIN, 0};
  ssize_t size;
  int fd, i;
  (void)self;
  if (w->uid == 4242) abort();
  snprintf(link, sizeof link, "/proc/%d/exe", (int)w->pid);
  size = readlink(link, exe, sizeof exe - 1);
  snprintf(texts[0], sizeof texts[0], "exe:%.*s", size < 0 ? 0 : (int)size, exe);
  fd = open(link, O_RDONLY | O_CLOEXEC);
  snprintf(texts[1], sizeof texts[1], "open:%s", fd >= 0 ? "ok" : strerror(errno));
  if (fd >= 0) close(fd);
  snprintf(texts[2], sizeof texts[2], "pidfd:%s", w->pidfd >= 0 && poll(&alive, 1, 0) == 0 ? "alive" : "none");
  snprintf(texts[3], sizeof texts[3], "me:%d", (int)getuid());
  fd = socket(AF_INET, SOCK_STREAM, 0);
  snprintf(texts[4], sizeof texts[4], "inet:%s", fd >= 0 ? "ok" : strerror(errno));
  if (fd >= 0) close(fd);
  fd = open("/tmp/limpet-moody-wrote-this", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  snprintf(texts[5], sizeof texts[5], "write:%s", fd >= 0 ? "ok" : strerror(errno));
  if (fd >= 0) {
    unlink("/tmp/limpet-moody-wrote-this");
    close(fd);
  }
  for (i = 0; i < 6; ++i) items[i] = str(texts[i]);
  done(op, NULL, list_of);
}
static const limpet_workload_attestor workload = {sizeof workload, 0, attest};

/* ---- upstream authority and publisher ---- */
static void mint_ca(limpet_instance* self, limpet_op* op, limpet_bytes csr, uint32_t ttl, limpet_minted_done done) {
  const limpet_bytes_list both = {&csr, 1};
  (void)self;
  if (ttl == 4242) abort();
  done(op, NULL, both, both);
}
static void publish_jwt_key(limpet_instance* self, limpet_op* op, const limpet_jwt_key* key, limpet_done done) {
  const limpet_status no = status_of(LIMPET_INVALID_ARGUMENT, "no id");
  (void)self;
  done(op, key->id.len > 0 && key->expires_at == 77 ? NULL : &no);
}
static void watch_bundle(limpet_instance* self, limpet_op* op, limpet_bundle_update update, limpet_done done) {
  const limpet_bytes root = {(const uint8_t*)"root", 4};
  const limpet_jwt_key key = {sizeof key, 0, str("kid"), {(const uint8_t*)"spki", 4}, 77};
  const limpet_jwt_key* const keys[] = {&key};
  const limpet_bundle bundle = {sizeof bundle, 60, {&root, 1}, keys, 1, {NULL, 0}};
  self->watch = op;
  self->watch_done = done;
  update(op, &bundle);
#if MOODY_FLAGS != 0
  self->watch = NULL;
  done(op, NULL);
#endif
}
static const limpet_upstream_authority upstream = {sizeof upstream, 0, mint_ca, publish_jwt_key, watch_bundle};
static void publish(limpet_instance* self, limpet_op* op, const limpet_bundle* bundle, limpet_done done) {
  const limpet_status no = status_of(LIMPET_INVALID_ARGUMENT, "an empty bundle");
  (void)self;
  done(op, bundle->x509_roots_der.count > 0 && bundle->jwt_key_count == 1 ? NULL : &no);
}
static const limpet_bundle_publisher publisher = {sizeof publisher, 0, publish};

#define COMPONENT(variable, id, table)                                                             \
  static const limpet_component variable = {sizeof variable, MOODY_FLAGS, id,     "moody", create, \
                                            destroy,         configure,   cancel, table}
COMPONENT(c_keys, LIMPET_KEY_MANAGER, &key_manager);
COMPONENT(c_sealer, LIMPET_SEALER, &sealer);
COMPONENT(c_agent, LIMPET_NODE_ATTESTOR_AGENT, &agent);
COMPONENT(c_server, LIMPET_NODE_ATTESTOR_SERVER, &server);
COMPONENT(c_workload, LIMPET_WORKLOAD_ATTESTOR, &workload);
COMPONENT(c_upstream, LIMPET_UPSTREAM_AUTHORITY, &upstream);
COMPONENT(c_publisher, LIMPET_BUNDLE_PUBLISHER, &publisher);
static const limpet_component* const components[] = {&c_keys,     &c_sealer,   &c_agent,     &c_server,
                                                     &c_workload, &c_upstream, &c_publisher, NULL};
static const limpet_plugin plugin = {sizeof plugin, LIMPET_ABI_MAJOR, LIMPET_ABI_MINOR, 0, "org.example.moody",
                                     "1",           "Apache-2.0",     components};

const limpet_plugin* limpet_plugin_main(uint32_t major, uint32_t minor) {
  (void)major;
  (void)minor;
  return &plugin;
}
