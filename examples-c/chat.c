// A streaming chat: reads one question per line and answers while it thinks. Ctrl-C stops the
// answer, Ctrl-D ends.
//
//     chat BUNDLE [https://HOST[:PORT] [CA.pem]]
#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "example.h"

enum { MAX_TOKENS = 512 };

static hybrid_cancel *stop;

static void on_interrupt(int signal_number) {
  (void)signal_number;
  hybrid_cancel_raise(stop);
}

static int32_t show(const hybrid_step_result *step, void *user) {
  (void)user;
  fputs(step->text, stdout);
  return fflush(stdout);
}

// Answers one line. The session keeps the conversation, so only what is new is read.
static void answer(hybrid_session *session, const char *line) {
  const hybrid_message message = {sizeof message, "user", line};
  const char *rest = "";
  hybrid_status status = hybrid_session_chat(session, &message, 1);
  if (status == HYBRID_OK) status = hybrid_step_run(session, MAX_TOKENS, show, NULL, NULL);
  if (status == HYBRID_ERR_CANCELLED) {
    hybrid_cancel_lower(stop);
    fputs(" (stopped)", stdout);
  } else if (status == HYBRID_ERR_CONTEXT_FULL) {
    hybrid_session_reset(session);
    fputs(" (this conversation is full: a new one begins)", stdout);
  } else if (status != HYBRID_OK) {
    complain("chat", status);
  }
  hybrid_session_flush(session, &rest, NULL);
  printf("%s\n", rest);
}

int main(int argc, char **argv) {
  if (argc < 2 || argc > 4) {
    fprintf(stderr, "chat BUNDLE [URL [CA]]\n");
    return 2;
  }
  hybrid_model *model = NULL;
  hybrid_cloud *cloud = NULL;
  hybrid_session *session = NULL;
  bool ids = false;
  example_server server = {.url = argc > 2 ? argv[2] : NULL, .ca = argc > 3 ? argv[3] : NULL};

  hybrid_status status = hybrid_model_open(argv[1], NULL, &model);
  bool ok = status == HYBRID_OK || complain(argv[1], status);
  if (ok && server.url != NULL) ok = connect_cloud(&server, model, &cloud, &ids);
  if (ok) {
    status = hybrid_session_new(model, cloud, NULL, &session);
    if (status == HYBRID_OK) status = hybrid_cancel_new(&stop);
    if (status == HYBRID_OK) status = hybrid_session_set_cancel(session, stop);
    ok = status == HYBRID_OK || complain("session", status);
  }
  if (ok) {
    char line[4096];
    signal(SIGINT, on_interrupt);
    for (;;) {
      fputs("> ", stdout);
      fflush(stdout);
      if (fgets(line, sizeof line, stdin) == NULL) break;
      line[strcspn(line, "\r\n")] = '\0';
      if (line[0] != '\0') answer(session, line);
    }
    puts("");
    signal(SIGINT, SIG_DFL);
  }
  hybrid_session_free(session);
  hybrid_cancel_free(stop);
  hybrid_cloud_free(cloud);
  hybrid_model_free(model);
  return ok ? 0 : 1;
}
