// Consults against a real server behind TLS that runs the same model as the device, so that its
// tokens can be told in advance.   test_cloud BUNDLE, with HYBRID_CLOUD_URL, _CA and _TOKEN set
#include <math.h>

#include "check.h"

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

// A session with the prompt, which asks for candidates under the threshold.
static hybrid_session *asking(const hybrid_model *model, const hybrid_cloud *cloud, float threshold,
                              uint32_t burst, int32_t hand_back) {
  DEFAULTS(gate, gate);
  DEFAULTS(consult, consult);
  gate.threshold_by = HYBRID_THRESHOLD_BY_VALUE;
  gate.threshold = threshold;
  consult.burst = burst;
  consult.deadline_ms = 20000;
  consult.hand_back = hand_back;
  hybrid_session *session = new_session(model, cloud, NULL);
  REQUIRE_OK(hybrid_session_set_gate(session, &gate));
  REQUIRE_OK(hybrid_session_set_consult(session, &consult));
  prompt(session, PROMPT);
  return session;
}

// Every candidate is weak.
static hybrid_session *consulting(const hybrid_model *model, const hybrid_cloud *cloud,
                                  uint32_t burst) {
  return asking(model, cloud, 2, burst, 0);
}

static hybrid_stats stats_of(hybrid_session *session) {
  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(session, &stats));
  return stats;
}

static hybrid_usage usage_of(hybrid_session *session) {
  hybrid_usage usage = {.struct_size = sizeof usage};
  CHECK_OK(hybrid_session_usage(session, &usage));
  return usage;
}

static hybrid_breaker breaker_of(const hybrid_cloud *cloud) {
  hybrid_breaker breaker = {.struct_size = sizeof breaker};
  CHECK_OK(hybrid_cloud_breaker(cloud, &breaker));
  return breaker;
}

static void local_text(const hybrid_model *model, collected *c) {
  hybrid_session *session = new_session(model, NULL, NULL);
  prompt(session, PROMPT);
  CHECK_OK(hybrid_step_run(session, TOKENS, collect, c, NULL));
  hybrid_session_free(session);
}

static void writes(const hybrid_model *model, const char *url, const char *ca, const char *token,
                   hybrid_server server) {
  hybrid_probe probe = {.struct_size = sizeof probe};
  hybrid_cloud *cloud = open_cloud(url, ca, token, server);
  CHECK_OK(hybrid_cloud_probe(cloud, model, NULL, &probe));
  CHECK(probe.exchange == HYBRID_EXCHANGE_IDS && probe.server == server);
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
    CHECK(step.source == HYBRID_SOURCE_CLOUD && step.consult->consulted == 1);
    const hybrid_consult_result *cost = step.consult;
    CHECK(cost->bytes_sent > 0 && cost->bytes_received > 0 && cost->cloud_ns > 0);
    CHECK(cost->answer_tokens == 1 && cost->billed_prompt_tokens > 0);
    CHECK(cost->failure == HYBRID_FAILURE_NONE && !isnan(step.score));
    collect(&step, &c);
  }
  CHECK(strstr(c.text, "Paris") != NULL);
  const hybrid_stats stats = stats_of(session);
  const hybrid_usage usage = usage_of(session);
  CHECK(stats.cloud == TOKENS && usage.consults == TOKENS && usage.failures == 0);
  CHECK(usage.billed_prompt_tokens > 0 && usage.bytes_sent > 0 && stats.fallback == 0);
  CHECK(usage.cloud_ns > 0 && usage.bytes_received > 0);
  hybrid_session_free(session);
}

static void bursts(const hybrid_model *model, const char *url, const char *ca, const char *token) {
  hybrid_cloud *cloud = open_cloud(url, ca, token, HYBRID_SERVER_OPENAI);
  CHECK_OK(hybrid_cloud_probe(cloud, model, NULL, NULL));
  hybrid_session *session = consulting(model, cloud, 4);
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.source == HYBRID_SOURCE_CLOUD && step.consult->consulted == (i % 4 == 0));
    CHECK(step.reason == (i % 4 == 0 ? HYBRID_REASON_WEAK : HYBRID_REASON_BURST));
  }
  const hybrid_stats stats = stats_of(session);
  CHECK(stats.cloud == TOKENS && usage_of(session).answer_tokens == TOKENS && stats.rescued == 0);
  hybrid_session_free(session);
  hybrid_cloud_free(cloud);
}

