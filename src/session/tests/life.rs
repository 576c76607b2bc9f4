//! Prompt, end, rewind, cancel, chat: what happens around steps.

use super::*;

#[test]
fn misuse() {
    let mut session = Bench::new(endless()).session();
    assert!(session.is_empty());
    assert!(matches!(session.step(), Err(Error::State(_))));
    assert!(matches!(session.peek(), Err(Error::State(_))));
    assert!(matches!(session.run(0, &mut |_| true), Err(Error::State(_))));
    assert!(matches!(session.prompt(""), Err(Error::InvalidArgument(_))));
    assert!(matches!(session.rewind(1), Err(Error::InvalidArgument(_))));
    assert!(matches!(session.chat(&[]), Err(Error::Unsupported(_))));
    session.rewind(0).unwrap();
    session.reset();
    assert_eq!(session.stats(), Stats::default());
}

#[test]
fn stop_strings_end_the_text() {
    let mut bench = Bench::new(spelling(1, "one\n\ntwo"));
    bench.options.stop_strings = vec!["\n\n".into(), "never".into()];
    let mut session = bench.prompted();
    let got = steps(&mut session, 100);
    assert_eq!(text_of(&got), "one");
    assert_eq!(got.last().unwrap().end, End::StopString);
    assert_eq!(session.flush(), "");
    assert!(matches!(session.step(), Err(Error::State(_))));
    assert!(matches!(session.run(0, &mut |_| true), Err(Error::State(_))));
    // Back to the first of the two: what was held back then is held back again.
    session.rewind(1).unwrap();
    assert_eq!(session.step().unwrap().end, End::StopString);
    session.rewind(2).unwrap();
    assert_eq!(session.step().unwrap().text, "", "held back");
    session.prompt("x").unwrap();
    assert_eq!(session.flush(), "", "a prompt drops it");
}

#[test]
fn a_stop_token_releases_what_was_held_back() {
    let mut bench = Bench::new(spelling(1, "abE"));
    bench.options.stop_strings = vec!["END".into()];
    let got = steps(&mut bench.prompted(), 100);
    let texts: Vec<_> = got.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(texts, ["a", "b", "", "E"]);
}

#[test]
fn flush_gives_what_is_left() {
    let mut session = Bench::new(spelling(1, "é")).prompted();
    assert_eq!(session.step().unwrap().text, "");
    assert_eq!(session.flush(), "\u{FFFD}");
    assert_eq!(session.flush(), "");
}

#[test]
fn a_full_context_loses_nothing() {
    let mut bench = Bench::new(endless());
    for after in [false, true] {
        (bench.capacity, bench.after) = (5, after);
        let mut session = bench.prompted();
        let full =
            |used, needed| Err::<(), _>(format!("context full: {used} used + {needed} needed > 5"));
        let cut = |error: Error| error.to_string().split(';').next().unwrap_or_default().to_owned();
        assert_eq!(session.prompt("12345").map_err(cut), full(1, 5));
        assert_eq!(steps(&mut session, 4).len(), 4);
        let before = session.tokens().to_vec();
        assert_eq!(session.step().map(drop).map_err(cut), full(5, 1));
        assert_eq!(session.peek().map(drop).map_err(cut), full(5, 1));
        assert_eq!(session.tokens(), before);
        session.rewind(2).unwrap();
        steps(&mut session, 2);
        assert_eq!(session.tokens(), before, "greedy: the same tokens again");
    }
}

/// A burst longer than the context: its tokens wait until there is room.
#[test]
fn a_full_context_keeps_the_burst() {
    let cloud = FakeCloud::new(true, always(ids(&[byte(b'x'), byte(b'y'), byte(b'z')])));
    let mut bench = Bench::weak(endless(), &cloud);
    (bench.capacity, bench.consult.burst) = (3, 3);
    let mut session = bench.prompted();
    assert_eq!(text_of(&steps(&mut session, 2)), "xy");
    assert!(matches!(session.step(), Err(Error::ContextFull { used: 3, needed: 1, limit: 3 })));
    assert_eq!(session.len(), 3);
}

