/* SPDX-License-Identifier: Apache-2.0
 *
 * A workload attestor that holds its host to what limpet_plugin.h says of limpet.poll/1: configure fails, and names the
 * rule, where the host keeps to another. All its instances watch one descriptor as long as they live. See checked.h.
 */
#include "checked.h"

#include <fcntl.h>

#define MAX_WATCHES 64

static int shared[2], users; /* a pipe that stays empty */

static limpet_code create(const limpet_host* host, limpet_instance** out) {
  *out = new_instance(host);
  if (*out == NULL || (users == 0 && pipe2(shared, O_CLOEXEC) != 0)) {
    free(*out);
    return LIMPET_RESOURCE_EXHAUSTED;
  }
  ++users;
  return LIMPET_OK;
}

static void destroy(limpet_instance* self) {
  if (--users == 0) {
    close(shared[0]);
    close(shared[1]);
  }
  free(self);
}

static void on_ready(void* arg, int32_t fd, uint32_t events) {
  (void)arg;
  (void)fd;
  (void)events;
}

/* NULL, or the rule that the host does not know. */
static const char* refuses_what_cannot_be_watched(limpet_instance* self, const limpet_poll_service* poll) {
  const limpet_host* host = self->host;
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), closed = dup(shared[0]);
  const int32_t of_file = poll->watch(host, file, LIMPET_POLL_READ, on_ready, self);
  close(file);
  close(closed);
  if (of_file != LIMPET_INVALID_ARGUMENT) return "a regular file cannot be watched";
  if (poll->watch(host, closed, LIMPET_POLL_READ, on_ready, self) != LIMPET_INVALID_ARGUMENT)
    return "a closed descriptor cannot be watched";
  if (poll->watch(host, shared[0], 0, on_ready, self) != LIMPET_INVALID_ARGUMENT) return "events 0 is no event";
  if (poll->watch(host, shared[0], 4, on_ready, self) != LIMPET_INVALID_ARGUMENT) return "events 4 is no event";
  if (poll->watch(host, shared[0], LIMPET_POLL_READ, NULL, self) != LIMPET_INVALID_ARGUMENT) return "nobody to tell";
  return NULL;
}

static const char* watches_sixty_four(limpet_instance* self, const limpet_poll_service* poll) {
  const limpet_host* host = self->host;
  const char* wrong = NULL;
  int fds[MAX_WATCHES + 1], i;
  for (i = 0; i <= MAX_WATCHES; ++i) {
    const limpet_code expected = i < MAX_WATCHES ? LIMPET_OK : LIMPET_RESOURCE_EXHAUSTED;
    fds[i] = dup(shared[0]);
    if (poll->watch(host, fds[i], LIMPET_POLL_READ, on_ready, self) != expected) wrong = "64 may be watched, not 65";
  }
  if (poll->watch(host, fds[0], LIMPET_POLL_READ, on_ready, self) != LIMPET_OK)
    wrong = "a watch replaces the fd's last";
  for (i = 0; i <= MAX_WATCHES; ++i) {
    poll->unwatch(host, fds[i]);
    close(fds[i]);
  }
  return wrong;
}

static void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  const limpet_poll_service* poll = self->host->service(self->host, LIMPET_SERVICE_POLL);
  const char* wrong = poll == NULL ? "there is no limpet.poll/1" : refuses_what_cannot_be_watched(self, poll);
  if (wrong == NULL) wrong = watches_sixty_four(self, poll);
  if (wrong == NULL && poll->watch(self->host, shared[0], LIMPET_POLL_READ, on_ready, self) != LIMPET_OK)
    wrong = "two instances may watch one descriptor";
  if (wrong != NULL) {
    const limpet_status status = status_of(LIMPET_INTERNAL, wrong);
    done(op, &status);
    return;
  }
  checked_configure(self, op, config, done);
}

static void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  const limpet_str_list none = {NULL, 0};
  (void)self;
  (void)w;
  done(op, NULL, none);
}

static const limpet_workload_attestor table = {sizeof table, 0, attest};
static const limpet_component component = {
    sizeof component, 0, LIMPET_WORKLOAD_ATTESTOR, "watcher", create, destroy, configure, NULL, &table};
static const limpet_component* const components[] = {&component, NULL};
static const limpet_plugin plugin = {sizeof plugin, LIMPET_ABI_MAJOR, 0,         0, "org.example.watcher",
                                     "1.0.0",       "Apache-2.0",     components};

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t host_minor) {
  (void)host_minor;
  return host_major == LIMPET_ABI_MAJOR ? &plugin : NULL;
}
