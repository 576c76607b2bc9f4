//! The records of `hybrid-lab collect` as tables for training, validation and testing.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hybrid::session::Model;

use super::dataset::Dataset;
use crate::prompts::Split;
use crate::records::record::Record;

pub struct Tables {
    /// Answers of every kind.
    pub train: Dataset,
    /// Only the cloud LLM's own answers: a session with few mistakes stays near them.
    pub validation: Dataset,
    pub test: Dataset,
    pub cloud_model: String,
}

impl Tables {
    /// Reads every record of these folders.
    pub fn read(folders: &[PathBuf], model: &Model) -> Result<Tables> {
        Tables::of(records(folders, model)?.iter(), model)
    }

    fn of<'a>(records: impl Iterator<Item = &'a Record> + Clone, model: &Model) -> Result<Tables> {
        let cloud_model = records.clone().next().map(|record| record.about.llm.clone());
        let cloud_model =
            cloud_model.context("there are no records: `hybrid-lab collect` makes them")?;
        let table = |split: Split, every_path: bool| {
            let mut data = Dataset::new(model.slm.hidden_size());
            for record in records.clone().filter(|r| r.about.split == split) {
                if every_path || record.about.path == "llm" {
                    data.push(record, |id| model.tokens.is_stop(id));
                }
            }
            data
        };
        of_one_llm(records.clone(), &cloud_model)?;
        let (train, validation) = (table(Split::Train, true), table(Split::Validation, false));
        let counts = [train.prompt_count(), validation.prompt_count()];
        ensure!(
            !counts.contains(&0),
            "there must be prompts for training and for validation; there are {} and {}",
            counts[0],
            counts[1]
        );
        Ok(Tables { train, validation, test: table(Split::Test, false), cloud_model })
    }
}

/// Every record of these folders.
pub fn records(folders: &[PathBuf], model: &Model) -> Result<Vec<Record>> {
    let mut files = Vec::new();
    for dir in folders {
        for file in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
            files.push(file?.path());
        }
    }
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let records = files.iter().map(|path| {
        let record = Record::load(path)?;
        check(&record, model).with_context(|| path.display().to_string())?;
        Ok((path.file_name(), record))
    });
    let mut records = records.collect::<Result<Vec<_>>>()?;
    // The order of a folder's files is nobody's; the answers to one prompt belong together.
    records.sort_by(|(a_name, a), (b_name, b)| {
        (&a.about.prompt, a_name).cmp(&(&b.about.prompt, b_name))
    });
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

/// Records are of one cloud LLM, or nothing that is fitted to them means anything.
pub fn of_one_llm<'a>(records: impl IntoIterator<Item = &'a Record>, name: &str) -> Result<()> {
    for record in records {
        let llm = &record.about.llm;
        ensure!(llm == name, "records of two cloud LLMs, {llm} and {name}");
    }
    Ok(())
}

/// A record must be of the bundle's SLM.
fn check(record: &Record, model: &Model) -> Result<()> {
    let slm = &model.bundle.manifest().model;
    ensure!(
        record.about.slm_sha256 == slm.source_sha256,
        "it was collected with another SLM than {}",
        slm.name
    );
    let rows = record.tokens.len();
    ensure!(
        record.features.hidden.len() == rows * slm.hidden_size,
        "its hidden states are not of the size {}",
        slm.hidden_size
    );
    ensure!(
        record.about.statistics_version == hybrid::reward::statistics::VERSION,
        "its statistics are of version {}",
        record.about.statistics_version
    );
    Ok(())
}
