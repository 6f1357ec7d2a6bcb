//! The start of a Redis command, kept until its reply arrives.

/// Bytes of a command that are kept.
const HEAD_BYTES: usize = 4 << 10;

/// The first 4 KiB of a command.
#[derive(Debug)]
pub(super) struct Command(Vec<u8>);

impl Command {
    pub(super) fn new(message: &[u8]) -> Self {
        Self(message[..message.len().min(HEAD_BYTES)].to_vec())
    }

    /// The name: the third line of an array of strings, or the first word of an inline command.
    pub(super) fn name(&self) -> &[u8] {
        let line = if self.0.starts_with(b"*") { 2 } else { 0 };
        let line = self.0.split(|byte| *byte == b'\n').nth(line).unwrap_or_default();
        line.split(u8::is_ascii_whitespace).next().unwrap_or_default()
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        self.0.windows(text.len()).any(|window| window == text.as_bytes())
    }
}
