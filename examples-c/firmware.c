// A firmware loop: jobs come in, each has a time limit that a watchdog thread enforces, the cloud
// is used within a budget, and the loop reports when it becomes degraded and when it recovers.
// SIGTERM and SIGINT end it cleanly, also in the middle of a job.
//
//     firmware BUNDLE SECONDS_PER_JOB [https://HOST[:PORT] [CA.pem]] < JOBS
//
// JOBS has one prompt per line. Output: one line of events (#...) and one of text per job.
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "example.h"

enum { MAX_TOKENS = 128 };

// ---- The watchdog: raises the flag when a job takes too long ------------------------------------

typedef struct watchdog {
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  struct timespec deadline;
  bool armed;
  bool bitten;
  bool quit;
  hybrid_cancel *cancel;
} watchdog;

static void *watch(void *user) {
  watchdog *w = user;
  pthread_mutex_lock(&w->mutex);
  while (!w->quit) {
    if (!w->armed) {
      pthread_cond_wait(&w->changed, &w->mutex);
    } else if (pthread_cond_timedwait(&w->changed, &w->mutex, &w->deadline) != 0 && w->armed) {
      w->armed = false;
      w->bitten = true;
      hybrid_cancel_raise(w->cancel);
    }
  }
  pthread_mutex_unlock(&w->mutex);
  return NULL;
}

static bool start_watchdog(watchdog *w, hybrid_cancel *cancel) {
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  memset(w, 0, sizeof *w);
  w->cancel = cancel;
  pthread_mutex_init(&w->mutex, NULL);
  pthread_cond_init(&w->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  return pthread_create(&w->thread, NULL, watch, w) == 0;
}

static void arm(watchdog *w, double limit) {
  pthread_mutex_lock(&w->mutex);
  clock_gettime(CLOCK_MONOTONIC, &w->deadline);
  const double end = (double)w->deadline.tv_nsec / 1e9 + limit;
  w->deadline.tv_sec += (time_t)end;
  w->deadline.tv_nsec = (long)((end - (double)(time_t)end) * 1e9);
  w->armed = true;
  w->bitten = false;
  pthread_cond_signal(&w->changed);
  pthread_mutex_unlock(&w->mutex);
}

// Returns whether it has bitten since it was armed.
static bool disarm(watchdog *w) {
  pthread_mutex_lock(&w->mutex);
  w->armed = false;
  const bool bitten = w->bitten;
  pthread_mutex_unlock(&w->mutex);
  return bitten;
}

static void stop_watchdog(watchdog *w) {
  pthread_mutex_lock(&w->mutex);
  w->quit = true;
  pthread_cond_signal(&w->changed);
  pthread_mutex_unlock(&w->mutex);
  pthread_join(w->thread, NULL);
  pthread_cond_destroy(&w->changed);
  pthread_mutex_destroy(&w->mutex);
}

// ---- Shutdown by signal -------------------------------------------------------------------------

static hybrid_cancel *cancel;
static volatile sig_atomic_t shutting_down;

static void on_signal(int number) {
  (void)number;
  shutting_down = 1;
  hybrid_cancel_raise(cancel);
}

static void catch_signals(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;  // without SA_RESTART: a read of the next job is interrupted too
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
}

// ---- One job ------------------------------------------------------------------------------------

// Prints an event when the cloud stops or starts helping. Returns whether it is degraded now.
static bool report_mode(const hybrid_step_result *step, bool degraded) {
  if (step->source == HYBRID_SOURCE_FALLBACK && !degraded) {
    const hybrid_failure failure = step->consult->failure;
    printf("# degraded: %s\n", failure != HYBRID_FAILURE_NONE ? hybrid_failure_name(failure)
                                                              : hybrid_reason_name(step->reason));
    return true;
  }
  if (step->source == HYBRID_SOURCE_CLOUD && degraded) {
    printf("# recovered\n");
    return false;
  }
  return degraded;
}

static hybrid_status run_job(hybrid_session *session, const char *prompt, bool *degraded) {
  hybrid_step_result step = {.struct_size = sizeof step};
  const hybrid_message message = {sizeof message, "user", prompt};
  char text[8192];
  size_t size = 0;

  hybrid_status status = hybrid_session_reset(session);
  if (status == HYBRID_OK) status = hybrid_session_chat(session, &message, 1);
  for (int i = 0; status == HYBRID_OK && i < MAX_TOKENS && step.end == HYBRID_END_NONE; i++) {
    status = hybrid_step(session, &step);
    if (status != HYBRID_OK) break;
    *degraded = report_mode(&step, *degraded);
    if (size + step.text_size < sizeof text) {
      memcpy(text + size, step.text, step.text_size);
      size += step.text_size;
    }
  }
  // What was written before a watchdog bit is still of use.
  for (size_t i = 0; i < size; i++) {
    if (text[i] == '\n') text[i] = ' ';
  }
  printf("%.*s\n", (int)size, text);
  return status;
}

static bool make_session(hybrid_model *model, hybrid_cloud *cloud, hybrid_session **session) {
  hybrid_consult consult;
  hybrid_budget budget;
  hybrid_consult_init(&consult, sizeof consult);
  hybrid_budget_init(&budget, sizeof budget);
  consult.deadline_ms = 1500;
  budget.bytes = 10u << 20;  // what this device may send and receive until it restarts
  hybrid_status status = hybrid_session_new(model, cloud, NULL, session);
  if (status == HYBRID_OK) status = hybrid_session_set_consult(*session, &consult);
  if (status == HYBRID_OK) status = hybrid_session_set_budget(*session, &budget);
  if (status == HYBRID_OK) status = hybrid_session_set_cancel(*session, cancel);
  return status == HYBRID_OK || complain("session", status);
}

// Takes jobs until there are none, or a signal comes. Returns false when the session is beyond
// repair.
static bool serve(hybrid_model *model, hybrid_cloud *cloud, hybrid_session **session,
                  double limit, watchdog *dog) {
  bool degraded = false;
  char line[4096];
  while (!shutting_down && fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '\0') continue;
    arm(dog, limit);
    const hybrid_status status = run_job(*session, line, &degraded);
    const bool bitten = disarm(dog);
    if (!shutting_down) hybrid_cancel_lower(cancel);
    if (shutting_down) {
      printf("# shutting down\n");
    } else if (status == HYBRID_ERR_CANCELLED && bitten) {
      printf("# watchdog: job cut off after %.1f s\n", limit);
    } else if (status == HYBRID_ERR_PANIC) {
      complain("job", status);
      hybrid_session_free(*session);
      if (!make_session(model, cloud, session)) return false;
    } else if (status != HYBRID_OK) {
      complain("job", status);
    }
    fflush(stdout);
  }
  return true;
}

