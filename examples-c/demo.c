// What scripts/demo runs: one prompt, the tokens coloured by where they came from, then a table of
// what it cost. `demo --help` lists the options.
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "example.h"

static const char USAGE[] =
    "demo --bundle DIR --prompt TEXT [options]\n"
    "  --cloud-url URL    the cloud LLM, https://HOST[:PORT]\n"
    "  --ca FILE          PEM file of the CA that signed its certificate (default: the system's)\n"
    "  --server KIND      openai or llama-cpp: its wire format (default: the probe finds it)\n"
    "  --cloud-model NAME the name of the cloud LLM, where the wire format has one\n"
    "  --token-file FILE  its access token is the first line of this file\n"
    "  --header TEXT      send \"NAME: VALUE\" with every request; may be given 8 times\n"
    "  --proxy URL        reach it through this proxy, http://HOST[:PORT]\n"
    "  --pin BASE64       its key must be one of these: two to 8 of them\n"
    "  --client-cert FILE PEM file of the certificate and key to show to it\n"
    "  --threshold F      consult when score < F, 0 to 1 (default: the bundle's)\n"
    "  --burst N          tokens taken from one consult at most (default: 1)\n"
    "  --deadline-ms N    the whole consult must end within this time (default: 2000)\n"
    "  --max-tokens N     (default: 200)\n"
    "  --threads N        threads that compute, 0 to 64 (default: 0, this one alone)\n"
    "  --local            never ask the cloud\n"
    "  --raw              the prompt is given as it is, without the chat template\n";

enum { MOST = 8 };

typedef struct settings {
  const char *bundle, *prompt, *token_file;
  example_server server;
  hybrid_header headers[MOST];
  const char *pins[MOST];
  hybrid_cloud_network network;
  hybrid_cloud_trust trust;
  float threshold;  // negative: the bundle's
  uint32_t burst, deadline_ms, threads;
  size_t max_tokens;
  bool local, raw;
} settings;

// ---- Options ------------------------------------------------------------------------------------

static void usage_error(const char *text, const char *value) {
  fprintf(stderr, "demo: %s%s\n%s", text, value, USAGE);
  exit(2);
}

static double number(const char *option, const char *text, double low, double high) {
  char *end = NULL;
  const double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= low && value <= high)) usage_error(option, text);
  return value;
}

static hybrid_server kind(const char *text) {
  if (strcmp(text, "openai") == 0) return HYBRID_SERVER_OPENAI;
  if (strcmp(text, "llama-cpp") == 0) return HYBRID_SERVER_LLAMA_CPP;
  usage_error("--server is openai or llama-cpp, not ", text);
  return HYBRID_SERVER_OPENAI;
}

static void add_header(settings *s, char *text) {
  char *colon = strchr(text, ':');
  if (colon == NULL) usage_error("--header is \"NAME: VALUE\"", "");
  if (s->network.header_count == MOST) usage_error("too many headers", "");
  *colon = '\0';
  s->headers[s->network.header_count].name = text;
  s->headers[s->network.header_count++].value = colon + 1 + strspn(colon + 1, " ");
}

static void add_pin(settings *s, const char *text) {
  if (s->trust.pin_count == MOST) usage_error("too many pins", "");
  s->pins[s->trust.pin_count++] = text;
}

