// Consults against a real server behind TLS that runs the same model as the device, so that its
// tokens can be told in advance.   test_cloud BUNDLE, with HYBRID_CLOUD_URL, _CA and _TOKEN set
#include <math.h>

#include "check.h"

static const char PROMPT[] = "The capital of France is";
enum { TOKENS = 8 };

static hybrid_cloud *open_cloud(const char *url, const char *ca, const char *token,
                                hybrid_server server) {
  hybrid_cloud *cloud = NULL;
  hybrid_cloud_options options;
  REQUIRE_OK(hybrid_cloud_options_init(&options, sizeof options));
  options.url = url;
  options.ca_file = ca;
  options.token = token;
  options.server = server;
  REQUIRE_OK(hybrid_cloud_new(&options, &cloud));
  return cloud;
}

static hybrid_session_options asking(float threshold, uint32_t burst) {
  hybrid_session_options options;
  REQUIRE_OK(hybrid_session_options_init(&options, sizeof options));
  options.threshold = threshold;
  options.burst = burst;
  options.consult_deadline_ms = 20000;
  return options;
}

// Every candidate is weak.
static hybrid_session *consulting(const hybrid_model *model, const hybrid_cloud *cloud,
                                  uint32_t burst) {
  const hybrid_session_options options = asking(2, burst);
  hybrid_session *session = new_session(model, cloud, &options);
  REQUIRE_OK(hybrid_session_prompt(session, PROMPT, strlen(PROMPT)));
  return session;
}

static void local_text(const hybrid_model *model, collected *c) {
  hybrid_session *session = new_session(model, NULL, NULL);
  REQUIRE_OK(hybrid_session_prompt(session, PROMPT, strlen(PROMPT)));
  CHECK_OK(hybrid_step_run(session, TOKENS, collect, c, NULL));
  hybrid_session_free(session);
}

static void writes(const hybrid_model *model, const char *url, const char *ca, const char *token,
                   hybrid_server server) {
  int32_t shared = 7;
  hybrid_cloud *cloud = open_cloud(url, ca, token, server);
  CHECK_OK(hybrid_cloud_probe_vocabulary(cloud, model, &shared));
  CHECK(shared == 1);
  hybrid_session *session = consulting(model, cloud, 1);
  hybrid_cloud_free(cloud);

  hybrid_peek peek = {.struct_size = sizeof peek};
  CHECK_OK(hybrid_step_peek(session, &peek));
  CHECK(peek.would_consult == 1 && peek.reason == HYBRID_REASON_WEAK);
  CHECK(peek.score >= 0 && peek.score <= 1);
  collected c = {.steps = 0};
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.source == HYBRID_SOURCE_CLOUD && step.consulted == 1);
    CHECK(step.bytes_sent > 0 && step.bytes_received > 0 && step.cloud_ns > 0);
    CHECK(step.failure == HYBRID_FAILURE_NONE && !isnan(step.score));
    collect(&step, &c);
  }
  CHECK(strstr(c.text, "Paris") != NULL);
  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(session, &stats));
  CHECK(stats.cloud == TOKENS && stats.consults == TOKENS && stats.consult_failures == 0);
  CHECK(stats.cloud_prompt_tokens > 0 && stats.bytes_sent > 0 && stats.fallback == 0);
  hybrid_session_free(session);
}

static void bursts(const hybrid_model *model, const char *url, const char *ca, const char *token) {
  hybrid_cloud *cloud = open_cloud(url, ca, token, HYBRID_SERVER_OPENAI);
  CHECK_OK(hybrid_cloud_probe_vocabulary(cloud, model, NULL));
  hybrid_session *session = consulting(model, cloud, 4);
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.source == HYBRID_SOURCE_CLOUD && step.consulted == (i % 4 == 0));
    CHECK(step.reason == (i % 4 == 0 ? HYBRID_REASON_WEAK : HYBRID_REASON_BURST));
  }
  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(session, &stats));
  CHECK(stats.cloud == TOKENS && stats.cloud_answer_tokens == TOKENS && stats.rescued == 0);
  hybrid_session_free(session);
  hybrid_cloud_free(cloud);
}

// With a threshold that the first candidate misses by a little, those that score better are the SLM's own.
static void hands_back(const hybrid_model *model, const char *url, const char *ca,
                       const char *token) {
  hybrid_cloud *cloud = open_cloud(url, ca, token, HYBRID_SERVER_OPENAI);
  CHECK_OK(hybrid_cloud_probe_vocabulary(cloud, model, NULL));
  hybrid_session *session = consulting(model, cloud, 1);
  hybrid_peek first = {.struct_size = sizeof first};
  CHECK_OK(hybrid_step_peek(session, &first));
  hybrid_session_free(session);

  hybrid_session_options options = asking(nextafterf(first.score, 1), TOKENS);
  options.hand_back = 1;
  session = new_session(model, cloud, &options);
  hybrid_cloud_free(cloud);
  REQUIRE_OK(hybrid_session_prompt(session, PROMPT, strlen(PROMPT)));
  uint64_t local = 0;
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.consulted == (i == 0));
    const bool sure = step.candidate == step.token && step.score >= options.threshold;
    CHECK(step.source == (sure ? HYBRID_SOURCE_LOCAL : HYBRID_SOURCE_CLOUD));
    local += sure;
  }
  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(session, &stats));
  CHECK(local > 0 && stats.local == local && stats.local + stats.cloud == TOKENS);
  CHECK(stats.consults == 1 && stats.cloud_answer_tokens == TOKENS);
  hybrid_session_free(session);
}

