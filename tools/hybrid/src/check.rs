//! `hybrid check`: verifies a bundle and says what it is.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Arg, ArgMatches, Command, value_parser};
use hybrid::bundle::{
    Bundle, CalibrationPoint, Checks, FileRole, GraphKind, Manifest, Verify, sha256_reader,
};

use hybrid_common::cli::{print, printable};
use hybrid_common::progress::{Bytes, Spinner};

use crate::sign::read_public_key;
use crate::try_out::try_out;

pub fn command() -> Command {
    Command::new("check")
        .about("Verify a bundle, run its model once and print what it is")
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("public-key")
                .help("The bundle must be signed by this key, as `openssl pkey -pubout` prints it")
                .long("public-key")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf)),
        )
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let dir: &PathBuf = arguments.get_one("BUNDLE").expect("required by clap");
    let key: Option<&PathBuf> = arguments.get_one("public-key");
    let public_key = key.map(|file| read_public_key(file)).transpose()?;
    let bar = Bytes::new("checking", 0);
    let checks = Checks { verify: Verify::All, public_key };
    let bundle = Bundle::open_with_progress(dir, checks, &mut |done, total| {
        bar.set(done, total);
        true
    })?;
    check_sha256(dir, &bundle, &bar)?;
    drop(bar);
    let facts = describe(bundle.manifest());
    let signature = match (public_key, bundle.is_signed()) {
        (Some(key), _) => format!("by {key}"),
        (None, true) => "not checked; --public-key checks it".to_owned(),
        (None, false) => "none".to_owned(),
    };
    let trying = Spinner::new("trying out");
    let notes = try_out(bundle).with_context(|| {
        let dir = dir.display();
        format!("all hashes of {dir} are right, but it does not work; pack the model again")
    })?;
    drop(trying);
    let notes: String = notes.iter().map(|note| line("note", note)).collect();
    print(
        &(facts
            + &line("signature", &signature)
            + &notes
            + &line("ok", "all hashes are right, and the model runs")),
    )
}

/// Opening has checked the BLAKE3 of every file. The SHA-256 is for other tools and must be right
/// too.
fn check_sha256(dir: &Path, bundle: &Bundle, bar: &Bytes) -> Result<()> {
    let files = &bundle.manifest().files;
    let total = files.values().map(|file| file.bytes).sum();
    let mut done = 0;
    for entry in files.values() {
        let mut file = File::open(dir.join(&entry.name))?;
        let found = sha256_reader(&mut file, &mut |n| {
            done += n;
            bar.set(done, total);
        })?;
        ensure!(
            found == entry.sha256,
            "{} has SHA-256 {found} where the manifest says {}, though its BLAKE3 is right: pack \
             the model again",
            entry.name,
            entry.sha256
        );
    }
    Ok(())
}

/// One line per fact, aligned.
fn describe(manifest: &Manifest) -> String {
    let model = &manifest.model;
    let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
    let graph = match model.graph {
        GraphKind::Packed => "packed (own kernels, weights mapped)",
        GraphKind::Plain => "plain ONNX export (tract's kernels)",
    };
    let shape = format!(
        "{} layers, hidden size {}, {} heads ({} for keys and values) of {}",
        model.layers, model.hidden_size, model.heads, model.kv_heads, model.head_dim
    );
    let vocabulary = format!("{} tokens, {} usable", model.vocabulary, manifest.tokens.usable);
    let template = if manifest.chat_template.is_some() { "yes" } else { "none" };
    let facts = [
        ("model", format!("{} ({})", model.name, model.architecture)),
        ("source", format!("{} sha256 {}", model.source, model.source_sha256)),
        ("graph", graph.to_owned()),
        ("parameters", format!("{:.1} million", model.parameters as f64 / 1e6)),
        ("weights", format!("{:.2} bits each", bits_per_weight(manifest))),
        ("size", format!("{:.1} MB in {} files", bytes as f64 / 1e6, manifest.files.len())),
        ("shape", shape),
        ("context", format!("{} tokens", model.context)),
        ("vocabulary", vocabulary),
        ("fingerprint", manifest.tokens.fingerprint.clone()),
        ("stop tokens", join(&manifest.tokens.stop)),
        ("chat template", template.to_owned()),
        ("reward head", describe_reward(manifest)),
    ];
    let mut text: String = facts.iter().map(|(name, fact)| line(name, fact)).collect();
    for point in rows(manifest) {
        text += &format!(
            "{:14}threshold {:.3}: {:.1} % cloud tokens, {:.1} % of disagreements caught\n",
            "calibration",
            point.threshold,
            point.share * 100.0,
            point.recall * 100.0
        );
    }
    text
}

fn line(name: &str, fact: &str) -> String {
    format!("{name:14}{}\n", printable(fact).replace('\n', " "))
}

/// A table of many points is shown in part, about twenty rows of it.
fn rows(manifest: &Manifest) -> impl Iterator<Item = &CalibrationPoint> {
    let points = manifest.reward.as_ref().map_or(&[][..], |reward| &reward.calibration);
    let step = points.len().div_ceil(20).max(1);
    points.iter().skip(step - 1).step_by(step)
}

/// Of the file that holds the weights: for a plain export without external data that is the graph.
fn bits_per_weight(manifest: &Manifest) -> f64 {
    let file = manifest.files.get(&FileRole::Weights).or(manifest.files.get(&FileRole::Graph));
    let bytes = file.map_or(0, |file| file.bytes);
    bytes as f64 * 8.0 / manifest.model.parameters.max(1) as f64
}

fn describe_reward(manifest: &Manifest) -> String {
    match &manifest.reward {
        None => "none (max-probability is used)".to_owned(),
        Some(reward) => format!(
            "for {}, {} the token is consumed, threshold {:.3}; {}",
            reward.cloud_model,
            if reward.after { "after" } else { "before" },
            reward.default_threshold,
            reward.provenance
        ),
    }
}

fn join(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}
