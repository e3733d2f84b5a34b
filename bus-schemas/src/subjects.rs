//! Every subject, built and parsed in one place. General to specific, version first.
//!
//! Internal: `thalamus.int.v1.<cluster>.…`, public: `thalamus.v1.…`. Nothing else in the tree writes a subject by hand.

use crate::{envelope::Kind, ids::NodeId};

/// First token of every subject.
pub const ROOT: &str = "thalamus";
/// Root of the public subjects.
pub const PUBLIC: &str = "thalamus.v1";
/// Queue group of the gateways on the public subjects.
pub const GATEWAY_GROUP: &str = "thalamus-gw";
/// Queue group of the routers on the fallback subject for admissions.
pub const ROUTER_GROUP: &str = "thalamus-router";

/// Whether `name` may be a cluster name: one subject token of `a-z`, `0-9`, `-`, at most 32 long.
#[must_use]
pub fn cluster_name_is_valid(name: &str) -> bool {
    NodeId::new(name).is_ok()
}

/// Subjects of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
}

impl Subjects {
    /// Subjects of the cluster `cluster`.
    #[must_use]
    pub fn new(cluster: &str) -> Self {
        Self {
            prefix: format!("{ROOT}.int.v1.{cluster}"),
        }
    }

    /// A message of `kind` to one node.
    #[must_use]
    pub fn node(&self, node: NodeId, kind: Kind) -> String {
        format!("{}.node.{node}.{}", self.prefix, kind.as_str())
    }

    /// Everything addressed to one node.
    #[must_use]
    pub fn node_all(&self, node: NodeId) -> String {
        format!("{}.node.{node}.*", self.prefix)
    }

    /// Where a node answers probes: request with an empty payload, the reply is its epoch in decimal.
    #[must_use]
    pub fn probe(&self, node: NodeId) -> String {
        format!("{}.probe.{node}", self.prefix)
    }

    /// Beats of one node.
    #[must_use]
    pub fn beat(&self, node: NodeId) -> String {
        format!("{}.beat.{node}", self.prefix)
    }

    /// Beats of all nodes.
    #[must_use]
    pub fn beat_all(&self) -> String {
        format!("{}.beat.*", self.prefix)
    }

    /// Block and end notices of one worker.
    #[must_use]
    pub fn notice(&self, node: NodeId) -> String {
        format!("{}.notice.{node}", self.prefix)
    }

    /// Notices of all workers.
    #[must_use]
    pub fn notice_all(&self) -> String {
        format!("{}.notice.*", self.prefix)
    }

    /// Admissions for whichever router takes them: the fallback while no router's beat is known.
    #[must_use]
    pub fn admit_any(&self) -> String {
        format!("{}.router.admit", self.prefix)
    }

    /// Files of a model card, by its hash: request and reply.
    #[must_use]
    pub fn card(&self, card: u64) -> String {
        format!("{}.card.{card:016x}", self.prefix)
    }
}

/// Public operations of the gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Chat completions.
    Chat,
    /// Text completions.
    Completions,
    /// List of models.
    Models,
    /// Text to ids.
    Tokenize,
    /// Ids to text.
    Detokenize,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Chat,
        Self::Completions,
        Self::Models,
        Self::Tokenize,
        Self::Detokenize,
    ];

    /// The subject token.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Models => "models",
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
        }
    }

    /// Whether the subject may carry a model token.
    #[must_use]
    pub const fn takes_model(self) -> bool {
        !matches!(self, Self::Models)
    }
}

/// Public subject of an operation: `thalamus.v1.<op>`.
#[must_use]
pub fn public(op: Operation) -> String {
    format!("{PUBLIC}.{}", op.as_str())
}

/// Public subject of an operation on one model: `thalamus.v1.<op>.<model token>`.
#[must_use]
pub fn public_model(op: Operation, model: &str) -> String {
    format!("{PUBLIC}.{}.{}", op.as_str(), model_token(model))
}

/// Where a running request may be cancelled: `thalamus.v1.cancel.<request id>`.
#[must_use]
pub fn public_cancel(request_id: &str) -> String {
    format!("{PUBLIC}.cancel.{request_id}")
}

/// Where a gateway asks whether another runs a request already: `thalamus.v1.attach.<request id>`.
#[must_use]
pub fn public_attach(request_id: &str) -> String {
    format!("{PUBLIC}.attach.{request_id}")
}

/// Where a client acknowledges messages of a stream: `thalamus.v1.ack.<request id>`.
#[must_use]
pub fn public_ack(request_id: &str) -> String {
    format!("{PUBLIC}.ack.{request_id}")
}

/// Splits a public subject into operation and model token.
#[must_use]
pub fn parse_public(subject: &str) -> Option<(Operation, Option<&str>)> {
    let rest = subject.strip_prefix(PUBLIC)?.strip_prefix('.')?;
    let (op, model) = match rest.split_once('.') {
        Some((op, model)) => (op, Some(model)),
        None => (rest, None),
    };
    let op = Operation::ALL.into_iter().find(|o| o.as_str() == op)?;
    match model {
        Some(m) if !op.takes_model() || m.is_empty() || m.contains('.') => None,
        _ => Some((op, model)),
    }
}

/// A model id as one subject token: `.` becomes `_`, what a token may not hold is percent-coded.
#[must_use]
pub fn model_token(model: &str) -> String {
    use std::fmt::Write;
    let mut token = String::with_capacity(model.len());
    for byte in model.bytes() {
        match byte {
            b'.' => token.push('_'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => token.push(char::from(byte)),
            other => {
                write!(token, "%{other:02X}").expect("writing to a String cannot fail");
            }
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_subjects_parse_back() {
        for op in Operation::ALL {
            assert_eq!(parse_public(&public(op)), Some((op, None)));
            if op.takes_model() {
                let subject = public_model(op, "meta/Llama-3.2 1B");
                assert_eq!(
                    parse_public(&subject),
                    Some((op, Some("meta%2FLlama-3_2%201B")))
                );
            }
        }
    }

    #[test]
    fn strange_public_subjects_are_none() {
        for subject in [
            "thalamus.v1",
            "thalamus.v1.",
            "thalamus.v1.chat.",
            "thalamus.v1.chat.a.b",
            "thalamus.v2.chat",
            "thalamus.v1.models.x",
        ] {
            assert_eq!(parse_public(subject), None, "{subject}");
        }
    }

    #[test]
    fn node_subjects_are_one_token_deep() {
        let subjects = Subjects::new("lab");
        let node = NodeId::new("decode-1").expect("a valid name");
        assert_eq!(
            subjects.node(node, Kind::Reserve),
            "thalamus.int.v1.lab.node.decode-1.reserve"
        );
        assert_eq!(
            subjects.node_all(node),
            "thalamus.int.v1.lab.node.decode-1.*"
        );
    }
}
