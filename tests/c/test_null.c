// Every function with NULL for every pointer: a status that names the argument, and every out-value
// set.   test_null BUNDLE
#include "check.h"

// The pointers that must not be NULL, one by one.
#define CHECK_NULL(name, call) CHECK_ERROR(HYBRID_ERR_NULL_ARGUMENT, name " is NULL", call)

static void without_objects(void) {
  size_t size = 9;
  char buffer[4] = "xyz";
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_last_error(NULL, 0, NULL));
  CHECK_NULL("buffer", hybrid_last_error(NULL, 8, &size));
  CHECK(size == 0);
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_last_error(buffer, sizeof buffer, NULL));
  CHECK(strcmp(buffer, "buf") == 0);

  CHECK_NULL("options", hybrid_model_options_init(NULL, sizeof(hybrid_model_options)));
  CHECK_NULL("options", hybrid_cloud_options_init(NULL, sizeof(hybrid_cloud_options)));
  CHECK_NULL("network", hybrid_cloud_network_init(NULL, sizeof(hybrid_cloud_network)));
  CHECK_NULL("trust", hybrid_cloud_trust_init(NULL, sizeof(hybrid_cloud_trust)));
  CHECK_NULL("options", hybrid_session_options_init(NULL, sizeof(hybrid_session_options)));
  CHECK_NULL("sampling", hybrid_sampling_init(NULL, sizeof(hybrid_sampling)));
  CHECK_NULL("gate", hybrid_gate_init(NULL, sizeof(hybrid_gate)));
  CHECK_NULL("consult", hybrid_consult_init(NULL, sizeof(hybrid_consult)));
  CHECK_NULL("budget", hybrid_budget_init(NULL, sizeof(hybrid_budget)));
  CHECK_NULL("corrections", hybrid_corrections_init(NULL, sizeof(hybrid_corrections)));
  CHECK_NULL("out", hybrid_cancel_new(NULL));
  CHECK_NULL("callback", hybrid_set_log(HYBRID_LOG_INFO, NULL, NULL));
  CHECK_OK(hybrid_set_log(HYBRID_LOG_OFF, NULL, NULL));

  hybrid_cancel_raise(NULL);
  hybrid_cancel_lower(NULL);
  hybrid_cancel_free(NULL);
  hybrid_session_free(NULL);
  hybrid_cloud_free(NULL);
  hybrid_model_free(NULL);
}

static void model(const char *path, const hybrid_model *model) {
  hybrid_model *made = (hybrid_model *)&made;
  CHECK_NULL("out", hybrid_model_open(path, NULL, NULL));
  CHECK_NULL("path", hybrid_model_open(NULL, NULL, &made));
  CHECK(made == NULL);

  made = (hybrid_model *)&made;
  const hybrid_bundle_file no_name = {NULL, NULL, 0}, no_data = {"x", NULL, 1};
  CHECK_NULL("out", hybrid_model_open_memory(NULL, 0, NULL, NULL));
  CHECK_NULL("files", hybrid_model_open_memory(NULL, 1, NULL, &made));
  CHECK_NULL("name of a file", hybrid_model_open_memory(&no_name, 1, NULL, &made));
  CHECK_NULL("data of a file", hybrid_model_open_memory(&no_data, 1, NULL, &made));
  CHECK(made == NULL);

  hybrid_model_info info = {.struct_size = sizeof info, .layers = 77};
  CHECK_NULL("out", hybrid_model_describe(model, NULL));
  CHECK_NULL("model", hybrid_model_describe(NULL, &info));
  CHECK(info.layers == 0 && strcmp(info.name, "") == 0 && info.struct_size == sizeof info);
}

static void tokens(const hybrid_model *model) {
  size_t needed = 9;
  uint8_t bytes[4];
  uint32_t ids[4];
  CHECK_NULL("model", hybrid_model_tokenize(NULL, "x", 1, 0, ids, 4, &needed));
  CHECK(needed == 0);
  CHECK_NULL("text", hybrid_model_tokenize(model, NULL, 0, 0, ids, 4, NULL));
  CHECK_NULL("buffer", hybrid_model_tokenize(model, "x", 1, 0, NULL, 4, NULL));
  needed = 9;
  CHECK_NULL("count", hybrid_model_count_tokens(model, "x", 1, 0, NULL));
  CHECK_NULL("model", hybrid_model_count_tokens(NULL, "x", 1, 0, &needed));
  CHECK(needed == 0);
  CHECK_NULL("text", hybrid_model_count_tokens(model, NULL, 1, 0, &needed));
  needed = 9;
  CHECK_NULL("model", hybrid_model_detokenize(NULL, ids, 0, 0, bytes, 4, &needed));
  CHECK(needed == 0);
  CHECK_NULL("tokens", hybrid_model_detokenize(model, NULL, 1, 0, bytes, 4, NULL));
  CHECK_NULL("buffer", hybrid_model_detokenize(model, ids, 0, 0, NULL, 4, NULL));
}