static settings parse(int argc, char **argv) {
  static const struct option OPTIONS[] = {
      {"bundle", required_argument, NULL, 'b'},    {"prompt", required_argument, NULL, 'p'},
      {"cloud-url", required_argument, NULL, 'u'},       {"ca", required_argument, NULL, 'c'},
      {"server", required_argument, NULL, 'k'},      {"cloud-model", required_argument, NULL, 'm'},
      {"token-file", required_argument, NULL, 'f'}, {"threshold", required_argument, NULL, 't'},
      {"burst", required_argument, NULL, 'n'},     {"deadline-ms", required_argument, NULL, 'd'},
      {"max-tokens", required_argument, NULL, 'x'}, {"threads", required_argument, NULL, 'j'},
      {"local", no_argument, NULL, 'l'},           {"raw", no_argument, NULL, 'r'},
      {"header", required_argument, NULL, 'e'},    {"proxy", required_argument, NULL, 'y'},
      {"pin", required_argument, NULL, 'i'},       {"client-cert", required_argument, NULL, 'o'},
      {"help", no_argument, NULL, 'h'},            {NULL, 0, NULL, 0}};
  settings s = {.threshold = -1,
                .burst = 1,
                .deadline_ms = 2000,
                .max_tokens = 200};
  hybrid_cloud_network_init(&s.network, sizeof s.network);
  hybrid_cloud_trust_init(&s.trust, sizeof s.trust);
  for (int c; (c = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
    switch (c) {
      case 'b': s.bundle = optarg; break;
      case 'p': s.prompt = optarg; break;
      case 'u': s.server.url = optarg; break;
      case 'c': s.server.ca = optarg; break;
      case 'k': s.server.kind = kind(optarg); break;
      case 'm': s.server.model = optarg; break;
      case 'f': s.token_file = optarg; break;
      case 'e': add_header(&s, optarg); break;
      case 'y': s.network.proxy = optarg; break;
      case 'i': add_pin(&s, optarg); break;
      case 'o': s.trust.client_file = optarg; break;
      case 't': s.threshold = (float)number("--threshold: ", optarg, 0, 2); break;
      case 'n': s.burst = (uint32_t)number("--burst: ", optarg, 1, 1000); break;
      case 'd': s.deadline_ms = (uint32_t)number("--deadline-ms: ", optarg, 1, 600000); break;
      case 'x': s.max_tokens = (size_t)number("--max-tokens: ", optarg, 1, 1e6); break;
      case 'j': s.threads = (uint32_t)number("--threads: ", optarg, 0, 64); break;
      case 'l': s.local = true; break;
      case 'r': s.raw = true; break;
      case 'h': fputs(USAGE, stdout); exit(0);
      default: usage_error("", "see the options");
    }
  }
  if (s.bundle == NULL || s.prompt == NULL || optind != argc) {
    usage_error("--bundle and --prompt are needed, and nothing but options", "");
  }
  return s;
}

// ---- Generation ---------------------------------------------------------------------------------

typedef struct screen {
  bool colours;
  hybrid_source last;
} screen;

static const char *colour(hybrid_source source) {
  switch ((enum hybrid_source)source) {
    case HYBRID_SOURCE_LOCAL: break;
    case HYBRID_SOURCE_CLOUD:
    case HYBRID_SOURCE_CORRECTION: return "\033[1;36m";  // cyan
    case HYBRID_SOURCE_FALLBACK: return "\033[1;33m";    // yellow
  }
  return "\033[0m";
}

static int32_t show(const hybrid_step_result *step, void *user) {
  screen *s = user;
  if (s->colours && step->source != s->last) fputs(colour(step->source), stdout);
  s->last = step->source;
  fwrite(step->text, 1, step->text_size, stdout);
  return fflush(stdout);
}

static bool generate(hybrid_session *session, const settings *s, screen *screen) {
  const hybrid_message message = {sizeof message, "user", s->prompt};
  hybrid_status status = s->raw ? hybrid_session_prompt(session, s->prompt, strlen(s->prompt))
                                : hybrid_session_chat(session, &message, 1);
  if (status != HYBRID_OK) return complain("prompt", status);

  if (s->raw) fputs(s->prompt, stdout);
  status = hybrid_step_run(session, s->max_tokens, show, screen, NULL);
  const char *rest = "";
  hybrid_session_flush(session, &rest, NULL);
  printf("%s%s\n", rest, screen->colours ? "\033[0m" : "");
  return status == HYBRID_OK || complain("step", status);
}

// ---- The table ----------------------------------------------------------------------------------

static double share(uint64_t part, uint64_t whole) {
  return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

static void report(const hybrid_stats *t, const hybrid_usage *u, const screen *screen) {
  const char *cyan = screen->colours ? colour(HYBRID_SOURCE_CLOUD) : "";
  const char *yellow = screen->colours ? colour(HYBRID_SOURCE_FALLBACK) : "";
  const char *plain = screen->colours ? "\033[0m" : "";
  const double time = (double)(t->local_ns + u->cloud_ns) / 1e9;
  const double speed = time > 0 ? (double)t->tokens / time : 0;
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);

  printf("\nprompt            %9llu tokens in %.2f s\n", (unsigned long long)t->prompt_tokens,
         (double)t->prompt_ns / 1e9);
  printf("tokens            %9llu\n", (unsigned long long)t->tokens);
  printf("  SLM             %9llu  %5.1f %%\n", (unsigned long long)t->local,
         share(t->local, t->tokens));
  printf("  %scloud LLM%s       %9llu  %5.1f %%\n", cyan, plain, (unsigned long long)t->cloud,
         share(t->cloud, t->tokens));
  printf("  %sfallback%s        %9llu  %5.1f %%\n", yellow, plain, (unsigned long long)t->fallback,
         share(t->fallback, t->tokens));
  printf("consults          %9llu  (%llu failed)\n", (unsigned long long)u->consults,
         (unsigned long long)u->failures);
  printf("bytes sent        %9llu\n", (unsigned long long)u->bytes_sent);
  printf("bytes received    %9llu\n", (unsigned long long)u->bytes_received);
  printf("prompt tokens billed %6llu\n", (unsigned long long)u->billed_prompt_tokens);
  printf("time local        %9.2f s  (reward head %.3f s)\n", (double)t->local_ns / 1e9,
         (double)t->score_ns / 1e9);
  printf("time cloud        %9.2f s\n", (double)u->cloud_ns / 1e9);
  printf("tokens per second %9.1f\n", speed);
  printf("peak memory       %9.1f MB\n", (double)used.ru_maxrss / 1024);
  printf("tokens=%llu cloud=%llu fallback=%llu consults=%llu tok_s=%.1f\n",
         (unsigned long long)t->tokens, (unsigned long long)t->cloud,
         (unsigned long long)t->fallback, (unsigned long long)u->consults, speed);
}

// ---- main ---------------------------------------------------------------------------------------

static bool make_session(const hybrid_model *model, const hybrid_cloud *cloud, const settings *s,
                         hybrid_session **session) {
  hybrid_gate gate;
  hybrid_consult consult;
  hybrid_gate_init(&gate, sizeof gate);
  hybrid_consult_init(&consult, sizeof consult);
  if (s->local) gate.mode = HYBRID_MODE_LOCAL_ONLY;
  if (s->threshold >= 0) {
    gate.threshold_by = HYBRID_THRESHOLD_BY_VALUE;
    gate.threshold = s->threshold;
  }
  consult.burst = s->burst;
  consult.deadline_ms = s->deadline_ms;
  hybrid_status status = hybrid_session_new(model, cloud, NULL, session);
  if (status == HYBRID_OK) status = hybrid_session_set_gate(*session, &gate);
  if (status == HYBRID_OK) status = hybrid_session_set_consult(*session, &consult);
  return status == HYBRID_OK || complain("session", status);
}

static bool introduce(const hybrid_model *model, const hybrid_cloud *cloud, bool ids) {
  hybrid_model_info info = {.struct_size = sizeof info};
  const hybrid_status status = hybrid_model_describe(model, &info);
  if (status != HYBRID_OK) return complain("model", status);
  printf("%s: %.0f M parameters, context %llu, %s", info.name, (double)info.parameters / 1e6,
         (unsigned long long)info.context,
         (info.features & HYBRID_FEATURE_REWARD) != 0 ? "reward head" : "no reward head");
  puts(cloud == NULL ? "" : ids ? "; the cloud shares its ids" : "; bytes go to the cloud");
  printf("%s\n\n", hybrid_build_info());
  return true;
}

int main(int argc, char **argv) {
  settings s = parse(argc, argv);
  char *token = s.token_file != NULL ? read_token(s.token_file) : NULL;
  s.server.token = token;
  if (s.network.header_count > 0) s.network.headers = s.headers;
  if (s.trust.pin_count > 0) s.trust.pins = s.pins;
  s.server.network = &s.network;
  s.server.trust = &s.trust;
  screen screen = {.colours = isatty(STDOUT_FILENO) != 0, .last = HYBRID_SOURCE_LOCAL};
  hybrid_model *model = NULL;
  hybrid_cloud *cloud = NULL;
  hybrid_session *session = NULL;
  bool ids = false;

  hybrid_model_options options;
  hybrid_model_options_init(&options, sizeof options);
  options.threads = s.threads;
  hybrid_status status = hybrid_model_open(s.bundle, &options, &model);
  bool ok = status == HYBRID_OK || complain(s.bundle, status);
  if (ok && s.server.url != NULL && !s.local) ok = connect_cloud(&s.server, model, &cloud, &ids);
  ok = ok && introduce(model, cloud, ids) && make_session(model, cloud, &s, &session) &&
       generate(session, &s, &screen);
  if (ok) {
    hybrid_stats stats = {.struct_size = sizeof stats};
    hybrid_usage usage = {.struct_size = sizeof usage};
    status = hybrid_session_stats(session, &stats);
    if (status == HYBRID_OK) status = hybrid_session_usage(session, &usage);
    ok = status == HYBRID_OK || complain("statistics", status);
    if (ok) report(&stats, &usage, &screen);
  }
  hybrid_session_free(session);
  hybrid_cloud_free(cloud);
  hybrid_model_free(model);
  free(token);
  return ok ? 0 : 1;
}