// With a threshold that the first candidate misses by a little, those that score better are the
// SLM's own.
static void hands_back(const hybrid_model *model, const char *url, const char *ca,
                       const char *token) {
  hybrid_cloud *cloud = open_cloud(url, ca, token, HYBRID_SERVER_OPENAI);
  CHECK_OK(hybrid_cloud_probe(cloud, model, NULL, NULL));
  hybrid_session *session = consulting(model, cloud, 1);
  hybrid_peek first = {.struct_size = sizeof first};
  CHECK_OK(hybrid_step_peek(session, &first));
  hybrid_session_free(session);

  const float threshold = nextafterf(first.score, 1);
  session = asking(model, cloud, threshold, TOKENS, 1);
  hybrid_cloud_free(cloud);
  uint64_t local = 0;
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.consult->consulted == (i == 0));
    const bool sure = step.candidate == step.token && step.score >= threshold;
    CHECK(step.source == (sure ? HYBRID_SOURCE_LOCAL : HYBRID_SOURCE_CLOUD));
    local += sure;
  }
  const hybrid_stats stats = stats_of(session);
  CHECK(local > 0 && stats.local == local && stats.local + stats.cloud == TOKENS);
  CHECK(usage_of(session).consults == 1 && usage_of(session).answer_tokens == TOKENS);
  hybrid_session_free(session);
}

// A second session writes what the first one asked for, without the cloud.
static void remembers(const hybrid_model *model, const char *url, const char *ca,
                      const char *token) {
  hybrid_cloud *cloud = open_cloud(url, ca, token, HYBRID_SERVER_OPENAI);
  CHECK_OK(hybrid_cloud_probe(cloud, model, NULL, NULL));
  DEFAULTS(corrections, corrections);
  corrections.capacity = 10;
  collected first = {.steps = 0}, again = {.steps = 0};
  hybrid_session *session = consulting(model, cloud, 2);
  CHECK_OK(hybrid_session_set_corrections(session, &corrections));
  CHECK_OK(hybrid_step_run(session, TOKENS, collect, &first, NULL));
  size_t size = 0;
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL,
               hybrid_session_save_corrections(session, NULL, 0, &size));
  unsigned char *bytes = malloc(size);
  CHECK_OK(hybrid_session_save_corrections(session, bytes, size, NULL));
  hybrid_session_free(session);

  DEFAULTS(budget, nothing);
  nothing.consults = 0;
  session = consulting(model, cloud, 2);
  hybrid_cloud_free(cloud);
  CHECK_OK(hybrid_session_set_budget(session, &nothing));
  CHECK_OK(hybrid_session_set_corrections(session, &corrections));
  CHECK_OK(hybrid_session_restore_corrections(session, bytes, size));
  hybrid_peek peek = {.struct_size = sizeof peek};
  CHECK_OK(hybrid_step_peek(session, &peek));
  CHECK(peek.would_consult == 0 && peek.reason == HYBRID_REASON_CORRECTION);
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.source == HYBRID_SOURCE_CORRECTION && step.consult->consulted == 0);
    CHECK(step.reason == (i % 2 == 0 ? HYBRID_REASON_CORRECTION : HYBRID_REASON_BURST));
    collect(&step, &again);
  }
  CHECK(strcmp(first.text, again.text) == 0);
  const hybrid_stats stats = stats_of(session);
  CHECK(stats.corrections == TOKENS && stats.tokens == TOKENS && stats.cloud == 0);
  CHECK(usage_of(session).consults == 0);
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
  hybrid_cloud_reset_breaker(cloud);
  collected c = {.steps = 0};
  for (int i = 0; i < TOKENS; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step(session, &step));
    CHECK(step.source == HYBRID_SOURCE_FALLBACK && step.token == step.candidate);
    if (i == 0) {
      CHECK(step.consult->failure == failure && step.reason == HYBRID_REASON_CONSULT_FAILED);
    }
    collect(&step, &c);
  }
  CHECK(strcmp(c.text, expected) == 0);
  const hybrid_usage usage = usage_of(session);
  CHECK(stats_of(session).fallback == TOKENS && stats_of(session).cloud == 0);
  CHECK(usage.failures == usage.consults);
  // The breaker spares a cloud that fails again and again.
  CHECK(usage.consults < TOKENS);
  CHECK(breaker_of(cloud).state == HYBRID_BREAKER_STATE_OPEN && breaker_of(cloud).retry_in_ms > 0);
  CHECK_OK(hybrid_cloud_reset_breaker(cloud));
  CHECK(breaker_of(cloud).state == HYBRID_BREAKER_STATE_CLOSED && breaker_of(cloud).failures == 0);
  hybrid_cloud_free(cloud);
  hybrid_session_free(session);
}