static void cloud(const hybrid_model *model) {
  hybrid_cloud *cloud = (hybrid_cloud *)&cloud;
  hybrid_cloud_options options;
  REQUIRE_OK(hybrid_cloud_options_init(&options, sizeof options));
  CHECK_NULL("out", hybrid_cloud_new(&options, NULL));
  CHECK_NULL("options", hybrid_cloud_new(NULL, &cloud));
  CHECK(cloud == NULL);
  cloud = (hybrid_cloud *)&cloud;
  CHECK_NULL("options.url", hybrid_cloud_new(&options, &cloud));
  CHECK(cloud == NULL);

  hybrid_probe probe = {.struct_size = sizeof probe, .exchange = HYBRID_EXCHANGE_IDS};
  CHECK_NULL("cloud", hybrid_cloud_probe(NULL, model, NULL, &probe));
  CHECK(probe.exchange == HYBRID_EXCHANGE_UNKNOWN && probe.server == HYBRID_SERVER_AUTO);
  options.url = "https://127.0.0.1:1";
  options.ca_pem_size = 9;
  CHECK_NULL("options.ca_pem", hybrid_cloud_new(&options, &cloud));
  options.ca_pem_size = 0;
  REQUIRE_OK(hybrid_cloud_new(&options, &cloud));
  probe.exchange = HYBRID_EXCHANGE_IDS;
  CHECK_NULL("model", hybrid_cloud_probe(cloud, NULL, NULL, &probe));
  CHECK(probe.exchange == HYBRID_EXCHANGE_UNKNOWN);

  hybrid_breaker breaker = {.struct_size = sizeof breaker, .failures = 77};
  CHECK_NULL("cloud", hybrid_cloud_set_token(NULL, "x"));
  CHECK_OK(hybrid_cloud_set_token(cloud, NULL));
  CHECK_NULL("out", hybrid_cloud_breaker(cloud, NULL));
  CHECK_NULL("cloud", hybrid_cloud_breaker(NULL, &breaker));
  CHECK(breaker.failures == 0);
  CHECK_NULL("cloud", hybrid_cloud_reset_breaker(NULL));
  hybrid_cloud_free(cloud);
}

static void session(const hybrid_model *model) {
  hybrid_session *made = (hybrid_session *)&made;
  CHECK_NULL("out", hybrid_session_new(model, NULL, NULL, NULL));
  CHECK_NULL("model", hybrid_session_new(NULL, NULL, NULL, &made));
  CHECK(made == NULL);

  hybrid_session_options options;
  REQUIRE_OK(hybrid_session_options_init(&options, sizeof options));
  options.stop_string_count = 1;
  CHECK_NULL("options.stop_strings", hybrid_session_new(model, NULL, &options, &made));
  const char *const none[] = {NULL};
  options.stop_strings = none;
  CHECK_NULL("a stop string", hybrid_session_new(model, NULL, &options, &made));
  CHECK(made == NULL);

  hybrid_session *session = new_session(model, NULL, NULL);
  const hybrid_message fine = {sizeof fine, "user", "x"}, no_role = {sizeof fine, NULL, "x"},
                       no_content = {sizeof fine, "user", NULL};
  CHECK_NULL("session", hybrid_session_prompt(NULL, "x", 1));
  CHECK_NULL("text", hybrid_session_prompt(session, NULL, 0));
  CHECK_NULL("text", hybrid_session_prompt(session, NULL, 1));
  CHECK_NULL("session", hybrid_session_chat(NULL, &fine, 1));
  CHECK_NULL("messages", hybrid_session_chat(session, NULL, 1));
  CHECK_NULL("role of a message", hybrid_session_chat(session, &no_role, 1));
  CHECK_NULL("content of a message", hybrid_session_chat(session, &no_content, 1));
  CHECK_NULL("session", hybrid_session_prompt_tokens(NULL, NULL, 0));
  CHECK_NULL("tokens", hybrid_session_prompt_tokens(session, NULL, 1));
  made = (hybrid_session *)&made;
  CHECK_NULL("out", hybrid_session_fork(session, NULL));
  CHECK_NULL("session", hybrid_session_fork(NULL, &made));
  CHECK(made == NULL);
  CHECK_NULL("session", hybrid_session_set_cloud(NULL, NULL));
  CHECK_OK(hybrid_session_set_cloud(session, NULL));
  CHECK_NULL("session", hybrid_session_set_thinking(NULL, HYBRID_THINKING_ON));
  CHECK_NULL("session", hybrid_session_set_cancel(NULL, NULL));
  CHECK_OK(hybrid_session_set_cancel(session, NULL));
  hybrid_session_free(session);
}

