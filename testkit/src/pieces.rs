//! The body of a request or a response, which can arrive slowly: in small pieces, with a pause before each
//! but the first.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Most pieces of a slow body.
const PIECES_MAX: usize = 64;
/// Long enough for each piece to be sent alone. No server or SDK gives up within all of them.
const PAUSE: Duration = Duration::from_millis(10);

/// A body of known length.
#[derive(Debug)]
pub(crate) struct Pieces {
    rest: Bytes,
    piece_bytes: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    /// A body that arrives at once.
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { piece_bytes: body.len(), rest: body, pause: None }
    }

    /// A body that arrives slowly.
    pub(crate) fn slow(body: Bytes) -> Self {
        Self { piece_bytes: body.len().div_ceil(PIECES_MAX).max(1), rest: body, pause: None }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(pause) = &mut self.pause {
            // hyper writes what it has while a body is not ready.
            std::task::ready!(pause.as_mut().poll(context));
        }
        let bytes = self.piece_bytes.min(self.rest.len());
        let piece = self.rest.split_to(bytes);
        self.pause = Some(Box::pin(sleep(PAUSE)));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn pieces(mut body: Pieces) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            pieces.push(frame.into_data().expect("data"));
        }
        pieces
    }

    #[tokio::test]
    async fn a_slow_body_is_the_same_bytes_in_pieces() {
        for length in [0, 1, 65, 500] {
            let body: Bytes = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect::<Vec<_>>().into();
            let slow = pieces(Pieces::slow(body.clone())).await;
            assert_eq!(slow.concat(), body);
            assert!(
                slow.len() <= PIECES_MAX && slow.len() >= PIECES_MAX.min(body.len()) / 2,
                "{}",
                slow.len()
            );
            assert_eq!(pieces(Pieces::whole(body.clone())).await.len(), usize::from(length > 0));
        }
    }
}
