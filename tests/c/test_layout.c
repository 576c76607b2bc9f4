// The layout of every struct of the header on 64-bit targets, checked when this file is compiled. It is part of
// the C ABI: a struct that grows gets lines at its end and another size, and no other line ever changes.
// A test in src/ffi/layout.rs compares these lines with Rust's layout.
#include "hybrid.h"

#define SIZE(type, size) _Static_assert(sizeof(type) == (size), "size of " #type)
#define FIELD(type, field, offset, size)                                     \
  _Static_assert(offsetof(type, field) == (offset) &&                        \
                   sizeof(((const type *)0)->field) == (size),               \
                 "offset and size of " #type "." #field)

SIZE(hybrid_model_options, 24);
FIELD(hybrid_model_options, struct_size, 0, 8);
FIELD(hybrid_model_options, verify, 8, 4);
FIELD(hybrid_model_options, threads, 12, 4);
FIELD(hybrid_model_options, kernels, 16, 8);

SIZE(hybrid_model_info, 80);
FIELD(hybrid_model_info, struct_size, 0, 8);
FIELD(hybrid_model_info, name, 8, 8);
FIELD(hybrid_model_info, architecture, 16, 8);
FIELD(hybrid_model_info, reward_cloud_model, 24, 8);
FIELD(hybrid_model_info, parameters, 32, 8);
FIELD(hybrid_model_info, vocabulary, 40, 8);
FIELD(hybrid_model_info, context, 48, 8);
FIELD(hybrid_model_info, layers, 56, 4);
FIELD(hybrid_model_info, hidden_size, 60, 4);
FIELD(hybrid_model_info, has_reward, 64, 4);
FIELD(hybrid_model_info, has_chat_template, 68, 4);
FIELD(hybrid_model_info, default_threshold, 72, 4);
FIELD(hybrid_model_info, reserved, 76, 4);

SIZE(hybrid_session_options, 168);
FIELD(hybrid_session_options, struct_size, 0, 8);
FIELD(hybrid_session_options, stop_strings, 8, 8);
FIELD(hybrid_session_options, stop_string_count, 16, 8);
FIELD(hybrid_session_options, context, 24, 8);
FIELD(hybrid_session_options, mode, 32, 4);
FIELD(hybrid_session_options, score, 36, 4);
FIELD(hybrid_session_options, threshold, 40, 4);
FIELD(hybrid_session_options, burst, 44, 4);
FIELD(hybrid_session_options, consult_deadline_ms, 48, 4);
FIELD(hybrid_session_options, temperature, 52, 4);
FIELD(hybrid_session_options, budget_calls, 56, 8);
FIELD(hybrid_session_options, budget_tokens, 64, 8);
FIELD(hybrid_session_options, budget_bytes, 72, 8);
FIELD(hybrid_session_options, seed, 80, 8);
FIELD(hybrid_session_options, top_k, 88, 4);
FIELD(hybrid_session_options, top_p, 92, 4);
FIELD(hybrid_session_options, min_p, 96, 4);
FIELD(hybrid_session_options, repetition_penalty, 100, 4);
FIELD(hybrid_session_options, repetition_window, 104, 4);
FIELD(hybrid_session_options, draft, 108, 4);
FIELD(hybrid_session_options, target_share, 112, 4);
FIELD(hybrid_session_options, guaranteed_risk, 116, 4);
FIELD(hybrid_session_options, confidence, 120, 4);
FIELD(hybrid_session_options, hold, 124, 4);
FIELD(hybrid_session_options, hold_limit, 128, 8);
FIELD(hybrid_session_options, price_prompt_token, 136, 8);
FIELD(hybrid_session_options, price_token, 144, 8);
FIELD(hybrid_session_options, hand_back, 152, 4);
FIELD(hybrid_session_options, rescue, 156, 4);
FIELD(hybrid_session_options, correction_cache, 160, 4);
FIELD(hybrid_session_options, correction_suffix, 164, 4);

SIZE(hybrid_message, 16);
FIELD(hybrid_message, role, 0, 8);
FIELD(hybrid_message, content, 8, 8);

SIZE(hybrid_step_result, 112);
FIELD(hybrid_step_result, struct_size, 0, 8);
FIELD(hybrid_step_result, text, 8, 8);
FIELD(hybrid_step_result, text_size, 16, 8);
FIELD(hybrid_step_result, bytes, 24, 8);
FIELD(hybrid_step_result, bytes_size, 32, 8);
FIELD(hybrid_step_result, token, 40, 4);
FIELD(hybrid_step_result, candidate, 44, 4);
FIELD(hybrid_step_result, score, 48, 4);
FIELD(hybrid_step_result, source, 52, 4);
FIELD(hybrid_step_result, reason, 56, 4);
FIELD(hybrid_step_result, failure, 60, 4);
FIELD(hybrid_step_result, consulted, 64, 4);
FIELD(hybrid_step_result, end, 68, 4);
FIELD(hybrid_step_result, bytes_sent, 72, 8);
FIELD(hybrid_step_result, bytes_received, 80, 8);
FIELD(hybrid_step_result, cloud_prompt_tokens, 88, 8);
FIELD(hybrid_step_result, local_ns, 96, 8);
FIELD(hybrid_step_result, cloud_ns, 104, 8);

SIZE(hybrid_peek, 24);
FIELD(hybrid_peek, struct_size, 0, 8);
FIELD(hybrid_peek, candidate, 8, 4);
FIELD(hybrid_peek, score, 12, 4);
FIELD(hybrid_peek, would_consult, 16, 4);
FIELD(hybrid_peek, reason, 20, 4);

SIZE(hybrid_cloud_options, 64);
FIELD(hybrid_cloud_options, struct_size, 0, 8);
FIELD(hybrid_cloud_options, url, 8, 8);
FIELD(hybrid_cloud_options, model, 16, 8);
FIELD(hybrid_cloud_options, token, 24, 8);
FIELD(hybrid_cloud_options, ca_file, 32, 8);
FIELD(hybrid_cloud_options, ca_pem, 40, 8);
FIELD(hybrid_cloud_options, ca_pem_size, 48, 8);
FIELD(hybrid_cloud_options, server, 56, 4);
FIELD(hybrid_cloud_options, reserved, 60, 4);

SIZE(hybrid_stats, 152);
FIELD(hybrid_stats, struct_size, 0, 8);
FIELD(hybrid_stats, reserved, 8, 8);
FIELD(hybrid_stats, prompt_tokens, 16, 8);
FIELD(hybrid_stats, tokens, 24, 8);
FIELD(hybrid_stats, local, 32, 8);
FIELD(hybrid_stats, cloud, 40, 8);
FIELD(hybrid_stats, fallback, 48, 8);
FIELD(hybrid_stats, consults, 56, 8);
FIELD(hybrid_stats, consult_failures, 64, 8);
FIELD(hybrid_stats, bytes_sent, 72, 8);
FIELD(hybrid_stats, bytes_received, 80, 8);
FIELD(hybrid_stats, cloud_prompt_tokens, 88, 8);
FIELD(hybrid_stats, prompt_ns, 96, 8);
FIELD(hybrid_stats, local_ns, 104, 8);
FIELD(hybrid_stats, cloud_ns, 112, 8);
FIELD(hybrid_stats, score_ns, 120, 8);
FIELD(hybrid_stats, cloud_answer_tokens, 128, 8);
FIELD(hybrid_stats, rescued, 136, 8);
FIELD(hybrid_stats, cached, 144, 8);

int main(void) { return 0; }
