// Fills a context with a prompt, generates the rest of it and prints the most memory it took, in
// bytes.
//
//     memory BUNDLE CONTEXT
#include <sys/resource.h>

#include "check.h"

// Tokens per prompt, of four bytes each, and the least that is left to be generated.
enum { READ = 128, GENERATED = 8 };

static int32_t count(const hybrid_step_result *step, void *user) {
  (void)step;
  ++*(size_t *)user;
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  hybrid_session_options options;
  REQUIRE_OK(hybrid_session_options_init(&options, sizeof options));
  options.context = (size_t)strtoul(argv[2], NULL, 10);
  hybrid_model *model = NULL;
  hybrid_session *session = NULL;
  REQUIRE_OK(hybrid_model_open(argv[1], NULL, &model));
  REQUIRE_OK(hybrid_session_new(model, NULL, &options, &session));

  char text[4 * READ + 1];
  for (int i = 0; i < READ; i++) memcpy(text + 4 * i, " the", 5);
  size_t length = 0, generated = 0;
  while (length + READ + GENERATED <= options.context) {
    REQUIRE_OK(hybrid_session_prompt(session, text, 4 * READ));
    REQUIRE_OK(hybrid_session_length(session, &length));
  }
  REQUIRE_OK(hybrid_step_run(session, options.context - length, count, &generated, NULL));
  CHECK(generated > 0 && length >= options.context / 2);

  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  printf("%lld\n", 1024LL * used.ru_maxrss);
  hybrid_session_free(session);
  hybrid_model_free(model);
  return failures != 0;
}
