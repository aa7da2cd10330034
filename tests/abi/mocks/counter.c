/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts how often it was started, with the host's services alone: a byte through a pipe that the host watches
 * (limpet.poll/1), then the number out of its private state and back (limpet.kv/1). A workload attestor and a bundle
 * publisher, so that both roles can have it; neither does anything else.
 */
#include <limpet_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct limpet_instance {
  const limpet_host* host;
  const limpet_poll_service* poll;
  const limpet_kv_service* kv;
  int pipe[2];
  unsigned starts;
  limpet_op* op;
  limpet_done done;
};

static const limpet_str kKey = {"starts", 6};

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = calloc(1, sizeof(limpet_instance));
  if (*out == NULL) return LIMPET_RESOURCE_EXHAUSTED;
  (*out)->host = host;
  (*out)->pipe[0] = (*out)->pipe[1] = -1;
  return LIMPET_OK;
}

static void destroy(limpet_instance* self) {
  if (self->pipe[0] >= 0) close(self->pipe[0]);
  if (self->pipe[1] >= 0) close(self->pipe[1]);
  free(self);
}

static void end(limpet_instance* self, const limpet_status* status) { self->done(self->op, status); }

static void end_with(limpet_instance* self, limpet_code code, const char* message) {
  const limpet_status status = {sizeof status, code, {message, strlen(message)}, 0, 0};
  end(self, &status);
}

static void on_put(void* arg, const limpet_status* err, limpet_bytes value) {
  limpet_instance* self = arg;
  char text[64];
  limpet_str message = {text, 0};
  (void)value;
  if (err != NULL) {
    end(self, err);
    return;
  }
  message.len = (size_t)snprintf(text, sizeof text, "started %u times", self->starts);
  self->host->log(self->host, 3, message, NULL, 0);
  end(self, NULL);
}

static void on_get(void* arg, const limpet_status* err, limpet_bytes value) {
  limpet_instance* self = arg;
  limpet_bytes next = {(const uint8_t*)&self->starts, sizeof self->starts};
  if (err != NULL && err->code != LIMPET_NOT_FOUND) {
    end(self, err);
    return;
  }
  if (err == NULL && value.len == sizeof self->starts) memcpy(&self->starts, value.ptr, value.len);
  self->starts += 1;
  if (self->kv->put(self->host, kKey, next, on_put, self) == 0) end_with(self, LIMPET_INTERNAL, "put was not started");
}

static void on_ready(void* arg, int32_t fd, uint32_t events) {
  limpet_instance* self = arg;
  char byte = 0;
  self->poll->unwatch(self->host, fd);
  if (events != LIMPET_POLL_READ || read(fd, &byte, 1) != 1 || byte != 'x') {
    end_with(self, LIMPET_INTERNAL, "the pipe is not readable");
    return;
  }
  if (self->kv->get(self->host, kKey, on_get, self) == 0) end_with(self, LIMPET_INTERNAL, "get was not started");
}

static void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  self->op = op;
  self->done = done;
  if (config->dry_run) {
    end(self, NULL);
    return;
  }
  self->poll = self->host->service(self->host, LIMPET_SERVICE_POLL);
  self->kv = self->host->service(self->host, LIMPET_SERVICE_KV);
  if (self->poll == NULL || self->kv == NULL) {
    end_with(self, LIMPET_FAILED_PRECONDITION, "this host lacks limpet.poll/1 or limpet.kv/1");
    return;
  }
  if (pipe(self->pipe) != 0 || write(self->pipe[1], "x", 1) != 1 ||
      self->poll->watch(self->host, self->pipe[0], LIMPET_POLL_READ, on_ready, self) != LIMPET_OK) {
    end_with(self, LIMPET_INTERNAL, "no pipe that can be watched");
  }
}

static void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  const limpet_str_list none = {NULL, 0};
  (void)self;
  (void)w;
  done(op, NULL, none);
}

static void publish(limpet_instance* self, limpet_op* op, const limpet_bundle* bundle, limpet_done done) {
  (void)self;
  (void)bundle;
  done(op, NULL);
}

static const limpet_workload_attestor attestor = {sizeof attestor, 0, attest};
static const limpet_bundle_publisher publisher = {sizeof publisher, 0, publish};
static const limpet_component in_agent = {
    sizeof in_agent, 0, LIMPET_WORKLOAD_ATTESTOR, "counter", create, destroy, configure, NULL, &attestor};
static const limpet_component in_server = {
    sizeof in_server, 0, LIMPET_BUNDLE_PUBLISHER, "counter", create, destroy, configure, NULL, &publisher};
static const limpet_component* const components[] = {&in_agent, &in_server, NULL};
static const limpet_plugin plugin = {sizeof plugin, LIMPET_ABI_MAJOR, 0,         0, "org.example.counter",
                                     "1.0.0",       "Apache-2.0",     components};

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t host_minor) {
  (void)host_minor;
  return host_major == LIMPET_ABI_MAJOR ? &plugin : NULL;
}
