//! Subjects: which are valid, and which pattern matches which subject.
//!
//! Never allocates and never knows who subscribes; the rules are those of a NATS server, checked
//! before anything is sent because a server answers a bad subject by closing the connection.

/// Longest subject or queue name in bytes. A server cuts a connection whose control line exceeds
/// 4,096 bytes, and the longest line has a subject, a reply and two numbers.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// True if a message can be published on `subject`.
pub fn is_publishable(subject: &str) -> bool {
    is_plain(subject)
        && subject
            .split('.')
            .all(|token| !matches!(token, "" | "*" | ">"))
}

/// True if `pattern` can be subscribed to: `*` stands for one token, a last `>` for the rest.
pub fn is_subscribable(pattern: &str) -> bool {
    if !is_plain(pattern) {
        return false;
    }
    let mut tokens = pattern.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || (token == ">" && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// True if `name` can name a queue group.
pub fn is_queue(name: &str) -> bool {
    is_plain(name)
}

/// True if `pattern` covers `subject`; both are taken to be valid.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for token in pattern.split('.') {
        match (token, subject.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (literal, Some(given)) if literal == given => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

/// True for a text that fits into a control line as one word.
fn is_plain(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= SUBJECT_BYTES_MAX;
    fits && !text
        .chars()
        .any(|letter| letter.is_whitespace() || letter.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_only_on_whole_literal_subjects() {
        for good in ["a", "a.b", "a*.b>", "$SRV.PING", "ü.é"] {
            assert!(is_publishable(good), "{good}");
        }
        let long = "a".repeat(SUBJECT_BYTES_MAX + 1);
        for bad in [
            "", ".", "a.", ".a", "a..b", "a b", "a\r\nb", "*", "a.>", "a.*.b", "\0", &long,
        ] {
            assert!(!is_publishable(bad), "{bad}");
        }
    }

    #[test]
    fn subscribes_to_wildcards_in_their_places() {
        for good in ["a", "*", ">", "a.*.c", "a.>", "*.>"] {
            assert!(is_subscribable(good), "{good}");
        }
        for bad in ["", "a.>.b", "a..b", "a .b", ">.a"] {
            assert!(!is_subscribable(bad), "{bad}");
        }
    }

    #[test]
    fn matches_as_a_server_does() {
        for (pattern, subject) in [
            ("a.b", "a.b"),
            ("a.*", "a.b"),
            ("*.b", "a.b"),
            ("a.>", "a.b.c"),
            (">", "a"),
            ("a.*.>", "a.b.c"),
        ] {
            assert!(matches(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in [
            ("a.b", "a.c"),
            ("a.*", "a"),
            ("a.*", "a.b.c"),
            ("a.>", "a"),
            ("a", "a.b"),
            ("a.b*", "a.bc"),
        ] {
            assert!(!matches(pattern, subject), "{pattern} {subject}");
        }
    }
}
