//! What a server has answered, read from the bytes of the connection with no more understanding than is needed.

use std::io;

use memchr::memmem;

/// One whole answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What stands behind `"accepted":` in the body.
    pub accepted: Option<u64>,
    /// Bytes it has in all.
    pub bytes: usize,
}

/// Reads an answer from the front of what was received; `None` while some of it is missing.
///
/// # Errors
/// When it is not HTTP/1.1 with a `Content-Length`.
pub fn read(received: &[u8]) -> io::Result<Option<Answer>> {
    let Some(head_bytes) = memmem::find(received, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let head = &received[..head_bytes];
    let complaint = || io::Error::other(format!("not an answer: {:?}", String::from_utf8_lossy(head)));
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| number(rest.get(..3)?));
    let status = status.and_then(|status| u16::try_from(status).ok()).ok_or_else(complaint)?;
    let body_bytes = content_length(head).ok_or_else(complaint)?;
    let bytes = head_bytes + body_bytes;
    let Some(body) = received.get(head_bytes..bytes) else { return Ok(None) };
    Ok(Some(Answer { status, accepted: accepted(body), bytes }))
}

fn content_length(head: &[u8]) -> Option<usize> {
    let name = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))?;
    number(line[name.len()..].trim_ascii()).and_then(|bytes| usize::try_from(bytes).ok())
}

fn accepted(body: &[u8]) -> Option<u64> {
    let name = b"\"accepted\":";
    let rest = body[memmem::find(body, name)? + name.len()..].trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    number(&rest[..digits])
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 30\r\n\r\n{\"batch_id\":\"x\",\"accepted\":12}";

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let whole = Answer { status: 202, accepted: Some(12), bytes: ANSWER.len() };
        for cut in 0..ANSWER.len() {
            assert_eq!(read(&ANSWER[..cut]).unwrap(), None, "{cut} bytes");
        }
        assert_eq!(read(ANSWER).unwrap(), Some(whole));
        assert_eq!(read(&[ANSWER, b"HTTP"].concat()).unwrap(), Some(whole));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(read(b"hello\r\n\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