// Setters and getters, and that a getter sets its result on every path.
#define CHECK_SETTINGS(kind, field)                                                \
  do {                                                                             \
    DEFAULTS(kind, value);                                                         \
    const hybrid_##kind neutral = value;                                           \
    CHECK_NULL("session", hybrid_session_set_##kind(NULL, &value));                \
    CHECK_NULL(#kind, hybrid_session_set_##kind(session, NULL));                   \
    CHECK_NULL("out", hybrid_session_get_##kind(session, NULL));                   \
    value.field = 77;                                                              \
    CHECK_NULL("session", hybrid_session_get_##kind(NULL, &value));                \
    CHECK(value.field <= neutral.field && value.field >= neutral.field);           \
  } while (0)

static void settings(const hybrid_model *model) {
  hybrid_session *session = new_session(model, NULL, NULL);
  CHECK_SETTINGS(sampling, top_k);
  CHECK_SETTINGS(gate, threshold);
  CHECK_SETTINGS(consult, burst);
  CHECK_SETTINGS(budget, consults);
  CHECK_SETTINGS(corrections, suffix);
  CHECK_NULL("session", hybrid_session_set_logit_bias(NULL, NULL, 0));
  CHECK_NULL("biases", hybrid_session_set_logit_bias(session, NULL, 1));
  CHECK_OK(hybrid_session_set_logit_bias(session, NULL, 0));
  CHECK_NULL("session", hybrid_session_set_top_logprobs(NULL, 0));
  hybrid_session_free(session);
}

static void step(const hybrid_model *model) {
  hybrid_session *session = new_session(model, NULL, NULL);
  hybrid_step_result result = {.struct_size = sizeof result, .token = 77};
  hybrid_peek peek = {.struct_size = sizeof peek, .candidate = 77};
  hybrid_stats stats = {.struct_size = sizeof stats, .tokens = 77};
  hybrid_usage usage = {.struct_size = sizeof usage, .consults = 77};
  hybrid_end end = HYBRID_END_STOP_STRING;
  size_t size = 77;
  const char *text = NULL;
  collected c = {.steps = 0};

  CHECK_NULL("out", hybrid_step(session, NULL));
  CHECK_NULL("session", hybrid_step(NULL, &result));
  CHECK(result.token == 0 && result.text != NULL && *result.text == '\0');
  CHECK(result.details != NULL && result.details->struct_size == sizeof *result.details);
  CHECK(result.details->logprobs != NULL && result.details->logprob_count == 0);
  CHECK(result.details->bytes != NULL && result.details->bytes_size == 0);
  CHECK(result.consult != NULL && result.consult->struct_size == sizeof *result.consult);
  CHECK_NULL("out", hybrid_step_peek(session, NULL));
  CHECK_NULL("session", hybrid_step_peek(NULL, &peek));
  CHECK(peek.candidate == 0);
  CHECK_NULL("session", hybrid_step_run(NULL, 1, collect, &c, &end));
  CHECK(end == HYBRID_END_NONE);
  end = HYBRID_END_STOP_STRING;
  CHECK_NULL("callback", hybrid_step_run(session, 1, NULL, NULL, &end));
  CHECK(end == HYBRID_END_NONE);

  CHECK_NULL("text", hybrid_session_flush(session, NULL, &size));
  size = 77;
  CHECK_NULL("session", hybrid_session_flush(NULL, &text, &size));
  CHECK(text != NULL && *text == '\0' && size == 0);
  CHECK_OK(hybrid_session_flush(session, &text, NULL));

  size = 77;
  CHECK_NULL("out", hybrid_session_length(session, NULL));
  CHECK_NULL("session", hybrid_session_length(NULL, &size));
  CHECK(size == 0);
  size = 77;
  CHECK_NULL("session", hybrid_session_tokens(NULL, NULL, 0, &size));
  CHECK(size == 0);
  CHECK_NULL("buffer", hybrid_session_tokens(session, NULL, 1, NULL));
  size = 77;
  CHECK_NULL("session", hybrid_session_text(NULL, NULL, 0, &size));
  CHECK(size == 0);
  CHECK_NULL("buffer", hybrid_session_text(session, NULL, 1, NULL));
  CHECK_NULL("session", hybrid_session_rewind(NULL, 0));
  CHECK_NULL("session", hybrid_session_reset(NULL));
  size = 77;
  CHECK_NULL("session", hybrid_session_save(NULL, NULL, 0, &size));
  CHECK(size == 0);
  CHECK_NULL("buffer", hybrid_session_save(session, NULL, 1, NULL));
  CHECK_NULL("session", hybrid_session_restore(NULL, NULL, 0));
  CHECK_NULL("state", hybrid_session_restore(session, NULL, 1));
  size = 77;
  CHECK_NULL("session", hybrid_session_save_corrections(NULL, NULL, 0, &size));
  CHECK(size == 0);
  CHECK_NULL("buffer", hybrid_session_save_corrections(session, NULL, 1, NULL));
  CHECK_NULL("session", hybrid_session_restore_corrections(NULL, NULL, 0));
  CHECK_NULL("corrections", hybrid_session_restore_corrections(session, NULL, 1));
  CHECK_NULL("out", hybrid_session_stats(session, NULL));
  CHECK_NULL("session", hybrid_session_stats(NULL, &stats));
  CHECK(stats.tokens == 0);
  CHECK_NULL("out", hybrid_session_usage(session, NULL));
  CHECK_NULL("session", hybrid_session_usage(NULL, &usage));
  CHECK(usage.consults == 0);
  hybrid_session_free(session);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  hybrid_model *m = open_model(argv[1]);
  without_objects();
  model(argv[1], m);
  tokens(m);
  cloud(m);
  session(m);
  settings(m);
  step(m);
  hybrid_model_free(m);
  return finish("null");
}
