//! Which message bodies a worker reads (Celery's `accept_content`), and how long they may get.

use serde_json::Value;

use super::serializer::Serializer;

/// What a worker takes.
#[derive(Debug, Clone)]
pub struct Accept {
    /// Serialisers of bodies that are read; any other content is refused.
    pub serializers: Vec<Serializer>,
    /// Bytes that a body may have once it is decompressed and read as JSON. A few kilobytes of
    /// compressed or aliased text can stand for more than fits into memory. What arrives as plain
    /// JSON has its length already and is not bounded here.
    pub longest_body: usize,
}

impl Accept {
    /// 32 MiB.
    pub const LONGEST_BODY: usize = 32 << 20;

    /// Values that a bounded body may have: two bytes of text can become one, which takes many
    /// times that in memory. So many take four times what the text may.
    pub(super) fn most_values(&self) -> usize {
        self.longest_body.saturating_mul(4) / size_of::<Value>()
    }

    /// Everything, of any length: for what was accepted before.
    pub(super) fn everything() -> Self {
        Self { serializers: Serializer::ALL.to_vec(), longest_body: usize::MAX }
    }
}

impl Default for Accept {
    /// JSON alone, as in Celery.
    fn default() -> Self {
        Self { serializers: vec![Serializer::Json], longest_body: Self::LONGEST_BODY }
    }
}
