/* SPDX-License-Identifier: Apache-2.0
 *
 * A workload attestor for plugin-check: "tag:<tag>" and "name:<the process's name>". See checked.h.
 */
#include "checked.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifdef FLAW_ONE_INSTANCE
static int alive;
#endif

static void* sleeper(void* arg) {
  for (;;) pause();
  return arg;
}
static void start_sleeper(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, sleeper, NULL) == 0) pthread_detach(thread);
}
#ifdef FLAW_THREAD_IN_CONSTRUCTOR
__attribute__((constructor)) static void constructor(void) { start_sleeper(); }
#endif
#ifdef FLAW_FORKS_IN_CONSTRUCTOR
/* A process that has every descriptor of the one it comes from, and stays until plugin-check itself is gone. */
__attribute__((constructor)) static void constructor(void) {
  const pid_t checker = getppid();
  if (fork() != 0) return;
  while (kill(checker, 0) == 0) usleep(10 * 1000);
  _exit(0);
}
#endif
#ifdef FLAW_BABBLES_IN_MAIN
/* To whoever reads: its own words, in the place of those of the process that it runs in. */
static void babble(void) {
  struct stat file;
  for (int fd = 3; fd < 64; ++fd) {
    if (fstat(fd, &file) == 0 && S_ISFIFO(file.st_mode)) (void)!write(fd, "~", 1);
  }
}
#endif

