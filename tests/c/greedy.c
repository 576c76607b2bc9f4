// Prints the id and the score of each token that the SLM writes alone, a line each; the last line
// is the kernels in use. To compare one machine with another.   greedy BUNDLE TOKENS PROMPT
#include "check.h"

static int32_t print(const hybrid_step_result *step, void *user) {
  (void)user;
  printf("%u %.4f\n", (unsigned)step->token, (double)step->score);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  hybrid_model *model = open_model(argv[1]);
  hybrid_session *session = new_session(model, NULL, NULL);
  REQUIRE_OK(hybrid_session_prompt(session, argv[3], strlen(argv[3])));
  REQUIRE_OK(hybrid_step_run(session, (size_t)strtoul(argv[2], NULL, 10), print, NULL, NULL));
  puts(strstr(hybrid_build_info(), "kernel="));
  hybrid_session_free(session);
  hybrid_model_free(model);
  return 0;
}
