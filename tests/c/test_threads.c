// Callbacks, threads, cancelling and logging with a real model.   test_threads BUNDLE
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"

// ---- Threads, cancelling, callbacks -------------------------------------------------------------

typedef struct inside {
  hybrid_session *session;
  int busy, steps;
} inside;

static int32_t call_again(const hybrid_step_result *step, void *user) {
  inside *i = user;
  size_t out = 7;
  (void)step;
  i->steps++;
  i->busy += hybrid_session_length(i->session, &out) == HYBRID_ERR_BUSY && out == 0;
  return 0;
}

static int32_t free_inside(const hybrid_step_result *step, void *user) {
  (void)step;
  hybrid_session_free(*(hybrid_session **)user);
  return 1;
}

static void callbacks_cannot_break_it(const hybrid_model *model) {
  inside i = {.session = new_session(model, NULL, NULL)};
  prompt(i.session, PROMPT);
  CHECK_OK(hybrid_step_run(i.session, 4, call_again, &i, NULL));
  CHECK(i.steps == 4 && i.busy == 4);
  CHECK_OK(hybrid_step_run(i.session, 4, free_inside, &i.session, NULL));
}

typedef struct busy_test {
  hybrid_session *session;
  pthread_barrier_t inside, checked;
} busy_test;

static int32_t wait_inside(const hybrid_step_result *step, void *user) {
  busy_test *b = user;
  (void)step;
  pthread_barrier_wait(&b->inside);
  pthread_barrier_wait(&b->checked);
  return 1;
}

static void *run_until_checked(void *user) {
  busy_test *b = user;
  hybrid_status status = hybrid_step_run(b->session, 5, wait_inside, b, NULL);
  return (void *)(intptr_t)status;
}

static void two_threads_are_busy(const hybrid_model *model) {
  busy_test b;
  b.session = new_session(model, NULL, NULL);
  prompt(b.session, PROMPT);
  pthread_barrier_init(&b.inside, NULL, 2);
  pthread_barrier_init(&b.checked, NULL, 2);
  pthread_t thread;
  REQUIRE_OK(pthread_create(&thread, NULL, run_until_checked, &b));
  pthread_barrier_wait(&b.inside);

  hybrid_step_result step = {.struct_size = sizeof step};
  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_ERROR(HYBRID_ERR_BUSY, "in use", hybrid_step(b.session, &step));
  CHECK_STATUS(HYBRID_ERR_BUSY, hybrid_session_prompt(b.session, "x", 1));
  CHECK_STATUS(HYBRID_ERR_BUSY, hybrid_session_stats(b.session, &stats));
  CHECK_STATUS(HYBRID_ERR_BUSY, hybrid_session_reset(b.session));

  pthread_barrier_wait(&b.checked);
  void *status = NULL;
  pthread_join(thread, &status);
  CHECK((intptr_t)status == HYBRID_OK);
  CHECK_OK(hybrid_step(b.session, &step));
  pthread_barrier_destroy(&b.inside);
  pthread_barrier_destroy(&b.checked);
  hybrid_session_free(b.session);
}

static void *raise_soon(void *cancel) {
  const struct timespec soon = {.tv_nsec = 30 * 1000 * 1000};
  nanosleep(&soon, NULL);
  hybrid_cancel_raise(cancel);
  return NULL;
}

static hybrid_cancel *from_handler;

static void on_alarm(int number) {
  (void)number;
  hybrid_cancel_raise(from_handler);
}

// A prompt that would take seconds, cut off by `raise` soon after it begins.
static void long_prompt_is_cancelled(hybrid_session *session) {
  static char words[5 * 6000 + 1];
  for (size_t i = 0; i + 5 < sizeof words; i += 5) memcpy(words + i, "word ", 5);
  const size_t before = length(session);
  CHECK_STATUS(HYBRID_ERR_CANCELLED, hybrid_session_prompt(session, words, sizeof words - 1));
  CHECK(length(session) == before);
}

static void cancels(const hybrid_model *model, const char *expected) {
  hybrid_cancel *cancel = NULL;
  REQUIRE_OK(hybrid_cancel_new(&cancel));
  hybrid_session *session = new_session(model, NULL, NULL);
  CHECK_OK(hybrid_session_set_cancel(session, cancel));
  prompt(session, PROMPT);

  pthread_t thread;
  REQUIRE_OK(pthread_create(&thread, NULL, raise_soon, cancel));
  long_prompt_is_cancelled(session);
  pthread_join(thread, NULL);

  // The flag stays up until it is lowered.
  hybrid_step_result step = {.struct_size = sizeof step};
  CHECK_STATUS(HYBRID_ERR_CANCELLED, hybrid_step(session, &step));
  hybrid_cancel_lower(cancel);

  from_handler = cancel;
  signal(SIGALRM, on_alarm);
  const struct itimerval soon = {.it_value = {.tv_usec = 30 * 1000}};
  REQUIRE_OK(setitimer(ITIMER_REAL, &soon, NULL));
  long_prompt_is_cancelled(session);
  signal(SIGALRM, SIG_DFL);
  hybrid_cancel_lower(cancel);

  // None of it left a trace.
  collected c = {.steps = 0};
  CHECK_OK(hybrid_step_run(session, 12, collect, &c, NULL));
  CHECK(strcmp(c.text, expected) == 0);
  hybrid_cancel_free(cancel);
  hybrid_session_free(session);
}

