//! The cloud LLM of `hybrid-lab eval` and `hybrid calibrate`: a server, or a bundle on this
//! machine.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::{Arg, ArgMatches};
use hybrid::bundle::Verify;
use hybrid::cloud::CloudOptions;
use hybrid::consult::Consult;
use hybrid::session::{Model, ModelOptions};

use super::case::Bench;
use super::remember::Teacher;
use crate::arguments::path;
use crate::cloud::{ANOTHER_VOCABULARY, Named, cache, cloud, cloud_arguments, connect};

/// Where the cloud LLM is, what is kept of it, and how both models are computed.
pub fn llm_arguments() -> Vec<Arg> {
    let here = "Run this bundle as the cloud LLM on this machine, instead of a server";
    let kept = "Folder for cached answers [default: libhybrid/train in the user's cache]";
    let more = [
        path("teacher", "BUNDLE", here).conflicts_with("cloud-url"),
        path("cache", "DIR", kept),
        crate::arguments::threads(),
    ];
    cloud_arguments(Named::Always).into_iter().chain(more).collect()
}

/// The checked options of [`llm_arguments`].
pub struct LlmOptions {
    cloud: Option<CloudOptions>,
    pub model: String,
    pub teacher: Option<PathBuf>,
    cache: PathBuf,
    threads: usize,
}

impl LlmOptions {
    pub fn parse(arguments: &ArgMatches) -> Result<LlmOptions> {
        Ok(LlmOptions {
            cloud: cloud(arguments)?,
            model: arguments.get_one("cloud-model").cloned().unwrap_or_default(),
            teacher: arguments.get_one("teacher").cloned(),
            cache: cache(arguments)?,
            threads: *arguments.get_one("threads").expect("has a default"),
        })
    }

    /// Without the hash of the weights, which takes seconds of every run; `hybrid check` has it.
    pub fn model_options(&self) -> ModelOptions {
        ModelOptions {
            verify: Verify::AllButWeights,
            threads: self.threads,
            ..ModelOptions::default()
        }
    }

    /// What runs sessions of `model` with this cloud LLM.
    pub fn bench(&self, model: Arc<Model>) -> Result<Bench> {
        let teacher = self.teacher(&model)?.map(Arc::new);
        let cloud: Option<Arc<dyn Consult>> = match &teacher {
            Some(teacher) => Some(teacher.clone()),
            None => connect(&self.cloud, &model)?.map(|cloud| Arc::new(cloud) as _),
        };
        let fingerprint = &model.tokens.info().fingerprint;
        let shared = cloud.as_ref().is_none_or(|cloud| cloud.shares_vocabulary(fingerprint));
        ensure!(shared, ANOTHER_VOCABULARY);
        let dir = self.cache.join("sessions");
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        // A server's tokens and those of a bundle may differ where two are almost equally likely.
        let here = if self.teacher.is_some() { "teacher " } else { "" };
        Bench::new(model, cloud, teacher, &format!("{here}{}", self.model), dir)
    }

    /// The cloud LLM on this machine, whose vocabulary must be the SLM's.
    fn teacher(&self, model: &Model) -> Result<Option<Teacher>> {
        let Some(teacher) = &self.teacher else { return Ok(None) };
        let teacher = Model::open(teacher, self.model_options())?;
        ensure!(model.tokens.fingerprint() == teacher.tokens.fingerprint(), ANOTHER_VOCABULARY);
        Teacher::new(&teacher).map(Some)
    }
}
