// Every function of the header with every wrong value for each parameter and each field, in every
// state of a session, on a session in use, on threads, on little stack, and freed in every order.
// The functions come from the header (sweep_tables.h), so a new one is swept too.
//   test_sweep BUNDLE      a small one, since it is opened some thousand times
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>

#include "sweep_variants.h"
#include "sweep_world.h"

// ---- Judging a call -----------------------------------------------------------------------------

static const char *state_name = "";

static void judge(const call *c, bool ok, const char *label, const char *what, const char *text) {
  checks++;
  if (ok) return;
  failures++;
  fprintf(stderr, "%s (%s, %s): %s%s%s\n", c->f->name, label, state_name, what,
          text[0] != '\0' ? ": " : "", text);
}

// Out-values after an error: neutral, wherever the pointer to them is good.
static void judge_neutral(const call *c, int i, const char *label, hybrid_status status) {
  const parameter *p = &c->f->parameters[i];
  const char *at = c->v[i].at;
  if (at == NULL || (uintptr_t)at % alignment(p) != 0) return;
  const char *text = NULL;
  size_t number = 0;
  switch (p->kind) {
    case OBJECT_OUT:
      memcpy(&text, at, sizeof text);
      judge(c, text == NULL, label, "an object after an error", p->name);
      break;
    case STRING_OUT:
      memcpy(&text, at, sizeof text);
      judge(c, text != NULL && *text == '\0', label, "a text after an error", p->name);
      break;
    case SCALAR_OUT:
      memcpy(&number, at, is_structure(p->of) ? sizeof(int32_t) : sizeof number);
      judge(c, number == 0 || status == HYBRID_ERR_BUFFER_TOO_SMALL, label,
            "a number after an error", p->name);
      break;
    case STRUCT_OUT: {
      const structure *s = structure_of(p->of);
      size_t size = 0;
      memcpy(&size, at, sizeof size);
      if (size != s->size) break;
      for (int f = 0; f < s->field_count; f++) {
        judge(c, !is_pattern(at + s->fields[f].offset, s->fields[f].size), label,
              "a field is not set after an error", s->fields[f].name);
      }
      break;
    }
    default: break;
  }
}

static void judge_error(const call *c, const want *w, const char *error, hybrid_status status) {
  // What may be NULL is not the error.
  if (w->expectation == NULL_REFUSED && c->f->documents_null &&
      status != HYBRID_ERR_NULL_ARGUMENT) {
    return;
  }
  const bool own_error = strcmp(c->f->name, "hybrid_last_error") == 0;
  judge(c, own_error || error[0] != '\0', w->label, "an error without a text", "");
  static const hybrid_status STATUSES[] = {
      [NULL_REFUSED] = HYBRID_ERR_NULL_ARGUMENT,
      [INVALID] = HYBRID_ERR_INVALID_ARGUMENT,
      [NOT_UTF8] = HYBRID_ERR_INVALID_UTF8,
  };
  const hybrid_status wanted = w->expectation <= NOT_UTF8 ? STATUSES[w->expectation] : HYBRID_OK;
  if (wanted != HYBRID_OK) {
    judge(c, status == wanted, w->label, hybrid_status_name(status), error);
    judge(c, w->part == NULL || strstr(error, w->part) != NULL, w->label, "it is not named",
          error);
  }
}

static void judge_result(const call *c, const want *w, outcome o) {
  if (c->f->gives == TEXT) {
    judge(c, o.text != NULL && o.text[0] != '\0', w->label, "no text", "");
    judge(c, w->expectation != NO_NAME || strstr(o.text, w->part) != NULL, w->label, "a name",
          o.text);
  }
  if (c->f->gives != STATUS) return;
  char error[512] = "";
  size_t needed = 0;
  if (o.status != HYBRID_OK) hybrid_last_error(error, sizeof error, &needed);
  judge(c, strcmp(hybrid_status_name(o.status), "unknown status") != 0, w->label, "no status", "");
  judge(c, o.status != HYBRID_ERR_PANIC, w->label, "a bug of the library", error);
  if (o.status == HYBRID_OK) {
    const bool may = w->expectation == ANYTHING ||
                     (w->expectation == NULL_REFUSED && c->f->documents_null);
    judge(c, may, w->label, "is accepted", "");
    return;
  }
  judge_error(c, w, error, o.status);
  for (int i = 0; i < c->f->count; i++) judge_neutral(c, i, w->label, o.status);
}

// ---- One call -----------------------------------------------------------------------------------

