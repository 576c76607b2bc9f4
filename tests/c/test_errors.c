// What users get wrong: each is a status with a text that says what to do, and nothing crashes.
//   test_errors BUNDLE FOLDER_OF_BROKEN_BUNDLES
#include "check.h"

/* The kernels that every CPU of this kind can use. */
#ifdef __aarch64__
#define BASELINE "neon"
#else
#define BASELINE "portable"
#endif

static const char *inside(const char *folder, const char *name) {
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static void bundles(const char *bundle, const char *folder) {
  static const struct {
    const char *name, *says;
    hybrid_status status;
  } ROWS[] = {
      {"nowhere", "nowhere", HYBRID_ERR_IO},
      {"no-manifest", "bundle.json", HYBRID_ERR_BUNDLE},
      {"truncated", "weights.bin", HYBRID_ERR_BUNDLE},
      {"wrong-hash", "tokenizer.json", HYBRID_ERR_BUNDLE},
      {"wrong-weights", "weights.bin", HYBRID_ERR_BUNDLE},
      {"newer-format", "99", HYBRID_ERR_UNSUPPORTED},
      {"not-json", "bundle.json", HYBRID_ERR_BUNDLE},
      {"garbage-graph", "graph.onnx: ", HYBRID_ERR_BUNDLE},
      {"garbage-head", "reward head: ", HYBRID_ERR_BUNDLE},
  };
  for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
    hybrid_model *model = (hybrid_model *)&model;
    CHECK_ERROR(ROWS[i].status, ROWS[i].says,
                hybrid_model_open(inside(folder, ROWS[i].name), NULL, &model));
    CHECK(model == NULL);
  }
  hybrid_model *model = NULL;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "empty path", hybrid_model_open("", NULL, &model));
  CHECK_ERROR(HYBRID_ERR_INVALID_UTF8, "path at byte 1", hybrid_model_open("x\xff", NULL, &model));
  CHECK_ERROR(HYBRID_ERR_IO, "", hybrid_model_open(inside(bundle, "bundle.json"), NULL, &model));
  hybrid_model_options o;
  REQUIRE_OK(hybrid_model_options_init(&o, sizeof o));
  o.threads = 65;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "threads is 65", hybrid_model_open(bundle, &o, &model));
  o.threads = 0;
  o.kernels = "abacus";
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, BASELINE, hybrid_model_open(bundle, &o, &model));
  o.kernels = BASELINE;
  CHECK_OK(hybrid_model_open(bundle, &o, &model));
  hybrid_model_free(model);
  model = NULL;
  o.kernels = NULL;
  o.verify = (hybrid_verify)9;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "verify is 9", hybrid_model_open(bundle, &o, &model));
  CHECK(model == NULL);
}

