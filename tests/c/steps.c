// Writes tokens on demand and prints a line for each: the id, who wrote it, how the consult failed,
// the milliseconds of the step. Every token is asked for, where there is a cloud. A line of its
// input is how many tokens to write, and how many to take from one consult.
//
//     steps BUNDLE DEADLINE_MS     with HYBRID_CLOUD_URL, _CA and _TOKEN, or without a cloud
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "check.h"

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static hybrid_cloud *open_cloud(const hybrid_model *model) {
  hybrid_cloud *cloud = NULL;
  DEFAULTS(cloud_options, options);
  options.url = getenv("HYBRID_CLOUD_URL");
  options.ca_file = getenv("HYBRID_CLOUD_CA");
  options.token = getenv("HYBRID_CLOUD_TOKEN");
  options.server = HYBRID_SERVER_LLAMA_CPP;
  if (options.url == NULL) return NULL;
  REQUIRE_OK(hybrid_cloud_new(&options, &cloud));
  REQUIRE_OK(hybrid_cloud_probe(cloud, model, NULL, NULL));
  return cloud;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  hybrid_model *model = open_model(argv[1]);
  hybrid_cloud *cloud = open_cloud(model);
  hybrid_session *session = new_session(model, cloud, NULL);
  DEFAULTS(gate, gate);
  DEFAULTS(consult, consult);
  gate.threshold_by = HYBRID_THRESHOLD_BY_VALUE;
  gate.threshold = 2;
  consult.deadline_ms = (uint32_t)strtoul(argv[2], NULL, 10);
  REQUIRE_OK(hybrid_session_set_gate(session, &gate));
  const hybrid_message message = {sizeof message, "user",
                                  "Write a long story about a lighthouse keeper."};
  REQUIRE_OK(hybrid_session_chat(session, &message, 1));

  puts("ready");
  fflush(stdout);
  char line[32];
  while (fgets(line, sizeof line, stdin) != NULL) {
    char *rest = NULL;
    unsigned long left = strtoul(line, &rest, 10);
    consult.burst = (uint32_t)strtoul(rest, NULL, 10);
    REQUIRE_OK(hybrid_session_set_consult(session, &consult));
    for (; left > 0; left--) {
      hybrid_step_result step = {.struct_size = sizeof step};
      const double begun = milliseconds();
      REQUIRE_OK(hybrid_step(session, &step));
      printf("%u %s %s %.1f\n", (unsigned)step.token, hybrid_source_name(step.source),
             hybrid_failure_name(step.consult->failure), milliseconds() - begun);
      fflush(stdout);
    }
  }
  hybrid_session_free(session);
  hybrid_cloud_free(cloud);
  hybrid_model_free(model);
  return failures != 0;
}
