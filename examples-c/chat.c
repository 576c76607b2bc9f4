// A streaming chat: reads one question per line and answers while it thinks. Ctrl-C stops the answer,
// Ctrl-D ends.
//
//     chat BUNDLE [https://HOST[:PORT] [CA.pem]]
#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "example.h"

enum { MAX_MESSAGES = 64, MAX_ANSWER = 1 << 16, MAX_TOKENS = 512 };

static hybrid_cancel *stop;

static void on_interrupt(int signal_number) {
  (void)signal_number;
  hybrid_cancel_raise(stop);
}

// The conversation so far, oldest first.
typedef struct history {
  hybrid_message messages[MAX_MESSAGES];
  size_t count;
} history;

static void forget_all(history *h) {
  while (h->count > 0) free((char *)(uintptr_t)h->messages[--h->count].content);
}

static bool add(history *h, const char *role, const char *content) {
  char *copy = malloc(strlen(content) + 1);
  if (copy == NULL || h->count == MAX_MESSAGES) {
    free(copy);
    return false;
  }
  h->messages[h->count++] = (hybrid_message){role, strcpy(copy, content)};
  return true;
}

typedef struct answer {
  char text[MAX_ANSWER];
  size_t size;
} answer;

static int32_t show(const hybrid_step_result *step, void *user) {
  answer *a = user;
  if (a->size + step->text_size >= MAX_ANSWER) return 1;
  memcpy(a->text + a->size, step->text, step->text_size + 1);
  a->size += step->text_size;
  fputs(step->text, stdout);
  return fflush(stdout);
}

// Answers the last message of `h`. A chat template renders whole conversations, so the context is
// made anew from all of them.
static bool reply(hybrid_session *session, history *h) {
  static answer a;
  a.size = 0;
  a.text[0] = '\0';
  hybrid_session_reset(session);
  hybrid_status status = hybrid_session_chat(session, h->messages, h->count);
  if (status == HYBRID_OK) status = hybrid_step_run(session, MAX_TOKENS, show, &a, NULL);
  puts("");
  if (status == HYBRID_ERR_CANCELLED) {
    hybrid_cancel_lower(stop);
    puts("(stopped)");
  } else if (status != HYBRID_OK) {
    complain("chat", status);
  }
  return add(h, "assistant", a.text);
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
    static history h;
    char line[4096];
    signal(SIGINT, on_interrupt);
    for (;;) {
      fputs("> ", stdout);
      fflush(stdout);
      if (fgets(line, sizeof line, stdin) == NULL) break;
      line[strcspn(line, "\r\n")] = '\0';
      if (line[0] == '\0') continue;
      if (h.count + 2 > MAX_MESSAGES) {
        puts("(a new conversation: this one is full)");
        forget_all(&h);
      }
      if (!add(&h, "user", line) || !reply(session, &h)) break;
    }
    puts("");
    signal(SIGINT, SIG_DFL);
    forget_all(&h);
  }
  hybrid_session_free(session);
  hybrid_cancel_free(stop);
  hybrid_cloud_free(cloud);
  hybrid_model_free(model);
  return ok ? 0 : 1;
}