int main(int argc, char **argv) {
  if (argc < 3 || argc > 5) {
    fprintf(stderr, "firmware BUNDLE SECONDS_PER_JOB [URL [CA]] < JOBS\n");
    return 2;
  }
  hybrid_model *model = NULL;
  hybrid_cloud *cloud = NULL;
  hybrid_session *session = NULL;
  bool ids = false;
  watchdog dog;
  example_server server = {.url = argc > 3 ? argv[3] : NULL, .ca = argc > 4 ? argv[4] : NULL};

  printf("# %s\n", hybrid_build_info());
  hybrid_status status = hybrid_model_open(argv[1], NULL, &model);
  bool ok = status == HYBRID_OK || complain(argv[1], status);
  if (ok && server.url != NULL) ok = connect_cloud(&server, model, &cloud, &ids);
  if (ok) {
    status = hybrid_cancel_new(&cancel);
    ok = status == HYBRID_OK || complain("cancel", status);
  }
  if (ok && make_session(model, cloud, &session) && start_watchdog(&dog, cancel)) {
    catch_signals();
    ok = serve(model, cloud, &session, strtod(argv[2], NULL), &dog);
    stop_watchdog(&dog);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
  } else {
    ok = false;
  }
  hybrid_session_free(session);
  hybrid_cancel_free(cancel);
  hybrid_cloud_free(cloud);
  hybrid_model_free(model);
  return ok ? 0 : 1;
}
