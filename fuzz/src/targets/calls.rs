//! Calls of the C API, any of them in any order with any arguments that the header's rules allow:
//! pointers are NULL or valid for as many bytes as the counts beside them say, strings end, objects
//! live. All else is up to the input. `build.rs` generates what is known of the functions.

#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::unnecessary_cast,
    reason = "it calls C from a generated table"
)]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::LazyLock;

use hybrid::bundle::Blob;

use crate::Target;
use crate::parts::Parts;
use crate::small::Files;

pub const TARGET: Target =
    Target { name: "calls", run, seeds, words: &["\u{0}", "he", "\u{1}\u{1}"], longest: 2 << 10 };

include!(concat!(env!("OUT_DIR"), "/abi.rs"));

/// What an argument or a field is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `size_t`: a count of what the pointer before it points to, if there is one.
    Size,
    Number,
    Text,
    Texts,
    /// What a callback is given.
    User,
    Object(&'static str),
    /// Where a new object goes.
    NewObject(&'static str),
    Struct(&'static str),
    Callback(&'static str),
    /// Of plain bytes and numbers.
    Memory,
}

pub struct Function {
    name: &'static str,
    parameters: &'static [Kind],
    /// With a word for each parameter; the status if it returns one.
    call: fn(&[usize; MOST_PARAMETERS]) -> Option<i32>,
}

pub struct Struct {
    name: &'static str,
    size: usize,
    fields: &'static [Field],
}

pub struct Field {
    offset: usize,
    size: usize,
    name: &'static str,
    kind: Kind,
}

const MOST_PARAMETERS: usize = 8;
/// Calls of one input.
const MOST_CALLS: usize = 24;
/// Elements of an array of structs or texts, and bytes from one to the next at most.
const ELEMENTS: usize = 4;
const LARGEST_STRUCT: usize = 4096;
const MEMORY: usize = ELEMENTS * LARGEST_STRUCT + 64;
const PANIC: i32 = -14;

type Object = (&'static str, usize);

/// One run: what it made lives until it ends.
struct Run<'a> {
    parts: Parts<'a>,
    memory: Vec<Vec<u64>>,
    texts: Vec<Vec<u8>>,
    objects: Vec<Object>,
}

fn run(input: &[u8]) {
    let mut run =
        Run { parts: Parts(input), memory: Vec::new(), texts: Vec::new(), objects: Vec::new() };
    run.begin();
    for _ in 0..MOST_CALLS {
        if run.parts.0.is_empty() {
            break;
        }
        let number = run.parts.byte() as usize % FUNCTIONS.len();
        run.call(&FUNCTIONS[number]);
    }
    run.end();
}

fn find(name: &str) -> &'static Function {
    FUNCTIONS.iter().find(|function| function.name == name).unwrap()
}

/// A model that no run frees.
static MODEL: LazyLock<usize> = LazyLock::new(|| {
    let files = bundle_files();
    let mut model = 0_usize;
    let words = [files.as_ptr() as usize, files.len(), 0, &raw mut model as usize, 0, 0, 0, 0];
    assert_eq!((find("hybrid_model_open_memory").call)(&words), Some(0));
    model
});

/// `hybrid_bundle_file`, three words.
type BundleFile = [usize; 3];

/// Of the small model, for ever.
fn bundle_files() -> &'static [BundleFile] {
    /// Names and contents, and the array that points to them.
    type Kept = (Vec<(Vec<u8>, Blob)>, Vec<BundleFile>);
    static KEPT: LazyLock<Kept> = LazyLock::new(|| {
        let files = Files::small().sealed();
        let kept: Vec<_> =
            files.into_iter().map(|(name, blob)| ((name + "\0").into_bytes(), blob)).collect();
        let words = kept
            .iter()
            .map(|(name, blob)| [name.as_ptr() as usize, blob.as_ptr() as usize, blob.len()])
            .collect();
        (kept, words)
    });
    &KEPT.1
}

impl Run<'_> {
    /// A session, so that an input need not begin with one.
    fn begin(&mut self) {
        let mut session = 0_usize;
        let words = [*MODEL, 0, 0, &raw mut session as usize, 0, 0, 0, 0];
        assert_eq!((find("hybrid_session_new").call)(&words), Some(0));
        self.objects.push(("hybrid_session", session));
    }

    fn end(&mut self) {
        for (kind, object) in std::mem::take(&mut self.objects) {
            let words = [object, 0, 0, 0, 0, 0, 0, 0];
            (find(&format!("{kind}_free")).call)(&words);
        }
        (find("hybrid_set_log").call)(&[0; MOST_PARAMETERS]);
    }

    fn call(&mut self, function: &Function) {
        let mut words = [0; MOST_PARAMETERS];
        let mut new: BTreeMap<usize, &'static str> = BTreeMap::new();
        let mut before = 0;
        for (at, kind) in function.parameters.iter().enumerate() {
            words[at] = match kind {
                Kind::Size if function.name.ends_with("_init") => self.struct_size(before),
                Kind::Size => self.count(before),
                Kind::Object(name) if function.name == format!("{name}_free") => {
                    let at = self.parts.byte() as usize;
                    self.take(name, at)
                }
                Kind::NewObject(name) => {
                    let slot = self.allocate(1);
                    new.insert(slot, name);
                    slot
                }
                kind => self.value(*kind, 0),
            };
            // Elements that a count after this may count.
            before = self.length(*kind, words[at]);
        }
        let status = (function.call)(&words);
        assert_ne!(status, Some(PANIC), "{} has panicked", function.name);
        for (slot, name) in new {
            let object = unsafe { *(slot as *const usize) };
            assert_eq!(object != 0, status == Some(0), "{}: {status:?}", function.name);
            if object != 0 {
                self.objects.push((name, object));
            }
        }
    }

    /// A value for an argument or a field; `depth` structs point to it.
    fn value(&mut self, kind: Kind, depth: usize) -> usize {
        match kind {
            Kind::Size | Kind::Number => self.number(),
            Kind::Text => self.text(),
            Kind::Texts => {
                let texts: [usize; ELEMENTS] = std::array::from_fn(|_| self.text());
                self.filled(&texts)
            }
            Kind::User => self.any("hybrid_session"),
            Kind::Object(name) => self.any(name),
            Kind::Callback(name) => self.callback(name),
            Kind::Struct(name) => self.structs(name, depth),
            Kind::Memory => match self.parts.byte() {
                0 => 0,
                byte => self.filled(&[usize::from_ne_bytes([byte; 8]); 64]),
            },
            // In no struct.
            Kind::NewObject(_) => 0,
        }
    }

    fn number(&mut self) -> usize {
        match self.parts.byte() {
            small @ 0..240 => small as usize,
            240..245 => usize::MAX,
            245..248 => 1 << 31,
            // A float of 0.5, or a NaN.
            248..250 => 0x3f00_0000,
            250..252 => 0x7fc0_0000,
            _ => self.parts.u64() as usize,
        }
    }

    /// How many elements there are behind a pointer.
    fn length(&self, kind: Kind, pointer: usize) -> usize {
        match kind {
            _ if pointer == 0 => 0,
            Kind::Text => {
                self.texts.iter().find(|text| text.as_ptr() as usize == pointer).map_or(0, Vec::len)
            }
            Kind::Struct("hybrid_bundle_file") => bundle_files().len(),
            Kind::Struct(_) | Kind::Texts => ELEMENTS,
            Kind::Memory => MEMORY / size_of::<u64>(),
            _ => usize::MAX,
        }
    }

    /// At most `most`; any number where nothing is counted.
    fn count(&mut self, most: usize) -> usize {
        let number = self.number();
        if most == 0 { number } else { number.min(most) }
    }

    fn struct_size(&mut self, pointed: usize) -> usize {
        match self.parts.byte() {
            _ if pointed == 0 => self.number(),
            // Most structs have this size or another soon after it.
            small @ 0..200 => small as usize & !7,
            _ => self.number().min(LARGEST_STRUCT + 8),
        }
    }

    /// An object of this kind, or NULL.
    fn any(&mut self, kind: &'static str) -> usize {
        let number = self.parts.byte() as usize;
        let model = (kind == "hybrid_model").then_some(*MODEL);
        let objects: Vec<usize> =
            self.objects.iter().filter(|(k, _)| *k == kind).map(|(_, o)| *o).chain(model).collect();
        match number {
            255 => 0,
            _ => objects.get(number % objects.len().max(1)).copied().unwrap_or(0),
        }
    }

    /// The same, of those that may be freed, and no longer to be used.
    fn take(&mut self, kind: &str, number: usize) -> usize {
        let places: Vec<usize> =
            (0..self.objects.len()).filter(|&at| self.objects[at].0 == kind).collect();
        match places.get(number % (places.len() + 1)) {
            Some(&at) => self.objects.remove(at).1,
            None => 0,
        }
    }

    fn structs(&mut self, name: &str, depth: usize) -> usize {
        if self.parts.byte() == 255 || depth > 2 {
            return 0;
        }
        if name == "hybrid_bundle_file" {
            return bundle_files().as_ptr() as usize;
        }
        // An enum that is written to.
        let Some(layout) = STRUCTS.iter().find(|one| one.name == name) else {
            return self.allocate(MEMORY / 8);
        };
        let size = match self.parts.byte() {
            0..240 => layout.size,
            other => (self.number() ^ other as usize).min(LARGEST_STRUCT) & !7,
        };
        let start = self.allocate(MEMORY / 8);
        for element in 0..ELEMENTS {
            let mut before = 0;
            for field in layout.fields {
                let word = match field.kind {
                    Kind::Size if field.name == "struct_size" => size,
                    Kind::Size => self.count(before),
                    kind => self.value(kind, depth + 1),
                };
                before = self.length(field.kind, word);
                let at = element * size.max(8) + field.offset;
                if field.offset + field.size <= size {
                    let bytes = word.to_ne_bytes();
                    let target = (start + at) as *mut u8;
                    unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), field.size) };
                }
            }
        }
        start
    }

    /// Zeroed, aligned memory.
    fn allocate(&mut self, words: usize) -> usize {
        self.memory.push(vec![0; words]);
        self.memory.last_mut().unwrap().as_mut_ptr() as usize
    }

    /// As much memory as any count allows for, beginning with these words.
    fn filled(&mut self, words: &[usize]) -> usize {
        let start = self.allocate(MEMORY / 8);
        for (at, word) in words.iter().enumerate() {
            unsafe { *(start as *mut usize).add(at) = *word };
        }
        start
    }

    /// A string. It can be no address but of this machine and no path: files and servers are for
    /// other targets.
    fn text(&mut self) -> usize {
        const TEXTS: [&[u8]; 16] = [
            b"",
            b"he said",
            b"<|endoftext|>",
            b"user",
            b"assistant",
            b"system",
            b"https://127.0.0.1:9",
            b"http://127.0.0.1:9",
            b"portable",
            b"x-name",
            b"value\r\n",
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            b"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            b"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=",
            b"\xff\xfe",
            &[b'a'; 3000],
        ];
        let mut text = match self.parts.byte() {
            0 => return 0,
            number @ 1..200 => TEXTS[number as usize % TEXTS.len()].to_vec(),
            number => {
                let (own, rest) =
                    self.parts.0.split_at(self.parts.0.len().min(number as usize - 200));
                self.parts.0 = rest;
                own.iter().map(|b| if b"/:.\0".contains(b) { b'_' } else { *b }).collect()
            }
        };
        text.push(0);
        self.texts.push(text);
        self.texts.last().map_or(0, |text| text.as_ptr() as usize)
    }

    fn callback(&mut self, name: &str) -> usize {
        match (name, self.parts.byte() % 3) {
            (_, 0) => 0,
            ("hybrid_step_callback", 1) => stops as *const () as usize,
            ("hybrid_step_callback", _) => calls_back as *const () as usize,
            ("hybrid_progress_callback", n) => {
                [continues as *const (), stops_progress as *const ()][n as usize - 1] as usize
            }
            ("hybrid_log_callback", _) => hears as *const () as usize,
            _ => panic!("{name} is new: write a callback for it here"),
        }
    }
}

