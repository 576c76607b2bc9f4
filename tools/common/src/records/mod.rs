//! What SLM and cloud LLM say along an answer, token by token, and the file that keeps it. Read
//! top-down: `text`, `reader`, `features`, `labels`, `chosen`, `record`.

pub mod chosen;
pub mod features;
pub mod labels;
pub mod reader;
pub mod record;
pub mod text;
