//! The cloud LLM of every program here: its options, and the client.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, builder::PossibleValuesParser};
use hybrid::cloud::{ClientIdentity, Cloud, CloudOptions, Roots, ServerKind};
use hybrid::session::Model;

use crate::arguments::{path, text};
use crate::interrupt;

/// Read where `--token-file` is not given; an argument would show in the list of processes.
pub const TOKEN_VARIABLE: &str = "HYBRID_CLOUD_TOKEN";

/// Wire formats by their names.
pub const SERVERS: &[(&str, ServerKind)] = &[
    ("auto", ServerKind::Auto),
    ("openai", ServerKind::OpenAi),
    ("llama-cpp", ServerKind::LlamaCpp),
    ("sglang", ServerKind::SgLang),
    ("chat-continue", ServerKind::ChatContinue),
    ("chat-prefix", ServerKind::ChatPrefix),
    ("chat-trailing", ServerKind::ChatTrailing),
    ("anthropic", ServerKind::Anthropic),
];

/// Whether the cloud LLM's name must be given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Its answers are kept under it.
    Always,
    IfTheServerWantsIt,
}

/// How the cloud LLM is reached: everything that [`CloudOptions`] has.
pub fn cloud_arguments(named: Named) -> Vec<Arg> {
    let many = |arg: Arg| arg.action(ArgAction::Append);
    vec![
        text(
            "cloud-url",
            "URL",
            "Cloud LLM, https://host[:port][/path][?query]; without it nothing is sent",
        ),
        text("cloud-model", "NAME", "Name of the cloud LLM").required(named == Named::Always),
        text("server", "KIND", "Wire format of the server")
            .value_parser(PossibleValuesParser::new(SERVERS.iter().map(|(name, _)| *name)))
            .default_value("auto"),
        path(
            "token-file",
            "FILE",
            "File with the access token [default: the variable HYBRID_CLOUD_TOKEN]",
        ),
        many(text(
            "header",
            "TEXT",
            "Send \"NAME: VALUE\" with every request, or each line of a file: @FILE",
        )),
        text(
            "proxy",
            "URL",
            "Tunnel through this proxy, http://[user:password@]host[:port]; or a file with it: \
             @FILE",
        ),
        path("ca", "PEM", "Trust the CA in this PEM file instead of those of the system"),
        Arg::new("system-ca")
            .long("system-ca")
            .help("Trust those of the system too")
            .requires("ca")
            .action(ArgAction::SetTrue),
        many(text("pin", "BASE64", "The server's key must be one of these: two or more")),
        path("client-cert", "PEM", "Certificate and key to show to a server that asks for one"),
    ]
}

/// `None` where no URL is given.
pub fn cloud(arguments: &ArgMatches) -> Result<Option<CloudOptions>> {
    let one = |name: &str| arguments.get_one::<String>(name).cloned();
    let all = |name: &str| arguments.get_many::<String>(name).into_iter().flatten();
    let path = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
    let Some(url) = one("cloud-url") else { return Ok(None) };
    let server = one("server");
    let kind = SERVERS.iter().find(|(name, _)| server.as_deref() == Some(*name));
    let headers = all("header").map(|given| headers(given)).collect::<Result<Vec<_>>>()?;
    Ok(Some(CloudOptions {
        url,
        server: kind.map(|(_, kind)| *kind).unwrap_or_default(),
        model: one("cloud-model").unwrap_or_default(),
        token: token(path("token-file").as_deref())?,
        headers: headers.concat(),
        proxy: one("proxy").map(|given| value(&given)).transpose()?,
        roots: path("ca").map_or(Roots::System, Roots::PemFile),
        system_roots_too: arguments.get_flag("system-ca"),
        pins: all("pin").cloned().collect(),
        identity: path("client-cert").map(ClientIdentity::PemFile),
    }))
}

/// What is given, or what the file of `@FILE` holds: a secret there shows in no list of processes.
fn value(given: &str) -> Result<String> {
    let Some(file) = given.strip_prefix('@') else { return Ok(given.to_owned()) };
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    Ok(text.trim().to_owned())
}