extern "C" fn stops(_result: *const c_void, _user: *mut c_void) -> i32 {
    1
}

/// `user` is a session, maybe the one that calls.
extern "C" fn calls_back(_result: *const c_void, user: *mut c_void) -> i32 {
    let words = [user as usize, 0, 0, 0, 0, 0, 0, 0];
    let statuses = ["hybrid_step", "hybrid_session_reset"].map(|name| (find(name).call)(&words));
    assert!(statuses.iter().all(|status| *status != Some(PANIC)));
    0
}

extern "C" fn continues(_done: u64, _total: u64, _user: *mut c_void) -> i32 {
    0
}

extern "C" fn stops_progress(_done: u64, _total: u64, _user: *mut c_void) -> i32 {
    1
}

extern "C" fn hears(_level: i32, _text: *const std::ffi::c_char, _user: *mut c_void) {}

/// Each function by itself, and a conversation.
fn seeds() -> Vec<Vec<u8>> {
    let number = |name: &str| FUNCTIONS.iter().position(|f| f.name == name).unwrap() as u8;
    let talk = [
        number("hybrid_session_prompt"),
        0,
        1,
        9,
        number("hybrid_step"),
        0,
        0,
        0,
        number("hybrid_step_peek"),
        0,
        0,
        0,
        number("hybrid_step_run"),
        0,
        9,
        2,
        0,
        0,
        number("hybrid_session_fork"),
        0,
        number("hybrid_session_save"),
        0,
        1,
        255,
        1,
        number("hybrid_session_reset"),
        0,
    ];
    let each = (0..FUNCTIONS.len()).map(|n| {
        let mut seed = vec![n as u8];
        seed.extend((0..60).map(|k: usize| (k * 7 + n) as u8 % 100));
        seed
    });
    each.chain([talk.to_vec()]).collect()
}
