// What a power cut or another process can do to files: a bundle that is replaced or truncated while
// it is in use, `hybrid pack` and the saving of a state killed at any time.
//   test_power BUNDLE GGUF HYBRID FOLDER KILLS
// FOLDER is empty; the rest is made there. HYBRID is the host tool.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static const char *folder;

static const char *inside(const char *directory, const char *name) {
  static char paths[4][4096];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", directory, name);
  return path;
}

static void copy_file(const char *from, const char *to) {
  char buffer[1 << 14];
  FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
  if (in == NULL || out == NULL) exit(2);
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, in)) > 0;) fwrite(buffer, 1, n, out);
  fclose(in);
  if (fclose(out) != 0) exit(2);
}

static const char *const FILES[] = {"bundle.json", "graph.onnx", "tokenizer.json", "weights.bin"};
enum { FILE_COUNT = sizeof FILES / sizeof FILES[0] };

static void copy_bundle(const char *from, const char *to) {
  mkdir(to, 0700);
  for (int i = 0; i < FILE_COUNT; i++) copy_file(inside(from, FILES[i]), inside(to, FILES[i]));
}

static void remove_bundle(const char *bundle) {
  for (int i = 0; i < FILE_COUNT; i++) unlink(inside(bundle, FILES[i]));
  rmdir(bundle);
}

// ---- A bundle in use ----------------------------------------------------------------------------

// A bundle is replaced as `hybrid pack --force` does it: the old one goes, another gets its name.
static void a_replaced_bundle_is_used_on(const char *bundle) {
  char *used = strdup(inside(folder, "used")), *away = strdup(inside(folder, "away"));
  copy_bundle(bundle, used);
  collected before = {.steps = 0}, after = {.steps = 0};
  hybrid_model *model = open_model(used);
  written_alone(model, &before);
  CHECK(rename(used, away) == 0);
  copy_bundle(bundle, used);
  remove_bundle(away);
  written_alone(model, &after);
  CHECK(strcmp(before.text, after.text) == 0 && before.steps == after.steps);
  hybrid_model_free(model);
  model = open_model(used);
  hybrid_model_free(model);
  remove_bundle(used);
  free(used);
  free(away);
}

