//! The cloud LLM of `hybrid-lab collect` and `hybrid-lab eval`: its options, and the client.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, builder::PossibleValuesParser};
use hybrid::cloud::{Cloud, CloudOptions, Roots, ServerKind};
use hybrid::session::Model;

use crate::arguments::{path, text};

/// How the cloud LLM is reached.
pub fn cloud_arguments() -> [Arg; 5] {
    [
        text(
            "cloud-url",
            "URL",
            "https://host[:port] of the cloud LLM; not needed when every answer is cached",
        ),
        text("cloud-model", "NAME", "The cloud LLM's name").required(true),
        text("server", "KIND", "The server's wire format")
            .value_parser(PossibleValuesParser::new(["openai", "llama-cpp"]))
            .default_value("openai"),
        path("ca", "PEM", "Trust this CA instead of the system's"),
        path("token-file", "FILE", "File with the bearer token"),
    ]
}

/// `None` where no URL is given.
pub fn cloud(arguments: &ArgMatches) -> Result<Option<CloudOptions>> {
    let Some(url) = arguments.get_one::<String>("cloud-url").cloned() else { return Ok(None) };
    let path = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
    let token = path("token-file")
        .map(|file| std::fs::read_to_string(&file).with_context(|| file.display().to_string()))
        .transpose()?
        .map(|token| token.trim().to_owned())
        .filter(|token| !token.is_empty());
    let kind = match arguments.get_one::<String>("server").map(String::as_str) {
        Some("llama-cpp") => ServerKind::LlamaCpp,
        _ => ServerKind::OpenAi,
    };
    Ok(Some(CloudOptions {
        url,
        kind,
        model: arguments.get_one::<String>("cloud-model").cloned().unwrap_or_default(),
        token,
        roots: path("ca").map_or(Roots::System, Roots::PemFile),
    }))
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
    cloud.probe_vocabulary(&*model.tokens)?;
    Ok(Some(cloud))
}

/// What is said where [`connect`] found another vocabulary, or a teacher has one, and tokens must
/// be compared by their ids.
pub const ANOTHER_VOCABULARY: &str = "the cloud LLM's vocabulary is not the SLM's, and here \
                                      tokens are compared by their ids; `hybrid-lab collect` \
                                      works with any vocabulary, and `hybrid-lab train` and \
                                      `hybrid calibrate --records` with what it collects";
