// Bundles of scripts/tools/hostile_bundles.py, each opened and used in a process of its own, on a
// thread with the least stack that the header states: an error, little memory, and a cancel ends
// it.   test_hostile FOLDER
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { TEXT_BYTES = 100000, MOST_KB = 64 << 10, CANCEL_AFTER_MS = 20 };

// What a child says of its bundle.
typedef struct report {
  hybrid_status status;
  double seconds;
  double after_cancel;
  // The flag ended it, or it had ended anyway.
  bool ends;
  char why[160];
} report;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

typedef struct work {
  const char *bundle;
  report report;
} work;

static hybrid_cancel *cancel;
static double raised;

static void *raise_soon(void *user) {
  usleep(CANCEL_AFTER_MS * 1000);
  raised = now();
  hybrid_cancel_raise(cancel);
  return user;
}

// The calls that read what the bundle brings. With a flag, those that it stops.
static hybrid_status use(hybrid_model *model, bool with_cancel) {
  static char text[TEXT_BYTES + 1];
  memset(text, 'a', TEXT_BYTES);
  const hybrid_message message = {sizeof message, "user", "a"};
  hybrid_session *session = NULL;
  size_t count = 0;
  hybrid_status status = hybrid_session_new(model, NULL, NULL, &session);
  if (with_cancel && status == HYBRID_OK) status = hybrid_session_set_cancel(session, cancel);
  if (status == HYBRID_OK) status = hybrid_session_chat(session, &message, 1);
  if (status == HYBRID_OK && with_cancel) {
    status = hybrid_session_prompt(session, text, TEXT_BYTES);
  } else if (status == HYBRID_OK) {
    status = hybrid_model_count_tokens(model, "a", 1, 0, &count);
    // A text of one letter has a token.
    if (status == HYBRID_OK && count == 0) status = HYBRID_ERR_PANIC;
    if (status == HYBRID_OK) {
      status = hybrid_model_count_tokens(model, text, TEXT_BYTES, 0, &count);
    }
  }
  if (status != HYBRID_OK && status != HYBRID_ERR_CANCELLED) why();
  hybrid_session_free(session);
  return status;
}

static void *try_out(void *user) {
  work *w = user;
  hybrid_model *model = NULL;
  pthread_t raiser;
  const double began = now();
  w->report.ends = true;
  w->report.status = hybrid_model_open(w->bundle, NULL, &model);
  if (w->report.status == HYBRID_OK) w->report.status = use(model, false);
  hybrid_last_error(w->report.why, sizeof w->report.why, NULL);
  w->report.seconds = now() - began;
  if (model != NULL && hybrid_cancel_new(&cancel) == HYBRID_OK) {
    pthread_create(&raiser, NULL, raise_soon, NULL);
    const hybrid_status cancelled = use(model, true);
    const double ended = now();
    pthread_join(raiser, NULL);
    w->report.after_cancel = ended > raised ? ended - raised : 0;
    w->report.ends = cancelled == HYBRID_ERR_CANCELLED || w->report.after_cancel < 2;
    hybrid_cancel_free(cancel);
  }
  hybrid_model_free(model);
  return NULL;
}

// Returns the peak of resident memory in kB, or -1 if the child did not end by itself.
static long peak_of(const char *bundle, report *out) {
  int ends[2];
  if (pipe(ends) != 0) exit(2);
  const pid_t child = fork();
  if (child == 0) {
    work w = {.bundle = bundle};
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    if (pthread_create(&thread, &attributes, try_out, &w) != 0) _exit(2);
    pthread_join(thread, NULL);
    _exit(write(ends[1], &w.report, sizeof w.report) == (ssize_t)sizeof w.report ? 0 : 2);
  }
  close(ends[1]);
  struct rusage used;
  int status = 0;
  const bool whole = read(ends[0], out, sizeof *out) == (ssize_t)sizeof *out;
  close(ends[0]);
  wait4(child, &status, 0, &used);
  return whole && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? used.ru_maxrss : -1;
}

static int is_bundle(const struct dirent *entry) { return entry->d_name[0] != '.'; }

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  char path[4096];
  report r;
  struct dirent **found = NULL;
  const int count = scandir(argv[1], &found, is_bundle, alphasort);
  snprintf(path, sizeof path, "%s/intact", argv[1]);
  const long intact = peak_of(path, &r);
  CHECK(intact > 0 && r.status == HYBRID_OK && count > 1);
  printf("%-30s %8s %8s %9s  status\n", "bundle", "seconds", "MB more", "cancel ms");
  for (int i = 0; i < count; i++) {
    const char *name = found[i]->d_name;
    snprintf(path, sizeof path, "%s/%s", argv[1], name);
    memset(&r, 0, sizeof r);
    const long peak = peak_of(path, &r);
    const bool must_fail = strncmp(name, "error-", 6) == 0;
    const bool good = peak > 0 && peak - intact <= MOST_KB && r.status != HYBRID_ERR_PANIC &&
                      (!must_fail || r.status != HYBRID_OK) &&
                      r.ends;
    checks++;
    failures += !good;
    printf("%-30s %8.3f %8.1f %9.1f  %s%s %s\n", name, r.seconds, (double)(peak - intact) / 1024,
           r.after_cancel * 1000, good ? "" : "FAILED: ", hybrid_status_name(r.status),
           r.status == HYBRID_OK ? "" : r.why);
    free(found[i]);
  }
  free(found);
  return finish("hostile");
}
