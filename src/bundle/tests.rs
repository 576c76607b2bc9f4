//! Opening, changing and damaging bundles on disk.

use std::fs;

use temp_dir::TempDir;

use super::*;

fn write_bundle(dir: &Path, replace: bool) -> Result<()> {
    let mut writer = Writer::create(dir, replace)?;
    for role in [FileRole::Graph, FileRole::Weights, FileRole::Tokenizer] {
        writer.add(role, |out| {
            out.write_all(role.file_name().as_bytes()).map_err(|e| Error::io(dir, e))
        })?;
    }
    writer.finish(example::manifest())
}

fn names(dir: &Path) -> Vec<String> {
    let name = |e: io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn what_was_written_is_read_back() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("a/bundle");
    write_bundle(&dir, false).unwrap();
    assert_eq!(names(&dir), ["bundle.json", "graph.onnx", "tokenizer.json", "weights.bin"]);
    assert_eq!(names(&temp.path().join("a")), ["bundle"]);
    let mut last = (0, 0);
    let bundle =
        Bundle::open_with_progress(&dir, Verify::All, &mut |done, total| last = (done, total))
            .unwrap();
    assert_eq!(last, (35, 35));
    assert_eq!(bundle.read(FileRole::Graph).unwrap(), b"graph.onnx");
    assert_eq!(&bundle.weights().unwrap()[..], b"weights.bin");
    assert_eq!(bundle.dir(), dir);
    assert!(bundle.read(FileRole::Weights).is_err());
    assert!(bundle.read(FileRole::Reward).is_err());
}

#[test]
fn every_damage_is_named() {
    type Damage = fn(&Path);
    let cases: &[(Damage, &str)] = &[
        (|d| fs::remove_dir_all(d).unwrap(), "no such directory"),
        (
            |d| {
                fs::remove_dir_all(d).unwrap();
                fs::write(d, "x").unwrap();
            },
            "a bundle is a directory",
        ),
        (|d| fs::remove_file(d.join("bundle.json")).unwrap(), "has no bundle.json"),
        (|d| fs::remove_file(d.join("graph.onnx")).unwrap(), "graph.onnx is missing"),
        (
            |d| fs::write(d.join("weights.bin"), "weights.bi").unwrap(),
            "is truncated: 10 of 11 bytes",
        ),
        (|d| fs::write(d.join("weights.bin"), "weights.bins").unwrap(), "has 12 bytes where"),
        (|d| fs::write(d.join("graph.onnx"), "Graph.onnx").unwrap(), "graph.onnx has BLAKE3 "),
        (|d| fs::write(d.join("bundle.json"), "{").unwrap(), "bundle.json: EOF"),
        (
            |d| {
                fs::remove_file(d.join("graph.onnx")).unwrap();
                fs::create_dir(d.join("graph.onnx")).unwrap();
            },
            "not a regular file",
        ),
        (
            |d| fs::write(d.join("bundle.json"), " ".repeat(5 << 20)).unwrap(),
            "bundle.json has more than",
        ),
        (
            |d| {
                let json = fs::read_to_string(d.join("bundle.json")).unwrap();
                let json = json.replace("\"format_version\": 2", "\"format_version\": 7");
                fs::write(d.join("bundle.json"), json).unwrap();
            },
            "bundle format 7",
        ),
    ];
    for (damage, expected) in cases {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("bundle");
        write_bundle(&dir, false).unwrap();
        damage(&dir);
        let error = Bundle::open(&dir, Verify::All).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
    }
}

#[test]
fn a_wrong_hash_shows_both() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    write_bundle(&dir, false).unwrap();
    fs::write(dir.join("weights.bin"), "WEIGHTS.BIN").unwrap();
    let error = Bundle::open(&dir, Verify::All).unwrap_err().to_string();
    assert!(
        error.contains(&blake3_of(b"weights.bin")) && error.contains(&blake3_of(b"WEIGHTS.BIN")),
        "{error}"
    );
    // The same size without a hash is what `AllButWeights` cannot see.
    Bundle::open(&dir, Verify::AllButWeights).unwrap();
}

