// Sessions that may not ask make no call that could send: the kernel ends a process that does.
//
//     test_local_only BUNDLE CA.pem
#define _DEFAULT_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { TOKENS = 8 };

// Nobody listens there; a session that asks would find out.
static const char NOBODY[] = "https://127.0.0.1:9";

#define ENDS(call)                                                       \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1),                 \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

// From here on, on every thread to come: who opens a socket, or sends on one, is ended by SIGSYS.
// io_uring could do it without a call of its own.
static bool forbid_the_network(void) {
  struct sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      ENDS(socket),  ENDS(socketpair), ENDS(connect),        ENDS(bind), ENDS(sendto),
      ENDS(sendmsg), ENDS(sendmmsg),   ENDS(io_uring_setup),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

typedef struct row {
  const char *name;
  hybrid_mode mode;
  float threshold;
  uint64_t consults;
  bool cloud, asks;
} row;

static const row ROWS[] = {
    {"no cloud", HYBRID_MODE_HYBRID, 2, UINT64_MAX, false, false},
    {"mode local only", HYBRID_MODE_LOCAL_ONLY, 2, UINT64_MAX, true, false},
    {"threshold 0", HYBRID_MODE_HYBRID, 0, UINT64_MAX, true, false},
    {"budget of 0 consults", HYBRID_MODE_CLOUD_FIRST, 2, 0, true, false},
    // The filter is no fake: these must not survive it.
    {"mode hybrid", HYBRID_MODE_HYBRID, 2, UINT64_MAX, true, true},
    {"mode cloud first", HYBRID_MODE_CLOUD_FIRST, 0, UINT64_MAX, true, true},
};

// All that a program does, from opening the bundle to freeing it.
static int life(const char *bundle, const char *ca, const row *r) {
  if (!forbid_the_network()) return perror("seccomp"), 2;
  hybrid_model *model = open_model_with_threads(bundle, 2);
  hybrid_cloud *cloud = NULL;
  if (r->cloud) {
    DEFAULTS(cloud_options, options);
    options.url = NOBODY;
    options.ca_file = ca;
    REQUIRE_OK(hybrid_cloud_new(&options, &cloud));
  }
  hybrid_session *session = new_session(model, cloud, NULL);
  DEFAULTS(gate, gate);
  DEFAULTS(budget, budget);
  gate.mode = r->mode;
  gate.threshold_by = HYBRID_THRESHOLD_BY_VALUE;
  gate.threshold = r->threshold;
  budget.consults = r->consults;
  REQUIRE_OK(hybrid_session_set_gate(session, &gate));
  REQUIRE_OK(hybrid_session_set_budget(session, &budget));
  prompt(session, PROMPT);
  collected text = {.steps = 0};
  hybrid_peek peek = {.struct_size = sizeof peek};
  CHECK_OK(hybrid_step_peek(session, &peek));
  CHECK(peek.would_consult == r->asks);
  CHECK_OK(hybrid_step_run(session, TOKENS, collect, &text, NULL));
  CHECK(text.steps == TOKENS);
  hybrid_session_free(session);
  hybrid_cloud_free(cloud);
  hybrid_model_free(model);
  return failures != 0;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
    const pid_t child = fork();
    if (child == 0) _exit(life(argv[1], argv[2], &ROWS[i]));
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    const bool ended = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
    const bool lived = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (ROWS[i].asks ? !ended : !lived) {
      fprintf(stderr, "%s: wait status %d\n", ROWS[i].name, status);
    }
    CHECK(ROWS[i].asks ? ended : lived);
  }
  return finish("local_only");
}
