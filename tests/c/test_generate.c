// Generation on the device with a real model.   test_generate BUNDLE
#include "check.h"

// peek says what step then does; steps, run and a second session write the same.
static void is_reproducible(const hybrid_model *model, collected *first) {
  hybrid_session *session = new_session(model, NULL, NULL);
  prompt(session, PROMPT);
  const size_t start = length(session);
  for (int i = 0; i < 12; i++) {
    hybrid_peek peek = {.struct_size = sizeof peek};
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step_peek(session, &peek));
    CHECK(length(session) == start + (size_t)i);
    CHECK_OK(hybrid_step(session, &step));
    CHECK(peek.candidate == step.candidate && step.token == step.candidate);
    CHECK(peek.would_consult == 0 && step.consult->consulted == 0 && step.consult->bytes_sent == 0);
    CHECK(step.source == HYBRID_SOURCE_LOCAL && step.reason == HYBRID_REASON_LOCAL_ONLY);
    CHECK(step.reason == peek.reason && step.consult->failure == HYBRID_FAILURE_NONE);
    CHECK(step.details->logprob_count == 0 && step.details->logprobs != NULL);
    CHECK(step.text[step.text_size] == '\0' && step.struct_size == sizeof step);
    CHECK(step.details->local_ns > 0 && step.consult->cloud_ns == 0);
    CHECK(step.details->struct_size == sizeof *step.details);
    CHECK(step.consult->struct_size == sizeof *step.consult);
    CHECK(length(session) == start + (size_t)i + 1);
    collect(&step, first);
    if (step.end != HYBRID_END_NONE) break;
  }
  CHECK(strstr(first->text, "Paris") != NULL);

  // The same again after a rewind, after a reset, and in another session while this one lives.
  collected again = {.steps = 0}, fresh = {.steps = 0}, other = {.steps = 0};
  CHECK_OK(hybrid_session_rewind(session, (size_t)first->steps));
  CHECK(length(session) == start);
  CHECK_OK(hybrid_step_run(session, (size_t)first->steps, collect, &again, NULL));
  CHECK_OK(hybrid_session_reset(session));
  CHECK(length(session) == 0);
  prompt(session, PROMPT);
  hybrid_session *second = new_session(model, NULL, NULL);
  prompt(second, PROMPT);
  hybrid_end end = HYBRID_END_STOP_STRING;
  CHECK_OK(hybrid_step_run(session, (size_t)first->steps, collect, &fresh, &end));
  CHECK_OK(hybrid_step_run(second, (size_t)first->steps, collect, &other, NULL));
  CHECK(strcmp(first->text, again.text) == 0);
  CHECK(strcmp(first->text, fresh.text) == 0);
  CHECK(strcmp(first->text, other.text) == 0);

  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(session, &stats));
  CHECK(stats.tokens == 3 * (uint64_t)first->steps && stats.local == stats.tokens);
  CHECK(stats.prompt_tokens == 2 * start && stats.fallback == 0 && stats.corrections == 0);
  hybrid_usage usage = {.struct_size = sizeof usage};
  CHECK_OK(hybrid_session_usage(session, &usage));
  CHECK(usage.consults == 0 && usage.bytes_sent == 0);
  CHECK(stats.local_ns > 0 && stats.prompt_ns > 0);
  hybrid_session_free(second);
  hybrid_session_free(session);
}

// A draft saves time and changes nothing else.
static void drafts_change_nothing(const hybrid_model *model) {
  static const char COUNTING[] = 
      "one two three four five six seven one two three four five six seven one two three";
  collected plain = {.steps = 0}, drafted = {.steps = 0};
  DEFAULTS(session_options, options);
  CHECK(options.draft == 0);
  for (uint32_t draft = 0; draft <= 7; draft += 7) {
    options.draft = draft;
    hybrid_session *session = new_session(model, NULL, &options);
    prompt(session, COUNTING);
    CHECK_OK(hybrid_step_run(session, 40, collect, draft ? &drafted : &plain, NULL));
    hybrid_session_free(session);
  }
  CHECK(plain.steps == drafted.steps && strcmp(plain.text, drafted.text) == 0);
}

static int32_t stop_after_three(const hybrid_step_result *step, void *user) {
  (void)step;
  return ++*(int *)user == 3;
}

