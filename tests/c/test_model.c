// Opening a model from files and from memory, and of a maker that the program knows.
//   test_model BUNDLE SIGNED PUBLIC_KEY
// SIGNED is a bundle that the owner of PUBLIC_KEY, a PEM, has signed.
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>

#include "check.h"

static void describes_itself(const hybrid_model *model) {
  hybrid_model_info info = {.struct_size = sizeof info};
  CHECK_OK(hybrid_model_describe(model, &info));
  CHECK(strcmp(info.architecture, "llama") == 0 && info.name[0] != '\0');
  CHECK(info.parameters > 100000000 && info.vocabulary == 49152 && info.context == 8192);
  CHECK(info.layers == 30 && info.hidden_size == 576);
  CHECK(info.features == HYBRID_FEATURE_CHAT);
}

typedef struct progress {
  uint64_t done, total;
  int calls, stop_after;
} progress;

static int32_t note_progress(uint64_t done, uint64_t total, void *user) {
  progress *p = user;
  CHECK(done >= p->done && done <= total && (p->calls == 0 || total == p->total));
  p->done = done;
  p->total = total;
  return ++p->calls == p->stop_after;
}

static void opening_tells_how_it_gets_on(const char *path) {
  hybrid_model *model = NULL;
  progress all = {.stop_after = -1}, stopped = {.stop_after = 2};
  DEFAULTS(model_options, options);
  options.progress = note_progress;
  options.progress_user = &all;
  CHECK_OK(hybrid_model_open(path, &options, &model));
  CHECK(all.calls > 2 && all.done == all.total && all.total > 50000000);
  hybrid_model_free(model);
  model = (hybrid_model *)&model;
  options.progress_user = &stopped;
  CHECK_STATUS(HYBRID_ERR_CANCELLED, hybrid_model_open(path, &options, &model));
  CHECK(stopped.calls == 2 && model == NULL);
}

static void *read_all(const char *folder, const char *name, size_t *size) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  REQUIRE_OK(file == NULL ? HYBRID_ERR_IO : fseek(file, 0, SEEK_END));
  *size = (size_t)ftell(file);
  rewind(file);
  void *data = NULL;
  // One byte more, so that a test can move the weights.
  REQUIRE_OK(posix_memalign(&data, 64, *size + 1));
  REQUIRE_OK(fread(data, 1, *size, file) == *size ? HYBRID_OK : HYBRID_ERR_IO);
  fclose(file);
  return data;
}

static void opens_from_memory(const char *path, const char *expected) {
  hybrid_bundle_file files[16];
  char names[16][64];
  size_t count = 0, weights = 16;
  DIR *dir = opendir(path);
  REQUIRE_OK(dir == NULL);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL && count < 16;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(names[count], sizeof names[count], "%.60s", entry->d_name);
    files[count].name = names[count];
    files[count].data = read_all(path, names[count], &files[count].size);
    if (strcmp(names[count], "weights.bin") == 0) weights = count;
    count++;
  }
  closedir(dir);
  REQUIRE_OK(weights == 16);

  hybrid_model *model = NULL;
  REQUIRE_OK(hybrid_model_open_memory(files, count, NULL, &model));
  hybrid_session *session = new_session(model, NULL, NULL);
  hybrid_model_free(model);
  prompt(session, PROMPT);
  collected c = {.steps = 0};
  CHECK_OK(hybrid_step_run(session, 12, collect, &c, NULL));
  CHECK(strcmp(c.text, expected) == 0);
  hybrid_session_free(session);

  // What is wrong with files on disk is wrong in memory too.
  uint8_t *data = (uint8_t *)(uintptr_t)files[weights].data;
  DEFAULTS(model_options, unhashed);
  unhashed.verify = HYBRID_VERIFY_ALL_BUT_WEIGHTS;
  memmove(data + 1, data, files[weights].size);
  files[weights].data = data + 1;
  CHECK_ERROR(HYBRID_ERR_INVALID_ARGUMENT, "64",
              hybrid_model_open_memory(files, count, &unhashed, &model));
  files[weights].data = data;
  CHECK_ERROR(HYBRID_ERR_BUNDLE, "weights.bin",
              hybrid_model_open_memory(files, count, NULL, &model));
  CHECK_STATUS(HYBRID_ERR_BUNDLE, hybrid_model_open_memory(files, 0, NULL, &model));
  CHECK(model == NULL);
  for (size_t i = 0; i < count; i++) free((void *)(uintptr_t)files[i].data);
}

// For the error's text, and that nothing is left open.
static void is_refused(const char *path, const char *key, hybrid_status status, const char *text) {
  hybrid_model *model = NULL;
  DEFAULTS(model_options, options);
  options.public_key = key;
  CHECK_ERROR(status, text, hybrid_model_open(path, &options, &model));
  CHECK(model == NULL);
}

static void opens_only_what_is_signed(const char *unsigned_path, const char *path,
                                      const char *key) {
  hybrid_model *model = NULL;
  DEFAULTS(model_options, options);
  options.public_key = key;
  CHECK_OK(hybrid_model_open(path, &options, &model));
  hybrid_model_free(model);

  // The one line of the PEM, as a program has it in a string.
  char line[61] = "";
  memcpy(line, strchr(key, '\n') + 1, 60);
  options.public_key = line;
  CHECK_OK(hybrid_model_open(path, &options, &model));
  hybrid_model_free(model);

  is_refused(unsigned_path, key, HYBRID_ERR_BUNDLE, "bundle.sig");
  is_refused(path, "", HYBRID_ERR_INVALID_ARGUMENT, "ed25519");
  is_refused(path, "\xff", HYBRID_ERR_INVALID_UTF8, "public_key");
  // The key of RFC 8410, 10.1.
  is_refused(path, "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=",
             HYBRID_ERR_BUNDLE, "public key");
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  hybrid_model *model = open_model(argv[1]);
  collected text = {.steps = 0};
  written_alone(model, &text);
  describes_itself(model);
  hybrid_model_free(model);
  opening_tells_how_it_gets_on(argv[1]);
  opens_from_memory(argv[1], text.text);
  opens_only_what_is_signed(argv[1], argv[2], argv[3]);
  return finish("model");
}
