//! The chat template of a bundle: Jinja, rendered by minijinja the way the model's makers render
//! it.

use std::io;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, context};

use super::{MAX_TEXT_BYTES, Tokens};
use crate::bundle::Bundle;
use crate::error::{Error, Result};

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Message {
    /// As the template knows it: `system`, `user`, `assistant`, often `tool`.
    pub role: String,
    pub content: String,
}

/// Instructions a rendering may take: thousands of messages, but an endless loop ends within a
/// second.
const FUEL: u64 = 1_000_000;
const NAME: &str = "chat template";

/// The chat template of a bundle, rendered by minijinja.
pub struct ChatTemplate {
    environment: Environment<'static>,
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
        let mut environment = Environment::new();
        // As templates for these models are written: with Jinja's block trimming and Python's
        // methods.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, source.to_owned()).map_err(|e| failed(&e))?;
        let [bos, eos] = tokens.edges();
        Ok(ChatTemplate { environment, bos, eos })
    }

    /// The prompt for `messages`, ending where the assistant's answer begins.
    ///
    /// Errors: [`Error::InvalidArgument`] without a message or for more than [`MAX_TEXT_BYTES`] of
    /// them, [`Error::Template`] when the template refuses or fails.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        self.render_with(messages, true, None)
    }

    /// `answer`: end with what introduces the assistant's answer. `thinking`: the variable
    /// `enable_thinking` of the template; `None`: not defined, so the template's default.
    pub(crate) fn render_with(
        &self,
        messages: &[Message],
        answer: bool,
        thinking: Option<bool>,
    ) -> Result<String> {
        let bytes: usize = messages.iter().map(|m| m.role.len() + m.content.len()).sum();
        if messages.is_empty() || bytes > MAX_TEXT_BYTES {
            return Err(Error::InvalidArgument(format!(
                "a chat needs a message, and {MAX_TEXT_BYTES} bytes of them at most; these have \
                 {bytes}"
            )));
        }
        let mut out = Bounded { text: Vec::new(), room: 2 * MAX_TEXT_BYTES };
        let values = context! {
            messages => messages,
            add_generation_prompt => answer,
            bos_token => self.bos,
            eos_token => self.eos,
            enable_thinking => thinking.map_or(Value::UNDEFINED, Value::from),
        };
        let template = self.environment.get_template(NAME).map_err(|e| failed(&e))?;
        template.render_captured_to(values, &mut out).map_err(|e| failed(&e))?;
        String::from_utf8(out.text).map_err(|e| Error::Template(e.to_string()))
    }
}

/// What templates call to refuse an order of roles and the like.
fn raise_exception(text: String) -> std::result::Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
}

fn failed(error: &minijinja::Error) -> Error {
    let kind = error.kind().to_string();
    let mut text = error.detail().unwrap_or(&kind).to_owned();
    if let Some(line) = error.line() {
        text += &format!(" (line {line})");
    }
    if let Some(source) = std::error::Error::source(error) {
        text += &format!(": {source}");
    }
    Error::Template(text)
}

/// Refuses what a runaway template writes.
struct Bounded {
    text: Vec<u8>,
    room: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room =
            self.room.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("too much text"))?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
            (
                "{% if tools is defined or messages[0].tool_calls %}no{% else %}yes{% endif %}",
                "yes",
            ),
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
            let got = template.render_with(&[message("user", "hi")], true, thinking);
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
            ("{% include 'other' %}", "other"),
            (
                "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                "fuel",
            ),
            ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
            (
                "{% for i in range(9999) %}{{ messages[0].content * 999 }}{% endfor %}",
                "too much text",
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