static void clouds(const char *bundle, const char *folder) {
  hybrid_cloud *cloud = NULL;
  hybrid_cloud_options o;
  REQUIRE_OK(hybrid_cloud_options_init(&o, sizeof o));
  o.url = "http://example.org";
  CHECK_ERROR(HYBRID_ERR_CLOUD, "https", hybrid_cloud_new(&o, &cloud));
  o.url = "not a url";
  CHECK_STATUS(HYBRID_ERR_CLOUD, hybrid_cloud_new(&o, &cloud));
  o.url = "https://\xc3\x28";
  CHECK_ERROR(HYBRID_ERR_INVALID_UTF8, "options.url at byte 8", hybrid_cloud_new(&o, &cloud));
  o.url = "https://example.org";
  o.server = (hybrid_server)99;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "options.server is 99", hybrid_cloud_new(&o, &cloud));
  o.server = HYBRID_SERVER_OPENAI;
  o.ca_file = inside(folder, "nowhere.pem");
  CHECK_ERROR(HYBRID_ERR_IO, "nowhere.pem", hybrid_cloud_new(&o, &cloud));
  o.ca_file = inside(bundle, "bundle.json");
  CHECK_ERROR(HYBRID_ERR_CLOUD, "certificate", hybrid_cloud_new(&o, &cloud));
  o.ca_pem = "x";
  o.ca_pem_size = 1;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "one of", hybrid_cloud_new(&o, &cloud));
  o.ca_file = NULL;
  CHECK_ERROR(HYBRID_ERR_CLOUD, "certificate", hybrid_cloud_new(&o, &cloud));
  o.ca_pem = NULL;
  o.ca_pem_size = 0;

  hybrid_header line = {"a b", "x"};
  hybrid_cloud_network network;
  REQUIRE_OK(hybrid_cloud_network_init(&network, sizeof network));
  network.headers = &line;
  network.header_count = 1;
  o.network = &network;
  CHECK_ERROR(HYBRID_ERR_CLOUD, "header's name", hybrid_cloud_new(&o, &cloud));
  network.header_count = 0;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "header_count is 0", hybrid_cloud_new(&o, &cloud));
  network.headers = NULL;
  network.proxy = "https://proxy";
  CHECK_ERROR(HYBRID_ERR_CLOUD, "proxy's URL", hybrid_cloud_new(&o, &cloud));
  o.network = NULL;

  const char *pin = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  hybrid_cloud_trust trust;
  REQUIRE_OK(hybrid_cloud_trust_init(&trust, sizeof trust));
  trust.pins = &pin;
  trust.pin_count = 1;
  o.trust = &trust;
  CHECK_STATUS(HYBRID_ERR_CLOUD, hybrid_cloud_new(&o, &cloud));
  trust.pin_count = 0;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "pin_count is 0", hybrid_cloud_new(&o, &cloud));
  trust.pins = NULL;
  trust.client_file = "";
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "trust.client_file", hybrid_cloud_new(&o, &cloud));
  CHECK(cloud == NULL);
}

static void sizes(const hybrid_model *model) {
  hybrid_session *session = NULL;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "sizeof(hybrid_session_options)",
              hybrid_session_options_init(&(hybrid_session_options){.seed = 0}, sizeof(void *)));
  DEFAULTS(session_options, o);
  const size_t whole = sizeof o;
  const size_t wrong[] = {0, 4, sizeof(void *), whole - 8, whole - 1, whole + 1, (size_t)-1};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    o.struct_size = wrong[i];
    CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "struct_size of options",
                hybrid_session_new(model, NULL, &o, &session));
    CHECK(session == NULL);
  }

  // Refused before anything is written, wherever the library would write.
  static uint64_t words[32];
  void *odd = (char *)words + 4;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "not aligned",
              hybrid_model_options_init(odd, sizeof(hybrid_model_options)));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "not aligned",
              hybrid_session_options_init(odd, sizeof(hybrid_session_options)));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "not aligned",
              hybrid_gate_init(odd, sizeof(hybrid_gate)));
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) CHECK(words[i] == 0);

  // A program built with a header of the future: fine as long as it uses nothing we do not know.
  struct {
    hybrid_session_options options;
    uint64_t later;
  } newer;
  memset(&newer, 0xff, sizeof newer);
  REQUIRE_OK(hybrid_session_options_init(&newer.options, sizeof newer));
  CHECK(newer.options.struct_size == sizeof newer && newer.later == 0);
  CHECK_OK(hybrid_session_new(model, NULL, &newer.options, &session));
  hybrid_session_free(session);
  newer.later = 1;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "newer hybrid_session_options",
              hybrid_session_new(model, NULL, &newer.options, &session));
  CHECK(session == NULL);

  // Messages of such a program lie further apart.
  hybrid_session *live = new_session(model, NULL, NULL);
  struct {
    hybrid_message message;
    uint64_t later;
  } chat[] = {{{sizeof chat[0], "system", "Be brief."}, 0}, {{sizeof chat[0], "user", "Hi."}, 0}};
  CHECK_OK(hybrid_session_chat(live, &chat[0].message, 2));
  CHECK(length(live) > 0);
  const size_t before = length(live);
  chat[1].later = 1;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "newer hybrid_message",
              hybrid_session_chat(live, &chat[0].message, 2));
  chat[1].message.struct_size = sizeof(hybrid_message);
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "differs within messages",
              hybrid_session_chat(live, &chat[0].message, 2));
  chat[0].message.struct_size = 0;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "sizeof(hybrid_message)",
              hybrid_session_chat(live, &chat[0].message, 1));
  CHECK(length(live) == before);

  hybrid_step_result result;
  memset(&result, 0, sizeof result);
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "struct_size of out is 0", hybrid_step(live, &result));
  hybrid_session_free(live);
}

