//! The chat templates of real models, rendered.

use hybrid::tokens::{ChatTemplate, Message, Tokens};

use super::testing::{QWEN2, SMOLLM2, model};
use super::tokenizer;

fn chat(messages: &[(&str, &str)]) -> Vec<Message> {
    let message =
        |&(role, content): &(&str, &str)| Message { role: role.into(), content: content.into() };
    messages.iter().map(message).collect()
}

/// What both templates write for a message, and for the beginning of an answer.
fn rendered(messages: &[(&str, &str)]) -> String {
    let message =
        |(role, content): &(&str, &str)| format!("<|im_start|>{role}\n{content}<|im_end|>\n");
    messages.iter().map(message).chain(["<|im_start|>assistant\n".to_owned()]).collect()
}

#[test]
fn templates_of_real_models() {
    let models = [
        (SMOLLM2, "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        (QWEN2, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    ];
    for (name, system) in models {
        let (gguf, _map) = model(name);
        let tokenizer = tokenizer::from_gguf(&gguf.metadata, usize::MAX).unwrap();
        let tokens = Tokens::new(&tokenizer.json, tokenizer.info).unwrap();
        let source = gguf.metadata.text("tokenizer.chat_template").unwrap().unwrap();
        let template = ChatTemplate::new(source, &tokens).unwrap();
        let rows: [&[(&str, &str)]; 4] = [
            &[("user", "Hi <b> & 'you'\n")],
            &[("system", "Be short."), ("user", "Hi")],
            &[("user", "1 + 1?"), ("assistant", "2"), ("user", "{{ 2 + 2 }}?")],
            &[("system", ""), ("user", "é日😀"), ("assistant", ""), ("user", "")],
        ];
        for row in rows {
            let default = [("system", system)];
            let own = row.first().is_some_and(|(role, _)| *role == "system");
            let whole = [if own { &[] } else { &default[..] }, row].concat();
            assert_eq!(template.render(&chat(row)).unwrap(), rendered(&whole), "{name}");
        }
    }
}
