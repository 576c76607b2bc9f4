//! The structs of the header have the layout that `tests/c/test_layout.c` states, where C compilers check
//! it for every target. The numbers are there only.

use super::sized::end_of;
use super::{cloud::*, context::*, model::*, options::*, session::*, step::*};

const STATED: &str = include_str!("../../tests/c/test_layout.c");
const HEADER: &str = include_str!("../../include/hybrid.h");

/// The lines of the C file for these structs. Does not compile when a field is forgotten.
macro_rules! lines {
    ($($type:ident { $($field:ident),* })*) => {{
        let mut lines = Vec::new();
        $(
            let _all_fields = |$type { $($field: _),* }: $type| ();
            let name = stringify!($type);
            lines.push(format!("SIZE({name}, {});", size_of::<$type>()));
            $(
                let offset = std::mem::offset_of!($type, $field);
                let size = end_of!($type, $field) - offset;
                lines.push(format!("FIELD({name}, {}, {offset}, {size});", stringify!($field)));
            )*
        )*
        lines
    }};
}

fn ours() -> Vec<String> {
    lines! {
        hybrid_model_options { struct_size, verify, threads, kernels }
        hybrid_model_info {
            struct_size, name, architecture, reward_cloud_model, parameters, vocabulary, context, layers,
            hidden_size, has_reward, has_chat_template, default_threshold, reserved
        }
        hybrid_session_options {
            struct_size, stop_strings, stop_string_count, context, mode, score, threshold, burst,
            consult_deadline_ms, temperature, budget_calls, budget_tokens, budget_bytes, seed, top_k,
            top_p, min_p, repetition_penalty, repetition_window, draft, target_share, guaranteed_risk,
            confidence, hold, hold_limit, price_prompt_token, price_token, hand_back,
            rescue, correction_cache, correction_suffix
        }
        hybrid_message { role, content }
        hybrid_step_result {
            struct_size, text, text_size, bytes, bytes_size, token, candidate, score, source, reason,
            failure, consulted, end, bytes_sent, bytes_received, cloud_prompt_tokens, local_ns, cloud_ns
        }
        hybrid_peek { struct_size, candidate, score, would_consult, reason }
        hybrid_cloud_options {
            struct_size, url, model, token, ca_file, ca_pem, ca_pem_size, server, reserved
        }
        hybrid_stats {
            struct_size, reserved, prompt_tokens, tokens, local, cloud, fallback, consults,
            consult_failures, bytes_sent, bytes_received, cloud_prompt_tokens, prompt_ns, local_ns,
            cloud_ns, score_ns, cloud_answer_tokens, rescued, cached
        }
    }
}

#[test]
fn the_c_file_states_our_layout() {
    let is_stated = |line: &&str| line.starts_with("SIZE(") || line.starts_with("FIELD(");
    let stated: Vec<_> = STATED.lines().filter(is_stated).collect();
    assert_eq!(stated, ours(), "tests/c/test_layout.c: see its first lines");
}

#[test]
fn no_struct_of_the_header_is_forgotten() {
    let structs =
        HEADER.lines().filter_map(|line| line.strip_prefix("typedef struct ")?.strip_suffix(" {"));
    let stated = STATED.lines().filter_map(|line| line.strip_prefix("SIZE(")?.split(',').next());
    assert_eq!(structs.collect::<Vec<_>>(), stated.collect::<Vec<_>>());
}