#[test]
fn a_peek_draws_once() {
    let mut bench = Bench::new(endless());
    bench.options.seed = 1;
    bench.sampling.temperature = 2.0;
    for after in [false, true] {
        bench.after = after;
        let straight: Vec<u32> = steps(&mut bench.prompted(), 30).iter().map(|s| s.token).collect();
        bench.take_log();
        let mut session = bench.prompted();
        for &token in &straight {
            let peek = session.peek().unwrap();
            assert_eq!(session.peek().unwrap(), peek);
            assert_eq!((peek.candidate, peek.score, peek.would_consult), (token, 1.0, false));
            assert_eq!(session.step().unwrap().token, token);
        }
        let feeds = bench.take_log();
        assert!(feeds.iter().all(|&n| n == 1) && feeds.len() == 30 + usize::from(after));
    }
}

#[test]
fn a_peek_says_what_a_step_would_do() {
    let cloud = FakeCloud::new(true, always(ids(&[HELLO])));
    let mut session = Bench::weak(endless(), &cloud).prompted();
    let peek = session.peek().unwrap();
    assert_eq!((peek.would_consult, peek.reason, peek.score), (true, Reason::Weak, 0.0));
    assert_eq!((cloud.calls(), session.len()), (0, 1));
}

/// Cancelled anywhere, the session is as before, down to the sampler's next draw.
#[test]
fn cancelling_loses_nothing() {
    let cancelled = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let during = cancelled.clone();
    let cloud = FakeCloud::new(
        true,
        Arc::new(move |_| match during.load(Relaxed) {
            true => Err(Failure::Cancelled),
            false => ids(&[byte(b'c')]),
        }),
    );
    let mut bench = Bench::weak(endless(), &cloud);
    bench.score = Arc::new(|f| (f.candidate % 2) as f32);
    bench.sampling.temperature = 3.0;
    for after in [false, true] {
        bench.after = after;
        let straight = steps(&mut bench.prompted(), 40);
        let mut session = bench.prompted();
        let cancel = Cancel::new();
        session.set_cancel(cancel.clone());
        for step in &straight {
            let before = session.tokens().to_vec();
            cancel.raise();
            assert!(matches!(session.step(), Err(Error::Cancelled)));
            assert!(matches!(session.prompt("more"), Err(Error::Cancelled)));
            cancel.lower();
            cancelled.store(true, Relaxed);
            if session.peek().unwrap().would_consult {
                let consults = session.usage().consults;
                assert!(matches!(session.step(), Err(Error::Cancelled)));
                assert_eq!(session.usage().consults, consults + 1, "its bytes were sent");
            }
            cancelled.store(false, Relaxed);
            assert_eq!(session.tokens(), before);
            let again = session.step().unwrap();
            assert_eq!((again.token, again.source), (step.token, step.source));
        }
    }
}

/// A cancel that comes while the SLM works: the prompt is taken back as a whole.
#[test]
fn a_cancelled_prompt_is_taken_back() {
    let cancel = Cancel::new();
    let raise = cancel.clone();
    let mut bench = Bench::new(endless());
    bench.after = true;
    // The fake SLM checks before it feeds; the score of the peek comes before the prompt's feed.
    bench.score = Arc::new(move |_| {
        raise.raise();
        1.0
    });
    let mut session = bench.prompted();
    session.set_cancel(cancel.clone());
    let peek = session.peek().unwrap();
    assert!(matches!(session.prompt("more"), Err(Error::Cancelled)));
    assert_eq!((session.len(), session.stats().prompt_tokens), (1, 1));
    cancel.lower();
    assert_eq!(session.step().unwrap().token, peek.candidate);
}

#[test]
fn rewinding() {
    let mut bench = Bench::new(endless());
    for after in [false, true] {
        bench.after = after;
        let mut session = bench.prompted();
        let straight: Vec<u32> = steps(&mut session, 10).iter().map(|s| s.token).collect();
        for n in [1, 3, 10] {
            session.rewind(n).unwrap();
            let again: Vec<u32> = steps(&mut session, n).iter().map(|s| s.token).collect();
            assert_eq!(again, straight[10 - n..]);
        }
        session.peek().unwrap();
        session.rewind(11).unwrap();
        assert!(session.is_empty());
        session.prompt(">").unwrap();
        assert_eq!(steps(&mut session, 10).iter().map(|s| s.token).collect::<Vec<_>>(), straight);
        session.reset();
        assert!(matches!(session.step(), Err(Error::State(_))));
        assert_eq!(session.stats().tokens, 34, "statistics stay");
    }
}