#[test]
fn a_file_that_changes_after_opening_is_noticed() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    write_bundle(&dir, false).unwrap();
    let bundle = Bundle::open(&dir, Verify::All).unwrap();
    fs::write(dir.join("tokenizer.json"), "TOKENIZER.json").unwrap();
    let error = bundle.read(FileRole::Tokenizer).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json has BLAKE3"), "{error}");
}

#[test]
fn only_bundles_are_replaced_and_only_when_asked() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    write_bundle(&dir, false).unwrap();
    let error = write_bundle(&dir, false).unwrap_err().to_string();
    assert!(error.contains("--force"), "{error}");
    write_bundle(&dir, true).unwrap();
    Bundle::open(&dir, Verify::All).unwrap();
    assert_eq!(names(temp.path()), ["bundle"]);

    let precious = temp.path().join("home");
    fs::create_dir(&precious).unwrap();
    write_bundle(&precious, false).unwrap();
    fs::remove_file(precious.join("bundle.json")).unwrap();
    let error = write_bundle(&precious, true).unwrap_err().to_string();
    assert!(error.contains("not a bundle"), "{error}");
    assert!(write_bundle(Path::new("/"), true).is_err());
}

#[test]
fn a_writer_that_is_dropped_or_fails_leaves_nothing() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    drop(Writer::create(&dir, false).unwrap());
    let mut writer = Writer::create(&dir, false).unwrap();
    writer.add(FileRole::Graph, |_| Ok(())).unwrap();
    assert!(writer.finish(example::manifest()).is_err());
    assert_eq!(names(temp.path()), [""; 0]);
}

/// A running process is left alone; what a killed one left is removed.
#[test]
fn leftovers_are_removed_and_no_obstacle() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    let running = Writer::create(&dir, false).unwrap();
    let left = temp.path().join(".bundle.new-4194305-0");
    let old = temp.path().join(".bundle.old-4194305-0");
    let others = [".bundle.new-x-0", ".bundle.new-1-", ".other.new-1-0", ".bundle.newer-1-0"];
    for name in others.into_iter().chain([".bundle.new-4194305-0", ".bundle.old-4194305-0"]) {
        fs::create_dir(temp.path().join(name)).unwrap();
    }
    fs::write(left.join("weights.bin"), "half").unwrap();
    write_bundle(&dir, false).unwrap();
    Bundle::open(&dir, Verify::All).unwrap();
    assert!(!left.exists() && old.exists(), "there was no other bundle");
    write_bundle(&dir, true).unwrap();
    assert!(!old.exists());
    assert_eq!(names(temp.path()).len(), others.len() + 2, "{:?}", names(temp.path()));
    drop(running);
    assert_eq!(names(temp.path()).len(), others.len() + 1, "{:?}", names(temp.path()));
}

#[test]
fn a_complete_bundle_can_be_tried_before_it_is_there() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    for put in [false, true] {
        let mut writer = Writer::create(&dir, false).unwrap();
        for role in [FileRole::Graph, FileRole::Weights, FileRole::Tokenizer] {
            writer.add_bytes(role, b"x").unwrap();
        }
        let complete = writer.complete(example::manifest()).unwrap();
        Bundle::open(complete.dir(), Verify::All).unwrap();
        assert!(!dir.exists());
        if put {
            complete.put_into_place().unwrap();
        }
    }
    Bundle::open(&dir, Verify::All).unwrap();
    assert_eq!(names(temp.path()), ["bundle"]);
}

#[test]
fn a_reward_head_is_added_and_replaced() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    write_bundle(&dir, false).unwrap();
    let heads: [&[u8]; 3] = [b"first", b"second", b"second"];
    for head in heads {
        set_reward(&dir, head, example::reward()).unwrap();
        let bundle = Bundle::open(&dir, Verify::All).unwrap();
        assert_eq!(bundle.read(FileRole::Reward).unwrap(), head);
        assert_eq!(bundle.manifest().reward, Some(example::reward()));
        assert_eq!(names(&dir).len(), 5, "{:?}", names(&dir));
    }
    let mut wrong = example::reward();
    wrong.default_threshold = 2.0;
    assert!(set_reward(&dir, b"third", wrong).is_err());
    let bundle = Bundle::open(&dir, Verify::All).unwrap();
    assert_eq!(bundle.read(FileRole::Reward).unwrap(), b"second");
    assert_eq!(names(&dir).len(), 5, "{:?}", names(&dir));
}
