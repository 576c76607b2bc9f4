// Generation on the device with a real model.   test_generate BUNDLE
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"

static const char PROMPT[] = "The capital of France is";

static void prompt(hybrid_session *session, const char *text) {
  REQUIRE_OK(hybrid_session_prompt(session, text, strlen(text)));
}

// ---- One session ---------------------------------------------------------------------------------

static void describes_itself(const hybrid_model *model) {
  hybrid_model_info info = {.struct_size = sizeof info};
  CHECK_OK(hybrid_model_describe(model, &info));
  CHECK(strcmp(info.architecture, "llama") == 0 && info.name[0] != '\0');
  CHECK(info.parameters > 100000000 && info.vocabulary == 49152 && info.context == 8192);
  CHECK(info.layers == 30 && info.hidden_size == 576 && info.has_chat_template == 1);
}

// peek says what step then does; steps, run and a second session write the same.
static void is_reproducible(const hybrid_model *model, collected *first) {
  hybrid_session *session = new_session(model, NULL, NULL);
  prompt(session, PROMPT);
  const size_t start = length(session);
  for (int i = 0; i < 12; i++) {
    hybrid_peek peek = {.struct_size = sizeof peek};
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_step_peek(session, &peek));
    CHECK(length(session) == start + (size_t)i);
    CHECK_OK(hybrid_step(session, &step));
    CHECK(peek.candidate == step.candidate && step.token == step.candidate);
    CHECK(peek.would_consult == 0 && step.consulted == 0 && step.bytes_sent == 0);
    CHECK(step.source == HYBRID_SOURCE_LOCAL && step.reason == HYBRID_REASON_LOCAL_ONLY);
    CHECK(step.reason == peek.reason && step.failure == HYBRID_FAILURE_NONE);
    CHECK(step.text[step.text_size] == '\0' && step.struct_size == sizeof step);
    CHECK(step.local_ns > 0 && step.cloud_ns == 0);
    CHECK(length(session) == start + (size_t)i + 1);
    collect(&step, first);
    if (step.end != HYBRID_END_NONE) break;
  }
  CHECK(strstr(first->text, "Paris") != NULL);

  // The same again after a rewind, after a reset, and in another session while this one lives.
  collected again = {.steps = 0}, fresh = {.steps = 0}, other = {.steps = 0};
  CHECK_OK(hybrid_session_rewind(session, (size_t)first->steps));
  CHECK(length(session) == start);
  CHECK_OK(hybrid_step_run(session, (size_t)first->steps, collect, &again, NULL));
  CHECK_OK(hybrid_session_reset(session));
  CHECK(length(session) == 0);
  prompt(session, PROMPT);
  hybrid_session *second = new_session(model, NULL, NULL);
  prompt(second, PROMPT);
  hybrid_end end = 77;
  CHECK_OK(hybrid_step_run(session, (size_t)first->steps, collect, &fresh, &end));
  CHECK_OK(hybrid_step_run(second, (size_t)first->steps, collect, &other, NULL));
  CHECK(strcmp(first->text, again.text) == 0);
  CHECK(strcmp(first->text, fresh.text) == 0);
  CHECK(strcmp(first->text, other.text) == 0);

  hybrid_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(hybrid_session_stats(session, &stats));
  CHECK(stats.tokens == 3 * (uint64_t)first->steps && stats.local == stats.tokens);
  CHECK(stats.prompt_tokens == 2 * start && stats.consults == 0 && stats.bytes_sent == 0);
  CHECK(stats.local_ns > 0 && stats.prompt_ns > 0);
  hybrid_session_free(second);
  hybrid_session_free(session);
}

// A draft saves time and changes nothing else.
static void drafts_change_nothing(const hybrid_model *model) {
  static const char COUNTING[] = "one two three four five six seven one two three four five six seven one two three";
  collected plain = {.steps = 0}, drafted = {.steps = 0};
  hybrid_session_options options;
  REQUIRE_OK(hybrid_session_options_init(&options, sizeof options));
  CHECK(options.draft == 0);
  for (uint32_t draft = 0; draft <= 7; draft += 7) {
    options.draft = draft;
    hybrid_session *session = new_session(model, NULL, &options);
    prompt(session, COUNTING);
    CHECK_OK(hybrid_step_run(session, 40, collect, draft ? &drafted : &plain, NULL));
    hybrid_session_free(session);
  }
  CHECK(plain.steps == drafted.steps && strcmp(plain.text, drafted.text) == 0);
}

static int32_t stop_after_three(const hybrid_step_result *step, void *user) {
  (void)step;
  return ++*(int *)user == 3;
}

