//! Strict reading of `bundle.json`: every number in it is checked before anything relies on it.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::MANIFEST_NAME;
use super::hash::is_hex_digest;
use super::manifest::*;
use crate::error::{Error, Result};

/// `bundle.json` is read whole, so it is bounded.
pub(super) const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Far above any model of today, low enough that products of a few stay well inside 64 bits.
const MAX_LAYERS: usize = 1 << 10;
const MAX_WIDTH: usize = 1 << 17;
const MAX_VOCABULARY: usize = 1 << 22;
const MAX_CONTEXT: usize = 1 << 24;
const MAX_STOP_TOKENS: usize = 1 << 10;
const MAX_CALIBRATION_POINTS: usize = 1 << 12;
/// Counts up to here are exact as f32 too.
const MAX_CALIBRATION_TOKENS: u32 = 1 << 22;
const MAX_TEXT_BYTES: usize = 1 << 20;

impl FileRole {
    /// Files that are read whole are bounded. Protobuf itself ends at 2 GiB; weights are mapped.
    fn max_bytes(self) -> u64 {
        match self {
            FileRole::Graph => 2 << 30,
            FileRole::Weights => 1 << 42,
            FileRole::Tokenizer => 128 << 20,
            FileRole::Reward => 64 << 20,
        }
    }
}

impl Manifest {
    /// Parses and validates `bundle.json` without its hash.
    ///
    /// Errors: [`Error::Unsupported`] for another format version, [`Error::Bundle`] for everything
    /// else.
    pub fn parse(json: &[u8]) -> Result<Manifest> {
        Manifest::check_version(json)?;
        let manifest: Manifest = serde_json::from_slice(json).map_err(syntax)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Goes first: another format may have fields this build has no names for.
    pub(super) fn check_version(json: &[u8]) -> Result<()> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_slice(json).map_err(syntax)?;
        if version.format_version != FORMAT_VERSION {
            return Err(Error::Unsupported(format!(
                "bundle format {}; this build reads format {FORMAT_VERSION}: pack \
                 the model again with the `hybrid pack` of this build, or use the libhybrid the \
                 bundle was made for",
                version.format_version
            )));
        }
        Ok(())
    }

    /// Whether all parts of the manifest fit together.
    ///
    /// Errors: [`Error::Bundle`] naming the first field that does not.
    pub fn validate(&self) -> Result<()> {
        self.check_files()
            .and_then(|()| self.model.check())
            .and_then(|()| self.tokens.check(self.model.vocabulary))
            .and_then(|()| check_text("chat_template", self.chat_template.as_deref().unwrap_or("")))
            .and_then(|()| self.reward.as_ref().map_or(Ok(()), RewardInfo::check))
            .map_err(|text| Error::Bundle(format!("{MANIFEST_NAME}: {text}")))
    }

    fn check_files(&self) -> Checked {
        let has = |role| self.files.contains_key(&role);
        ensure(has(FileRole::Graph), || "files.graph is missing".into())?;
        ensure(has(FileRole::Tokenizer), || "files.tokenizer is missing".into())?;
        ensure(has(FileRole::Weights) || self.model.graph == GraphKind::Plain, || {
            "files.weights is missing, which a packed graph needs".into()
        })?;
        ensure(has(FileRole::Reward) == self.reward.is_some(), || {
            "files.reward and reward must be given together".into()
        })?;
        let mut names = BTreeSet::new();
        for (role, entry) in &self.files {
            entry.check(*role)?;
            ensure(names.insert(&entry.name), || {
                format!("file name {:?} is used twice", entry.name)
            })?;
        }
        Ok(())
    }
}

type Checked = std::result::Result<(), String>;

fn syntax(error: serde_json::Error) -> Error {
    Error::Bundle(format!("{MANIFEST_NAME}: {error}"))
}

fn ensure(condition: bool, text: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { Err(text()) }
}

fn check_range(field: &str, value: usize, max: usize) -> Checked {
    ensure((1..=max).contains(&value), || format!("{field} is {value}, expected 1 to {max}"))
}

fn check_text(field: &str, text: &str) -> Checked {
    ensure(text.len() <= MAX_TEXT_BYTES, || {
        format!("{field} has {} bytes, more than {MAX_TEXT_BYTES}", text.len())
    })
}

fn check_unit(field: &str, value: f32) -> Checked {
    ensure((0.0..=1.0).contains(&value), || format!("{field} is {value}, expected 0 to 1"))
}

