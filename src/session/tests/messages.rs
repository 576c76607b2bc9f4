//! Clouds that take messages instead of a context.

use super::*;

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\
                        {% if add_generation_prompt %}<assistant>{% endif %}";

/// Servers that render messages themselves get them, and the answer so far.
#[test]
fn chats_are_sent_as_messages() {
    let seen: Arc<std::sync::Mutex<Vec<Option<(Vec<String>, String)>>>> = Arc::default();
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
    for error in [session.prompt("a"), session.prompt_ids(&[HELLO])] {
        assert!(error.unwrap_err().to_string().contains("begin the session with a chat"));
    }
    assert!(session.is_empty());
    session.chat(&[Message { role: "user".into(), content: "a".into() }]).unwrap();
    session.prompt("b").unwrap();
    assert_eq!(session.step().unwrap().source, Source::Cloud);
}
