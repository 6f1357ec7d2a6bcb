//! The output of a program, collected by one thread for each of its streams.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};

#[derive(Clone, Default, Debug)]
pub(crate) struct ProgramLog(Arc<Mutex<CollectedOutput>>);

#[derive(Default, Debug)]
struct CollectedOutput {
    text: String,
    open_streams: usize,
}

impl ProgramLog {
    pub(crate) fn follow(&self, output: impl Read + Send + 'static) {
        self.with(|collected| collected.open_streams += 1);
        let log = self.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                log.with(|collected| collected.text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            log.with(|collected| collected.open_streams -= 1);
        });
    }

    pub(crate) fn text(&self) -> String {
        self.with(|collected| collected.text.clone())
    }

    /// Whether the program has closed all its streams.
    pub(crate) fn is_complete(&self) -> bool {
        self.with(|collected| collected.open_streams == 0)
    }

    pub(crate) fn line_with(&self, text: &str) -> Option<String> {
        self.with(|collected| collected.text.lines().find(|line| line.contains(text)).map(str::to_owned))
    }

    fn with<T>(&self, work: impl FnOnce(&mut CollectedOutput) -> T) -> T {
        work(&mut self.0.lock().expect("no thread panics while it holds the log"))
    }
}
