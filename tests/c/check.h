// Checks for the C tests. A check that fails prints where, and the program goes on; `finish` makes
// its exit status of the count.
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hybrid.h"

static int checks, failures;

static inline void check_at(bool ok, const char *file, int line, const char *what) {
  checks++;
  if (ok) return;
  failures++;
  fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
}

// The text of this thread's last failed call; valid until the next `why` on any thread.
static inline const char *why(void) {
  static char text[1024];
  hybrid_last_error(text, sizeof text, NULL);
  return text;
}

static inline void status_at(hybrid_status got, hybrid_status want, const char *file, int line,
                             const char *call) {
  checks++;
  if (got == want) return;
  failures++;
  fprintf(stderr, "%s:%d: %s is %s (%s), not %s\n", file, line, call, hybrid_status_name(got),
          got == HYBRID_OK ? "" : why(), hybrid_status_name(want));
}

// `call` returns `want`.
#define CHECK_STATUS(want, call) status_at((call), (want), __FILE__, __LINE__, #call)
#define CHECK_OK(call) CHECK_STATUS(HYBRID_OK, call)
#define CHECK(condition) check_at((condition), __FILE__, __LINE__, #condition)

// `call` returns `want` and its text contains `part`.
#define CHECK_ERROR(want, part, call)                                          \
  do {                                                                         \
    CHECK_STATUS(want, call);                                                  \
    if (strstr(why(), (part)) == NULL) {                                       \
      failures++;                                                              \
      fprintf(stderr, "%s:%d: \"%s\" does not say \"%s\"\n", __FILE__, __LINE__, why(), (part)); \
    }                                                                          \
  } while (0)

// Ends the test when nothing after it would make sense.
#define REQUIRE_OK(call)               \
  do {                                 \
    const int before_ = failures;      \
    CHECK_OK(call);                    \
    if (failures != before_) exit(1);  \
  } while (0)

static inline int finish(const char *name) {
  printf("%-14s %4d checks, %d failed\n", name, checks, failures);
  return failures == 0 ? 0 : 1;
}

// ---- What several tests need --------------------------------------------------------------------

static inline hybrid_model *open_model_with_threads(const char *path, uint32_t threads) {
  hybrid_model *model = NULL;
  hybrid_model_options options;
  REQUIRE_OK(hybrid_model_options_init(&options, sizeof options));
  options.verify = HYBRID_VERIFY_ALL_BUT_WEIGHTS;
  options.threads = threads;
  REQUIRE_OK(hybrid_model_open(path, &options, &model));
  return model;
}

static inline hybrid_model *open_model(const char *path) {
  return open_model_with_threads(path, 0);
}

static inline hybrid_session *new_session(const hybrid_model *model, const hybrid_cloud *cloud,
                                          const hybrid_session_options *options) {
  hybrid_session *session = NULL;
  REQUIRE_OK(hybrid_session_new(model, cloud, options, &session));
  return session;
}

// The settings of `kind`, such as gate, with their defaults, as the variable `name`.
#define DEFAULTS(kind, name) \
  hybrid_##kind name;        \
  REQUIRE_OK(hybrid_##kind##_init(&name, sizeof name))

static inline size_t length(hybrid_session *session) {
  size_t out = 0;
  CHECK_OK(hybrid_session_length(session, &out));
  return out;
}

static const char PROMPT[] = "The capital of France is";

static inline void prompt(hybrid_session *session, const char *text) {
  REQUIRE_OK(hybrid_session_prompt(session, text, strlen(text)));
}

// Text gathered from steps.
typedef struct collected {
  char text[1 << 14];
  size_t size;
  int steps;
} collected;

static inline int32_t collect(const hybrid_step_result *step, void *user) {
  collected *c = user;
  if (c->size + step->text_size < sizeof c->text) {
    memcpy(c->text + c->size, step->text, step->text_size + 1);
    c->size += step->text_size;
  }
  c->steps++;
  return 0;
}

// What the SLM writes alone after PROMPT, in up to 12 tokens.
static inline void written_alone(const hybrid_model *model, collected *c) {
  hybrid_session *session = new_session(model, NULL, NULL);
  prompt(session, PROMPT);
  CHECK_OK(hybrid_step_run(session, 12, collect, c, NULL));
  hybrid_session_free(session);
}

#endif
