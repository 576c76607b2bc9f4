/// @file
/// libhybrid for C++17: RAII around hybrid.h and nothing more. Every rule is that of hybrid.h. Each
/// function here stands for the C function of that name, with its status turned into an exception.
/// Setters that differ by the struct they take are one overloaded `set`.
///
/// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef HYBRID_HPP
#define HYBRID_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "hybrid.h"

namespace hybrid {

/// A call that failed: the status, and what hybrid_last_error said.
class error : public std::runtime_error {
 public:
  error(hybrid_status status, const std::string &text)
      : std::runtime_error(std::string(hybrid_status_name(status)) + ": " + text),
        status_(status) {}

  hybrid_status status() const noexcept { return status_; }

 private:
  hybrid_status status_;
};

/// The text of this thread's last failed call.
inline std::string last_error() {
  std::size_t needed = 0;
  hybrid_last_error(nullptr, 0, &needed);
  std::string text(needed, '\0');
  hybrid_last_error(text.data(), text.size(), nullptr);
  text.resize(needed - 1);
  return text;
}

/// Throws hybrid::error unless the status is HYBRID_OK.
inline void check(hybrid_status status) {
  if (status != HYBRID_OK) throw error(status, last_error());
}

namespace detail {

// Owns a C object: moves, does not copy, frees once.
template <typename T, void (*Free)(T *)>
class handle {
 public:
  T *get() const noexcept { return pointer_.get(); }

 protected:
  explicit handle(T *pointer) noexcept : pointer_(pointer) {}

 private:
  struct deleter {
    void operator()(T *pointer) const noexcept { Free(pointer); }
  };
  std::unique_ptr<T, deleter> pointer_;
};

// The object that a C constructor makes.
template <typename T, typename Make>
T *made(Make make) {
  T *out = nullptr;
  check(make(&out));
  return out;
}

// A struct that a C function reads into.
template <typename T, typename Read>
T read(Read read) {
  T out{};
  out.struct_size = sizeof out;
  check(read(&out));
  return out;
}

// A struct with its defaults.
template <typename T>
T defaults(hybrid_status (*init)(T *, std::size_t)) {
  T out;
  check(init(&out, sizeof out));
  return out;
}

// What a C function copies: asked for its size first. `Container` holds elements of that function.
template <typename Container, typename Copy>
Container copied(Copy copy) {
  std::size_t needed = 0;
  const hybrid_status status = copy(nullptr, 0, &needed);
  if (status != HYBRID_ERR_BUFFER_TOO_SMALL) check(status);
  Container out(needed, typename Container::value_type());
  if (needed > 0) check(copy(out.data(), out.size(), nullptr));
  return out;
}

// A copy of a struct that the library made. An older library has fewer fields: the others are 0.
template <typename T>
T known(const T &from) {
  T out{};
  std::memcpy(&out, &from, std::min(from.struct_size, sizeof out));
  return out;
}

// A default-made view points nowhere; a text may not.
inline const char *data(std::string_view text) noexcept {
  return text.data() != nullptr ? text.data() : "";
}

}  // namespace detail

/// hybrid_model_options with their defaults.
inline hybrid_model_options model_options() { return detail::defaults(hybrid_model_options_init); }

/// hybrid_cloud_options with their defaults.
inline hybrid_cloud_options cloud_options() { return detail::defaults(hybrid_cloud_options_init); }

/// hybrid_cloud_network with its defaults.
inline hybrid_cloud_network cloud_network() { return detail::defaults(hybrid_cloud_network_init); }

/// hybrid_cloud_trust with its defaults.
inline hybrid_cloud_trust cloud_trust() { return detail::defaults(hybrid_cloud_trust_init); }

/// hybrid_session_options with their defaults.
inline hybrid_session_options session_options() {
  return detail::defaults(hybrid_session_options_init);
}

/// hybrid_sampling with its defaults.
inline hybrid_sampling sampling() { return detail::defaults(hybrid_sampling_init); }

/// hybrid_gate with its defaults.
inline hybrid_gate gate() { return detail::defaults(hybrid_gate_init); }

/// hybrid_consult with its defaults.
inline hybrid_consult consult() { return detail::defaults(hybrid_consult_init); }

/// hybrid_budget with its defaults.
inline hybrid_budget budget() { return detail::defaults(hybrid_budget_init); }

/// hybrid_corrections with their defaults.
inline hybrid_corrections corrections() { return detail::defaults(hybrid_corrections_init); }

/// A bundle loaded for use.
class model : public detail::handle<hybrid_model, hybrid_model_free> {
 public:
  explicit model(const std::string &path, const hybrid_model_options &options = model_options())
      : handle(detail::made<hybrid_model>([&](hybrid_model **out) {
          return hybrid_model_open(path.c_str(), &options, out);
        })) {}

