// Tokens, settings and forks of live sessions with a real model.   test_settings BUNDLE
#include "check.h"

enum { AS_PROMPT = HYBRID_TOKENS_ADD_BOS | HYBRID_TOKENS_CONTROL };

// Ids of a text and back, and a prompt of ids is a prompt of text.
static void tokens_and_text(const hybrid_model *model, const char *expected) {
  static const char MARKED[] = "a<|im_end|>";
  uint32_t ids[64];
  uint8_t bytes[64];
  char text[512];
  size_t count = 0, again = 0, size = 0;
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL,
               hybrid_model_tokenize(model, PROMPT, strlen(PROMPT), AS_PROMPT, NULL, 0, &count));
  CHECK(count > 0 && count < 64);
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL,
               hybrid_model_tokenize(model, PROMPT, strlen(PROMPT), AS_PROMPT, ids, count - 1,
                                     NULL));
  CHECK_OK(hybrid_model_tokenize(model, PROMPT, strlen(PROMPT), AS_PROMPT, ids, count, NULL));
  CHECK_OK(hybrid_model_count_tokens(model, PROMPT, strlen(PROMPT), AS_PROMPT, &again));
  CHECK(again == count);
  CHECK_OK(hybrid_model_detokenize(model, ids, count, 0, bytes, sizeof bytes, &size));
  CHECK(size == strlen(PROMPT) && memcmp(bytes, PROMPT, size) == 0);

  // Names of control tokens are text or tokens.
  CHECK_OK(hybrid_model_count_tokens(model, MARKED, strlen(MARKED), HYBRID_TOKENS_CONTROL, &count));
  CHECK_OK(hybrid_model_count_tokens(model, MARKED, strlen(MARKED), 0, &again));
  CHECK(count == 2 && again > 2);
  uint32_t marked[2];
  CHECK_OK(hybrid_model_tokenize(model, MARKED, strlen(MARKED), AS_PROMPT, marked, 2, NULL));
  CHECK_OK(hybrid_model_detokenize(model, marked, 2, HYBRID_TOKENS_CONTROL, bytes, sizeof bytes,
                                   &size));
  CHECK(size == strlen(MARKED) && memcmp(bytes, MARKED, size) == 0);
  CHECK_OK(hybrid_model_detokenize(model, marked, 2, 0, bytes, sizeof bytes, &size));
  CHECK(size == 1 && bytes[0] == 'a');
  CHECK_OK(hybrid_model_count_tokens(model, MARKED, strlen(MARKED), HYBRID_TOKENS_ADD_BOS, &count));
  CHECK(count == again);

  hybrid_session *session = new_session(model, NULL, NULL);
  CHECK_OK(hybrid_model_count_tokens(model, PROMPT, strlen(PROMPT), AS_PROMPT, &count));
  CHECK_OK(hybrid_session_prompt_tokens(session, ids, count));
  collected c = {.steps = 0};
  CHECK_OK(hybrid_step_run(session, 12, collect, &c, NULL));
  CHECK(strcmp(c.text, expected) == 0);
  uint32_t all[64] = {0};
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_session_tokens(session, NULL, 0, &again));
  CHECK(again == count + (size_t)c.steps);
  CHECK_OK(hybrid_session_tokens(session, all, 64, &again));
  CHECK(again == length(session) && memcmp(all, ids, count * sizeof *ids) == 0);
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_session_text(session, text, 8, &size));
  CHECK_OK(hybrid_session_text(session, text, sizeof text, &size));
  CHECK(size == strlen(text) + 1 && strncmp(text, PROMPT, strlen(PROMPT)) == 0);
  CHECK(strncmp(text + strlen(PROMPT), c.text, strlen(c.text)) == 0);
  hybrid_session_free(session);
}

