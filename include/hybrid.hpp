// libhybrid for C++17: RAII around hybrid.h and nothing more. Every rule is that of hybrid.h; each
// function here is the C function of that name, with its status turned into an exception.
//
// SPDX-License-Identifier: MIT OR Apache-2.0

#ifndef HYBRID_HPP
#define HYBRID_HPP

#include <cstddef>
#include <cstdint>
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

// A call that failed: the status, and what hybrid_last_error said.
class error : public std::runtime_error {
 public:
  error(hybrid_status status, const std::string &text)
      : std::runtime_error(std::string(hybrid_status_name(status)) + ": " + text),
        status_(status) {}

  hybrid_status status() const noexcept { return status_; }

 private:
  hybrid_status status_;
};

// The text of this thread's last failed call.
inline std::string last_error() {
  std::size_t needed = 0;
  hybrid_last_error(nullptr, 0, &needed);
  std::string text(needed, '\0');
  hybrid_last_error(text.data(), text.size(), nullptr);
  text.resize(needed - 1);
  return text;
}

// Throws hybrid::error unless the status is HYBRID_OK.
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

template <typename T>
T sized() noexcept {
  T out{};
  out.struct_size = sizeof out;
  return out;
}

}  // namespace detail

// The options of hybrid.h with their defaults set.
inline hybrid_model_options model_options() {
  hybrid_model_options options;
  check(hybrid_model_options_init(&options, sizeof options));
  return options;
}

inline hybrid_cloud_options cloud_options() {
  hybrid_cloud_options options;
  check(hybrid_cloud_options_init(&options, sizeof options));
  return options;
}

inline hybrid_session_options session_options() {
  hybrid_session_options options;
  check(hybrid_session_options_init(&options, sizeof options));
  return options;
}

class model : public detail::handle<hybrid_model, hybrid_model_free> {
 public:
  explicit model(const std::string &path, const hybrid_model_options &options = model_options())
      : handle(detail::made<hybrid_model>([&](hybrid_model **out) {
          return hybrid_model_open(path.c_str(), &options, out);
        })) {}

  // Its strings are borrowed until this model is destroyed.
  hybrid_model_info describe() const {
    auto out = detail::sized<hybrid_model_info>();
    check(hybrid_model_describe(get(), &out));
    return out;
  }
};

class cloud : public detail::handle<hybrid_cloud, hybrid_cloud_free> {
 public:
  explicit cloud(const hybrid_cloud_options &options)
      : handle(detail::made<hybrid_cloud>(
            [&](hybrid_cloud **out) { return hybrid_cloud_new(&options, out); })) {}

  bool probe_vocabulary(const model &model) const {
    std::int32_t shared = 0;
    check(hybrid_cloud_probe_vocabulary(get(), model.get(), &shared));
    return shared != 0;
  }
};

class cancel : public detail::handle<hybrid_cancel, hybrid_cancel_free> {
 public:
  cancel() : handle(detail::made<hybrid_cancel>(hybrid_cancel_new)) {}

  void raise() const noexcept { hybrid_cancel_raise(get()); }
  void lower() const noexcept { hybrid_cancel_lower(get()); }
};

struct message {
  std::string role;
  std::string content;
};

// One step with its own copies of the text and bytes; the other fields are those of `result`,
// whose pointers are NULL here.
struct step {
  std::string text;
  std::vector<std::uint8_t> bytes;
  hybrid_step_result result;

  explicit step(const hybrid_step_result &from)
      : text(from.text, from.text_size),
        bytes(from.bytes, from.bytes + from.bytes_size),
        result(from) {
    result.text = nullptr;
    result.bytes = nullptr;
  }

  bool ended() const noexcept { return result.end != HYBRID_END_NONE; }
};

class session : public detail::handle<hybrid_session, hybrid_session_free> {
 public:
  explicit session(const model &model, const hybrid_session_options &options = session_options())
      : handle(make(model, nullptr, options)) {}

  session(const model &model, const cloud &cloud,
          const hybrid_session_options &options = session_options())
      : handle(make(model, cloud.get(), options)) {}

  void set_cancel(const cancel &cancel) { check(hybrid_session_set_cancel(get(), cancel.get())); }
  void clear_cancel() { check(hybrid_session_set_cancel(get(), nullptr)); }

  void prompt(std::string_view text) {
    // A default-made view points nowhere; a text may not.
    const char *data = text.data() != nullptr ? text.data() : "";
    check(hybrid_session_prompt(get(), data, text.size()));
  }

  void chat(const std::vector<message> &messages) {
    std::vector<hybrid_message> list;
    list.reserve(messages.size());
    for (const message &m : messages) list.push_back({m.role.c_str(), m.content.c_str()});
    check(hybrid_session_chat(get(), list.data(), list.size()));
  }

  hybrid::step step() {
    auto out = detail::sized<hybrid_step_result>();
    check(hybrid_step(get(), &out));
    return hybrid::step(out);
  }

  // Calls `on_step(const hybrid_step_result &)` for every token; a callable that returns bool stops
  // with false. What it throws is thrown from here.
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
    auto out = detail::sized<hybrid_peek>();
    check(hybrid_step_peek(get(), &out));
    return out;
  }

  std::string flush() {
    const char *text = nullptr;
    std::size_t size = 0;
    check(hybrid_session_flush(get(), &text, &size));
    return std::string(text, size);
  }

  void rewind(std::size_t count) { check(hybrid_session_rewind(get(), count)); }
  void reset() { check(hybrid_session_reset(get())); }

  std::vector<std::uint8_t> save() const { return saved(hybrid_session_save); }

  void restore(const std::vector<std::uint8_t> &state) {
    check(hybrid_session_restore(get(), state.data(), state.size()));
  }

  std::vector<std::uint8_t> save_corrections() const {
    return saved(hybrid_session_save_corrections);
  }

  void restore_corrections(const std::vector<std::uint8_t> &corrections) {
    check(hybrid_session_restore_corrections(get(), corrections.data(), corrections.size()));
  }

  std::size_t length() const {
    std::size_t out = 0;
    check(hybrid_session_length(get(), &out));
    return out;
  }

  hybrid_stats stats() const {
    auto out = detail::sized<hybrid_stats>();
    check(hybrid_session_stats(get(), &out));
    return out;
  }

 private:
  // What one of the two saving functions writes.
  template <typename Save>
  std::vector<std::uint8_t> saved(Save write) const {
    std::size_t size = 0;
    write(get(), nullptr, 0, &size);
    std::vector<std::uint8_t> bytes(size);
    check(write(get(), bytes.data(), bytes.size(), nullptr));
    return bytes;
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
