//! The table of matrices that the graph brings: where in the weights each one is, and in which
//! format.

use hybrid::bundle::FileRole;
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

use crate::Target;
use crate::onnx::Protobuf;
use crate::parts::text;
use crate::small::{Files, try_out};

pub const TARGET: Target = Target {
    name: "weights",
    run,
    seeds,
    words: &[
        "\"name\"",
        "\"format\"",
        "\"rows\"",
        "\"cols\"",
        "\"offset\"",
        "\"bytes\"",
        "\"f32\"",
        "\"f16\"",
        "\"q4\"",
        "\"q4m\"",
        "\"q4t\"",
        "\"q5\"",
        "\"q5m\"",
        "\"q6\"",
        "\"q8\"",
        "null",
        "18446744073709551615",
        "9223372036854775808",
        "1e3",
        "-1",
        "0",
    ],
    longest: 16 << 10,
};

const KEY: &str = "weights";

fn run(input: &[u8]) {
    let files = Files::small();
    let mut model = graph(&files);
    let table = StringStringEntryProto { key: KEY.into(), value: text(input) };
    model.metadata_props.retain(|entry| entry.key != KEY);
    model.metadata_props.push(table);
    try_out(files.with(FileRole::Graph, "graph", &model.encode_to_vec()).open());
}

fn graph(files: &Files) -> ModelProto {
    ModelProto::decode(files.file(FileRole::Graph)).unwrap()
}

fn seeds() -> Vec<Vec<u8>> {
    let entries = graph(&Files::small()).metadata_props;
    entries.into_iter().filter(|e| e.key == KEY).map(|e| e.value.into_bytes()).collect()
}