static void stops_where_told(const hybrid_model *model) {
  int steps = 0;
  hybrid_end end = HYBRID_END_STOP_STRING;
  hybrid_session *session = new_session(model, NULL, NULL);
  prompt(session, PROMPT);
  CHECK_OK(hybrid_step_run(session, 100, stop_after_three, &steps, &end));
  CHECK(steps == 3 && end == HYBRID_END_NONE);
  CHECK_OK(hybrid_step_run(session, 0, stop_after_three, &steps, &end));
  CHECK(steps == 3);
  hybrid_session_free(session);

  const char *const stops[] = {"zzz", "Paris"};
  DEFAULTS(session_options, options);
  options.stop_strings = stops;
  options.stop_string_count = 2;
  session = new_session(model, NULL, &options);
  prompt(session, PROMPT);
  collected c = {.steps = 0};
  CHECK_OK(hybrid_step_run(session, 20, collect, &c, &end));
  CHECK(end == HYBRID_END_STOP_STRING && strstr(c.text, "Par") == NULL);
  hybrid_step_result step = {.struct_size = sizeof step};
  CHECK_STATUS(HYBRID_ERR_STATE, hybrid_step(session, &step));
  hybrid_session_free(session);

  // A chat ends with a stop token, and can be continued.
  session = new_session(model, NULL, NULL);
  const hybrid_message messages[] = {
      {sizeof(hybrid_message), "system", "Answer in one word."},
      {sizeof(hybrid_message), "user", "What colour is grass?"}};
  CHECK_OK(hybrid_session_chat(session, messages, 2));
  CHECK_OK(hybrid_step_run(session, 200, collect, &c, &end));
  CHECK(end == HYBRID_END_STOP_TOKEN);
  const hybrid_message more = {sizeof more, "user", "And snow?"};
  CHECK_OK(hybrid_session_chat(session, &more, 1));
  CHECK_OK(hybrid_step_run(session, 3, collect, &c, NULL));
  CHECK_STATUS(HYBRID_ERR_INVALID_UTF8,
               hybrid_session_chat(session, &(hybrid_message){sizeof more, "user", "\xff"}, 1));
  hybrid_session_free(session);
}

// In the middle of a text; a second session writes the rest, also of a text that is drawn.
static void is_saved_and_restored(const hybrid_model *model) {
  DEFAULTS(sampling, drawn);
  drawn.temperature = 0.9f;
  hybrid_session *session = new_session(model, NULL, NULL);
  hybrid_session *other = new_session(model, NULL, NULL);
  CHECK_OK(hybrid_session_set_sampling(session, &drawn));
  CHECK_OK(hybrid_session_set_sampling(other, &drawn));
  collected c = {.steps = 0}, first = {.steps = 0}, second = {.steps = 0};
  prompt(session, PROMPT);
  CHECK_OK(hybrid_step_run(session, 4, collect, &c, NULL));
  size_t size = 0;
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_session_save(session, NULL, 0, &size));
  unsigned char *state = malloc(size);
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_session_save(session, state, size - 1, NULL));
  CHECK_OK(hybrid_session_save(session, state, size, NULL));
  prompt(other, "Something else");
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_restore(other, state, size - 1));
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_restore(other, NULL, 0));
  CHECK_OK(hybrid_session_restore(other, state, size));
  CHECK(length(other) == length(session));
  CHECK_OK(hybrid_step_run(session, 8, collect, &first, NULL));
  CHECK_OK(hybrid_step_run(other, 8, collect, &second, NULL));
  CHECK(first.steps == 8 && strcmp(first.text, second.text) == 0);
  state[size / 2] ^= 1;
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_restore(other, state, size));
  CHECK(length(other) == length(session));
  free(state);
  hybrid_session_free(other);
  hybrid_session_free(session);
}

static void objects_live_as_long_as_needed(const char *path) {
  hybrid_model *model = open_model(path);
  hybrid_cancel *cancel = NULL;
  REQUIRE_OK(hybrid_cancel_new(&cancel));
  hybrid_session *session = new_session(model, NULL, NULL);
  CHECK_OK(hybrid_session_set_cancel(session, cancel));
  hybrid_model_free(model);
  hybrid_cancel_free(cancel);
  prompt(session, PROMPT);
  hybrid_step_result step = {.struct_size = sizeof step};
  CHECK_OK(hybrid_step(session, &step));
  hybrid_session_free(session);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  hybrid_model *model = open_model(argv[1]);
  collected text = {.steps = 0};
  is_reproducible(model, &text);
  drafts_change_nothing(model);
  stops_where_told(model);
  is_saved_and_restored(model);
  objects_live_as_long_as_needed(argv[1]);
  hybrid_model_free(model);
  return finish("generate");
}
