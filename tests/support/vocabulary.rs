//! A vocabulary of bytes, two words and two control tokens, and a server that has it.

use hybrid::cloud::Vocabulary;
use serde_json::{Value, json};

use super::{Reaction, Recorded};

/// Ids 0..=255 are bytes.
pub struct Toy(Vec<(Vec<u8>, bool)>);

impl Toy {
    pub const FINGERPRINT: &str = "toy";
    pub const START: u32 = 258;
    pub const END: u32 = 259;

    pub fn new() -> Toy {
        Toy::with_words([" fox", "語"])
    }

    pub fn with_words(words: [&str; 2]) -> Toy {
        let bytes = (0..=255).map(|byte| (vec![byte], false));
        let words = words.map(|word| (word.as_bytes().to_vec(), false));
        let control = ["<|start|>", "<|end|>"].map(|name| (name.as_bytes().to_vec(), true));
        Toy(bytes.chain(words).chain(control).collect())
    }

    pub fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        let mut rest = text.as_bytes();
        let mut ids = Vec::new();
        while !rest.is_empty() {
            let usable = |&(_, (bytes, control)): &(usize, &(Vec<u8>, bool))| {
                rest.starts_with(bytes) && (special || !control)
            };
            let longest =
                self.0.iter().enumerate().filter(usable).max_by_key(|(_, (b, _))| b.len());
            let (id, (bytes, _)) = longest.expect("every byte is a token");
            ids.push(id as u32);
            rest = &rest[bytes.len()..];
        }
        ids
    }

    fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.0[id as usize].0.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What llama.cpp's server answers to `/tokenize` and `/detokenize`; `None` for other paths.
    pub fn answer(&self, request: &Recorded) -> Option<Reaction> {
        let answer = match request.path.as_str() {
            "/tokenize" => {
                let body = request.json();
                let text = body["content"].as_str().expect("content");
                json!({ "tokens": self.encode(text, body["parse_special"] == true) })
            }
            "/detokenize" => json!({ "content": self.decode(&ids(&request.json()["tokens"])) }),
            _ => return None,
        };
        Some(Reaction::json(200, &answer.to_string()))
    }
}

fn ids(list: &Value) -> Vec<u32> {
    serde_json::from_value(list.clone()).expect("a list of ids")
}

impl Vocabulary for Toy {
    fn fingerprint(&self) -> &str {
        Toy::FINGERPRINT
    }
    fn usable(&self) -> u32 {
        self.0.len() as u32
    }
    fn stop(&self) -> Vec<u32> {
        vec![Toy::END]
    }
    fn bytes(&self, id: u32) -> &[u8] {
        let (bytes, control) = &self.0[id as usize];
        if *control { &[] } else { bytes }
    }
    fn bytes_with_special(&self, id: u32) -> &[u8] {
        &self.0[id as usize].0
    }
}