static limpet_code create(const limpet_host* host, limpet_instance** out) {
#ifdef FLAW_ONE_INSTANCE
  if (alive++ > 0) return LIMPET_RESOURCE_EXHAUSTED;
#endif
#ifdef FLAW_TIRES
  static int lives;
  if (++lives > 40) return LIMPET_RESOURCE_EXHAUSTED;
#endif
#ifdef FLAW_LEAKS_DESCRIPTOR
  (void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
#endif
#ifdef FLAW_LEAKS_THREAD
  start_sleeper();
#endif
#ifdef FLAW_LEAKS_MEMORY
  *(volatile char*)malloc(100) = 1;
#endif
  (void)start_sleeper;
  *out = new_instance(host);
  return *out == NULL ? LIMPET_RESOURCE_EXHAUSTED : LIMPET_OK;
}

static limpet_op* last_op;
static limpet_selectors_done last_done;

static void destroy(limpet_instance* self) {
#ifdef FLAW_ENDS_SLOWLY
  usleep(1200 * 1000);
#endif
#ifdef FLAW_ONE_INSTANCE
  --alive;
#endif
#ifdef FLAW_DONE_AFTER_DESTROY
  limpet_str_list none = {NULL, 0};
  if (last_op != NULL) last_done(last_op, NULL, none);
  last_op = NULL;
#endif
#ifdef FLAW_DESTROY_NEEDS_CONFIGURE
  if (!self->configured) abort();
#endif
  free(self);
}

static void cancel(limpet_instance* self, limpet_op* op) {
#ifdef FLAW_CANCEL_BEFORE_HITS_THE_NEXT
  if (op != self->last) self->cancel_next = 1;
#endif
#ifdef FLAW_CANCEL_AFTER_HITS_THE_NEXT
  if (op == self->last) self->cancel_next = 1;
#endif
  (void)self;
  (void)op;
}

static void refuse(limpet_op* op, limpet_code code, const char* text, limpet_selectors_done done) {
  const limpet_status status = status_of(code, text);
  const limpet_str_list none = {NULL, 0};
  done(op, &status, none);
}

static int has_exited(int32_t pidfd) {
#ifdef FLAW_IGNORES_THE_PIDFD
  (void)pidfd;
  return 0;
#else
  struct pollfd p = {pidfd, POLLIN, 0};
  return pidfd >= 0 && poll(&p, 1, 0) != 0;
#endif
}

#if defined(FLAW_IGNORES_CANCEL) || defined(FLAW_KEEPS_ARGUMENT) || defined(FLAW_BLOCKING_ANSWERS_LATER)
/* An answer that comes later. */
struct later {
  limpet_op* op;
  limpet_selectors_done done;
  const limpet_workload* w;
};
static void answer_later(void* arg) {
  struct later* l = arg;
  const limpet_str item = {"tag:late", 8};
  limpet_str_list list = {&item, 1};
#ifdef FLAW_KEEPS_ARGUMENT
  list.count = l->w->pid > 0 ? 1 : 0;
#endif
  l->done(l->op, NULL, list);
  free(l);
}
static struct later* keep(limpet_op* op, limpet_selectors_done done, const limpet_workload* w) {
  struct later* l = malloc(sizeof *l);
  l->op = op;
  l->done = done;
  l->w = w;
  return l;
}
#endif

#if defined(FLAW_FORGETS_CALLS_WHEN_CONFIGURED) || defined(FLAW_LOSES_CALLS_IN_A_CROWD)
#define ANSWERS_IN_TURN
#define CROWD 8
/* An answer that is given from the loop, unless a flaw loses it. */
struct waiting {
  limpet_instance* self;
  limpet_op* op;
  limpet_selectors_done done;
  int configured;
  char tag[4 + MAX_TAG], name[5 + 64];
};
static void answer_in_turn(void* arg) {
  struct waiting* one = arg;
  const limpet_str items[] = {{one->tag, strlen(one->tag)}, {one->name, strlen(one->name)}};
  const limpet_str_list list = {items, 2};
  int lost = 0;
  --one->self->waiting;
#ifdef FLAW_FORGETS_CALLS_WHEN_CONFIGURED
  lost = one->configured != one->self->configured;
#endif
  if (!lost) one->done(one->op, NULL, list);
  free(one);
}
static void queue_answer(limpet_instance* self, limpet_op* op, limpet_selectors_done done, const char* tag,
                         const char* name) {
  struct waiting* one;
#ifdef FLAW_LOSES_CALLS_IN_A_CROWD
  if (self->waiting == CROWD) return;
#endif
  one = calloc(1, sizeof *one);
  one->self = self;
  one->op = op;
  one->done = done;
  one->configured = self->configured;
  strcpy(one->tag, tag);
  strcpy(one->name, name);
  ++self->waiting;
  self->host->post(self->host, answer_in_turn, one);
}
#endif

/* 1: name holds the process's; 0: it has exited. */
static int read_name(int32_t pid, int32_t pidfd, char name[64]) {
  char path[64];
  FILE* file;
  int good;
  snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
  file = fopen(path, "re");
  if (file == NULL) return 0;
  good = !has_exited(pidfd) && fgets(name, 58, file) != NULL;
  fclose(file);
  if (good) name[strcspn(name, "\n")] = 0;
  return good;
}

/* What a flaw does to a call before anything else; 1: it took the call. */
static int flawed(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
#ifdef FLAW_DONE_NEVER
  return 1;
#endif
#ifdef FLAW_NO_ANSWER_WITHOUT_TIME
  if (self->host->time_left_ms(self->host, op) <= 0) return 1;
#endif
#ifdef FLAW_IGNORES_CANCEL
  if (self->host->time_left_ms(self->host, op) == INT64_MAX) {
    const limpet_timer_service* timer = self->host->service(self->host, LIMPET_SERVICE_TIMER);
    timer->start(self->host, 4000, answer_later, keep(op, done, w));
    return 1;
  }
#endif
#if defined(FLAW_KEEPS_ARGUMENT) || defined(FLAW_BLOCKING_ANSWERS_LATER)
  if (w->reference_type.len == 0 && w->pid == getpid() && !has_exited(w->pidfd)) {
    self->host->post(self->host, answer_later, keep(op, done, w));
    return 1;
  }
#endif
#ifdef FLAW_THREAD_LOCAL
  {
    static _Thread_local int known;
    if (!known && self->calls > 0) {
      refuse(op, LIMPET_INTERNAL, "this thread was never set up", done);
      return 1;
    }
    known = 1;
  }
#endif
#ifdef FLAW_WRITES_OUTPUT
  printf("attesting %d\n", (int)w->pid);
#endif
#ifdef FLAW_CHANGES_UMASK
  umask(0123);
#endif
#ifdef FLAW_HOLDS_THE_LOOP
  {
    static int slept;
    if (slept++ < 3) usleep(300 * 1000);
  }
#endif
#ifdef FLAW_DIES_OF_NOISE
  if (w->pid < -1 && w->pid != INT32_MIN) abort();
#endif
#ifdef FLAW_DIES_OF_MUCH
  if (w->reference.len >= 1u << 20) abort();
#endif
#ifdef FLAW_READS_NOTHING
  if (w->reference_type.len > 0 && w->reference.ptr[0] == 'x') return 0;
#endif
#ifdef FLAW_NEEDS_A_SERVICE
  {
    const limpet_kv_service* kv = self->host->service(self->host, LIMPET_SERVICE_KV);
    if (kv->size == 0) return 0;
  }
#endif
#ifdef FLAW_NEEDS_ANOTHER_KINDS_SERVICE
  if (w->reference_type.len == 0 && self->host->service(self->host, LIMPET_SERVICE_HTTP) == NULL) {
    refuse(op, LIMPET_FAILED_PRECONDITION, "this host has no " LIMPET_SERVICE_HTTP, done);
    return 1;
  }
#endif
  if (self->cancel_next) {
    self->cancel_next = 0;
    refuse(op, LIMPET_CANCELLED, "cancelled", done);
    return 1;
  }
  (void)w;
  return 0;
}

static void attest(limpet_instance* self, limpet_op* op, const limpet_workload* w, limpet_selectors_done done) {
  char tag[4 + MAX_TAG], name[5 + 64] = "name:";
  limpet_str items[2];
  limpet_str_list list = {items, 2};
  const limpet_str_list none = {NULL, 0};
  int known_reference = 0;
  last_op = op;
  last_done = done;
  if (flawed(self, op, w, done)) return;
  ++self->calls;
  self->last = op;
#ifdef FLAW_KNOWS_EVERY_REFERENCE
  known_reference = 1;
#endif
  if (w->reference_type.len > 0 && !known_reference) {
    done(op, NULL, none);
    return;
  }
  items[0].len = (size_t)snprintf(tag, sizeof tag, "tag:%s", self->tag);
  items[0].ptr = tag;
#ifdef FLAW_ANY_PID
  if (w->pid <= 0) list.count = 1;
#endif
#ifdef FLAW_ATTESTS_THE_DEAD
  if (w->pid > 0 && w->pid < INT32_MAX) list.count = 1;
#endif
#ifdef FLAW_NEEDS_A_NETWORK
  {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) {
      refuse(op, LIMPET_INTERNAL, "no socket", done);
      return;
    }
    close(fd);
  }
#endif
  if (list.count == 2 && !read_name(w->pid, w->pidfd, name + 5)) {
    refuse(op, LIMPET_NOT_FOUND, "the process has exited", done);
    return;
  }
#ifdef FLAW_SELECTOR_IS_NO_TEXT
  strcpy(name + 5, "\xff");
#endif
#ifdef FLAW_KNOWS_MORE_WITH_A_PIDFD
  if (w->pidfd >= 0) strcpy(name + 5, "known");
#endif
#ifdef FLAW_CLOSES_THE_PIDFD
  if (w->pidfd >= 0) close(w->pidfd);
#endif
  items[1].ptr = name;
  items[1].len = strlen(name);
#ifdef ANSWERS_IN_TURN
  queue_answer(self, op, done, tag, name);
  return;
#endif
  done(op, NULL, list);
#ifdef FLAW_DONE_TWICE
  done(op, NULL, list);
#endif
}

