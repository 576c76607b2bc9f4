// The objects that test_sweep.c and test_failures.c call the library with.
#ifndef SWEEP_WORLD_H
#define SWEEP_WORLD_H

#include <dirent.h>
#include <sys/stat.h>

#include "sweep.h"

// ---- States of a session ------------------------------------------------------------------------

typedef struct state {
  const char *name;
  hybrid_session *session;
  bool can_step;
} state;

enum { STATES = 8, PROMPTED = 1, CONTEXT = 48 };

static inline hybrid_session *session_in(const world *w, const hybrid_cloud *cloud,
                                         const char *text) {
  hybrid_session_options o;
  REQUIRE_OK(hybrid_session_options_init(&o, sizeof o));
  o.context = CONTEXT;
  hybrid_session *session = new_session(w->model, cloud, &o);
  if (text != NULL) prompt(session, text);
  return session;
}

static inline void always_ask(hybrid_session *session) {
  DEFAULTS(gate, gate);
  gate.mode = HYBRID_MODE_CLOUD_FIRST;
  REQUIRE_OK(hybrid_session_set_gate(session, &gate));
}

// Token 0 of the bundle ends the text.
static inline void end_text(hybrid_session *session) {
  const hybrid_logit_bias end = {0, 1000};
  REQUIRE_OK(hybrid_session_set_logit_bias(session, &end, 1));
  collected text = {.steps = 0};
  hybrid_end why = HYBRID_END_NONE;
  CHECK_OK(hybrid_step_run(session, 3, collect, &text, &why));
  CHECK(why == HYBRID_END_STOP_TOKEN);
  REQUIRE_OK(hybrid_session_set_logit_bias(session, NULL, 0));
}

static inline void make_states(const world *w, state *states) {
  const hybrid_message hello = {sizeof hello, "user", "Hello."};
  hybrid_session *chatted = session_in(w, NULL, NULL), *ended = session_in(w, NULL, "Hi");
  hybrid_session *full = session_in(w, NULL, "Hi"), *asks = session_in(w, NULL, "Hi");
  hybrid_session *unreached = session_in(w, w->cloud, "Hi");
  REQUIRE_OK(hybrid_session_chat(chatted, &hello, 1));
  end_text(ended);
  uint32_t ids[CONTEXT];
  for (int i = 0; i < CONTEXT; i++) ids[i] = 72;
  REQUIRE_OK(hybrid_session_prompt_tokens(full, ids, CONTEXT - length(full)));
  always_ask(asks);
  always_ask(unreached);
  const state made[STATES] = {
      {"empty", session_in(w, NULL, NULL), false},
      {"prompted", session_in(w, NULL, "Hi"), true},
      {"chatted", chatted, true},
      {"ended", ended, false},
      {"full", full, false},
      {"cancelled", session_in(w, NULL, "Hi"), false},
      {"cloud first without a cloud", asks, true},
      {"cloud out of reach", unreached, true},
  };
  memcpy(states, made, sizeof made);
}

static inline bool takes_session(const function *f) {
  for (int i = 0; i < f->count; i++) {
    const parameter *p = &f->parameters[i];
    if (p->kind == OBJECT && strcmp(p->of, "hybrid_session") == 0) return true;
  }
  return false;
}

static inline hybrid_session *fork_of(const state *s, const world *w) {
  hybrid_session *fork = NULL;
  REQUIRE_OK(hybrid_session_fork(s->session, &fork));
  if (strcmp(s->name, "cancelled") == 0) CHECK_OK(hybrid_session_set_cancel(fork, w->cancel));
  return fork;
}

// An object that the call has made is used for nothing and freed.
static inline void take_back(const call *c, int i) {
  const parameter *p = &c->f->parameters[i];
  if (p->kind != OBJECT_OUT || c->v[i].at == NULL || (uintptr_t)c->v[i].at % 8 != 0) return;
  void *object = NULL;
  memcpy(&object, c->v[i].at, sizeof object);
  if (object == NULL || is_pattern(&object, sizeof object)) return;
  if (strcmp(p->of, "hybrid_model") == 0) hybrid_model_free(object);
  if (strcmp(p->of, "hybrid_cloud") == 0) hybrid_cloud_free(object);
  if (strcmp(p->of, "hybrid_cancel") == 0) hybrid_cancel_free(object);
  if (strcmp(p->of, "hybrid_session") == 0) hybrid_session_free(object);
}

// ---- The world ----------------------------------------------------------------------------------

static inline void read_file(const char *folder, const char *name, hybrid_bundle_file *file) {
  char path[4096];
  struct stat found;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *from = fopen(path, "rb");
  if (from == NULL || fstat(fileno(from), &found) != 0) exit(2);
  const size_t size = (size_t)found.st_size;
  void *data = aligned_alloc(64, (size + 63) / 64 * 64);
  if (data == NULL || fread(data, 1, size, from) != size) exit(2);
  fclose(from);
  *file = (hybrid_bundle_file){strdup(name), data, size};
}

static inline void make_world(world *w, const char *bundle) {
  *w = (world){.bundle = bundle, .model = open_model(bundle)};
  hybrid_cloud_options o;
  REQUIRE_OK(hybrid_cloud_options_init(&o, sizeof o));
  o.url = string_for("hybrid_cloud_options", "url");
  REQUIRE_OK(hybrid_cloud_new(&o, &w->cloud));
  REQUIRE_OK(hybrid_cancel_new(&w->cancel));
  DIR *folder = opendir(bundle);
  for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
    if (entry->d_name[0] != '.') read_file(bundle, entry->d_name, &w->files[w->file_count++]);
  }
  closedir(folder);
  hybrid_session *session = session_in(w, NULL, "Hi");
  REQUIRE_OK(hybrid_session_save(session, NULL, 0, &w->saved_size) == HYBRID_ERR_BUFFER_TOO_SMALL
                 ? HYBRID_OK
                 : HYBRID_ERR_STATE);
  w->saved = malloc(w->saved_size);
  REQUIRE_OK(hybrid_session_save(session, w->saved, w->saved_size, NULL));
  hybrid_session_free(session);
}

static inline void free_world(world *w, state *states) {
  for (int i = 0; i < STATES; i++) hybrid_session_free(states[i].session);
  for (int i = 0; i < w->file_count; i++) {
    free((void *)(uintptr_t)w->files[i].name);
    free((void *)(uintptr_t)w->files[i].data);
  }
  free(w->saved);
  hybrid_model_free(w->model);
  hybrid_cloud_free(w->cloud);
  hybrid_cancel_free(w->cancel);
}

#endif
