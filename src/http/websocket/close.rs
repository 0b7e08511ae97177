//! Why the server closes a socket: the codes of `graphql-transport-ws`, and of RFC 6455 where it has one.

/// A reason, with its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Close {
    /// A text message that is not UTF-8. 1007.
    NotText,
    /// Too large a message. 1009.
    TooLarge,
    /// The server stops or restarts; come back. 1012.
    ShuttingDown,
    /// The peer does not read what it is sent. 1013.
    NotReading,
    /// Not a message of the protocol. 4400.
    Invalid(String),
    /// It cannot be said now whether the token is valid. 1013.
    TryAgainLater,
    /// `subscribe` before the acknowledgement. 4401.
    NotAcknowledged,
    /// No valid token, or not any more. 4403.
    Forbidden,
    /// No subprotocol that is spoken here. 4406.
    UnknownSubprotocol,
    /// No `connection_init` in time. 4408.
    InitTimeout,
    /// The id of a `subscribe` is that of a running operation. 4409.
    IdInUse(String),
    /// A second `connection_init`. 4429.
    SecondInit,
}

/// The most that a close frame can carry beside its code.
const MAX_REASON_BYTES: usize = 123;

impl Close {
    /// 4400 with this reason.
    pub fn invalid(problem: &str) -> Close {
        Close::Invalid(problem.to_owned())
    }

    /// The code of the close frame.
    pub fn code(&self) -> u16 {
        match self {
            Close::NotText => 1007,
            Close::TooLarge => 1009,
            Close::ShuttingDown => 1012,
            Close::NotReading | Close::TryAgainLater => 1013,
            Close::Invalid(_) => 4400,
            Close::NotAcknowledged => 4401,
            Close::Forbidden => 4403,
            Close::UnknownSubprotocol => 4406,
            Close::InitTimeout => 4408,
            Close::IdInUse(_) => 4409,
            Close::SecondInit => 4429,
        }
    }

    /// The reason of the close frame, cut to what it can carry.
    pub fn reason(&self) -> String {
        let reason = match self {
            Close::NotText => "Message is not UTF-8".to_owned(),
            Close::NotReading => "Not reading".to_owned(),
            Close::TooLarge => "Message too large".to_owned(),
            Close::ShuttingDown => "Service restart".to_owned(),
            Close::Invalid(problem) => problem.clone(),
            Close::NotAcknowledged => "Unauthorized".to_owned(),
            Close::Forbidden => "Forbidden".to_owned(),
            Close::TryAgainLater => "Try again later".to_owned(),
            Close::UnknownSubprotocol => "Subprotocol not acceptable".to_owned(),
            Close::InitTimeout => "Connection initialisation timeout".to_owned(),
            Close::IdInUse(id) => format!("Subscriber for {id} already exists"),
            Close::SecondInit => "Too many initialisation requests".to_owned(),
        };
        let end = (0..=MAX_REASON_BYTES.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        reason.get(..end.unwrap_or_default()).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_its_frame() {
        let close = Close::IdInUse("ä".repeat(200));
        assert!((100..=123).contains(&close.reason().len()));
        assert_eq!(Close::SecondInit.reason(), "Too many initialisation requests");
    }
}
