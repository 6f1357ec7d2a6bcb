//! `millrace subject export`: what is stored of a subject, in lines of JSON.

use std::fs::OpenOptions;
use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use millrace_event::printable::escaped_json;
use millrace_store::{RecordsPlace, Store};

use crate::failure::Failure;
use crate::find;
use crate::output::counted;

pub(super) async fn run(
    store: &dyn Store,
    project: &str,
    subject: &str,
    file: Option<&Path>,
) -> Result<(), Failure> {
    let info = find::project(store, project).await?;
    let name = file.map_or_else(|| "standard output".to_owned(), |file| file.display().to_string());
    let cannot_write = |error: std::io::Error| Failure::Refused(format!("{name}: {error}"));
    let mut lines: Box<dyn Write + Send> = match file {
        // Only this user can read it, and what others have written is not overwritten.
        Some(file) => {
            let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
            Box::new(BufWriter::new(created.map_err(cannot_write)?))
        }
        None => Box::new(stdout()),
    };
    let (mut place, mut written) = (Some(RecordsPlace::START), 0_u64);
    while let Some(at) = place {
        let page = store.subject_records(info.project, subject, &at).await?;
        for record in &page.records {
            match writeln!(lines, "{}", escaped_json(&record.to_string())) {
                Ok(()) => written += 1,
                // The reader stopped reading.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(cannot_write(error)),
            }
        }
        place = page.next;
    }
    lines.flush().map_err(cannot_write)?;
    // Standard output has records and nothing else.
    eprintln!("Exported {} to {name}.", counted(written, "record"));
    Ok(())
}