static void stops_where_told(const hybrid_model *model) {
  int steps = 0;
  hybrid_end end = 77;
  hybrid_session *session = new_session(model, NULL, NULL);
  prompt(session, PROMPT);
  CHECK_OK(hybrid_step_run(session, 100, stop_after_three, &steps, &end));
  CHECK(steps == 3 && end == HYBRID_END_NONE);
  CHECK_OK(hybrid_step_run(session, 0, stop_after_three, &steps, &end));
  CHECK(steps == 3);
  hybrid_session_free(session);

  const char *const stops[] = {"zzz", "Paris"};
  hybrid_session_options options;
  REQUIRE_OK(hybrid_session_options_init(&options, sizeof options));
  options.stop_strings = stops;
  options.stop_string_count = 2;
  session = new_session(model, NULL, &options);
  prompt(session, PROMPT);
  collected c = {.steps = 0};
  CHECK_OK(hybrid_step_run(session, 20, collect, &c, &end));
  CHECK(end == HYBRID_END_STOP_STRING && strstr(c.text, "Par") == NULL);
  hybrid_step_result step = {.struct_size = sizeof step};
  CHECK_STATUS(HYBRID_ERR_STATE, hybrid_step(session, &step));
  hybrid_session_free(session);

  // A chat ends with a stop token, and can be continued.
  session = new_session(model, NULL, NULL);
  const hybrid_message messages[] = {{"system", "Answer in one word."},
                                     {"user", "What colour is grass?"}};
  CHECK_OK(hybrid_session_chat(session, messages, 2));
  CHECK_OK(hybrid_step_run(session, 200, collect, &c, &end));
  CHECK(end == HYBRID_END_STOP_TOKEN);
  const hybrid_message more = {"user", "And snow?"};
  CHECK_OK(hybrid_session_chat(session, &more, 1));
  CHECK_OK(hybrid_step_run(session, 3, collect, &c, NULL));
  CHECK_STATUS(HYBRID_ERR_INVALID_UTF8,
               hybrid_session_chat(session, &(hybrid_message){"user", "\xff"}, 1));
  hybrid_session_free(session);
}

// In the middle of a text; a second session writes the rest, also of a text that is drawn.
static void is_saved_and_restored(const hybrid_model *model) {
  hybrid_session_options options;
  REQUIRE_OK(hybrid_session_options_init(&options, sizeof options));
  options.temperature = 0.9f;
  hybrid_session *session = new_session(model, NULL, &options);
  hybrid_session *other = new_session(model, NULL, &options);
  collected c = {.steps = 0}, first = {.steps = 0}, second = {.steps = 0};
  prompt(session, PROMPT);
  CHECK_OK(hybrid_step_run(session, 4, collect, &c, NULL));
  size_t size = 0;
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_session_save(session, NULL, 0, &size));
  unsigned char *state = malloc(size);
  CHECK_STATUS(HYBRID_ERR_BUFFER_TOO_SMALL, hybrid_session_save(session, state, size - 1, NULL));
  CHECK_OK(hybrid_session_save(session, state, size, NULL));
  prompt(other, "Something else");
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_restore(other, state, size - 1));
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_restore(other, NULL, 0));
  CHECK_OK(hybrid_session_restore(other, state, size));
  CHECK(length(other) == length(session));
  CHECK_OK(hybrid_step_run(session, 8, collect, &first, NULL));
  CHECK_OK(hybrid_step_run(other, 8, collect, &second, NULL));
  CHECK(first.steps == 8 && strcmp(first.text, second.text) == 0);
  state[size / 2] ^= 1;
  CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_restore(other, state, size));
  CHECK(length(other) == length(session));
  free(state);
  hybrid_session_free(other);
  hybrid_session_free(session);
}

static void objects_live_as_long_as_needed(const char *path) {
  hybrid_model *model = open_model(path);
  hybrid_cancel *cancel = NULL;
  REQUIRE_OK(hybrid_cancel_new(&cancel));
  hybrid_session *session = new_session(model, NULL, NULL);
  CHECK_OK(hybrid_session_set_cancel(session, cancel));
  hybrid_model_free(model);
  hybrid_cancel_free(cancel);
  prompt(session, PROMPT);
  hybrid_step_result step = {.struct_size = sizeof step};
  CHECK_OK(hybrid_step(session, &step));
  hybrid_session_free(session);
}

// ---- Threads, cancelling, callbacks --------------------------------------------------------------

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

// ---- A model with threads of its own -------------------------------------------------------------

static int tasks(void) {
  int count = 0;
  DIR *dir = opendir("/proc/self/task");
  if (dir == NULL) return -1;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

// A thread that has been joined is listed for a moment longer: on a busy machine, under QEMU, for seconds.
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
  // With the first thread of a program QEMU starts one of its own, which stays when the first is gone.
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
  describes_itself(model);
  is_reproducible(model, &text);
  drafts_change_nothing(model);
  stops_where_told(model);
  is_saved_and_restored(model);
  objects_live_as_long_as_needed(argv[1]);
  callbacks_cannot_break_it(model);
  two_threads_are_busy(model);
  cancels(model, text.text);
  threads_share_a_model(model, text.text);
  computes_on_threads(argv[1], text.text);
  logs(argv[1]);
  hybrid_model_free(model);
  return finish("generate");
}
