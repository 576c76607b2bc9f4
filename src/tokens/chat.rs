//! The chat template of a bundle, rendered as the model's makers render it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{MAX_TEXT_BYTES, Tokens};
use crate::bundle::Bundle;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::jinja::{Fault, Template, Value};

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// As the template knows it: `system`, `user`, `assistant`, often `tool`.
    pub role: String,
    pub content: String,
}

/// The chat template of a bundle.
pub struct ChatTemplate {
    template: Template,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// `None` for a bundle without one: a base model.
    ///
    /// Errors: [`Error::Template`] for a syntax error, with its line.
    pub fn open(bundle: &Bundle, tokens: &Tokens) -> Result<Option<ChatTemplate>> {
        let source = bundle.manifest().chat_template.as_deref();
        source.map(|source| ChatTemplate::new(source, tokens)).transpose()
    }

    /// From Jinja source.
    pub fn new(source: &str, tokens: &Tokens) -> Result<ChatTemplate> {
        let template = Template::parse(source).map_err(Error::Template)?;
        let [bos, eos] = tokens.edges();
        Ok(ChatTemplate { template, bos, eos })
    }

    /// The prompt for `messages`, ending where the assistant's answer begins.
    ///
    /// Errors: [`Error::InvalidArgument`] without a message or for more than [`MAX_TEXT_BYTES`] of
    /// them, [`Error::Template`] when the template refuses, fails or passes a limit.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        self.render_with(messages, true, None, &Cancel::new())
    }

    /// `answer`: end with what introduces the assistant's answer. `thinking`: the variable
    /// `enable_thinking` of the template; `None`: not defined, so the template's default.
    ///
    /// Errors: those of [`ChatTemplate::render`], and [`Error::Cancelled`].
    pub(crate) fn render_with(
        &self,
        messages: &[Message],
        answer: bool,
        thinking: Option<bool>,
        cancel: &Cancel,
    ) -> Result<String> {
        let bytes: usize = messages.iter().map(|m| m.role.len() + m.content.len()).sum();
        if messages.is_empty() || bytes > MAX_TEXT_BYTES {
            return Err(Error::InvalidArgument(format!(
                "a chat needs a message, and {MAX_TEXT_BYTES} bytes of them at most; these have \
                 {bytes}"
            )));
        }
        let mut variables = vec![
            ("messages", Value::list(messages.iter().map(value_of).collect())),
            ("add_generation_prompt", Value::Bool(answer)),
            ("bos_token", Value::text(&*self.bos)),
            ("eos_token", Value::text(&*self.eos)),
            // What transformers gives where there are none.
            ("tools", Value::None),
            ("documents", Value::None),
        ];
        variables.extend(thinking.map(|thinking| ("enable_thinking", Value::Bool(thinking))));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        self.template.render(variables, now, cancel).map_err(|fault| match fault {
            Fault::Cancelled => Error::Cancelled,
            Fault::Failed(text) => Error::Template(text),
        })
    }
}

fn value_of(message: &Message) -> Value {
    Value::dict(vec![
        ("role", Value::text(&*message.role)),
        ("content", Value::text(&*message.content)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::example;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    fn render(source: &str, messages: &[Message]) -> Result<String> {
        ChatTemplate::new(source, &example::byte_level())?.render(messages)
    }

    #[test]
    fn renders_as_jinja_does() {
        let hi = [message("system", "s"), message("user", " <hi> & 'you' ")];
        let rows = [
            // Blocks lose their indentation and their line's end.
            (
                "{% for m in messages %}\n    {% if not loop.last %}\n\
                 {{ m.role }},\n    {% else %}\n\
                 {{ m['role'] }}.\n    {% endif %}\n{% endfor %}\n",
                "system,\nuser.\n",
            ),
            ("{{ messages[1].content }}", " <hi> & 'you' "),
            ("{{ messages[-1]['content'].strip().split(' ')[0].upper() }}", "<HI>"),
            ("{{ messages[0].content|trim ~ eos_token }}", "s<|end|>"),
            ("{{ '[' + bos_token + ']' }}", "[]"),
            ("{% if add_generation_prompt %}go{% endif %}", "go"),
            ("{% if tools or messages[0].tool_calls %}no{% else %}yes{% endif %}", "yes"),
            (
                "{% set n = namespace(x=1) %}{% for m in messages %}{% set n.x = n.x * 3 %}\
                 {% endfor %}{{ n.x }}",
                "9",
            ),
            (
                "{% for m in messages[1:] %}{% break %}{% endfor %}{{ messages[::-1][0].role }}",
                "user",
            ),
            (
                "{% macro f(x) %}({{ x }}){% endmacro %}{{ f('a') }}{{ f(messages|length) }}",
                "(a)(2)",
            ),
            ("{{ 'a' if messages[0].role == 'system' else 'b' }}{{ '\\n' }}x\n", "a\nx"),
        ];
        for (source, want) in rows {
            assert_eq!(render(source, &hi).unwrap(), want, "{source}");
        }
    }

    #[test]
    fn thinking_is_a_variable_of_the_template() {
        const SOURCE: &str = "{% if enable_thinking is defined and not enable_thinking %}off\
                              {% elif enable_thinking is defined %}on{% else %}default{% endif %}";
        let template = ChatTemplate::new(SOURCE, &example::byte_level()).unwrap();
        for (thinking, want) in [(None, "default"), (Some(true), "on"), (Some(false), "off")] {
            let got =
                template.render_with(&[message("user", "hi")], true, thinking, &Cancel::new());
            assert_eq!(got.unwrap(), want);
        }
    }

    #[test]
    fn failures() {
        let hi = [message("user", "hi")];
        let rows = [
            ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
            ("a\n{% if %}", "line 2"),
            ("{{ nothing.more.here }}", "undefined"),
            ("{% include 'other' %}", "include"),
            (
                "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                "units of work",
            ),
            ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recurses"),
            (
                "{% for i in range(9999) %}{{ messages[0].content * 999 }}{% endfor %}",
                "bytes allowed",
            ),
        ];
        for (source, part) in rows {
            let error = render(source, &hi).expect_err(source);
            assert!(matches!(error, Error::Template(_)), "{error}");
            assert!(error.to_string().contains(part), "{source}: {error}");
        }
        let long = [message("user", &"x".repeat(MAX_TEXT_BYTES + 1))];
        for messages in [&[][..], &long] {
            let error = render("x", messages).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        }
    }
}