static void options(const hybrid_model *model) {
  hybrid_session *session = NULL;
#define CHECK_OPTION(status, change, says)                              \
  do {                                                                  \
    DEFAULTS(session_options, o);                                       \
    change;                                                             \
    CHECK_ERROR(status, says, hybrid_session_new(model, NULL, &o, &session)); \
    CHECK(session == NULL);                                             \
  } while (0)
  const char *const empty[] = {""}, *const bad[] = {"\xff"};
  CHECK_OPTION(HYBRID_ERR_INVALID_ARGUMENT, o.draft = 8, "draft");
  CHECK_OPTION(HYBRID_ERR_INVALID_ARGUMENT, o.reserved = 1, "reserved");
  CHECK_OPTION(HYBRID_ERR_INVALID_ARGUMENT, (o.stop_strings = empty, o.stop_string_count = 1),
               "stop string");
  CHECK_OPTION(HYBRID_ERR_INVALID_UTF8, (o.stop_strings = bad, o.stop_string_count = 1),
               "a stop string at byte 0");
}

// A setter that fails leaves what was set before.
static void settings(const hybrid_model *model) {
  hybrid_session *session = new_session(model, NULL, NULL);
#define CHECK_SETTING(kind, status, change, says)                         \
  do {                                                                    \
    DEFAULTS(kind, o);                                                    \
    hybrid_##kind before = o, after = o;                                  \
    CHECK_OK(hybrid_session_get_##kind(session, &before));                \
    change;                                                               \
    CHECK_ERROR(status, says, hybrid_session_set_##kind(session, &o));    \
    CHECK_OK(hybrid_session_get_##kind(session, &after));                 \
    CHECK(memcmp(&before, &after, sizeof before) == 0);                   \
  } while (0)
#define CHECK_RANGE(kind, change, says) \
  CHECK_SETTING(kind, HYBRID_ERR_INVALID_ARGUMENT, change, says)
  const float nan = (float)strtod("nan", NULL);
  CHECK_RANGE(sampling, o.temperature = -1, "temperature");
  CHECK_RANGE(sampling, o.temperature = nan, "temperature");
  CHECK_RANGE(sampling, o.top_p = 0, "top_p");
  CHECK_RANGE(sampling, o.min_p = 1, "min_p");
  CHECK_RANGE(sampling, o.repetition_penalty = 0, "repetition_penalty");

  CHECK_RANGE(gate, o.mode = (hybrid_mode)3, "gate.mode is 3");
  CHECK_RANGE(gate, o.score = (hybrid_score)-1, "gate.score is -1");
  CHECK_RANGE(gate, o.threshold_by = (hybrid_threshold_by)5, "gate.threshold_by is 5");
  CHECK_RANGE(gate, o.threshold = 0.5f, "gate.threshold is set");
  CHECK_RANGE(gate, (o.threshold_by = HYBRID_THRESHOLD_BY_SHARE, o.risk = 0.5f),
              "gate.risk is set");
  CHECK_RANGE(gate, o.confidence = 0.5f, "gate.confidence is set");
  CHECK_RANGE(gate, o.reserved = 1, "gate.reserved");
  CHECK_RANGE(gate, (o.threshold_by = HYBRID_THRESHOLD_BY_VALUE, o.threshold = -0.5f), "threshold");
  CHECK_RANGE(gate, (o.threshold_by = HYBRID_THRESHOLD_BY_VALUE, o.threshold = nan), "threshold");
  CHECK_RANGE(gate, (o.threshold_by = HYBRID_THRESHOLD_BY_SHARE, o.share = 1.5f), "share");
  // The model has no head, so no calibration.
  CHECK_SETTING(gate, HYBRID_ERR_UNSUPPORTED, o.score = HYBRID_SCORE_HEAD, "reward head");
  CHECK_SETTING(gate, HYBRID_ERR_UNSUPPORTED,
                (o.threshold_by = HYBRID_THRESHOLD_BY_SHARE, o.share = 0.2f), "calibration");
  CHECK_SETTING(gate, HYBRID_ERR_UNSUPPORTED,
                (o.threshold_by = HYBRID_THRESHOLD_BY_GUARANTEE, o.risk = 0.05f), "calibration");

  CHECK_RANGE(consult, o.burst = 0, "burst");
  CHECK_RANGE(consult, o.deadline_ms = 0, "deadline");
  CHECK_RANGE(consult, o.hand_back = 2, "consult.hand_back is 2");
  CHECK_RANGE(consult, o.rescue = 8, "rescue is 8");
  CHECK_RANGE(consult, o.overlap = 65, "overlap is 65");
  CHECK_RANGE(consult, o.warm = 2, "consult.warm is 2");
  CHECK_SETTING(consult, HYBRID_ERR_UNSUPPORTED, o.rescue = 1, "reward head");

  CHECK_RANGE(budget, o.hold = (hybrid_hold)9, "budget.hold is 9");
  CHECK_RANGE(budget, o.reserved = 1, "budget.reserved");
  CHECK_RANGE(budget, (o.hold = HYBRID_HOLD_SHARE, o.hold_limit = 1), "share to hold is 1");
  CHECK_RANGE(budget, o.hold = HYBRID_HOLD_CONSULTS_PER_HOUR, "budget of an hour is 0");
  CHECK_RANGE(budget, (o.hold = HYBRID_HOLD_MONEY_PER_HOUR, o.hold_limit = 1), "prices of a token");

  CHECK_RANGE(corrections, o.capacity = 16385, "16385");
  CHECK_RANGE(corrections, o.suffix = 0, "suffix");

  const hybrid_logit_bias no_token = {1u << 30, 1}, no_number = {1, nan};
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_set_logit_bias(session, &no_token, 1));
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_set_logit_bias(session, &no_number, 1));
  const hybrid_logit_bias twice[] = {{1, 1}, {2, 1}, {1, 2}};
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_set_logit_bias(session, twice, 3));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "9", hybrid_session_set_top_logprobs(session, 9));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "thinking is 3",
              hybrid_session_set_thinking(session, (hybrid_thinking)3));
  hybrid_session_free(session);
}

