// What tests/c/greedy.c does, with llama.cpp on one thread.   llama_greedy MODEL.gguf TOKENS PROMPT
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 512 };

static void be_quiet(enum ggml_log_level level, const char *text, void *user) {
  (void)user;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static llama_token largest(const float *logits, int32_t count) {
  llama_token best = 0;
  for (int32_t i = 1; i < count; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  llama_log_set(be_quiet, NULL);
  llama_backend_init();
  struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (!model) return 1;
  const struct llama_vocab *vocab = llama_model_get_vocab(model);
  struct llama_context_params params = llama_context_default_params();
  params.n_ctx = CONTEXT;
  params.n_threads = params.n_threads_batch = 1;
  struct llama_context *context = llama_init_from_model(model, params);
  if (!context) return 1;

  llama_token tokens[CONTEXT], next;
  int32_t count =
      llama_tokenize(vocab, argv[3], (int32_t)strlen(argv[3]), tokens, CONTEXT, true, false);
  int wanted = atoi(argv[2]);
  if (count < 1 || count + wanted > CONTEXT) return 1;
  struct llama_batch batch = llama_batch_get_one(tokens, count);
  for (int i = 0; i < wanted; i++) {
    if (llama_decode(context, batch) != 0) return 1;
    next = largest(llama_get_logits_ith(context, -1), llama_vocab_n_tokens(vocab));
    printf("%d\n", (int)next);
    batch = llama_batch_get_one(&next, 1);
  }
  llama_free(context);
  llama_model_free(model);
  return 0;
}