/// Neither names nor values are repeated in errors: one of them may be a secret.
fn headers(given: &str) -> Result<Vec<(String, String)>> {
    let text = value(given)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let header = |line: &str| {
        let (name, value) = line
            .split_once(':')
            .context("--header: a header must be \"NAME: VALUE\", or @FILE for lines of them")?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    lines.map(header).collect()
}

/// The bearer token in `file`, without one in [`TOKEN_VARIABLE`]; an empty one is none.
fn token(file: Option<&Path>) -> Result<Option<String>> {
    let token = match file {
        Some(file) => {
            Some(std::fs::read_to_string(file).with_context(|| file.display().to_string())?)
        }
        None => std::env::var(TOKEN_VARIABLE).ok(),
    };
    Ok(token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// The folder of what is kept.
pub fn cache(arguments: &ArgMatches) -> Result<PathBuf> {
    if let Some(path) = arguments.get_one::<PathBuf>("cache") {
        return Ok(path.clone());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.filter(|path| path.is_absolute()).or_else(home);
    Ok(cache.context("HOME is not set: give --cache")?.join("libhybrid/train"))
}

/// The client of the cloud LLM, which exchanges token ids if its vocabulary is the SLM's, else
/// text.
pub fn connect(cloud: &Option<CloudOptions>, model: &Model) -> Result<Option<Cloud>> {
    let Some(cloud) = cloud else { return Ok(None) };
    let cloud = Cloud::new(cloud.clone())?;
    cloud.probe(&*model.tokens, &interrupt::cancel())?;
    Ok(Some(cloud))
}

/// What is said where [`connect`] found another vocabulary, or a teacher has one, and tokens must
/// be compared by their ids.
pub const ANOTHER_VOCABULARY: &str = "the cloud LLM's vocabulary is not the SLM's, and here \
                                      tokens are compared by their ids; `hybrid-lab collect` \
                                      works with any vocabulary, and `hybrid-lab train` and \
                                      `hybrid calibrate --records` with what it collects";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Option<CloudOptions>> {
        let command = clap::Command::new("x").args(cloud_arguments(Named::IfTheServerWantsIt));
        cloud(&command.try_get_matches_from([&["x"], arguments].concat())?)
    }

    #[test]
    fn every_option_reaches_the_client() {
        let dir = temp_dir::TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.child(name), text).unwrap();
            format!("@{}", dir.child(name).display())
        };
        let secrets = file("headers", "api-key: k:1\n\n X-Route :a\n");
        let proxy = file("proxy", "http://u:p@10.0.0.1:3128\n");
        let token = file("token", " t \n");
        let given = parse(&[
            "--cloud-url",
            "https://h/api?v=1",
            "--cloud-model",
            "big",
            "--server",
            "sglang",
            "--token-file",
            &token[1..],
            "--header",
            "Org: ours",
            "--header",
            &secrets,
            "--proxy",
            &proxy,
            "--ca",
            "ca.pem",
            "--system-ca",
            "--pin",
            "a",
            "--pin",
            "b",
            "--client-cert",
            "me.pem",
        ]);
        let options = given.unwrap().unwrap();
        let headers = [("Org", "ours"), ("api-key", "k:1"), ("X-Route", "a")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((options.url.as_str(), options.model.as_str()), ("https://h/api?v=1", "big"));
        assert_eq!((options.server, options.token.as_deref()), (ServerKind::SgLang, Some("t")));
        assert_eq!(options.headers, headers);
        assert_eq!(options.proxy.as_deref(), Some("http://u:p@10.0.0.1:3128"));
        assert_eq!(options.roots, Roots::PemFile("ca.pem".into()));
        assert!(options.system_roots_too);
        assert_eq!(options.pins, ["a", "b"]);
        assert!(options.identity == Some(ClientIdentity::PemFile("me.pem".into())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let url = ["--cloud-url", "https://h"];
        let rows: [(&[&str], &str); 4] = [
            (&["--header", "secret"], "must be \"NAME: VALUE\""),
            (&["--header", "@/no/such/file"], "/no/such/file"),
            (&["--system-ca"], "--ca"),
            (&["--server", "none"], "chat-trailing"),
        ];
        for (arguments, reason) in rows {
            let error = format!("{:#}", parse(&[&url[..], arguments].concat()).unwrap_err());
            assert!(error.contains(reason) && !error.contains("secret"), "{error}");
        }
        assert!(parse(&["--proxy", "http://p"]).unwrap().is_none(), "no URL, no cloud");
    }
}
