// A program as of 0.1.0: it uses a bit of everything. scripts/test-c compiles it with the header of
// then, with that of today, and with one of the future, and links today's library. It prints what
// must not depend on the header.   program BUNDLE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hybrid.h"

static void must(int ok, const char *what) {
  char why[512];
  if (ok) return;
  hybrid_last_error(why, sizeof why, NULL);
  printf("failed: %s (%s)\n", what, why);
  exit(1);
}

#define OK(call) must((call) == HYBRID_OK, #call)
#define IS(status, call) must((call) == (status), #call)

// What init writes is what a get then says, to the last field that this header has.
#define SETTING(kind, session, change)                                          \
  do {                                                                          \
    hybrid_##kind set, got = {.struct_size = sizeof got};                       \
    memset(&set, 0x55, sizeof set);                                             \
    OK(hybrid_##kind##_init(&set, sizeof set));                                 \
    OK(hybrid_session_get_##kind(session, &got));                               \
    must(memcmp(&set, &got, sizeof set) == 0, #kind " has other defaults");     \
    change;                                                                     \
    OK(hybrid_session_set_##kind(session, &set));                               \
    OK(hybrid_session_get_##kind(session, &got));                               \
    must(memcmp(&set, &got, sizeof set) == 0, #kind " does not come back");     \
  } while (0)

static int32_t show(const hybrid_step_result *step, void *user) {
  must(step->consult->consulted == 0 && step->consult->failure == HYBRID_FAILURE_NONE, "consult");
  printf("%u %u %s %zu %s\n", (unsigned)step->token, (unsigned)step->candidate,
         hybrid_source_name(step->source), step->details->bytes_size,
         hybrid_reason_name(step->reason));
  return --*(int *)user == 0;
}

static void settings(hybrid_session *session) {
  SETTING(sampling, session, (set.temperature = 0.5f, set.top_k = 3));
  SETTING(gate, session, (set.threshold_by = HYBRID_THRESHOLD_BY_VALUE, set.threshold = 0.25f));
  SETTING(consult, session, (set.burst = 4, set.deadline_ms = 500));
  SETTING(budget, session, (set.consults = 9, set.hold = HYBRID_HOLD_CONSULTS_PER_HOUR,
                            set.hold_limit = 0.1));
  SETTING(corrections, session, (set.capacity = 8, set.suffix = 16));
}

static void saves_and_cancels(hybrid_session *session, hybrid_session *fork) {
  size_t size = 0;
  IS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_session_save(session, NULL, 0, &size));
  uint8_t *state = malloc(size);
  must(state != NULL, "malloc");
  OK(hybrid_session_save(session, state, size, &size));
  OK(hybrid_session_restore(fork, state, size));
  free(state);
  char text[1024];
  OK(hybrid_session_text(fork, text, sizeof text, NULL));
  puts(text);

  hybrid_cancel *cancel = NULL;
  OK(hybrid_cancel_new(&cancel));
  OK(hybrid_session_set_cancel(fork, cancel));
  hybrid_cancel_raise(cancel);
  IS(HYBRID_ERR_CANCELLED, hybrid_session_prompt(fork, "x", 1));
  hybrid_cancel_free(cancel);
}

static void generates(const hybrid_model *model) {
  const hybrid_message messages[] = {{sizeof(hybrid_message), "system", "Answer in one word."},
                                     {sizeof(hybrid_message), "user", "What colour is grass?"}};
  hybrid_session_options options;
  hybrid_session *session = NULL, *fork = NULL;
  OK(hybrid_session_options_init(&options, sizeof options));
  options.context = 256;
  OK(hybrid_session_new(model, NULL, &options, &session));
  OK(hybrid_session_chat(session, messages, 2));
  OK(hybrid_session_set_top_logprobs(session, 2));
  hybrid_peek peek = {.struct_size = sizeof peek};
  OK(hybrid_step_peek(session, &peek));
  OK(hybrid_session_fork(session, &fork));
  hybrid_step_result step = {.struct_size = sizeof step};
  OK(hybrid_step(session, &step));
  must(step.struct_size == sizeof step && step.token == peek.candidate, "step and peek");
  must(step.details->logprob_count == 3 && step.details->logprobs[0].token == step.token, "top");
  settings(fork);

  hybrid_end end = HYBRID_END_NONE;
  const char *rest = NULL;
  int tokens = 8;
  OK(hybrid_step_run(session, 100, show, &tokens, &end));
  OK(hybrid_session_flush(session, &rest, NULL));
  hybrid_stats stats = {.struct_size = sizeof stats};
  hybrid_usage usage = {.struct_size = sizeof usage};
  OK(hybrid_session_stats(session, &stats));
  OK(hybrid_session_usage(session, &usage));
  printf("%llu %llu %llu %llu %d\n", (unsigned long long)stats.prompt_tokens,
         (unsigned long long)stats.tokens, (unsigned long long)stats.local,
         (unsigned long long)usage.consults, (int)end);
  saves_and_cancels(session, fork);
  hybrid_session_free(session);
  hybrid_session_free(fork);
}

static void asks(const hybrid_model *model) {
  hybrid_cloud_options options;
  hybrid_cloud *cloud = NULL;
  OK(hybrid_cloud_options_init(&options, sizeof options));
  IS(HYBRID_ERR_NULL_ARGUMENT, hybrid_cloud_new(&options, &cloud));
  options.url = "https://127.0.0.1:1";
  OK(hybrid_cloud_new(&options, &cloud));
  hybrid_probe probe = {.struct_size = sizeof probe};
  IS(HYBRID_ERR_CLOUD, hybrid_cloud_probe(cloud, model, NULL, &probe));
  must(probe.exchange == HYBRID_EXCHANGE_UNKNOWN, "probe");
  hybrid_breaker breaker = {.struct_size = sizeof breaker};
  OK(hybrid_cloud_breaker(cloud, &breaker));
  must(breaker.state == HYBRID_BREAKER_STATE_CLOSED, "breaker");
  hybrid_cloud_free(cloud);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  must(hybrid_abi_version() == HYBRID_ABI_VERSION, "hybrid_abi_version()");
  hybrid_model_options options;
  hybrid_model *model = NULL;
  OK(hybrid_model_options_init(&options, sizeof options));
  options.verify = HYBRID_VERIFY_ALL_BUT_WEIGHTS;
  OK(hybrid_model_open(argv[1], &options, &model));
  hybrid_model_info info = {.struct_size = sizeof info};
  OK(hybrid_model_describe(model, &info));
  size_t count = 0;
  OK(hybrid_model_count_tokens(model, "Hello, you!", 11, HYBRID_TOKENS_ADD_BOS, &count));
  printf("%s %llu %zu\n", info.architecture, (unsigned long long)info.vocabulary, count);
  generates(model);
  asks(model);
  hybrid_model_free(model);
  return 0;
}
