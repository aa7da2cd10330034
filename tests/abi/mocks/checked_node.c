/* SPDX-License-Identifier: Apache-2.0
 *
 * Both halves of a node attestor for plugin-check: the agent shows that it can turn the bits of a nonce around. It
 * proves nothing to anybody; plugin-check must tell the sound halves from the flawed ones. See checked.h.
 */
#include "checked.h"

#include <sys/random.h>

#define NONCE 16
static const char hello[] = "mock-agent-7";

struct limpet_session {
  limpet_instance* owner; /* of a server's session */
  unsigned char nonce[NONCE];
  int challenged;
};

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = new_instance(host);
  return *out == NULL ? LIMPET_RESOURCE_EXHAUSTED : LIMPET_OK;
}
static void destroy(limpet_instance* self) { free(self); }
static limpet_session* open_agent(limpet_instance* self) {
  (void)self;
  return calloc(1, sizeof(limpet_session));
}
static limpet_session* open_server(limpet_instance* self, const limpet_attempt* attempt) {
  limpet_session* s = calloc(1, sizeof *s);
  (void)attempt;
  if (s == NULL) return NULL;
  s->owner = self;
  ++self->calls;
  return s;
}
static void close_session(limpet_session* s) { free(s); }

static void payload(limpet_session* s, limpet_op* op, limpet_bytes_done done) {
  const limpet_bytes out = {(const uint8_t*)hello, sizeof hello - 1};
  (void)s;
  done(op, NULL, out);
}

static void answer(limpet_session* s, limpet_op* op, limpet_bytes challenge, limpet_bytes_done done) {
  const limpet_status bad = status_of(LIMPET_INVALID_ARGUMENT, "the challenge has not 16 bytes");
  const limpet_bytes none = {NULL, 0};
  unsigned char turned[NONCE];
  limpet_bytes out = {turned, NONCE};
  size_t i;
  (void)s;
#ifdef FLAW_DIES_OF_ODD_CHALLENGE
  if (challenge.len == 2 && challenge.ptr[0] == '{') abort();
#endif
  if (challenge.len != NONCE) {
    done(op, &bad, none);
    return;
  }
  for (i = 0; i < NONCE; ++i) turned[i] = challenge.ptr[i] ^ 0xff;
  done(op, NULL, out);
}

/* 1: the answer to the session's nonce. */
static int is_answer(const limpet_session* s, limpet_bytes said) {
  size_t i;
#ifdef FLAW_BELIEVES_NULL
  if (said.len == 4 && memcmp(said.ptr, "null", 4) == 0) return 1;
#endif
#ifdef FLAW_HALF_IS_ENOUGH
  if (said.len < 5 || said.len > NONCE) return 0;
#else
  if (said.len != NONCE) return 0;
#endif
  for (i = 0; i < said.len; ++i) {
    if ((said.ptr[i] ^ s->nonce[i]) != 0xff) return 0;
  }
  return 1;
}

static void step(limpet_session* s, limpet_op* op, limpet_bytes said, limpet_step_done done) {
  const limpet_status refused = status_of(LIMPET_PERMISSION_DENIED, "this is not the agent");
  static const limpet_str selector = {"kind:mock", 9};
#ifdef FLAW_FOREIGN_PATH
  static const char path[] = "/spire/agent/x509pop/7";
#else
  static const char path[] = "/spire/agent/mock/7";
#endif
  limpet_attest_step out;
#ifdef FLAW_NEVER_FORGETS_THE_GIVEN_UP
  if (s->owner->calls > 18) return; /* until one of the others comes to its end */
#endif
  memset(&out, 0, sizeof out);
  out.size = sizeof out;
  if (!s->challenged) {
    if (said.len != sizeof hello - 1 || memcmp(said.ptr, hello, said.len) != 0) {
      done(op, &refused, NULL);
      return;
    }
    s->challenged = 1;
#ifdef FLAW_SAME_CHALLENGE
    memset(s->nonce, 7, NONCE);
#else
    if (getrandom(s->nonce, NONCE, 0) != NONCE) abort();
#endif
    out.challenge.ptr = s->nonce;
    out.challenge.len = NONCE;
    done(op, NULL, &out);
    return;
  }
  if (!is_answer(s, said)) {
    done(op, &refused, NULL);
    return;
  }
  out.attested = 1;
  --s->owner->calls;
  out.agent_path.ptr = path;
  out.agent_path.len = sizeof path - 1;
  out.selectors.items = &selector;
  out.selectors.count = 1;
  out.can_reattest = 1;
  done(op, NULL, &out);
}

static const limpet_node_attestor_agent agent_table = {sizeof agent_table, 0, open_agent, payload, answer,
                                                       close_session};
static const limpet_node_attestor_server server_table = {sizeof server_table, 0, open_server, step, close_session};
static const limpet_component agent = {
    sizeof agent, 0, LIMPET_NODE_ATTESTOR_AGENT, "mock", create, destroy, checked_configure, NULL, &agent_table};
static const limpet_component server = {
    sizeof server, 0, LIMPET_NODE_ATTESTOR_SERVER, "mock", create, destroy, checked_configure, NULL, &server_table};

CHECKED_PLUGIN(&agent, &server)
