//! Parses a server's responses, as far as the generator needs them.

use std::io;

use memchr::memmem;

/// A complete HTTP response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response {
    pub status: u16,
    /// The number after `"accepted":` in the body.
    pub accepted: Option<u64>,
    /// Size of head and body.
    pub bytes: usize,
}

/// Reads a response from the start of the received bytes; `None` while it is incomplete.
///
/// # Errors
/// When it is not an HTTP/1.1 response with a `Content-Length`.
pub fn read(received: &[u8]) -> io::Result<Option<Response>> {
    let Some(head_bytes) = memmem::find(received, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let head = &received[..head_bytes];
    let invalid = || {
        let head = String::from_utf8_lossy(head);
        io::Error::other(format!("not an HTTP/1.1 response with a Content-Length: {head:?}"))
    };
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| number(rest.get(..3)?));
    let status = status.and_then(|status| u16::try_from(status).ok()).ok_or_else(invalid)?;
    let body_bytes = content_length(head).ok_or_else(invalid)?;
    let bytes = head_bytes + body_bytes;
    let Some(body) = received.get(head_bytes..bytes) else { return Ok(None) };
    Ok(Some(Response { status, accepted: accepted(body), bytes }))
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

    const RESPONSE: &[u8] =
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 30\r\n\r\n{\"batch_id\":\"x\",\"accepted\":12}";

    #[test]
    fn a_response_is_read_when_it_is_complete() {
        let complete = Response { status: 202, accepted: Some(12), bytes: RESPONSE.len() };
        for cut in 0..RESPONSE.len() {
            assert_eq!(read(&RESPONSE[..cut]).unwrap(), None, "{cut} bytes");
        }
        assert_eq!(read(RESPONSE).unwrap(), Some(complete));
        assert_eq!(read(&[RESPONSE, b"HTTP"].concat()).unwrap(), Some(complete));
    }

    #[test]
    fn bytes_that_are_not_a_response_with_a_length_are_an_error() {
        assert!(read(b"hello\r\n\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