  /// A bundle in memory, which must outlive the model and its sessions.
  explicit model(const std::vector<hybrid_bundle_file> &files,
                 const hybrid_model_options &options = model_options())
      : handle(detail::made<hybrid_model>([&](hybrid_model **out) {
          return hybrid_model_open_memory(files.data(), files.size(), &options, out);
        })) {}

  /// Its strings are borrowed until this model is destroyed.
  hybrid_model_info describe() const {
    return detail::read<hybrid_model_info>(
        [&](hybrid_model_info *out) { return hybrid_model_describe(get(), out); });
  }

  std::vector<std::uint32_t> tokenize(std::string_view text, std::uint32_t flags = 0) const {
    return detail::copied<std::vector<std::uint32_t>>(
        [&](std::uint32_t *tokens, std::size_t capacity, std::size_t *needed) {
          return hybrid_model_tokenize(get(), detail::data(text), text.size(), flags,
                                       tokens, capacity, needed);
        });
  }

  std::size_t count_tokens(std::string_view text, std::uint32_t flags = 0) const {
    std::size_t count = 0;
    check(hybrid_model_count_tokens(get(), detail::data(text), text.size(), flags,
                                    &count));
    return count;
  }

  /// The exact bytes, which are UTF-8 unless the tokens begin or end within a character.
  std::string detokenize(const std::vector<std::uint32_t> &tokens,
                         std::uint32_t flags = 0) const {
    const auto bytes = detail::copied<std::vector<std::uint8_t>>(
        [&](std::uint8_t *buffer, std::size_t capacity, std::size_t *needed) {
          return hybrid_model_detokenize(get(), tokens.data(), tokens.size(), flags,
                                         buffer, capacity, needed);
        });
    return std::string(bytes.begin(), bytes.end());
  }
};

/// A flag that stops calls.
class cancel : public detail::handle<hybrid_cancel, hybrid_cancel_free> {
 public:
  cancel() : handle(detail::made<hybrid_cancel>(hybrid_cancel_new)) {}

  void raise() noexcept { hybrid_cancel_raise(get()); }
  void lower() noexcept { hybrid_cancel_lower(get()); }
};

/// A client of one cloud LLM.
class cloud : public detail::handle<hybrid_cloud, hybrid_cloud_free> {
 public:
  explicit cloud(const hybrid_cloud_options &options)
      : handle(detail::made<hybrid_cloud>(
            [&](hybrid_cloud **out) { return hybrid_cloud_new(&options, out); })) {}

  hybrid_probe probe(const model &model) { return probe(model, nullptr); }
  hybrid_probe probe(const model &model, const cancel &cancel) {
    return probe(model, cancel.get());
  }

  void set_token(const std::string &token) {
    check(hybrid_cloud_set_token(get(), token.c_str()));
  }
  void clear_token() { check(hybrid_cloud_set_token(get(), nullptr)); }

  hybrid_breaker breaker() const {
    return detail::read<hybrid_breaker>(
        [&](hybrid_breaker *out) { return hybrid_cloud_breaker(get(), out); });
  }
  void reset_breaker() { check(hybrid_cloud_reset_breaker(get())); }