/// A name that can only mean a file inside the bundle's directory.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl FileEntry {
    fn check(&self, role: FileRole) -> Checked {
        let name = &self.name;
        ensure(is_plain_name(name) && name != MANIFEST_NAME, || {
            format!("file name {name:?} is not a plain name (letters, digits, '.', '_', '-')")
        })?;
        ensure((1..=role.max_bytes()).contains(&self.bytes), || {
            format!("{name} has {} bytes, expected 1 to {}", self.bytes, role.max_bytes())
        })?;
        for (hash, digest) in [("sha256", &self.sha256), ("blake3", &self.blake3)] {
            ensure(is_hex_digest(digest), || {
                format!("the {hash} of {name} is not 64 lower-case hex digits")
            })?;
        }
        Ok(())
    }
}

impl ModelInfo {
    fn check(&self) -> Checked {
        for (field, text) in [
            ("model.name", &self.name),
            ("model.architecture", &self.architecture),
            ("model.source", &self.source),
        ] {
            check_text(field, text)?;
        }
        check_range("model.layers", self.layers, MAX_LAYERS)?;
        check_range("model.hidden_size", self.hidden_size, MAX_WIDTH)?;
        check_range("model.heads", self.heads, MAX_WIDTH)?;
        check_range("model.kv_heads", self.kv_heads, MAX_WIDTH)?;
        check_range("model.head_dim", self.head_dim, MAX_WIDTH)?;
        check_range("model.vocabulary", self.vocabulary, MAX_VOCABULARY)?;
        check_range("model.context", self.context, MAX_CONTEXT)?;
        ensure(self.heads.is_multiple_of(self.kv_heads), || {
            format!(
                "model.heads {} is not a multiple of model.kv_heads {}",
                self.heads, self.kv_heads
            )
        })?;
        ensure(is_hex_digest(&self.source_sha256), || {
            "model.source_sha256 is not 64 lower-case hex digits".into()
        })
    }
}

impl TokenInfo {
    fn check(&self, vocabulary: usize) -> Checked {
        check_range("tokens.usable", self.usable, vocabulary)?;
        check_range("the number of tokens.stop", self.stop.len(), MAX_STOP_TOKENS)?;
        for id in self.stop.iter().chain(&self.bos) {
            ensure((*id as usize) < self.usable, || {
                format!("token {id} is not under tokens.usable {}", self.usable)
            })?;
        }
        ensure(!self.add_bos || self.bos.is_some(), || {
            "tokens.add_bos is set but tokens.bos is missing".into()
        })?;
        ensure(is_hex_digest(&self.fingerprint), || {
            "tokens.fingerprint is not 64 lower-case hex digits".into()
        })
    }
}

impl RewardInfo {
    fn check(&self) -> Checked {
        check_text("reward.cloud_model", &self.cloud_model)?;
        check_text("reward.provenance", &self.provenance)?;
        check_unit("reward.default_threshold", self.default_threshold)?;
        ensure(self.calibration.len() <= MAX_CALIBRATION_POINTS, || {
            format!("reward.calibration has more than {MAX_CALIBRATION_POINTS} points")
        })?;
        for point in &self.calibration {
            check_unit("a reward.calibration threshold", point.threshold)?;
            check_unit("a reward.calibration share", point.share)?;
            check_unit("a reward.calibration recall", point.recall)?;
            check_unit("a reward.calibration risk", point.risk.unwrap_or(0.0))?;
            ensure(point.risk.is_some() == self.measured.is_some(), || {
                "reward.measured and the risks of reward.calibration must be given together".into()
            })?;
        }
        ensure(self.calibration.is_sorted_by(CalibrationPoint::is_before), || {
            "the rows of reward.calibration are not ascending".into()
        })?;
        self.measured.as_ref().map_or(Ok(()), Measured::check)
    }
}

impl CalibrationPoint {
    /// A higher threshold asks for more tokens, catches more disagreements and leaves fewer.
    fn is_before(&self, next: &CalibrationPoint) -> bool {
        self.threshold < next.threshold
            && self.share <= next.share
            && self.recall <= next.recall
            && self.risk >= next.risk
    }
}