static void everything_is_busy(call *outer);

static int32_t called_back(void *user) {
  call *c = user;
  if (c == NULL || ++c->called_back > MOST_CALLBACKS) return 1;
  switch (c->reaction) {
    case CONTINUE: return 0;
    case STOP: return 1;
    case TAKE_LONG: usleep(2000); return 0;
    case CALL_AGAIN:
      c->reaction = CONTINUE;
      everything_is_busy(c);
      return 0;
  }
  return 1;
}

// What goes in must not be written to.
static void freeze_inputs(call *c) {
  for (int i = 0; i < c->f->count; i++) {
    const kind k = c->f->parameters[i].kind;
    if (k == STRING || k == STRUCT_IN || k == ARRAY) freeze(&c->arena, c->v[i].at);
  }
}

static void make(call *c, const want *w) {
  freeze_inputs(c);
  const outcome o = c->f->call(c->v);
  if (strcmp(c->f->name, "hybrid_set_log") == 0) hybrid_set_log(HYBRID_LOG_OFF, NULL, NULL);
  judge_result(c, w, o);
  judge(c, margins_are_intact(&c->arena), w->label, "something was written beside its memory", "");
  for (int i = 0; i < c->f->count; i++) take_back(c, i);
}

// A call with good values, on a session that is in use: the callback's own.
static void everything_is_busy(call *outer) {
  for (int f = 0; f < COUNT_OF(FUNCTIONS); f++) {
    call c = {.world = outer->world, .f = &FUNCTIONS[f], .session = outer->session};
    bool on_session = false;
    for (int i = 0; i < c.f->count; i++) {
      const parameter *p = &c.f->parameters[i];
      on_session |= p->kind == OBJECT && strcmp(p->of, "hybrid_session") == 0;
    }
    if (!on_session || c.f->gives != STATUS || c.session == NULL) continue;
    fill(&c);
    const bool in_step = strcmp(outer->f->name, "hybrid_step_run") == 0;
    const outcome o = c.f->call(c.v);
    judge(&c, !in_step || o.status == HYBRID_ERR_BUSY, "in its own callback", "is not busy", "");
    if (o.status != HYBRID_OK) {
      for (int i = 0; i < c.f->count; i++) judge_neutral(&c, i, "in a callback", o.status);
    }
    for (int i = 0; i < c.f->count; i++) take_back(&c, i);
    release(&c.arena);
  }
}

// After a call the session is usable: as it was after an error, and it steps on.
static void judge_session(const call *c, const state *s, const want *w, size_t before) {
  hybrid_step_result step = {.struct_size = sizeof step};
  size_t after = 0;
  judge(c, hybrid_session_length(c->session, &after) == HYBRID_OK, w->label, "unusable", "");
  if (w->expectation != ANYTHING && strcmp(c->f->name, "hybrid_step_run") != 0) {
    judge(c, after == before, w->label, "an error has changed the context", "");
    const hybrid_status status = s->can_step ? hybrid_step(c->session, &step) : HYBRID_OK;
    judge(c, status == HYBRID_OK, w->label, "no step after an error", why());
  }
  CHECK_OK(hybrid_session_set_cancel(c->session, NULL));
  CHECK_OK(hybrid_session_reset(c->session));
  hybrid_status status = hybrid_session_prompt(c->session, "Hi", 2);
  if (status == HYBRID_OK) status = hybrid_step(c->session, &step);
  judge(c, status == HYBRID_OK, w->label, "the session is spoilt", why());
}

// ---- The sweeps ---------------------------------------------------------------------------------

// One call with the n-th value of parameter i (i = -1: all good). False if there is no such value.
static bool sweep_one(const world *world, const state *s, const function *f, int i, int n) {
  call c = {.world = world, .f = f, .session = takes_session(f) ? fork_of(s, world) : NULL};
  const size_t before = c.session != NULL ? length(c.session) : 0;
  want w = {ANYTHING, NULL, "good values"};
  fill(&c);
  const value given = c.v[0];
  const bool varied = i < 0 || vary(&c, i, n, &w);
  if (varied) make(&c, &w);
  if (varied && c.session != NULL) judge_session(&c, s, &w, before);
  hybrid_session_free(c.session);
  // A free that was given NULL, or was not called, has freed nothing.
  if (strstr(f->name, "_free") != NULL && (!varied || c.v[0].at != given.at)) f->call(&given);
  release(&c.arena);
  return varied;
}

