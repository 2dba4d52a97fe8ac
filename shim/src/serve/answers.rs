//! What goes out to a client, with one code changed on its way: a call to a service that is not served here is answered with
//! `Unimplemented`, as Go's server answers it (github.com/containerd/ttrpc, services.go), for by that a daemon falls back to an
//! older API. The crate says `InvalidArgument` (ttrpc 0.10, asynchronous/server.rs), keeps its table of services to itself and
//! has no hook for a name that is not in it. (For a method that is not there it has the right code.)
//!
//! Both codes are one byte long on the wire, so the frame stays what it was. An answer longer than the first write of a frame,
//! which is 4 kB, is let go as it is: it would have to be to a name as long.

use containerd_shim_protos::protobuf::Message;
use ttrpc::proto::{MESSAGE_HEADER_LENGTH, MESSAGE_TYPE_RESPONSE};
use ttrpc::{Code, MessageHeader, Response};

/// How the crate's sentence ends, behind the name of the service.
const UNKNOWN_SERVICE: &str = " service does not exist";

/// The frames of one connection, whose bytes may be written in any pieces.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// How much of the present frame is still to be written.
    left: usize,
    /// The present frame, where it is another than the crate's.
    changed: Option<Vec<u8>>,
}

impl Answers {
    /// What is to be written in place of `bytes`, which come next and begin a frame where the last one is over.
    pub(super) fn next<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.left == 0 {
            (self.left, self.changed) = match header(bytes) {
                Some(header) => (MESSAGE_HEADER_LENGTH + header.length as usize, changed(&header, bytes)),
                None => (bytes.len(), None),
            };
        }
        match &self.changed {
            Some(frame) => &frame[frame.len() - self.left..],
            None => &bytes[..bytes.len().min(self.left)],
        }
    }

    /// So much of that is written.
    pub(super) fn written(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }
}

fn header(bytes: &[u8]) -> Option<MessageHeader> {
    bytes.first_chunk::<MESSAGE_HEADER_LENGTH>().map(|bytes| MessageHeader::from(*bytes))
}

/// The frame that goes out in place of `bytes`, if another does.
fn changed(header: &MessageHeader, bytes: &[u8]) -> Option<Vec<u8>> {
    let payload = bytes.get(MESSAGE_HEADER_LENGTH..)?;
    // Field 1 is the status, which a success has empty.
    let failed = header.type_ == MESSAGE_TYPE_RESPONSE && matches!(payload, [0x0a, 1..=u8::MAX, ..]);
    if !failed || payload.len() != header.length as usize {
        return None;
    }
    let mut answer = Response::parse_from_bytes(payload).ok()?;
    let status = answer.status.as_mut()?;
    if status.code() != Code::INVALID_ARGUMENT || !status.message().ends_with(UNKNOWN_SERVICE) {
        return None;
    }
    status.set_code(Code::UNIMPLEMENTED);
    let payload = answer.write_to_bytes().ok().filter(|changed| changed.len() == payload.len())?;
    Some([&bytes[..MESSAGE_HEADER_LENGTH], &payload].concat())
}

#[cfg(test)]
mod tests {
    use ttrpc::get_status;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        [&length.to_be_bytes()[..], &7_u32.to_be_bytes(), &[kind, 0], payload].concat()
    }

    fn answer(code: Code, message: &str) -> Vec<u8> {
        let mut response = Response::new();
        response.set_status(get_status(code, message));
        frame(MESSAGE_TYPE_RESPONSE, &response.write_to_bytes().unwrap())
    }

    /// What arrives where each write takes `most` bytes.
    fn sent(frames: &[Vec<u8>], most: usize) -> Vec<u8> {
        let (mut answers, mut sent) = (Answers::default(), Vec::new());
        for frame in frames {
            let mut bytes = &frame[..];
            while !bytes.is_empty() {
                let piece = answers.next(bytes);
                let count = piece.len().min(most);
                sent.extend_from_slice(&piece[..count]);
                answers.written(count);
                bytes = &bytes[count..];
            }
        }
        sent
    }

    #[test]
    fn an_unknown_service_is_not_implemented_and_nothing_else_is_changed() {
        let unknown = |code| answer(code, "containerd.task.v9.Task service does not exist");
        let others = [
            answer(Code::OK, ""),
            answer(Code::INVALID_ARGUMENT, "no such exec"),
            answer(Code::NOT_FOUND, "x service does not exist"),
            frame(MESSAGE_TYPE_RESPONSE, &[7; 5000]),
            frame(3, &unknown(Code::INVALID_ARGUMENT)),
            frame(MESSAGE_TYPE_RESPONSE, &[]),
        ];
        let with = |code| [&others[..3], &[unknown(code)], &others[3..], &[unknown(code)], &others[..1]].concat();
        let expected = with(Code::UNIMPLEMENTED).concat();
        for most in [1, 7, 13, 14, 4096, usize::MAX] {
            assert!(sent(&with(Code::INVALID_ARGUMENT), most) == expected, "{most} bytes at a time");
        }
    }
}
