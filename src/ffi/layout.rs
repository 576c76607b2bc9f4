//! The structs have in Rust the layout that `tests/c/abi.txt` states, which `scripts/check-abi`
//! compares with what C compilers make of the header.

use super::sized::end_of;
use super::{
    budget::*, cloud::*, consult::*, context::*, corrections::*, gate::*, model::*, network::*,
    result::*, sampling::*, session::*,
};

const STATED: &str = include_str!("../../tests/c/abi.txt");

/// The lines for these structs, without types. Does not compile when a field is forgotten.
macro_rules! lines {
    ($($type:ident { $($field:ident),* $(,)? })*) => {{
        let mut lines = Vec::new();
        $(
            let _all_fields = |$type { $($field: _),* }: $type| ();
            lines.push(format!("struct {} {}", stringify!($type), size_of::<$type>()));
            $(
                let offset = std::mem::offset_of!($type, $field);
                let size = end_of!($type, $field) - offset;
                lines.push(format!("{offset} {size} {}", stringify!($field)));
            )*
        )*
        lines
    }};
}

/// In the order of their names.
fn ours() -> Vec<String> {
    lines! {
        hybrid_breaker { struct_size, state, failures, retry_in_ms }
        hybrid_budget {
            struct_size, consults, tokens, bytes, hold_limit, price_prompt_token,
            price_answer_token, hold, reserved,
        }
        hybrid_bundle_file { name, data, size }
        hybrid_cloud_network { struct_size, headers, header_count, proxy }
        hybrid_cloud_options {
            struct_size, url, model, token, ca_file, ca_pem, ca_pem_size, server, reserved, network,
            trust,
        }
        hybrid_cloud_trust {
            struct_size, pins, pin_count, client_file, client_pem, client_pem_size, system_too,
            reserved,
        }
        hybrid_consult { struct_size, burst, deadline_ms, hand_back, rescue, overlap, warm }
        hybrid_consult_result {
            struct_size, consulted, failure, http_status, reserved, bytes_sent, bytes_received,
            billed_prompt_tokens, answer_tokens, cloud_ns,
        }
        hybrid_corrections { struct_size, capacity, suffix }
        hybrid_gate {
            struct_size, mode, score, threshold_by, threshold, share, risk, confidence, reserved,
        }
        hybrid_header { name, value }
        hybrid_logit_bias { token, bias }
        hybrid_logprob { token, logprob }
        hybrid_message { struct_size, role, content }
        hybrid_model_info {
            struct_size, name, architecture, reward_cloud_model, parameters, vocabulary, context,
            layers, hidden_size, features, default_threshold,
        }
        hybrid_model_options {
            struct_size, verify, threads, kernels, progress, progress_user, public_key,
        }
        hybrid_peek { struct_size, candidate, score, would_consult, reason }
        hybrid_probe { struct_size, exchange, server }
        hybrid_sampling {
            struct_size, temperature, top_k, top_p, min_p, repetition_penalty, repetition_window,
        }
        hybrid_session_options {
            struct_size, stop_strings, stop_string_count, context, seed, draft, reserved,
        }
        hybrid_stats {
            struct_size, prompt_tokens, tokens, local, cloud, fallback, corrections, rescued,
            prompt_ns, local_ns, score_ns, overlap_ns,
        }
        hybrid_step_details {
            struct_size, bytes, bytes_size, logprobs, logprob_count, local_ns,
        }
        hybrid_step_result {
            struct_size, text, text_size, token, candidate, score, source, reason, end, details,
            consult,
        }
        hybrid_usage {
            struct_size, consults, failures, bytes_sent, bytes_received, billed_prompt_tokens,
            answer_tokens, cloud_ns, requests,
        }
    }
}

#[test]
fn our_layout_is_the_one_that_is_stated() {
    // A field is its offset, its size, its type and its name.
    let field = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (offset, size, name) = (words.first()?, words.get(1)?, words.last()?);
        offset.parse::<usize>().ok()?;
        Some(format!("{offset} {size} {name}"))
    };
    let stated = STATED.lines().filter_map(|line| match line.starts_with("struct ") {
        true => Some(line.to_owned()),
        false => field(line),
    });
    assert_eq!(ours(), stated.collect::<Vec<_>>(), "run cargo xtask header, scripts/check-abi");
}

/// Small enough to be read as a manual.
#[test]
fn no_struct_has_more_than_twelve_fields() {
    let mut fields = 0;
    for line in ours() {
        fields = if line.starts_with("struct ") { 0 } else { fields + 1 };
        assert!(fields <= 12, "{line}");
    }
}
