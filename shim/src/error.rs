//! The core's errors as ttrpc status codes: the one place where a kind becomes a code.
//!
//! containerd and its clients act on the code (a `Kill` answered `NotFound` is a success to CRI) and show the text.

use runtime_core::{Error, Kind};
use ttrpc::{Code, get_status};

/// The answer that a failed call gives.
pub(crate) fn status(error: &Error) -> ttrpc::Error {
    let code = match error.kind() {
        Kind::Invalid => Code::INVALID_ARGUMENT,
        Kind::NotFound => Code::NOT_FOUND,
        Kind::Exists => Code::ALREADY_EXISTS,
        Kind::Precondition => Code::FAILED_PRECONDITION,
        Kind::Unimplemented => Code::UNIMPLEMENTED,
        // What the Go shim's plain errors arrive as.
        Kind::System => Code::UNKNOWN,
    };
    ttrpc::Error::RpcStatus(get_status(code, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_code_that_containerd_acts_on() {
        for (kind, code) in [
            (Kind::Invalid, Code::INVALID_ARGUMENT),
            (Kind::NotFound, Code::NOT_FOUND),
            (Kind::Exists, Code::ALREADY_EXISTS),
            (Kind::Precondition, Code::FAILED_PRECONDITION),
            (Kind::Unimplemented, Code::UNIMPLEMENTED),
            (Kind::System, Code::UNKNOWN),
        ] {
            let ttrpc::Error::RpcStatus(status) = status(&Error::new(kind, "no such exec: a")) else {
                panic!("{kind:?} is no status");
            };
            assert_eq!(status.code(), code);
            assert_eq!(status.message(), "no such exec: a");
        }
    }
}