// A second session writes what the first one asked for, without the cloud.
static void remembers(const hybrid_model *model, const char *url, const char *ca,
                      const char *token) {
  hybrid_cloud *cloud = open_cloud(url, ca, token, HYBRID_SERVER_OPENAI);
  CHECK_OK(hybrid_cloud_probe_vocabulary(cloud, model, NULL));
  hybrid_session_options options = asking(2, 2);
  options.correction_cache = 10;
  collected first = {.steps = 0}, again = {.steps = 0};
  hybrid_session *session = new_session(model, cloud, &options);
  REQUIRE_OK(hybrid_session_prompt(session, PROMPT, strlen(PROMPT)));
  CHECK_OK(hybrid_step_run(session, TOKENS, collect, &first, NULL));
  size_t size = 0;
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_session_save_corrections(session, NULL, 0, &size));
  unsigned char *bytes = malloc(size);
  CHECK_OK(hybrid_session_save_corrections(session, bytes, size, NULL));
  hybrid_session_free(session);

  options.budget_calls = 0;
  session = new_session(model, cloud, &options);
  hybrid_cloud_free(cloud);
  CHECK_OK(hybrid_session_restore_corrections(session, bytes, size));
  REQUIRE_OK(hybrid_session_prompt(session, PROMPT, strlen(PROMPT)));
  hybrid_peek peek = {.struct_size = sizeof peek};
  CHECK_OK(hybrid_step_peek(session, &peek));
  CHECK(peek.would_consult == 0 && peek.reason == HYBRID_REASON_CORRECTED);
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.source == HYBRID_SOURCE_CACHED && step.consulted == 0);
    CHECK(step.reason == (i % 2 == 0 ? HYBRID_REASON_CORRECTED : HYBRID_REASON_BURST));
    collect(&step, &again);
  }
  CHECK(strcmp(first.text, again.text) == 0);
  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(session, &stats));
  CHECK(stats.cached == TOKENS && stats.tokens == TOKENS && stats.consults == 0 && stats.cloud == 0);
  bytes[size / 2] ^= 1;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "damaged",
              hybrid_session_restore_corrections(session, bytes, size));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "cut off",
              hybrid_session_restore_corrections(session, NULL, 0));
  free(bytes);
  hybrid_session_free(session);
}

// Whatever is wrong with the cloud: the SLM's own text, every token marked.
static void falls_back(const hybrid_model *model, hybrid_cloud *cloud, hybrid_failure failure,
                       const char *expected) {
  hybrid_session *session = consulting(model, cloud, 1);
  hybrid_cloud_free(cloud);
  collected c = {.steps = 0};
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.source == HYBRID_SOURCE_FALLBACK && step.token == step.candidate);
    if (i == 0) {
      CHECK(step.failure == failure && step.reason == HYBRID_REASON_CONSULT_FAILED);
    }
    collect(&step, &c);
  }
  CHECK(strcmp(c.text, expected) == 0);
  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(session, &stats));
  CHECK(stats.fallback == TOKENS && stats.cloud == 0 && stats.consult_failures == stats.consults);
  // The breaker spares a cloud that fails again and again.
  CHECK(stats.consults < TOKENS);
  hybrid_session_free(session);
}

static void probe_fails(const hybrid_model *model, const hybrid_cloud *cloud) {
  int32_t shared = 7;
  CHECK_STATUS(HYBRID_ERR_CLOUD, hybrid_cloud_probe_vocabulary(cloud, model, &shared));
  CHECK(shared == 0);
}

static void fails(const hybrid_model *model, const char *url, const char *ca, const char *token,
                  const char *other_ca) {
  collected text = {.steps = 0};
  local_text(model, &text);

  hybrid_cloud *wrong_ca = open_cloud(url, other_ca, token, HYBRID_SERVER_OPENAI);
  probe_fails(model, wrong_ca);
  falls_back(model, wrong_ca, HYBRID_FAILURE_TLS, text.text);

  hybrid_cloud *closed = open_cloud("https://127.0.0.1:1", ca, token, HYBRID_SERVER_OPENAI);
  probe_fails(model, closed);
  falls_back(model, closed, HYBRID_FAILURE_CONNECT, text.text);

  hybrid_cloud *refused = open_cloud(url, ca, "wrong", HYBRID_SERVER_OPENAI);
  probe_fails(model, refused);
  falls_back(model, refused, HYBRID_FAILURE_UNAUTHORIZED, text.text);
}

int main(int argc, char **argv) {
  const char *url = getenv("HYBRID_CLOUD_URL"), *ca = getenv("HYBRID_CLOUD_CA");
  const char *token = getenv("HYBRID_CLOUD_TOKEN");
  if (argc != 3 || url == NULL || ca == NULL || token == NULL) return 2;
  hybrid_model *model = open_model(argv[1]);
  writes(model, url, ca, token, HYBRID_SERVER_OPENAI);
  writes(model, url, ca, token, HYBRID_SERVER_LLAMA_CPP);
  bursts(model, url, ca, token);
  hands_back(model, url, ca, token);
  remembers(model, url, ca, token);
  fails(model, url, ca, token, argv[2]);
  hybrid_model_free(model);
  return finish("cloud");
}
