// The C++ wrapper: moving, freeing, exceptions.   test_wrapper BUNDLE
#include <cstdio>
#include <iostream>
#include <type_traits>

#include "hybrid.hpp"

static int checks, failures;

#define CHECK(condition)                                                               \
  do {                                                                                 \
    checks++;                                                                          \
    if (!(condition)) {                                                                \
      failures++;                                                                      \
      std::cerr << __FILE__ << ':' << __LINE__ << ": failed: " << #condition << '\n'; \
    }                                                                                  \
  } while (0)

// The status of the hybrid::error that `call` throws; HYBRID_OK if it throws none.
template <typename Callable>
static hybrid_status thrown(Callable call) {
  try {
    call();
  } catch (const hybrid::error &e) {
    CHECK(std::string(e.what()).find(hybrid_status_name(e.status())) == 0);
    return e.status();
  }
  return HYBRID_OK;
}

static_assert(!std::is_copy_constructible_v<hybrid::model>);
static_assert(!std::is_copy_assignable_v<hybrid::session>);
static_assert(std::is_nothrow_move_constructible_v<hybrid::session>);
static_assert(std::is_nothrow_move_assignable_v<hybrid::cancel>);

static std::string generate(hybrid::session &session, std::size_t tokens) {
  std::string text;
  session.run(tokens, [&](const hybrid_step_result &step) { text += step.text; });
  return text;
}

