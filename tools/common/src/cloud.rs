//! The cloud LLM of `hybrid-lab` and `hybrid calibrate`: its options, and the client.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, builder::PossibleValuesParser};
use hybrid::cloud::{Cloud, CloudOptions, Roots, ServerKind};
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

/// How the cloud LLM is reached.
pub fn cloud_arguments() -> [Arg; 5] {
    [
        text(
            "cloud-url",
            "URL",
            "Cloud LLM, https://host[:port][/path]; not needed if all answers are cached",
        ),
        text("cloud-model", "NAME", "Name of the cloud LLM").required(true),
        text("server", "KIND", "Wire format of the server")
            .value_parser(PossibleValuesParser::new(SERVERS.iter().map(|(name, _)| *name)))
            .default_value("auto"),
        path("ca", "PEM", "Trust the CA in this PEM file instead of those of the system"),
        path(
            "token-file",
            "FILE",
            "File with the bearer token [default: the variable HYBRID_CLOUD_TOKEN]",
        ),
    ]
}

/// `None` where no URL is given.
pub fn cloud(arguments: &ArgMatches) -> Result<Option<CloudOptions>> {
    let Some(url) = arguments.get_one::<String>("cloud-url").cloned() else { return Ok(None) };
    let path = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
    let token = token(path("token-file").as_deref())?;
    let server = arguments.get_one::<String>("server");
    let kind = SERVERS.iter().find(|(name, _)| server.is_some_and(|given| given == name));
    Ok(Some(CloudOptions {
        url,
        kind: kind.map(|(_, kind)| *kind).unwrap_or_default(),
        model: arguments.get_one::<String>("cloud-model").cloned().unwrap_or_default(),
        token,
        roots: path("ca").map_or(Roots::System, Roots::PemFile),
        ..CloudOptions::default()
    }))
}

/// The bearer token in `file`, without one in [`TOKEN_VARIABLE`]; an empty one is none.
pub fn token(file: Option<&Path>) -> Result<Option<String>> {
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