// A free's argument must be an object or NULL; all else is the caller's mistake. The same holds for
// what signal handlers may call.
static bool is_swept(const function *f, int n) { return f->gives != OTHER || n == 0; }

static void sweep(const world *world, const state *s, const function *f) {
  state_name = s->name;
  if (strcmp(s->name, "cancelled") == 0) hybrid_cancel_raise(world->cancel);
  sweep_one(world, s, f, -1, 0);
  for (int i = 0; i < f->count; i++) {
    for (int n = 0; is_swept(f, n) && sweep_one(world, s, f, i, n); n++) continue;
  }
  hybrid_cancel_lower(world->cancel);
}

static void sweep_all(const world *world, const state *states) {
  for (int f = 0; f < COUNT_OF(FUNCTIONS); f++) {
    const int count = takes_session(&FUNCTIONS[f]) ? STATES : 1;
    for (int s = 0; s < count; s++) sweep(world, &states[s], &FUNCTIONS[f]);
  }
}

// ---- Threads ------------------------------------------------------------------------------------

static pthread_mutex_t judging = PTHREAD_MUTEX_INITIALIZER;

typedef struct job {
  const world *world;
  hybrid_session *session;
} job;

// Every function with good values; the objects belong to all threads.
static void *call_all(void *user) {
  const job *j = user;
  for (int f = 0; f < COUNT_OF(FUNCTIONS); f++) {
    call c = {.world = j->world, .f = &FUNCTIONS[f]};
    // Freed, a shared session would be gone for the others.
    const bool frees_session = strcmp(c.f->name, "hybrid_session_free") == 0;
    c.session = frees_session ? NULL : j->session;
    pthread_mutex_lock(&judging);
    fill(&c);
    pthread_mutex_unlock(&judging);
    const outcome o = c.f->call(c.v);
    pthread_mutex_lock(&judging);
    judge(&c, c.f->gives != STATUS || o.status != HYBRID_ERR_PANIC, "on threads", "a bug", "");
    pthread_mutex_unlock(&judging);
    for (int i = 0; i < c.f->count; i++) take_back(&c, i);
    if (strcmp(c.f->name, "hybrid_set_log") == 0) hybrid_set_log(HYBRID_LOG_OFF, NULL, NULL);
    release(&c.arena);
  }
  return NULL;
}

static void on_threads(const world *world, const state *s) {
  enum { THREADS = 3, ROUNDS = 6 };
  pthread_t threads[THREADS];
  job j = {.world = world};
  state_name = "on threads";
  for (int round = 0; round < ROUNDS; round++) {
    // First each has the session to wait for, then none.
    j.session = fork_of(s, world);
    for (int t = 0; t < THREADS; t++) {
      // The count of checks belongs to those who have the mutex.
      if (pthread_create(&threads[t], NULL, call_all, &j) != 0) exit(1);
    }
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    size_t out = 0;
    CHECK_OK(hybrid_session_length(j.session, &out));
    hybrid_session_free(j.session);
    hybrid_cancel_lower(world->cancel);
  }
}

#ifndef __SANITIZE_THREAD__  // which takes some of each stack
static void *call_prepared(void *user) {
  call *c = user;
  const outcome o = c->f->call(c->v);
  return (void *)(intptr_t)o.status;
}

// What a function with good values says on a thread with a stack of that size.
static hybrid_status on_stack(const world *world, const state *s, const function *f, size_t size) {
  call c = {.world = world, .f = f, .session = fork_of(s, world)};
  pthread_t thread;
  pthread_attr_t attributes;
  void *status = NULL;
  fill(&c);
  pthread_attr_init(&attributes);
  REQUIRE_OK(pthread_attr_setstacksize(&attributes, size));
  REQUIRE_OK(pthread_create(&thread, &attributes, call_prepared, &c));
  pthread_join(thread, &status);
  pthread_attr_destroy(&attributes);
  for (int i = 0; i < f->count; i++) take_back(&c, i);
  hybrid_session_free(c.session);
  hybrid_set_log(HYBRID_LOG_OFF, NULL, NULL);
  hybrid_cancel_lower(world->cancel);
  release(&c.arena);
  return f->gives == STATUS ? (hybrid_status)(intptr_t)status : HYBRID_OK;
}