// A threshold of 0 never consults; to hold a budget the library would raise it. So whichever is set
// second is refused.
static void threshold_zero_with_hold(const hybrid_model *model) {
  hybrid_session *session = new_session(model, NULL, NULL);
  DEFAULTS(gate, never);
  DEFAULTS(budget, hold);
  never.threshold_by = HYBRID_THRESHOLD_BY_VALUE;
  hold.hold = HYBRID_HOLD_CONSULTS_PER_HOUR;
  hold.hold_limit = 10;
  CHECK_OK(hybrid_session_set_gate(session, &never));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "hold", hybrid_session_set_budget(session, &hold));
  never.threshold = 0.5f;
  CHECK_OK(hybrid_session_set_gate(session, &never));
  CHECK_OK(hybrid_session_set_budget(session, &hold));
  never.threshold = 0;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "hold", hybrid_session_set_gate(session, &never));
  hybrid_session_free(session);
}

static void tokens(const hybrid_model *model) {
  const uint32_t no_token = 1u << 30;
  size_t needed = 0;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "unknown bits 0x4",
              hybrid_model_tokenize(model, "x", 1, 7, NULL, 0, &needed));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "unknown bits 0x1",
              hybrid_model_detokenize(model, NULL, 0, HYBRID_TOKENS_ADD_BOS, NULL, 0, &needed));
  CHECK_ERROR(HYBRID_ERR_INVALID_UTF8, "text at byte 0",
              hybrid_model_count_tokens(model, "\xff", 1, 0, &needed));
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT,
               hybrid_model_detokenize(model, &no_token, 1, 0, NULL, 0, &needed));
  hybrid_session *session = new_session(model, NULL, NULL);
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_prompt_tokens(session, &no_token, 1));
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_prompt_tokens(session, NULL, 0));
  CHECK(length(session) == 0);
  hybrid_session_free(session);
}