static const limpet_workload_attestor table = {
#ifdef FLAW_SHORT_TABLE
    8,
#else
    sizeof table,
#endif
    0, attest};
#if defined(FLAW_THREAD_LOCAL) || defined(FLAW_BLOCKING_ANSWERS_LATER)
#define FLAGS LIMPET_BLOCKING
#else
#define FLAGS 0
#endif
static const limpet_component component = {
    sizeof component, FLAGS, LIMPET_WORKLOAD_ATTESTOR, "mock", create, destroy, checked_configure, cancel, &table};
#ifdef FLAW_ODD_INTERFACE /* none of this host's, and nothing forbids it */
static const limpet_component odd = {
    sizeof odd, FLAGS, "limpet.of\nanother/1", "odd", create, destroy, checked_configure, cancel, &table};
static const limpet_component* const components[] = {&odd, &component, NULL};
#else
static const limpet_component* const components[] = {&component, NULL};
#endif
#ifdef FLAW_VERSION_IS_NO_TEXT
#define VERSION "1.\xff"
#else
#define VERSION "1.0.0"
#endif
#define PLUGIN {sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0, 0, "org.example.checked", VERSION, "Apache-2.0", components}
static const limpet_plugin plugin = PLUGIN;

#ifdef FLAW_TWO_SYMBOLS
LIMPET_EXPORT int checked_helper(void);
int checked_helper(void) { return 1; }
#endif

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t host_minor) {
#ifdef FLAW_NEW_DESCRIPTOR_EACH_TIME
  static const limpet_plugin second = PLUGIN;
  static int asked;
  if (host_major == LIMPET_ABI_MAJOR && asked++ % 2 == 1) return &second;
#endif
#ifdef FLAW_HANGS_IN_MAIN
  for (;;) pause();
#endif
#ifdef FLAW_BABBLES_IN_MAIN
  babble();
#endif
#ifdef FLAW_ALLOCATES_IN_MAIN
  *(volatile char*)malloc(100) = 1;
#endif
#ifdef FLAW_KNOWS_EVERY_MAJOR
  host_major = LIMPET_ABI_MAJOR;
#endif
#ifdef FLAW_REFUSES_LATER_MINOR
  if (host_minor > LIMPET_ABI_MINOR) return NULL;
#endif
  (void)host_minor;
  return host_major == LIMPET_ABI_MAJOR ? &plugin : NULL;
}
