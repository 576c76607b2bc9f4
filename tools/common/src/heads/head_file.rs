//! A trained head in a folder: `reward.onnx` and `reward.json`, which says what it is.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hybrid::bundle::{Bundle, RewardInfo, set_reward, sha256};
use hybrid::reward::Head;
use serde::{Deserialize, Serialize};

use crate::files::replace;

const ONNX: &str = "reward.onnx";
const JSON: &str = "reward.json";
const FORMAT_VERSION: u32 = 1;

/// A head and its description.
pub struct HeadFile {
    pub onnx: Vec<u8>,
    pub about: About,
}

/// `reward.json`
#[derive(Serialize, Deserialize)]
pub struct About {
    pub format_version: u32,
    pub onnx_sha256: String,
    pub slm: SlmInfo,
    pub reward: RewardInfo,
    /// How it was made and how good it is, for people.
    pub training: serde_json::Value,
}

/// The SLM a head was trained for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SlmInfo {
    pub name: String,
    pub source: String,
    pub source_sha256: String,
    pub hidden_size: usize,
}

impl SlmInfo {
    pub fn of(bundle: &Bundle) -> SlmInfo {
        let model = &bundle.manifest().model;
        SlmInfo {
            name: model.name.clone(),
            source: model.source.clone(),
            source_sha256: model.source_sha256.clone(),
            hidden_size: model.hidden_size,
        }
    }
}

impl HeadFile {
    pub fn new(
        bundle: &Bundle,
        onnx: Vec<u8>,
        reward: RewardInfo,
        training: serde_json::Value,
    ) -> HeadFile {
        let about = About {
            format_version: FORMAT_VERSION,
            onnx_sha256: sha256(&onnx),
            slm: SlmInfo::of(bundle),
            reward,
            training,
        };
        HeadFile { onnx, about }
    }

    /// Reads and checks a folder.
    pub fn read(dir: &Path) -> Result<HeadFile> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| path.display().to_string())
        };
        let about: About = serde_json::from_slice(&read(JSON)?)
            .with_context(|| dir.join(JSON).display().to_string())?;
        let onnx = read(ONNX)?;
        ensure!(
            about.format_version == FORMAT_VERSION,
            "{JSON} has format version {}; this tool reads {FORMAT_VERSION}",
            about.format_version
        );
        ensure!(sha256(&onnx) == about.onnx_sha256, "{ONNX} is not the file that {JSON} describes");
        Ok(HeadFile { onnx, about })
    }

    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let mut json = serde_json::to_vec_pretty(&self.about)?;
        json.push(b'\n');
        replace(&dir.join(ONNX), &self.onnx)?;
        replace(&dir.join(JSON), &json)
    }

    /// Puts the head into a bundle. `any_source`: also into one that was packed from another file
    /// than the head was trained for.
    pub fn install(&self, bundle: &Bundle, any_source: bool) -> Result<()> {
        let found = SlmInfo::of(bundle);
        let slm = &self.about.slm;
        ensure!(
            any_source || found.source_sha256 == slm.source_sha256,
            "the head was trained for {} ({}), the bundle is {} ({}); --any-source installs it \
             anyway",
            slm.name,
            slm.source,
            found.name,
            found.source
        );
        let head = Head::load(&self.onnx, found.hidden_size)?;
        ensure!(
            head.reads_after() == self.about.reward.after,
            "{JSON} is wrong about `reward.after`"
        );
        Ok(set_reward(
            bundle.dir().context("a bundle in memory")?,
            &self.onnx,
            self.about.reward.clone(),
        )?)
    }
}