 private:
  hybrid_probe probe(const model &model, const hybrid_cancel *cancel) {
    return detail::read<hybrid_probe>([&](hybrid_probe *out) {
      return hybrid_cloud_probe(get(), model.get(), cancel, out);
    });
  }
};

/// One message of a chat.
struct message {
  std::string role;
  std::string content;
};

/// One step with copies of what hybrid_step_result borrows. The other fields are those of `result`,
/// whose pointers are NULL here, as are those of `details`.
struct step {
  std::string text;
  std::vector<std::uint8_t> bytes;
  std::vector<hybrid_logprob> logprobs;
  hybrid_step_details details;
  hybrid_consult_result consult;
  hybrid_step_result result;

  explicit step(const hybrid_step_result &from)
      : text(from.text, from.text_size),
        bytes(from.details->bytes, from.details->bytes + from.details->bytes_size),
        logprobs(from.details->logprobs, from.details->logprobs + from.details->logprob_count),
        details(detail::known(*from.details)),
        consult(detail::known(*from.consult)),
        result(detail::known(from)) {
    result.text = nullptr;
    result.details = nullptr;
    result.consult = nullptr;
    details.bytes = nullptr;
    details.logprobs = nullptr;
  }

  bool ended() const noexcept { return result.end != HYBRID_END_NONE; }
};

/// One conversation.
class session : public detail::handle<hybrid_session, hybrid_session_free> {
 public:
  explicit session(const model &model, const hybrid_session_options &options = session_options())
      : handle(make(model, nullptr, options)) {}

  session(const model &model, const cloud &cloud,
          const hybrid_session_options &options = session_options())
      : handle(make(model, cloud.get(), options)) {}

  session fork() const {
    return session(detail::made<hybrid_session>(
        [&](hybrid_session **out) { return hybrid_session_fork(get(), out); }));
  }

  void set_cloud(const cloud &cloud) { check(hybrid_session_set_cloud(get(), cloud.get())); }
  void clear_cloud() { check(hybrid_session_set_cloud(get(), nullptr)); }

  void set_cancel(const cancel &cancel) { check(hybrid_session_set_cancel(get(), cancel.get())); }
  void clear_cancel() { check(hybrid_session_set_cancel(get(), nullptr)); }

  void set(const hybrid_sampling &to) { check(hybrid_session_set_sampling(get(), &to)); }
  void set(const hybrid_gate &to) { check(hybrid_session_set_gate(get(), &to)); }
  void set(const hybrid_consult &to) { check(hybrid_session_set_consult(get(), &to)); }
  void set(const hybrid_budget &to) { check(hybrid_session_set_budget(get(), &to)); }
  void set(const hybrid_corrections &to) { check(hybrid_session_set_corrections(get(), &to)); }

  hybrid_sampling sampling() const { return read_by(hybrid_session_get_sampling); }
  hybrid_gate gate() const { return read_by(hybrid_session_get_gate); }
  hybrid_consult consult() const { return read_by(hybrid_session_get_consult); }
  hybrid_budget budget() const { return read_by(hybrid_session_get_budget); }
  hybrid_corrections corrections() const { return read_by(hybrid_session_get_corrections); }

  void set_logit_bias(const std::vector<hybrid_logit_bias> &biases) {
    check(hybrid_session_set_logit_bias(get(), biases.data(), biases.size()));
  }
  void set_top_logprobs(std::uint32_t count) {
    check(hybrid_session_set_top_logprobs(get(), count));
  }
  void set_thinking(hybrid_thinking thinking) {
    check(hybrid_session_set_thinking(get(), thinking));
  }

  void prompt(std::string_view text) {
    check(hybrid_session_prompt(get(), detail::data(text), text.size()));
  }

  void prompt_tokens(const std::vector<std::uint32_t> &tokens) {
    check(hybrid_session_prompt_tokens(get(), tokens.data(), tokens.size()));
  }

  void chat(const std::vector<message> &messages) {
    std::vector<hybrid_message> list;
    list.reserve(messages.size());
    for (const message &m : messages) {
      list.push_back({sizeof(hybrid_message), m.role.c_str(), m.content.c_str()});
    }
    check(hybrid_session_chat(get(), list.data(), list.size()));
  }

