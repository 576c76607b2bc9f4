// Sessions that ask about every token, one after the other, for so many seconds; prints what the
// process holds every so often, and in the end what the library counted. Lines of JSON.
//
//     soak BUNDLE SECONDS URL CA.pem
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

// Of a session; bursts of 1 to 4 tokens.
enum { TOKENS = 24, BURSTS = 4, DEADLINE_MS = 150 };
// Sessions that share a client.
enum { SHARE = 8 };
enum { SAMPLES = 40 };

typedef struct counts {
  unsigned long long sessions, tokens, answers, failed, timeouts, resets;
  hybrid_usage usage;
} counts;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int entries(const char *folder) {
  int count = 0;
  DIR *dir = opendir(folder);
  if (dir == NULL) exit(1);
  const struct dirent *entry;
  while ((entry = readdir(dir)) != NULL) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

static void sample(double now) {
  unsigned long size = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lu %lu", &size, &resident) != 2) exit(1);
  fclose(file);
  // One is the folder itself.
  const int descriptors = entries("/proc/self/fd") - 1, threads = entries("/proc/self/task");
  printf("{\"seconds\": %.1f, \"resident\": %lu, \"descriptors\": %d, \"threads\": %d}\n", now,
         resident * (unsigned long)sysconf(_SC_PAGESIZE), descriptors, threads);
  fflush(stdout);
}

static hybrid_cloud *open_cloud(char **argv) {
  hybrid_cloud *cloud = NULL;
  DEFAULTS(cloud_options, options);
  options.url = argv[3];
  options.ca_file = argv[4];
  options.server = HYBRID_SERVER_OPENAI;
  REQUIRE_OK(hybrid_cloud_new(&options, &cloud));
  return cloud;
}

// A breaker that opens is closed again: the server is as bad as it was, and there is no time to
// lose.
static void keep_asking(hybrid_cloud *cloud, counts *c) {
  hybrid_breaker breaker = {.struct_size = sizeof breaker};
  REQUIRE_OK(hybrid_cloud_breaker(cloud, &breaker));
  if (breaker.state == HYBRID_BREAKER_STATE_CLOSED) return;
  REQUIRE_OK(hybrid_cloud_reset_breaker(cloud));
  c->resets++;
}

static void write_one(const hybrid_model *model, hybrid_cloud *cloud, counts *c) {
  hybrid_session *session = new_session(model, cloud, NULL);
  DEFAULTS(gate, gate);
  DEFAULTS(consult, consult);
  gate.threshold_by = HYBRID_THRESHOLD_BY_VALUE;
  gate.threshold = 2;
  consult.deadline_ms = DEADLINE_MS;
  consult.burst = 1 + (uint32_t)(c->sessions % BURSTS);
  REQUIRE_OK(hybrid_session_set_gate(session, &gate));
  REQUIRE_OK(hybrid_session_set_consult(session, &consult));
  prompt(session, PROMPT);
  for (int i = 0; i < TOKENS; i++) {
    keep_asking(cloud, c);
    hybrid_step_result step = {.struct_size = sizeof step};
    REQUIRE_OK(hybrid_step(session, &step));
    const bool failed = step.consult->failure != HYBRID_FAILURE_NONE;
    c->answers += step.consult->consulted && !failed;
    c->failed += failed;
    c->timeouts += step.consult->failure == HYBRID_FAILURE_TIMEOUT;
    c->tokens++;
  }
  hybrid_usage usage = {.struct_size = sizeof usage};
  REQUIRE_OK(hybrid_session_usage(session, &usage));
  c->usage.consults += usage.consults;
  c->usage.failures += usage.failures;
  c->usage.requests += usage.requests;
  c->sessions++;
  hybrid_session_free(session);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const double whole = strtod(argv[2], NULL);
  hybrid_model *model = open_model(argv[1]);
  hybrid_cloud *cloud = NULL;
  counts c = {.sessions = 0};
  const double begun = seconds();
  double next = 0;
  for (double now = 0; now < whole; now = seconds() - begun) {
    if (c.sessions % SHARE == 0) {
      hybrid_cloud_free(cloud);
      cloud = open_cloud(argv);
    }
    write_one(model, cloud, &c);
    if (now >= next) {
      sample(now);
      next = now + whole / SAMPLES;
    }
  }
  hybrid_cloud_free(cloud);
  hybrid_model_free(model);
  printf("{\"sessions\": %llu, \"tokens\": %llu, \"answers\": %llu, \"failed\": %llu, "
         "\"timeouts\": %llu, \"resets\": %llu, \"consults\": %llu, \"failures\": %llu, "
         "\"requests\": %llu}\n",
         c.sessions, c.tokens, c.answers, c.failed, c.timeouts, c.resets,
         (unsigned long long)c.usage.consults, (unsigned long long)c.usage.failures,
         (unsigned long long)c.usage.requests);
  return failures != 0;
}
