// What every function does when an allocation fails, and, in a library that is built to panic on
// purpose (HYBRID_INJECT), when the library itself fails.   test_failures BUNDLE
//
// Linked with --wrap=malloc and so on, see scripts/test-sanitizers.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "sweep_world.h"

static int32_t called_back(void *user) {
  call *c = user;
  return c == NULL || ++c->called_back > MOST_CALLBACKS;
}

static void expect(const call *c, bool ok, const char *what) {
  checks++;
  if (ok) return;
  failures++;
  fprintf(stderr, "%s: %s: %s\n", c->f->name, what, why());
}

// ---- Allocations that fail ----------------------------------------------------------------------

// Allocations until one fails; negative: none does.
static long allocations_left = -1;

static bool fails(void) { return allocations_left >= 0 && allocations_left-- == 0; }

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
int __real_posix_memalign(void **at, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
int __wrap_posix_memalign(void **at, size_t alignment, size_t size);

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) {
  return fails() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *at, size_t size) { return fails() ? NULL : __real_realloc(at, size); }
int __wrap_posix_memalign(void **at, size_t alignment, size_t size) {
  return fails() ? ENOMEM : __real_posix_memalign(at, alignment, size);
}

// How a child ends.
enum { ALL_WERE_MADE = 10, CALL_RETURNED = 11 };

// Makes the call in a child, where the allocation after `passed` others fails. Returns how that
// ended, as of waitpid.
static int end_without_memory(call *c, long passed) {
  const pid_t child = fork();
  if (child == 0) {
    // The standard library of Rust says what it could not allocate.
    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    allocations_left = passed;
    c->f->call(c->v);
    const bool all_were_made = allocations_left >= 0;
    allocations_left = -1;
    _exit(all_were_made ? ALL_WERE_MADE : CALL_RETURNED);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

// The header's rule: the process ends, by SIGABRT, or the call returns as if nothing had been.
static void without_memory(const world *world, const state *s) {
  int ended = 0, returned = 0;
  for (int f = 0; f < COUNT_OF(FUNCTIONS); f++) {
    call c = {.world = world, .f = &FUNCTIONS[f], .session = fork_of(s, world)};
    hybrid_session *session = c.session;
    fill(&c);
    // Each of the first, then fewer and fewer.
    for (long passed = 0; passed < 1 << 20; passed += 1 + passed / 8) {
      const int status = end_without_memory(&c, passed);
      if (WIFEXITED(status) && WEXITSTATUS(status) == ALL_WERE_MADE) break;
      const bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
      const bool went_on = WIFEXITED(status) && WEXITSTATUS(status) == CALL_RETURNED;
      expect(&c, aborted || went_on, "an allocation that fails ends the process otherwise");
      ended += aborted;
      returned += went_on;
    }
    for (int i = 0; i < c.f->count; i++) {
      if (c.f->parameters[i].kind == OBJECT && strstr(c.f->name, "_free") != NULL) c.f->call(c.v);
    }
    if (strcmp(c.f->name, "hybrid_session_free") != 0) hybrid_session_free(session);
    release(&c.arena);
  }
  expect(&(call){.f = &FUNCTIONS[0]}, ended > 100, "no allocation failed");
  printf("memory: %d allocations failed; %d ended the process by SIGABRT\n", ended + returned,
         ended);
}

// ---- A library that fails -----------------------------------------------------------------------

#ifdef HYBRID_INJECT
int64_t hybrid_inject_panic(int64_t places);

// One panic in the call, after `places` places. False if the call has fewer.
static bool panics(const world *world, const state *s, const function *f, int64_t places) {
  call c = {.world = world, .f = f, .session = fork_of(s, world)};
  hybrid_session *session = c.session;
  hybrid_step_result step = {.struct_size = sizeof step};
  size_t length = 0;
  fill(&c);
  hybrid_inject_panic(places);
  const outcome o = f->call(c.v);
  const bool panicked = hybrid_inject_panic(-1) < 0;
  if (panicked && f->gives == STATUS) {
    expect(&c, o.status == HYBRID_ERR_PANIC, "a panic is no HYBRID_ERR_PANIC");
    expect(&c, strstr(why(), "injected") != NULL, "the panic's text is lost");
  }
  if (panicked && c.session != NULL) {
    // The session is as it was, or unusable for good.
    const hybrid_status status = hybrid_session_length(session, &length);
    expect(&c, status == HYBRID_OK || status == HYBRID_ERR_PANIC, "the session is neither");
    expect(&c, status == hybrid_step(session, &step), "the session is not the same any more");
  }
  for (int i = 0; i < f->count; i++) take_back(&c, i);
  if (strcmp(f->name, "hybrid_session_free") != 0) hybrid_session_free(session);
  // All else works.
  hybrid_session *other = fork_of(s, world);
  expect(&c, hybrid_step(other, &step) == HYBRID_OK, "another session fails too");
  hybrid_session_free(other);
  hybrid_set_log(HYBRID_LOG_OFF, NULL, NULL);
  hybrid_cancel_lower(world->cancel);
  release(&c.arena);
  return panicked;
}

static void with_panics(const world *world, const state *s) {
  int seen = 0;
  for (int f = 0; f < COUNT_OF(FUNCTIONS); f++) {
    for (int64_t places = 0; panics(world, s, &FUNCTIONS[f], places); places++) seen++;
  }
  expect(&(call){.f = &FUNCTIONS[0]}, seen > 50, "no panic was injected");
  printf("panics: %d in %d functions, each a status\n", seen, COUNT_OF(FUNCTIONS));
}
#endif

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  world world;
  state states[STATES];
  make_world(&world, argv[1]);
  make_states(&world, states);
  without_memory(&world, &states[PROMPTED]);
#ifdef HYBRID_INJECT
  with_panics(&world, &states[PROMPTED]);
#endif
  free_world(&world, states);
  return finish("failures");
}