static void run(const std::string &path) {
  CHECK(thrown([] { hybrid::model("/nowhere"); }) == HYBRID_ERR_IO);
  CHECK(thrown([] { hybrid::cloud(hybrid::cloud_options()); }) == HYBRID_ERR_NULL_ARGUMENT);
  CHECK(!hybrid::last_error().empty());

  auto options = hybrid::model_options();
  options.verify = HYBRID_VERIFY_ALL_BUT_WEIGHTS;
  hybrid::model model(path, options);
  CHECK(std::string(model.describe().architecture) == "llama");

  hybrid::session session(model);
  CHECK(thrown([&] { session.step(); }) == HYBRID_ERR_STATE);
  CHECK(thrown([&] { session.prompt({}); }) == HYBRID_ERR_INVALID_ARGUMENT);
  session.prompt("The capital of France is");
  const std::size_t start = session.length();
  const auto peek = session.peek();
  hybrid::step step = session.step();
  CHECK(step.result.token == peek.candidate && !step.ended() && !step.bytes.empty());
  session.rewind(1);
  CHECK(session.length() == start);
  const std::string text = generate(session, 8);
  CHECK(text.find("Paris") != std::string::npos);

  // Saved, and restored where something else was.
  const std::vector<std::uint8_t> state = session.save();
  hybrid::session restored(model);
  restored.prompt("Something else");
  restored.restore(state);
  CHECK(restored.length() == session.length() && restored.save() == state);
  CHECK(thrown([&] { restored.restore({1, 2, 3}); }) == HYBRID_ERR_INVALID_ARGUMENT);
  restored.restore_corrections(session.save_corrections());
  CHECK(thrown([&] { restored.restore_corrections(state); }) == HYBRID_ERR_INVALID_ARGUMENT);

  // A fork continues, with settings of its own.
  hybrid::session fork = session.fork();
  CHECK(fork.save() == state && fork.stats().tokens == session.stats().tokens);
  auto sampling = hybrid::sampling();
  sampling.top_k = 5;
  fork.set(sampling);
  auto gate = hybrid::gate();
  gate.mode = HYBRID_MODE_CLOUD_FIRST;
  fork.set(gate);
  auto consult = hybrid::consult();
  consult.burst = 3;
  fork.set(consult);
  auto budget = hybrid::budget();
  budget.consults = 7;
  fork.set(budget);
  auto corrections = hybrid::corrections();
  corrections.capacity = 9;
  fork.set(corrections);
  CHECK(fork.sampling().top_k == 5 && session.sampling().top_k == 0);
  CHECK(fork.gate().mode == HYBRID_MODE_CLOUD_FIRST && fork.consult().burst == 3);
  CHECK(fork.budget().consults == 7 && fork.budget().tokens == HYBRID_UNLIMITED);
  CHECK(fork.corrections().capacity == 9);
  gate.threshold_by = static_cast<hybrid_threshold_by>(9);
  CHECK(thrown([&] { fork.set(gate); }) == HYBRID_ERR_INVALID_ARGUMENT);
  fork.set_thinking(HYBRID_THINKING_OFF);
  fork.set_top_logprobs(2);
  const hybrid::step detailed = fork.step();
  CHECK(detailed.logprobs.size() == 3 && detailed.logprobs[0].token == detailed.result.token);
  CHECK(detailed.details.local_ns > 0 && detailed.consult.consulted == 0);
  // As an older library would hand it out.
  hybrid_consult_result old = detailed.consult;
  old.struct_size = offsetof(hybrid_consult_result, cloud_ns);
  old.bytes_sent = old.cloud_ns = 7;
  const auto known = hybrid::detail::known(old);
  CHECK(known.bytes_sent == 7 && known.cloud_ns == 0);
  fork.set_logit_bias({{detailed.result.token, -1000}});
  fork.rewind(1);
  CHECK(fork.step().result.token != detailed.result.token);

  // Tokens and text, and what has neither.
  const auto ids = model.tokenize("Hello", HYBRID_TOKENS_ADD_BOS);
  CHECK(model.count_tokens("Hello", HYBRID_TOKENS_ADD_BOS) == ids.size());
  CHECK(model.detokenize(ids) == "Hello");
  CHECK(model.tokenize({}).empty() && model.detokenize({}).empty());
  fork.reset();
  CHECK(fork.tokens().empty() && fork.text().empty());
  fork.prompt_tokens(ids);
  CHECK(fork.tokens() == ids && fork.text() == "Hello");
  fork.clear_cloud();

  auto server = hybrid::cloud_options();
  server.url = "https://127.0.0.1:1";
  hybrid::cloud cloud(server);
  CHECK(cloud.breaker().state == HYBRID_BREAKER_STATE_CLOSED);
  CHECK(thrown([&] { cloud.probe(model); }) == HYBRID_ERR_CLOUD);
  hybrid::cancel at_once;
  at_once.raise();
  CHECK(thrown([&] { cloud.probe(model, at_once); }) == HYBRID_ERR_CANCELLED);
  cloud.set_token("secret");
  cloud.clear_token();
  cloud.reset_breaker();
  fork.set_cloud(cloud);
  CHECK(thrown([&] { hybrid::model(std::vector<hybrid_bundle_file>()); }) == HYBRID_ERR_BUNDLE);

  // Moved from one place to another, with the model gone.
  hybrid::session moved = std::move(session);
  CHECK(session.get() == nullptr);
  { hybrid::model gone = std::move(model); }
  moved.reset();
  moved.chat({{"user", "Say hello."}});
  CHECK(!generate(moved, 4).empty());

  // Exceptions and bools come back through the C boundary.
  int steps = 0;
  CHECK(thrown([&] {
          moved.run(9, [&](const hybrid_step_result &) {
            if (++steps == 2) throw hybrid::error(HYBRID_ERR_IO, "from the callback");
          });
        }) == HYBRID_ERR_IO);
  CHECK(steps == 2);
  moved.rewind(1);
  steps = 0;
  moved.run(9, [&](const hybrid_step_result &) { return ++steps < 1; });
  CHECK(steps == 1);
  moved.flush();
  CHECK(moved.stats().tokens > 0);

  hybrid::cancel cancel;
  moved.set_cancel(cancel);
  cancel.raise();
  CHECK(thrown([&] { moved.step(); }) == HYBRID_ERR_CANCELLED);
  cancel.lower();
  moved.clear_cancel();
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  run(argv[1]);
  std::printf("%-14s %4d checks, %d failed\n", "wrapper", checks, failures);
  return failures == 0 ? 0 : 1;
}
