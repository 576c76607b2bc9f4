//! Opening, changing and damaging bundles on disk.

use std::{fs, io};

use ring::signature::{Ed25519KeyPair, KeyPair};
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
    let bundle = Bundle::open_with_progress(&dir, Verify::All, &mut |done, total| {
        last = (done, total);
        true
    })
    .unwrap();
    assert_eq!(last, (35, 35));
    assert_eq!(bundle.read(FileRole::Graph).unwrap(), b"graph.onnx");
    assert_eq!(&bundle.weights().unwrap()[..], b"weights.bin");
    assert_eq!(bundle.dir(), Some(dir.as_path()));
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
                let json = json.replace("\"format_version\": 3", "\"format_version\": 7");
                fs::write(d.join("bundle.json"), json).unwrap();
            },
            "bundle format 7",
        ),
        (
            |d| {
                let json = fs::read_to_string(d.join("bundle.json")).unwrap();
                fs::write(d.join("bundle.json"), json.replace("example", "Example")).unwrap();
            },
            "bundle.json has BLAKE3 ",
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

/// As if by another key than [`OTHERS`].
const OURS: [u8; 32] = [7; 32];
const OTHERS: [u8; 32] = [8; 32];

fn pair(seed: [u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()
}

fn sign(dir: &Path, seed: [u8; 32]) {
    let sign = |json: &[u8]| Ok::<_, Error>(pair(seed).sign(json).as_ref().try_into().unwrap());
    set_signature(dir, sign).unwrap();
}

fn signed_by(seed: [u8; 32]) -> Checks {
    let key: [u8; 32] = pair(seed).public_key().as_ref().try_into().unwrap();
    Checks { public_key: Some(key.into()), ..Checks::default() }
}

#[test]
fn only_what_the_key_has_signed_is_opened() {
    type Change = fn(&Path);
    let no_json = |d: &Path| fs::write(d.join("bundle.json"), "{").unwrap();
    let other_template = |d: &Path| {
        let json = fs::read_to_string(d.join("bundle.json")).unwrap();
        let json = json.replace("\"example\"", "\"EXAMPLE\"");
        let open = json.split(",\n  \"manifest_blake3\"").next().unwrap().to_owned() + "}";
        fs::write(d.join("bundle.json"), seal(&open).unwrap()).unwrap();
    };
    let rows: &[(Change, &str)] = &[
        (|d| sign(d, OURS), ""),
        (|_| {}, "has no bundle.sig"),
        (|d| sign(d, OTHERS), "is not by the program's public key"),
        (|d| (sign(d, OTHERS), sign(d, OURS)).1, ""),
        (|d| fs::write(d.join("bundle.sig"), [0; 65]).unwrap(), "no signature of 64 bytes"),
        (|d| fs::create_dir(d.join("bundle.sig")).unwrap(), "not a regular file"),
        (
            |d| {
                sign(d, OURS);
                fs::write(d.join("weights.bin"), "WEIGHTS.BIN").unwrap();
            },
            "weights.bin has BLAKE3",
        ),
        (
            |d| {
                sign(d, OURS);
                set_reward(d, b"head", example::reward()).unwrap();
            },
            "has no bundle.sig",
        ),
    ];
    let temp = TempDir::new().unwrap();
    let changes = rows.iter().map(|(change, expected)| (*change as Change, *expected));
    // Under a right hash of its own, and what does not even parse: the signature goes first.
    let forged: [Change; 2] = [no_json, other_template];
    for (n, (change, expected)) in changes
        .chain(forged.map(|change| (change, "is not by the program's public key")))
        .enumerate()
    {
        let dir = temp.path().join(n.to_string());
        write_bundle(&dir, false).unwrap();
        if n >= rows.len() {
            sign(&dir, OURS);
        }
        change(&dir);
        let signed = dir.join("bundle.sig").exists();
        let opened = Bundle::open(&dir, signed_by(OURS));
        let files = names(&dir).into_iter().filter_map(|name| {
            let bytes = fs::read(dir.join(&name)).ok()?;
            let blob = if name == "weights.bin" { aligned(&bytes, 0) } else { Blob::new(bytes) };
            Some((name, blob))
        });
        let in_memory = Bundle::from_memory(files.collect(), signed_by(OURS), &mut |_, _| true);
        if expected.is_empty() {
            assert!(opened.unwrap().is_signed() && in_memory.unwrap().is_signed());
            continue;
        }
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?} not in {error}");
        assert!(in_memory.is_err(), "{expected:?} in memory");
        // Without a key nothing of this matters.
        if n < rows.len() && !expected.contains("BLAKE3") {
            assert_eq!(Bundle::open(&dir, Verify::All).unwrap().is_signed(), signed);
        }
    }
}

/// At an address that is `off` by some bytes.
fn aligned(bytes: &[u8], off: usize) -> Blob {
    #[derive(Clone)]
    #[repr(align(64))]
    struct Block([u8; 64]);
    struct Part(Box<[Block]>, std::ops::Range<usize>);
    impl AsRef<[u8]> for Part {
        fn as_ref(&self) -> &[u8] {
            &self.0[0].0[self.1.clone()]
        }
    }
    let mut block = Block([0; 64]);
    block.0[off..off + bytes.len()].copy_from_slice(bytes);
    Blob::new(Part(Box::new([block]), off..off + bytes.len()))
}

/// The files of [`write_bundle`], as they would be read from flash.
fn in_memory(off: usize) -> Vec<(String, Blob)> {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    write_bundle(&dir, false).unwrap();
    let read = |name: String| {
        let bytes = fs::read(dir.join(&name)).unwrap();
        let blob = if name == "weights.bin" { aligned(&bytes, off) } else { Blob::new(bytes) };
        (name, blob)
    };
    names(&dir).into_iter().map(read).collect()
}

#[test]
fn a_bundle_in_memory() {
    let files = in_memory(0);
    let weights = files.iter().find(|(name, _)| name == "weights.bin").unwrap().1.as_ptr();
    let mut calls = Vec::new();
    let bundle = Bundle::from_memory(files, Verify::All, &mut |done, total| {
        calls.push((done, total));
        true
    })
    .unwrap();
    assert_eq!(calls, [(10, 35), (21, 35), (35, 35)]);
    assert_eq!(bundle.read(FileRole::Graph).unwrap(), b"graph.onnx");
    assert_eq!(&bundle.weights().unwrap()[..], b"weights.bin");
    assert_eq!(bundle.weights().unwrap().as_ptr(), weights, "used where they lie");
    assert_eq!(bundle.dir(), None);
    let error = bundle.read(FileRole::Reward).unwrap_err().to_string();
    assert!(error.contains("the bundle in memory has no reward.onnx"), "{error}");
}

#[test]
fn damage_in_memory_is_named() {
    type Damage = fn(&mut Vec<(String, Blob)>);
    fn at<'a>(files: &'a mut [(String, Blob)], name: &str) -> &'a mut Blob {
        &mut files.iter_mut().find(|(other, _)| other == name).unwrap().1
    }
    let rows: &[(Damage, &str)] = &[
        (|f| f.clear(), "no bundle.json"),
        (|f| f.retain(|(name, _)| name != "graph.onnx"), "graph.onnx is missing; give it"),
        (|f| f.push(("graph.onnx".into(), Blob::new([]))), "\"graph.onnx\" is given twice"),
        (|f| *at(f, "bundle.json") = Blob::new(*b"{"), "bundle.json: "),
        (|f| *at(f, "bundle.json") = Blob::new(vec![b' '; (4 << 20) + 1]), "more than 4194304"),
        (|f| *at(f, "graph.onnx") = Blob::new(*b"graph.onn"), "truncated: 9 of 10"),
        (|f| *at(f, "graph.onnx") = Blob::new(*b"graph.onnxx"), "has 11 bytes"),
        (|f| *at(f, "tokenizer.json") = Blob::new(*b"tokenizer.jsoN"), "has BLAKE3"),
        (|f| *at(f, "weights.bin") = aligned(b"weights.biN", 0), "has BLAKE3"),
        (|f| *at(f, "weights.bin") = aligned(b"weights.bin", 32), "no multiple of 64"),
    ];
    for (damage, part) in rows {
        let mut files = in_memory(0);
        damage(&mut files);
        let error = Bundle::from_memory(files, Verify::All, &mut |_, _| true).unwrap_err();
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let mut files = in_memory(0);
    *at(&mut files, "weights.bin") = aligned(b"weights.biN", 0);
    assert!(Bundle::from_memory(files, Verify::AllButWeights, &mut |_, _| true).is_ok());
}

#[test]
fn progress_can_stop_the_opening() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("bundle");
    write_bundle(&dir, false).unwrap();
    for last in 1..=3 {
        let (mut calls, mut again) = (0, 0);
        let stopped = Bundle::open_with_progress(&dir, Verify::All, &mut |_, _| {
            calls += 1;
            calls < last
        });
        assert!(matches!(stopped, Err(Error::Cancelled)));
        let stopped = Bundle::from_memory(in_memory(0), Verify::All, &mut |_, _| {
            again += 1;
            again < last
        });
        assert!(matches!(stopped, Err(Error::Cancelled)));
        assert_eq!((calls, again), (last, last), "not asked again");
    }
}