#[test]
fn a_prompt_of_ids_is_taken_as_it_is() {
    let bench = Bench::new(endless());
    let mut session = bench.session();
    assert!(matches!(session.prompt_tokens(&[]), Err(Error::InvalidArgument(_))));
    let error = session.prompt_tokens(&[USER, PADDING]).unwrap_err().to_string();
    assert!(error.contains(&format!("token {PADDING}")), "{error}");
    assert!(session.is_empty());
    session.prompt_tokens(&[byte(b'>')]).unwrap();
    assert_eq!(session.stats().prompt_tokens, 1);
    let mut other = bench.prompted();
    let told =
        |session: &mut Session| steps(session, 9).iter().map(|s| s.token).collect::<Vec<_>>();
    assert_eq!(told(&mut session), told(&mut other));
}

#[test]
fn the_whole_text() {
    let mut session = Bench::new(spelling(2, "né")).session();
    assert_eq!(session.text(), "");
    session.prompt("<|user|>>").unwrap();
    let texts = ["n", "n\u{FFFD}", "né"].map(|text| {
        session.step().unwrap();
        assert_eq!(session.text(), format!("<|user|>>{text}"));
    });
    assert_eq!(texts.len(), 3);
    session.rewind(2).unwrap();
    assert_eq!(session.text(), "<|user|>>n");
}

/// A turn with thinking off goes on with thinking on; roles are the template's.
#[test]
fn thinking_and_roles_are_the_templates() {
    let mut bench = Bench::new(endless());
    bench.template = Some(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\
         {% if add_generation_prompt %}\
         {% if enable_thinking is defined and not enable_thinking %}<no>{% else %}<yes>{% endif %}\
         {% endif %}",
    );
    let tool = |content: &str| Message { role: "tool".into(), content: content.into() };
    let mut session = bench.session();
    session.set_thinking(Some(false));
    session.chat(&[tool("a")]).unwrap();
    assert_eq!(session.text(), "[tool]a<no>");
    session.set_thinking(None);
    session.chat(&[tool("b")]).unwrap();
    assert_eq!(session.text(), "[tool]a<no>[tool]b<yes>");
}

const CHATML: &str = "{% for m in messages %}\
                      <|user|>{{ m.role }}:{{ m.content }}<|end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|user|>assistant:{% endif %}";

#[test]
fn a_chat_goes_on() {
    let user = |content: &str| Message { role: "user".into(), content: content.into() };
    let first = "<|user|>user:a<|end|>\n<|user|>assistant:";
    let rows = [
        // steps to take, what they bring, text of the second turn
        (9, "hi<|end|>", "\n<|user|>user:b<|end|>\n<|user|>assistant:"),
        (1, "h", "<|end|>\n<|user|>user:b<|end|>\n<|user|>assistant:"),
        (0, "", "<|user|>user:b<|end|>\n<|user|>assistant:"),
    ];
    let prompt = byte_level().encode(first, true).unwrap().len();
    let mut bench = Bench::new(spelling(prompt, "hi"));
    bench.template = Some(CHATML);
    for (max, answer, second) in rows {
        let mut session = bench.session();
        session.chat(&[user("a")]).unwrap();
        steps(&mut session, max);
        let before = session.len();
        session.chat(&[user("b")]).unwrap();
        let all = String::from_utf8(session.conversation.context.bytes().to_vec()).unwrap();
        assert_eq!(all, format!("{first}{answer}{second}"));
        // Taken back, the turn can be given again, and differently.
        session.rewind(session.len() - before).unwrap();
        session.chat(&[user("c")]).unwrap();
        let other = String::from_utf8(session.conversation.context.bytes().to_vec()).unwrap();
        assert_eq!(other, all.replace(":b", ":c"));
        session.chat(&[user("d")]).unwrap();
        session.reset();
        session.chat(&[user("a")]).unwrap();
        assert_eq!(session.conversation.context.bytes(), first.as_bytes());
    }
}

#[test]
fn statistics_are_the_sums_of_the_steps() {
    let cloud = FakeCloud::new(
        true,
        Arc::new(|r| match r.ids.len() % 4 {
            0 => Err(Failure::Status),
            1 => ids(&[byte(b'x'), byte(b'y')]),
            _ => ids(&[byte(b'x')]),
        }),
    );
    let mut bench = Bench::weak(endless(), &cloud);
    bench.score = Arc::new(|f| (f.candidate % 3) as f32);
    bench.consult.burst = 2;
    let mut session = bench.prompted();
    let got = steps(&mut session, 200);
    let stats = session.stats();
    property::check_sums(&got, &session, 0);
    assert!(stats.local > 0 && stats.cloud > 0 && stats.fallback > 0, "{stats:?}");
    assert_eq!(stats.prompt_tokens, 1);
    assert!(stats.score_time <= stats.local_time);
}
