// The smallest complete program: the SLM answers one question on this device. With a URL, the
// library asks a cloud LLM for the tokens that the SLM is unsure of.
//
//     minimal BUNDLE QUESTION [https://HOST[:PORT] [CA.pem]]
#include <stdio.h>

#include "hybrid.h"

static int32_t print(const hybrid_step_result *step, void *user) {
  (void)user;
  fputs(step->text, stdout);
  return fflush(stdout);  // 0: go on
}

int main(int argc, char **argv) {
  hybrid_model *model = NULL;
  hybrid_cloud *cloud = NULL;
  hybrid_session *session = NULL;
  hybrid_cloud_options server;
  hybrid_message question = {sizeof question, "user", argc > 2 ? argv[2] : NULL};
  char why[512];

  if (argc < 3 || argc > 5) return fprintf(stderr, "minimal BUNDLE QUESTION [URL [CA]]\n"), 2;
  hybrid_cloud_options_init(&server, sizeof server);
  server.url = argc > 3 ? argv[3] : NULL;
  server.ca_file = argc > 4 ? argv[4] : NULL;

  hybrid_status status = hybrid_model_open(argv[1], NULL, &model);
  if (!status && server.url) status = hybrid_cloud_new(&server, &cloud);
  if (cloud) hybrid_cloud_probe(cloud, model, NULL, NULL);  // offline: the SLM writes alone
  if (!status) status = hybrid_session_new(model, cloud, NULL, &session);
  if (!status) status = hybrid_session_chat(session, &question, 1);
  if (!status) status = hybrid_step_run(session, 256, print, NULL, NULL);
  puts("");
  if (status) {
    hybrid_last_error(why, sizeof why, NULL);
    fprintf(stderr, "%s: %s\n", hybrid_status_name(status), why);
  }
  hybrid_session_free(session);
  hybrid_cloud_free(cloud);
  hybrid_model_free(model);
  return status ? 1 : 0;
}