impl Measured {
    fn check(&self) -> Checked {
        let counts = (1..=MAX_CALIBRATION_TOKENS).contains(&self.tokens)
            && (1..=self.tokens).contains(&self.prompts)
            && self.disagreements <= self.tokens;
        ensure(counts, || "the counts of reward.measured do not fit together".into())?;
        let effect = self.design_effect;
        ensure((1.0..=self.tokens as f32).contains(&effect), || {
            format!("reward.measured.design_effect is {effect}, expected 1 to the number of tokens")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn accepts_and_round_trips_a_good_manifest() {
        let manifest = example::manifest();
        let json = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(Manifest::parse(&json).unwrap(), manifest);
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        type Change = fn(&mut Manifest);
        let cases: &[(Change, &str)] = &[
            (|m| drop(m.files.remove(&FileRole::Graph)), "files.graph"),
            (|m| drop(m.files.remove(&FileRole::Tokenizer)), "files.tokenizer"),
            (|m| drop(m.files.remove(&FileRole::Weights)), "files.weights"),
            (|m| m.reward = Some(example::reward()), "files.reward"),
            (|m| entry(m).name = "../weights.bin".into(), "plain name"),
            (|m| entry(m).name = "a/b".into(), "plain name"),
            (|m| entry(m).name = ".hidden".into(), "plain name"),
            (|m| entry(m).name = "a\\b".into(), "plain name"),
            (|m| entry(m).name = String::new(), "plain name"),
            (|m| entry(m).name = "bundle.json".into(), "plain name"),
            (|m| entry(m).name = "graph.onnx".into(), "used twice"),
            (|m| entry(m).bytes = 0, "0 bytes"),
            (|m| entry(m).bytes = u64::MAX, "bytes"),
            (|m| entry(m).sha256 = "AB".repeat(32), "lower-case hex"),
            (|m| entry(m).sha256.truncate(63), "lower-case hex"),
            (|m| entry(m).blake3.clear(), "the blake3 of"),
            (|m| m.model.layers = 0, "model.layers"),
            (|m| m.model.layers = usize::MAX, "model.layers"),
            (|m| m.model.hidden_size = 0, "model.hidden_size"),
            (|m| m.model.head_dim = 1 << 20, "model.head_dim"),
            (|m| m.model.kv_heads = 4, "multiple"),
            (|m| m.model.context = 0, "model.context"),
            (|m| m.model.vocabulary = 1 << 30, "model.vocabulary"),
            (|m| m.model.source_sha256.clear(), "source_sha256"),
            (|m| m.tokens.usable = 301, "tokens.usable"),
            (|m| m.tokens.stop.clear(), "tokens.stop"),
            (|m| m.tokens.stop = vec![299], "token 299"),
            (|m| m.tokens.bos = Some(299), "token 299"),
            (|m| m.tokens.add_bos = true, "tokens.bos"),
            (|m| m.tokens.fingerprint = "x".into(), "fingerprint"),
            (|m| m.chat_template = Some("x".repeat(MAX_TEXT_BYTES + 1)), "chat_template"),
            (|m| rewarded(m).default_threshold = 1.5, "default_threshold"),
            (|m| rewarded(m).default_threshold = -0.1, "default_threshold"),
            (|m| rewarded(m).calibration[0].share = 2.0, "share"),
            (|m| rewarded(m).calibration.reverse(), "ascending"),
            (|m| rewarded(m).calibration[0].share = 0.3, "ascending"),
            (|m| rewarded(m).calibration[0].recall = 0.8, "ascending"),
            (|m| rewarded(m).calibration[0].risk = Some(0.01), "ascending"),
            (|m| rewarded(m).calibration[1].risk = Some(-0.1), "risk"),
            (|m| rewarded(m).calibration[1].risk = None, "together"),
            (|m| rewarded(m).measured = None, "together"),
            (|m| measured(m).tokens = 0, "counts"),
            (|m| measured(m).tokens = u32::MAX, "counts"),
            (|m| measured(m).prompts = 0, "counts"),
            (|m| measured(m).disagreements = 1001, "counts"),
            (|m| measured(m).design_effect = 0.9, "design_effect"),
            (|m| measured(m).design_effect = 1001.0, "design_effect"),
        ];
        for (change, expected) in cases {
            let mut manifest = example::manifest();
            change(&mut manifest);
            let json = serde_json::to_vec(&manifest).unwrap();
            let error = Manifest::parse(&json).unwrap_err();
            assert!(matches!(error, Error::Bundle(_)), "{error:?}");
            assert!(error.to_string().contains(expected), "{expected:?} not in {error}");
        }
    }

    fn entry(m: &mut Manifest) -> &mut FileEntry {
        m.files.get_mut(&FileRole::Weights).unwrap()
    }

    fn rewarded(m: &mut Manifest) -> &mut RewardInfo {
        let file = FileEntry { name: "reward.onnx".into(), ..entry(m).clone() };
        m.files.insert(FileRole::Reward, file);
        m.reward.insert(example::reward())
    }

    fn measured(m: &mut Manifest) -> &mut Measured {
        rewarded(m).measured.as_mut().unwrap()
    }

    #[test]
    fn another_version_says_what_to_do() {
        let error = Manifest::parse(br#"{"format_version": 4, "new": []}"#).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)));
        let text = error.to_string();
        assert!(text.contains("format 3") && text.contains("hybrid pack"), "{text}");
    }

    #[test]
    fn rejects_what_is_not_a_manifest() {
        let deep = "[".repeat(100_000);
        let unknown =
            serde_json::to_string(&example::manifest()).unwrap().replacen('{', "{\"x\":1,", 1);
        for json in ["", "{", "[]", "null", "{}", "{\"format_version\": -1}", &deep, &unknown] {
            let error = Manifest::parse(json.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Bundle(_)), "{error:?}");
        }
    }
}