// Cuts the weights under an opened model and writes on. Returns how that ended, as of waitpid.
static int end_of_truncated(const char *bundle, const char *used) {
  copy_bundle(bundle, used);
  const pid_t child = fork();
  if (child == 0) {
    // A sanitizer would report the signal.
    signal(SIGBUS, SIG_DFL);
    collected text = {.steps = 0};
    hybrid_model *model = open_model(used);
    if (truncate(inside(used, "weights.bin"), 0) != 0) _exit(2);
    written_alone(model, &text);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  remove_bundle(used);
  return status;
}

// The rule that docs/porting.md states: the process ends with SIGBUS, as with any mapped file.
static void a_truncated_bundle_ends_the_process(const char *bundle) {
  char *used = strdup(inside(folder, "used"));
  const int status = end_of_truncated(bundle, used);
  free(used);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

// What is left of a bundle that was truncated before is refused.
static void a_truncated_bundle_does_not_open(const char *bundle) {
  char *used = strdup(inside(folder, "used"));
  for (int i = 0; i < FILE_COUNT; i++) {
    copy_bundle(bundle, used);
    struct stat found;
    CHECK(stat(inside(used, FILES[i]), &found) == 0);
    for (off_t size = found.st_size - 1; size >= 0; size = size / 4 - (size < 4)) {
      hybrid_model *model = NULL;
      CHECK(truncate(inside(used, FILES[i]), size) == 0);
      CHECK_STATUS(HYBRID_ERR_BUNDLE, hybrid_model_open(used, NULL, &model));
      CHECK(model == NULL);
    }
  }
  remove_bundle(used);
  free(used);
}

// ---- Killed at any time -------------------------------------------------------------------------

// Microseconds until the next kill, up to `most`: the same on every run.
static useconds_t next_delay(useconds_t most) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (useconds_t)(state % most);
}

// Lets a child do `work`, to its end.
static void run(void (*work)(const char *), const char *argument) {
  const pid_t child = fork();
  if (child == 0) {
    work(argument);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The same, but it is killed some time before `most` microseconds are over.
static void killed(void (*work)(const char *), const char *argument, useconds_t most) {
  const pid_t child = fork();
  if (child == 0) {
    work(argument);
    _exit(0);
  }
  usleep(next_delay(most));
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
}

static useconds_t microseconds(const struct timespec *from, const struct timespec *to) {
  const double seconds = difftime(to->tv_sec, from->tv_sec);
  return (useconds_t)(seconds * 1e6 + (double)(to->tv_nsec - from->tv_nsec) / 1e3) + 1;
}

static const char *hybrid_tool, *gguf;

static void pack(const char *target) {
  // It says what it packs.
  const int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);
  execl(hybrid_tool, hybrid_tool, "pack", "--force", gguf, "-o", target, (char *)NULL);
  _exit(127);
}

// What `hybrid pack` leaves under the bundle's name opens, or there is nothing. Half of the time a
// bundle is there before.
static void packing_is_killed(int kills) {
  char *target = strdup(inside(folder, "packed"));
  int whole = 0, none = 0;
  useconds_t takes = 0;
  for (int i = 0; i < kills + 1; i++) {
    struct timespec began, ended;
    hybrid_model *model = NULL;
    clock_gettime(CLOCK_MONOTONIC, &began);
    // The first is let through, to see how long it takes.
    if (i > 0) killed(pack, target, takes * 3 / 2);
    if (i == 0) run(pack, target);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    if (i == 0) takes = microseconds(&began, &ended);
    struct stat found;
    const bool there = stat(target, &found) == 0;
    const hybrid_status status = hybrid_model_open(target, NULL, &model);
    CHECK(status == (there ? HYBRID_OK : HYBRID_ERR_IO));
    whole += there;
    none += !there;
    hybrid_model_free(model);
    if (i % 2 == 1) remove_bundle(target);
  }
  // What a killed one left beside does not hinder the next.
  run(pack, target);
  hybrid_model_free(open_model(target));
  remove_bundle(target);
  printf("packing: killed %d times, then %d whole bundles and %d times none\n", kills, whole, none);
  free(target);
}

// Writes `bytes` so that a reader finds all of them or all of those before: docs/porting.md shows
// this function.
static bool write_whole(const char *path, const char *temporary, const void *bytes, size_t size) {
  FILE *file = fopen(temporary, "wb");
  if (file == NULL) return false;
  bool ok = fwrite(bytes, 1, size, file) == size;
  ok = fflush(file) == 0 && ok;
  ok = fsync(fileno(file)) == 0 && ok;
  ok = fclose(file) == 0 && ok;
  return ok && rename(temporary, path) == 0;
}

static hybrid_model *shared_model;

// Saves a state after each of `steps` tokens.
static void save(const char *path, int steps) {
  hybrid_session *session = new_session(shared_model, NULL, NULL);
  prompt(session, PROMPT);
  for (int i = 0; i < steps; i++) {
    hybrid_step_result step = {.struct_size = sizeof step};
    size_t size = 0;
    CHECK_OK(hybrid_step(session, &step));
    hybrid_session_save(session, NULL, 0, &size);
    uint8_t *state = malloc(size);
    CHECK_OK(hybrid_session_save(session, state, size, NULL));
    CHECK(write_whole(path, inside(folder, "state.new"), state, size));
    free(state);
  }
  hybrid_session_free(session);
}

static void save_for_ever(const char *path) {
  while (failures == 0) save(path, 20);
}

// What a restart finds is a whole state.
static void saving_is_killed(const char *bundle, int kills) {
  char *path = strdup(inside(folder, "state"));
  shared_model = open_model(bundle);
  save(path, 1);
  for (int i = 0; i < kills; i++) {
    killed(save_for_ever, path, 20 * 1000);
    struct stat found;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &found) != 0) exit(2);
    const size_t size = (size_t)found.st_size;
    uint8_t *state = malloc(size);
    CHECK(fread(state, 1, size, file) == size);
    fclose(file);
    hybrid_session *session = new_session(shared_model, NULL, NULL);
    hybrid_step_result step = {.struct_size = sizeof step};
    CHECK_OK(hybrid_session_restore(session, state, size));
    CHECK_OK(hybrid_step(session, &step));
    // A byte less is none: the checksum tells.
    CHECK_STATUS(HYBRID_ERR_INVALID_ARGUMENT, hybrid_session_restore(session, state, size - 1));
    hybrid_session_free(session);
    free(state);
  }
  hybrid_model_free(shared_model);
  unlink(path);
  unlink(inside(folder, "state.new"));
  printf("saving: killed %d times, then %d whole states\n", kills, kills);
  free(path);
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  gguf = argv[2];
  hybrid_tool = argv[3];
  folder = argv[4];
  const int kills = atoi(argv[5]);
  if (kills < 2) return 2;
  a_replaced_bundle_is_used_on(argv[1]);
  a_truncated_bundle_ends_the_process(argv[1]);
  a_truncated_bundle_does_not_open(argv[1]);
  packing_is_killed(kills);
  saving_is_killed(argv[1], kills);
  return finish("power");
}