// A stack that is too small is an error, never a crash; 256 kB are enough for everything.
static void on_little_stack(const world *world, const state *s) {
  static const size_t SIZES[] = {32 << 10, 64 << 10, 128 << 10, 256 << 10};
  state_name = "on little stack";
  for (int f = 0; f < COUNT_OF(FUNCTIONS); f++) {
    const call c = {.f = &FUNCTIONS[f]};
    const hybrid_status wanted = on_stack(world, s, c.f, 8 << 20);
    for (int i = 0; i < COUNT_OF(SIZES); i++) {
      const hybrid_status status = on_stack(world, s, c.f, SIZES[i]);
      const bool refused = status == HYBRID_ERR_STATE && SIZES[i] < 256 << 10;
      judge(&c, status == wanted || refused, "good values", hybrid_status_name(status), "");
    }
  }
}

#endif

// ---- Freeing in every order ---------------------------------------------------------------------

enum { OBJECTS = 5 };

static void free_in_order(const world *w, const int *order) {
  hybrid_model *model = NULL;
  hybrid_cloud *cloud = NULL;
  hybrid_cancel *cancel = NULL;
  hybrid_session *fork = NULL;
  hybrid_cloud_options o;
  REQUIRE_OK(hybrid_model_open(w->bundle, NULL, &model));
  REQUIRE_OK(hybrid_cloud_options_init(&o, sizeof o));
  o.url = string_for("hybrid_cloud_options", "url");
  REQUIRE_OK(hybrid_cloud_new(&o, &cloud));
  REQUIRE_OK(hybrid_cancel_new(&cancel));
  hybrid_session *session = new_session(model, cloud, NULL);
  CHECK_OK(hybrid_session_set_cancel(session, cancel));
  prompt(session, "Hi");
  REQUIRE_OK(hybrid_session_fork(session, &fork));
  for (int i = 0; i < OBJECTS; i++) {
    switch (order[i]) {
      case 0: hybrid_model_free(model); break;
      case 1: hybrid_cloud_free(cloud); break;
      case 2: hybrid_cancel_free(cancel); break;
      case 3: hybrid_session_free(session); session = NULL; break;
      default: hybrid_session_free(fork); fork = NULL; break;
    }
    hybrid_step_result step = {.struct_size = sizeof step};
    if (session != NULL) CHECK_OK(hybrid_step(session, &step));
    if (fork != NULL) CHECK_OK(hybrid_step(fork, &step));
  }
}

static void free_in_every_order(const world *w, int *order, int from) {
  if (from == OBJECTS) free_in_order(w, order);
  for (int i = from; i < OBJECTS; i++) {
    const int first = order[from];
    order[from] = order[i];
    order[i] = first;
    free_in_every_order(w, order, from + 1);
    order[i] = order[from];
    order[from] = first;
  }
}

// ---- The sweep's own eyes -----------------------------------------------------------------------

// Functions that break a rule each.
static outcome accepts_null(const value *v) {
  (void)v;
  return (outcome){.status = HYBRID_OK};
}
static outcome sets_nothing(const value *v) {
  (void)v;
  return (outcome){.status = HYBRID_ERR_STATE};
}
static outcome writes_beside(const value *v) {
  if (v[0].at != NULL) ((char *)v[0].at)[-1] = 1;
  return (outcome){.status = HYBRID_OK};
}

static void faults_are_seen(const world *world, const state *s) {
  static const parameter OUT[] = {{"out", OBJECT_OUT, "hybrid_cancel"}, {NULL, END, NULL}};
  static outcome (*const FAULTS[])(const value *) = {accepts_null, sets_nothing, writes_beside};
  // What they print is not for people.
  const int shown = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY);
  CHECK(dup2(nowhere, STDERR_FILENO) == STDERR_FILENO);
  for (int i = 0; i < COUNT_OF(FAULTS); i++) {
    const function faulty = {"a fault", FAULTS[i], OUT, 1, STATUS, false};
    const int before = failures;
    for (int n = -1; n < 2; n++) sweep_one(world, s, &faulty, n < 0 ? -1 : 0, n);
    const bool seen = failures > before;
    failures = before;
    CHECK(seen);
  }
  dup2(shown, STDERR_FILENO);
  close(shown);
  close(nowhere);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  world world;
  state states[STATES];
  int order[OBJECTS] = {0, 1, 2, 3, 4};
  make_world(&world, argv[1]);
  make_states(&world, states);
  faults_are_seen(&world, &states[PROMPTED]);
  sweep_all(&world, states);
  on_threads(&world, &states[PROMPTED]);
#ifndef __SANITIZE_THREAD__
  on_little_stack(&world, &states[PROMPTED]);
#endif
  free_in_every_order(&world, order, 0);
  free_world(&world, states);
  return finish("sweep");
}