static void prompts(const hybrid_model *model) {
  hybrid_session_options o;
  REQUIRE_OK(hybrid_session_options_init(&o, sizeof o));
  o.context = 32;
  hybrid_session *session = new_session(model, NULL, &o);
  hybrid_step_result step = {.struct_size = sizeof step};

  CHECK_STATUS(HYBRID_ERR_STATE, hybrid_step(session, &step));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "empty", hybrid_session_prompt(session, "", 0));
  const char five[] = {'a', 'b', '\xf0', '\x28', '\xff'};
  CHECK_ERROR(HYBRID_ERR_INVALID_UTF8, "at byte 2", hybrid_session_prompt(session, five, 5));
  CHECK_ERROR(HYBRID_ERR_INVALID_UTF8, "at byte 0", hybrid_session_prompt(session, "\xff", 1));
  // Cut within a character.
  CHECK_ERROR(HYBRID_ERR_INVALID_UTF8, "at byte 1", hybrid_session_prompt(session, "a\xc3\xa9", 2));
  CHECK(length(session) == 0);

  static char words[4096];
  for (size_t i = 0; i + 5 < sizeof words; i += 5) memcpy(words + i, "word ", 5);
  CHECK_ERROR(HYBRID_ERR_CONTEXT_FULL, "> 32", hybrid_session_prompt(session, words, 4000));
  CHECK(length(session) == 0);
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "rewind", hybrid_session_rewind(session, 1));

  // The error left the session usable.
  CHECK_OK(hybrid_session_prompt(session, "The sky is", 10));
  CHECK_OK(hybrid_step(session, &step));
  CHECK(step.source == HYBRID_SOURCE_LOCAL);

  // Generation until the context is full is an error too, and takes nothing back.
  collected c = {.steps = 0};
  hybrid_status status = hybrid_step_run(session, 1000, collect, &c, NULL);
  CHECK(status == HYBRID_OK || status == HYBRID_ERR_CONTEXT_FULL);
  CHECK(length(session) <= 32 && c.steps > 0);
  hybrid_session_free(session);
}

static void log_levels(void) {
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "level is 6",
              hybrid_set_log((hybrid_log_level)6, NULL, NULL));
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "level is -1",
              hybrid_set_log((hybrid_log_level)-1, NULL, NULL));
}

static void names(void) {
  CHECK(hybrid_abi_version() == HYBRID_ABI_VERSION);
  CHECK(strcmp(hybrid_version(), HYBRID_VERSION) == 0);
  CHECK(strncmp(hybrid_build_info(), "version=", 8) == 0);
  CHECK(strstr(hybrid_build_info(), " kernel=") != NULL);
  CHECK(strstr(hybrid_build_info(), BASELINE " kernel=") != NULL);
  CHECK(strcmp(hybrid_status_name(HYBRID_ERR_PANIC), "HYBRID_ERR_PANIC") == 0);
  CHECK(strcmp(hybrid_status_name((hybrid_status)12345), "unknown status") == 0);
  CHECK(strcmp(hybrid_reason_name((hybrid_reason)-5), "unknown") == 0);
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  hybrid_model *model = open_model(argv[1]);
  bundles(argv[1], argv[2]);
  clouds(argv[1], argv[2]);
  sizes(model);
  options(model);
  settings(model);
  threshold_zero_with_hold(model);
  tokens(model);
  prompts(model);
  log_levels();
  names();
  hybrid_model_free(model);
  return finish("errors");
}
