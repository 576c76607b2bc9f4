// What examples/bench_worker.rs does, with llama.cpp.   llama_worker MODEL.gguf CONTEXT THREADS
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct llama_context *context;
static int32_t vocabulary, length;

static void be_quiet(enum ggml_log_level level, const char *text, void *user) {
  (void)user;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void answer(double since) {
  printf("%.9f\n", now() - since);
  fflush(stdout);
}

static llama_token largest(void) {
  const float *logits = llama_get_logits_ith(context, -1);
  llama_token best = 0;
  for (int32_t i = 1; i < vocabulary; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

static void feed(llama_token *tokens, int32_t count) {
  if (llama_decode(context, llama_batch_get_one(tokens, count)) != 0) exit(1);
  length += count;
}

static void keep(int32_t count) {
  llama_memory_seq_rm(llama_get_memory(context), 0, count, -1);
  if (count < length) length = count;
}

// Up to `wanted` tokens in all, in batches as large as llama.cpp takes by default.
static void fill(int32_t wanted) {
  llama_token tokens[512];
  while (length < wanted) {
    int32_t count = wanted - length < 512 ? wanted - length : 512;
    for (int32_t i = 0; i < count; i++) {
      tokens[i] = (llama_token)(((uint32_t)(length + i) * 7919u + 13u) % (uint32_t)vocabulary);
    }
    feed(tokens, count);
  }
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  double start = now();
  llama_log_set(be_quiet, NULL);
  llama_backend_init();
  struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (!model) return 1;
  vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  struct llama_context_params params = llama_context_default_params();
  params.n_ctx = (uint32_t)atoi(argv[2]);
  params.n_threads = params.n_threads_batch = atoi(argv[3]);
  context = llama_init_from_model(model, params);
  if (!context) return 1;
  answer(start);

  char line[64];
  int wanted, tokens;
  while (fgets(line, sizeof line, stdin)) {
    if (sscanf(line, "prefill %d", &tokens) == 1) {
      keep(0);
      start = now();
      fill(tokens);
    } else if (sscanf(line, "decode %d %d", &wanted, &tokens) == 2) {
      keep(wanted - 1);
      fill(wanted);
      llama_token next = largest();
      start = now();
      for (int i = 0; i < tokens; i++) {
        feed(&next, 1);
        next = largest();
      }
    } else {
      return 2;
    }
    answer(start);
  }
  llama_free(context);
  llama_model_free(model);
  return 0;
}