// Every setting comes back as it was set, on a session that is writing.
static void settings_change_on_a_live_session(const hybrid_model *model, const char *expected) {
  hybrid_session *session = new_session(model, NULL, NULL);
  prompt(session, PROMPT);
  hybrid_step_result step = {.struct_size = sizeof step};
  CHECK_OK(hybrid_step(session, &step));
#define CHECK_COMES_BACK(kind, change)                                 \
  do {                                                                 \
    DEFAULTS(kind, set);                                               \
    hybrid_##kind got = {.struct_size = sizeof got}, defaults = set;   \
    CHECK_OK(hybrid_session_get_##kind(session, &got));                \
    CHECK(memcmp(&defaults, &got, sizeof got) == 0);                   \
    change;                                                            \
    CHECK_OK(hybrid_session_set_##kind(session, &set));                \
    CHECK_OK(hybrid_session_get_##kind(session, &got));                \
    CHECK(memcmp(&set, &got, sizeof got) == 0);                        \
    CHECK_OK(hybrid_session_set_##kind(session, &defaults));           \
  } while (0)
  CHECK_COMES_BACK(sampling, (set.temperature = 0.5f, set.top_k = 9, set.top_p = 0.5f,
                              set.min_p = 0.1f, set.repetition_penalty = 1.5f,
                              set.repetition_window = 7));
  CHECK_COMES_BACK(gate, (set.mode = HYBRID_MODE_CLOUD_FIRST, set.score = HYBRID_SCORE_ENTROPY,
                          set.threshold_by = HYBRID_THRESHOLD_BY_VALUE, set.threshold = 0.25f));
  CHECK_COMES_BACK(consult, (set.burst = 4, set.deadline_ms = 1500, set.hand_back = 1,
                             set.overlap = 9, set.warm = 1));
  CHECK_COMES_BACK(budget, (set.consults = 1, set.tokens = 2, set.bytes = 3,
                            set.hold = HYBRID_HOLD_MONEY_PER_HOUR, set.hold_limit = 0.5,
                            set.price_prompt_token = 0.25, set.price_answer_token = 0.125));
  // Neither is a float.
  CHECK_COMES_BACK(budget, (set.hold = HYBRID_HOLD_SHARE, set.hold_limit = 0.1));
  CHECK_COMES_BACK(budget, (set.hold = HYBRID_HOLD_BYTES_PER_HOUR, set.hold_limit = 1e17 / 3));
  CHECK_COMES_BACK(corrections, (set.capacity = 10, set.suffix = 5));

  // None of it left a trace, nor does a peek with other settings.
  DEFAULTS(sampling, drawn);
  const hybrid_sampling greedy = drawn;
  drawn.temperature = 2;
  hybrid_peek peek = {.struct_size = sizeof peek};
  CHECK_OK(hybrid_session_set_sampling(session, &drawn));
  CHECK_OK(hybrid_step_peek(session, &peek));
  CHECK_OK(hybrid_session_set_sampling(session, &greedy));
  CHECK_OK(hybrid_session_rewind(session, 1));
  collected c = {.steps = 0};
  CHECK_OK(hybrid_step_run(session, 12, collect, &c, NULL));
  CHECK(strcmp(c.text, expected) == 0);
  hybrid_session_free(session);
}

static void biases_and_logprobs(const hybrid_model *model) {
  hybrid_session *session = new_session(model, NULL, NULL);
  prompt(session, PROMPT);
  hybrid_step_result step = {.struct_size = sizeof step};
  CHECK_OK(hybrid_session_set_top_logprobs(session, 3));
  CHECK_OK(hybrid_step(session, &step));
  const hybrid_step_details *d = step.details;
  CHECK(d->logprob_count == 4 && d->logprobs[0].token == step.token);
  CHECK(d->logprobs[1].token == step.token && d->logprobs[1].logprob <= 0);
  CHECK(d->logprobs[1].logprob >= d->logprobs[2].logprob);
  CHECK(d->logprobs[2].logprob >= d->logprobs[3].logprob);
  const uint32_t first = step.token, second = d->logprobs[2].token;

  // Never the first, so the second.
  const hybrid_logit_bias never = {first, -(float)strtod("inf", NULL)};
  CHECK_OK(hybrid_session_rewind(session, 1));
  CHECK_OK(hybrid_session_set_logit_bias(session, &never, 1));
  CHECK_OK(hybrid_step(session, &step));
  CHECK(step.token == second);
  CHECK_OK(hybrid_session_rewind(session, 1));
  CHECK_OK(hybrid_session_set_logit_bias(session, NULL, 0));
  CHECK_OK(hybrid_step(session, &step));
  CHECK(step.token == first);
  hybrid_session_free(session);
}

// A fork goes on by itself, whatever becomes of the other.
static void forks_share_nothing(const hybrid_model *model, const char *expected) {
  hybrid_session *session = new_session(model, NULL, NULL), *fork = NULL;
  collected c = {.steps = 0}, mine = {.steps = 0};
  prompt(session, PROMPT);
  CHECK_OK(hybrid_step_run(session, 4, collect, &mine, NULL));
  CHECK_OK(hybrid_session_fork(session, &fork));
  c = mine;
  prompt(session, "Something else");
  CHECK_OK(hybrid_step_run(session, 2, collect, &mine, NULL));
  hybrid_session_free(session);
  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(fork, &stats));
  CHECK(stats.tokens == 4 && stats.prompt_tokens > 0);
  CHECK_OK(hybrid_step_run(fork, 8, collect, &c, NULL));
  CHECK(strcmp(c.text, expected) == 0);
  hybrid_session_free(fork);
}

// Any role that the template takes; a variable that it does not know changes nothing.
static void chats_with_any_role(const hybrid_model *model) {
  const hybrid_message messages[] = {{sizeof(hybrid_message), "user", "What is the time?"},
                                     {sizeof(hybrid_message), "tool", "12:00"}};
  size_t lengths[3];
  for (int thinking = HYBRID_THINKING_DEFAULT; thinking <= HYBRID_THINKING_OFF; thinking++) {
    hybrid_session *session = new_session(model, NULL, NULL);
    CHECK_OK(hybrid_session_set_thinking(session, (hybrid_thinking)thinking));
    CHECK_OK(hybrid_session_chat(session, messages, 2));
    lengths[thinking] = length(session);
    char text[1024];
    CHECK_OK(hybrid_session_text(session, text, sizeof text, NULL));
    CHECK(strstr(text, "tool") != NULL && strstr(text, "12:00") != NULL);
    hybrid_session_free(session);
  }
  CHECK(lengths[0] == lengths[1] && lengths[1] == lengths[2]);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  hybrid_model *model = open_model(argv[1]);
  collected text = {.steps = 0};
  written_alone(model, &text);
  tokens_and_text(model, text.text);
  settings_change_on_a_live_session(model, text.text);
  biases_and_logprobs(model);
  forks_share_nothing(model, text.text);
  chats_with_any_role(model);
  hybrid_model_free(model);
  return finish("settings");
}