  hybrid::step step() {
    return hybrid::step(detail::read<hybrid_step_result>(
        [&](hybrid_step_result *out) { return hybrid_step(get(), out); }));
  }

  /// Calls `on_step(const hybrid_step_result &)` for every token. A callable that returns bool
  /// stops with false. What it throws is thrown from here.
  template <typename Callable>
  hybrid_end run(std::size_t max_tokens, Callable &&on_step) {
    trampoline<std::remove_reference_t<Callable>> call{on_step, nullptr};
    hybrid_end end = HYBRID_END_NONE;
    const hybrid_status status = hybrid_step_run(get(), max_tokens, call.enter, &call, &end);
    if (call.thrown) std::rethrow_exception(call.thrown);
    check(status);
    return end;
  }

  hybrid_peek peek() {
    return detail::read<hybrid_peek>(
        [&](hybrid_peek *out) { return hybrid_step_peek(get(), out); });
  }

  std::string flush() {
    const char *text = nullptr;
    std::size_t size = 0;
    check(hybrid_session_flush(get(), &text, &size));
    return std::string(text, size);
  }

  void rewind(std::size_t count) { check(hybrid_session_rewind(get(), count)); }
  void reset() { check(hybrid_session_reset(get())); }

  std::vector<std::uint8_t> save() const { return copy<std::uint8_t>(hybrid_session_save); }

  void restore(const std::vector<std::uint8_t> &state) {
    check(hybrid_session_restore(get(), state.data(), state.size()));
  }

  std::vector<std::uint8_t> save_corrections() const {
    return copy<std::uint8_t>(hybrid_session_save_corrections);
  }

  void restore_corrections(const std::vector<std::uint8_t> &corrections) {
    check(hybrid_session_restore_corrections(get(), corrections.data(), corrections.size()));
  }

  std::size_t length() const {
    std::size_t out = 0;
    check(hybrid_session_length(get(), &out));
    return out;
  }

  std::vector<std::uint32_t> tokens() const { return copy<std::uint32_t>(hybrid_session_tokens); }

  std::string text() const {
    std::vector<char> text = copy<char>(hybrid_session_text);
    return std::string(text.data(), text.size() - 1);
  }

  hybrid_stats stats() const { return read_by(hybrid_session_stats); }
  hybrid_usage usage() const { return read_by(hybrid_session_usage); }

 private:
  explicit session(hybrid_session *pointer) noexcept : handle(pointer) {}

  template <typename T>
  T read_by(hybrid_status (*get_from)(hybrid_session *, T *)) const {
    return detail::read<T>([&](T *out) { return get_from(get(), out); });
  }

  template <typename T>
  std::vector<T> copy(hybrid_status (*from)(hybrid_session *, T *, std::size_t,
                                            std::size_t *)) const {
    return detail::copied<std::vector<T>>([&](T *buffer, std::size_t capacity,
                                              std::size_t *needed) {
      return from(get(), buffer, capacity, needed);
    });
  }

  static hybrid_session *make(const model &model, const hybrid_cloud *cloud,
                              const hybrid_session_options &options) {
    return detail::made<hybrid_session>([&](hybrid_session **out) {
      return hybrid_session_new(model.get(), cloud, &options, out);
    });
  }

  // Keeps exceptions from crossing the C boundary.
  template <typename Callable>
  struct trampoline {
    Callable &callable;
    std::exception_ptr thrown;

    static std::int32_t enter(const hybrid_step_result *step, void *user) noexcept {
      auto &self = *static_cast<trampoline *>(user);
      try {
        if constexpr (std::is_same_v<decltype(self.callable(*step)), bool>) {
          return self.callable(*step) ? 0 : 1;
        } else {
          self.callable(*step);
          return 0;
        }
      } catch (...) {
        self.thrown = std::current_exception();
        return 1;
      }
    }
  };
};

}  // namespace hybrid

#endif  // HYBRID_HPP