static void *generate_alone(void *model) {
  hybrid_session *session = NULL;
  collected *c = calloc(1, sizeof *c);
  if (hybrid_session_new(model, NULL, NULL, &session) != HYBRID_OK ||
      hybrid_session_prompt(session, PROMPT, strlen(PROMPT)) != HYBRID_OK ||
      hybrid_step_run(session, 12, collect, c, NULL) != HYBRID_OK) {
    c->text[0] = '\0';
  }
  hybrid_session_free(session);
  return c;
}

static void threads_share_a_model(hybrid_model *model, const char *expected) {
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) {
    REQUIRE_OK(pthread_create(&threads[i], NULL, generate_alone, model));
  }
  for (int i = 0; i < 3; i++) {
    void *result = NULL;
    pthread_join(threads[i], &result);
    CHECK(strcmp(((collected *)result)->text, expected) == 0);
    free(result);
  }
}

// ---- A model with threads of its own ------------------------------------------------------------

static int tasks(void) {
  int count = 0;
  DIR *dir = opendir("/proc/self/task");
  if (dir == NULL) return -1;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

// A thread that has been joined is listed for a moment longer: on a busy machine, under QEMU, for
// seconds.
static bool tasks_become(int wanted) {
  for (int i = 0; i < 30 * 1000 && tasks() != wanted; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 1000 * 1000}, NULL);
  }
  return tasks() == wanted;
}

static volatile sig_atomic_t signals_taken;

static void on_signal(int number) {
  (void)number;
  signals_taken++;
}

// A signal to the process waits for a thread of the program.
static void takes_no_signals(hybrid_session *session) {
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  signal(SIGUSR1, on_signal);
  pthread_sigmask(SIG_BLOCK, &usr1, NULL);
  kill(getpid(), SIGUSR1);
  collected c = {.steps = 0};
  CHECK_OK(hybrid_step_run(session, 5, collect, &c, NULL));
  CHECK(signals_taken == 0);
  pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
  CHECK(signals_taken == 1);
  signal(SIGUSR1, SIG_DFL);
}

static void *count_tasks(void *count) {
  *(int *)count = tasks();
  return NULL;
}

static void computes_on_threads(const char *path, const char *expected) {
  // With the first thread of a program QEMU starts one of its own, which stays when the first is
  // gone.
  pthread_t first;
  int with_first = 0;
  CHECK(pthread_create(&first, NULL, count_tasks, &with_first) == 0);
  CHECK(pthread_join(first, NULL) == 0);
  const int before = with_first - 1;
  CHECK(before >= 1 && tasks_become(before));
  hybrid_model *model = open_model_with_threads(path, 3);
  CHECK(tasks() == before + 2);
  cancels(model, expected);
  threads_share_a_model(model, expected);

  hybrid_session *session = new_session(model, NULL, NULL);
  hybrid_model_free(model);
  CHECK(tasks_become(before + 2));
  prompt(session, PROMPT);
  takes_no_signals(session);
  hybrid_session_free(session);
  CHECK(tasks_become(before));
}

static void count_message(hybrid_log_level level, const char *text, void *user) {
  CHECK(level >= HYBRID_LOG_ERROR && level <= HYBRID_LOG_TRACE && text != NULL);
  ++*(int *)user;
}

static void logs(const char *path) {
  int messages = 0;
  CHECK_OK(hybrid_set_log(HYBRID_LOG_TRACE, count_message, &messages));
  hybrid_model *model = open_model(path);
  hybrid_session_free(new_session(model, NULL, NULL));
  hybrid_model_free(model);
  CHECK_OK(hybrid_set_log(HYBRID_LOG_OFF, NULL, NULL));
  const int seen = messages;
  hybrid_model_free(open_model(path));
  CHECK(messages == seen);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  hybrid_model *model = open_model(argv[1]);
  collected text = {.steps = 0};
  written_alone(model, &text);
  callbacks_cannot_break_it(model);
  two_threads_are_busy(model);
  cancels(model, text.text);
  threads_share_a_model(model, text.text);
  computes_on_threads(argv[1], text.text);
  logs(argv[1]);
  hybrid_model_free(model);
  return finish("threads");
}
