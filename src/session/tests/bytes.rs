//! Clouds that take and bring bytes: how much is taken, and those that want messages.

use super::*;

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\
                        {% if add_generation_prompt %}<assistant>{% endif %}";

/// However much a server sends.
#[test]
fn bytes_keep_to_the_burst_and_the_budget() {
    // What comes, burst, budget, tokens of the cloud in eight steps.
    let rows = [
        ("aaaaaaaaaaaaaaaa", 1, 5, 5),
        ("aaaaaaaaaaaaaaaa", 3, 5, 5),
        ("😀😀😀", 1, 4, 4),
        ("😀😀😀", 1, 3, 0),
        ("😀😀😀", 1, 7, 4),
        ("éa", 1, 100, 8),
    ];
    for (text, burst, budget, cloud_tokens) in rows {
        let cloud = FakeCloud::new(false, always(bytes(text.repeat(1000).as_bytes())));
        let mut bench = Bench::weak(spelling(1, "0123456789"), &cloud);
        bench.consult.burst = burst;
        bench.budget.tokens = Some(budget);
        let mut session = bench.prompted();
        steps(&mut session, 8);
        assert_eq!(session.stats().cloud, cloud_tokens, "{text}, {burst}, {budget}");
        assert!(session.usage().answer_tokens <= budget, "{text}, {burst}, {budget}");
    }
}

/// Servers that render messages themselves get them, and the answer so far.
#[test]
fn chats_are_sent_as_messages() {
    /// The messages and the answer so far.
    type Seen = Option<(Vec<String>, String)>;
    let seen: Arc<std::sync::Mutex<Vec<Seen>>> = Arc::default();
    let chats = seen.clone();
    let script: Script = Arc::new(move |request| {
        let contents = |m: &[Message]| m.iter().map(|m| m.content.clone()).collect();
        let chat = request.chat.map(|chat| (contents(chat.messages), chat.answer.to_owned()));
        chats.lock().unwrap().push(chat);
        bytes(b"x")
    });
    let cloud = FakeCloud::new(false, script);
    let mut bench = Bench::weak(endless(), &cloud);
    bench.template = Some(TEMPLATE);
    let user = |content: &str| [Message { role: "user".into(), content: content.into() }];
    let mut session = bench.session();
    session.chat(&user("a")).unwrap();
    steps(&mut session, 2);
    session.prompt("yz").unwrap();
    steps(&mut session, 1);
    session.chat(&user("b")).unwrap();
    steps(&mut session, 1);
    // The name of another message's writer: what follows is not the answer alone.
    session.prompt_tokens(&[USER]).unwrap();
    steps(&mut session, 1);
    let mut preceded = bench.prompted();
    preceded.chat(&user("c")).unwrap();
    steps(&mut preceded, 1);
    let chat = |contents: &[&str], answer: &str| {
        Some((contents.iter().map(|&c| c.to_owned()).collect(), answer.to_owned()))
    };
    let want = [
        chat(&["a"], ""),
        chat(&["a"], "x"),
        chat(&["a"], "xxyz"),
        chat(&["a", "xxyzx", "b"], ""),
        None,
        None,
    ];
    assert_eq!(*seen.lock().unwrap(), want);
}

#[test]
fn plain_text_is_refused_where_only_messages_can_be_asked_about() {
    let cloud = FakeCloud::new(false, always(bytes(b"x")));
    cloud.needs_messages.store(true, Relaxed);
    let mut bench = Bench::weak(endless(), &cloud);
    bench.template = Some(TEMPLATE);
    let mut session = bench.session();
    for error in [session.prompt("a"), session.prompt_tokens(&[HELLO])] {
        assert!(error.unwrap_err().to_string().contains("begin the session with a chat"));
    }
    assert!(session.is_empty());
    session.chat(&[Message { role: "user".into(), content: "a".into() }]).unwrap();
    session.prompt("b").unwrap();
    assert_eq!(session.step().unwrap().source, Source::Cloud);

    // A session that has begun goes on, whatever cloud it is given.
    cloud.needs_messages.store(false, Relaxed);
    let mut begun = bench.session();
    begun.prompt("a").unwrap();
    cloud.needs_messages.store(true, Relaxed);
    begun.prompt("b").unwrap();
}
