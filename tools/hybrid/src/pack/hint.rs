//! What to do with a path that is no model which can be packed.

use std::path::Path;

const CONVERT: &str = "convert it to GGUF with llama.cpp's convert_hf_to_gguf.py or export it with \
                       `optimum-cli export onnx`, and pack what that makes";

/// Of a file that does not begin as a GGUF file.
pub fn of_file(path: &Path) -> String {
    match extension(path) {
        "safetensors" | "bin" | "pt" | "pth" => {
            format!("this format cannot be packed; {CONVERT}")
        }
        "gguf" => "it does not begin as a GGUF file: it is damaged; download it again".to_owned(),
        _ => "it is neither a GGUF file nor a directory with an ONNX export".to_owned(),
    }
}

/// Of a directory without an ONNX file.
pub fn of_directory(dir: &Path) -> String {
    let names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let with = |wanted: &str| names.iter().find(|name| extension(Path::new(name)) == wanted);
    if names.iter().any(|name| name == hybrid::bundle::MANIFEST_NAME) {
        return "it is a bundle already; `hybrid run` runs it".to_owned();
    }
    if let Some(gguf) = with("gguf") {
        return format!("give the GGUF file itself: {}", dir.join(gguf).display());
    }
    if let Some(onnx) = with("onnx") {
        let path = dir.join(onnx);
        return format!("it has no model.onnx; give that file itself: {}", path.display());
    }
    if let Some(weights) = with("safetensors") {
        return format!("it holds {weights}, a format that cannot be packed; {CONVERT}");
    }
    "it has no ONNX export: no genai_config.json, and no model.onnx, model_fp16.onnx, \
     model_q4.onnx or model_q4f16.onnx, also not in its folder onnx"
        .to_owned()
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}