static void probe_fails(const hybrid_model *model, hybrid_cloud *cloud) {
  hybrid_probe probe = {.struct_size = sizeof probe, .exchange = HYBRID_EXCHANGE_IDS};
  CHECK_STATUS(HYBRID_ERR_CLOUD, hybrid_cloud_probe(cloud, model, NULL, &probe));
  CHECK(probe.exchange == HYBRID_EXCHANGE_UNKNOWN && probe.server == HYBRID_SERVER_AUTO);
  hybrid_cancel *cancel = NULL;
  REQUIRE_OK(hybrid_cancel_new(&cancel));
  hybrid_cancel_raise(cancel);
  CHECK_STATUS(HYBRID_ERR_CANCELLED, hybrid_cloud_probe(cloud, model, cancel, &probe));
  hybrid_cancel_free(cancel);
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

// One step, which asks the cloud.
static hybrid_step_result step_of(hybrid_session *session) {
  hybrid_step_result step = {.struct_size = sizeof step};
  CHECK_OK(hybrid_step(session, &step));
  return step;
}

// A live session gets another cloud, none, and a cloud gets another token.
static void changes_its_cloud(const hybrid_model *model, const char *url, const char *ca,
                              const char *token) {
  hybrid_cloud *cloud = open_cloud(url, ca, "wrong", HYBRID_SERVER_OPENAI);
  hybrid_session *session = consulting(model, NULL, 1);
  CHECK(step_of(session).reason == HYBRID_REASON_LOCAL_ONLY);
  CHECK_OK(hybrid_session_set_cloud(session, cloud));
  CHECK(step_of(session).consult->failure == HYBRID_FAILURE_UNAUTHORIZED);
  CHECK(breaker_of(cloud).failures == 1);
  CHECK_OK(hybrid_cloud_set_token(cloud, token));
  CHECK(breaker_of(cloud).state == HYBRID_BREAKER_STATE_CLOSED);
  CHECK(step_of(session).source == HYBRID_SOURCE_CLOUD);

  // The gate alone changes too.
  DEFAULTS(gate, local);
  local.mode = HYBRID_MODE_LOCAL_ONLY;
  CHECK_OK(hybrid_session_set_gate(session, &local));
  CHECK(step_of(session).reason == HYBRID_REASON_LOCAL_ONLY);
  local.mode = HYBRID_MODE_CLOUD_FIRST;
  CHECK_OK(hybrid_session_set_gate(session, &local));
  CHECK(step_of(session).source == HYBRID_SOURCE_CLOUD);

  CHECK_ERROR(HYBRID_ERR_CLOUD, "token", hybrid_cloud_set_token(cloud, "two\nlines"));
  CHECK_OK(hybrid_session_set_cloud(session, NULL));
  CHECK(step_of(session).reason == HYBRID_REASON_LOCAL_ONLY);
  CHECK(usage_of(session).consults == 3 && usage_of(session).failures == 1);
  hybrid_session_free(session);
  hybrid_cloud_free(cloud);
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
  changes_its_cloud(model, url, ca, token);
  fails(model, url, ca, token, argv[2]);
  hybrid_model_free(model);
  return finish("cloud");
}
