//! The parser of what models write: however the text is cut, every byte is told once, and calls come back.

use logic::parse::{Call, Format, Parser, Piece, Reason, State};
use proptest::prelude::*;

/// A template that teaches thoughts and calls.
const TEMPLATE: &str = "{{ tools }}<think></think><tool_call>arguments</tool_call>";

const FIXTURES: [&str; 9] = [
    "plain text, nothing else",
    "<think>\nhm\n\nwell\n</think>\n\nSo: 3 < 4\n",
    "I look.\n<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"zone\": \"</x> 日本\"}}\n</tool_call>",
    "<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"b\",\"arguments\":{\"n\":1e400}}</tool_call>after",
    "<tool_call>{\"name\": \"a\", \"arguments\": {\"x\": 1",
    "<tool_call>not json</tool_call> <tool_call>{\"name\":\"a\"}</tool_call>",
    "lone </tool_call> and </think>\n\n\n and <tool_ and <",
    "<think>never ended <tool_call>{}</tool_call>",
    "\n\n<think>\n\n</think>\n\n\n",
];

fn format() -> &'static Format {
    Format::of_template(TEMPLATE).expect("it knows the markers")
}

/// What comes out of these pieces of a text, neighbours of one kind joined.
fn parsed(parts: &[&str], begins: State) -> Vec<Piece> {
    let mut parser = Parser::new(format(), begins);
    let mut out = Vec::new();
    for part in parts {
        parser.push(part, &mut out);
    }
    parser.finish(&mut out);
    let mut joined: Vec<Piece> = Vec::new();
    for piece in out {
        match (joined.last_mut(), piece) {
            (Some(Piece::Content(all)), Piece::Content(more))
            | (Some(Piece::Thought(all)), Piece::Thought(more)) => all.push_str(&more),
            (
                Some(Piece::Dropped { reason, bytes }),
                Piece::Dropped {
                    reason: same,
                    bytes: more,
                },
            ) if *reason == same => *bytes += more,
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

fn size(pieces: &[Piece]) -> usize {
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Content(text) | Piece::Thought(text) => text.len(),
        Piece::Call { bytes, .. } | Piece::Dropped { bytes, .. } => *bytes,
    });
    bytes.sum()
}

/// What is shown: contents, thoughts and names of calls.
fn shown(text: &str) -> (String, String, Vec<String>) {
    let (mut content, mut thought, mut calls) = (String::new(), String::new(), Vec::new());
    for piece in parsed(&[text], State::Content) {
        match piece {
            Piece::Content(text) => content.push_str(&text),
            Piece::Thought(text) => thought.push_str(&text),
            Piece::Call { call, .. } => calls.push(call.name),
            Piece::Dropped { .. } => {}
        }
    }
    (content, thought, calls)
}

#[test]
fn every_cut_of_every_fixture_gives_the_same() {
    for text in FIXTURES {
        for begins in [State::Content, State::Thought] {
            let whole = parsed(&[text], begins);
            assert_eq!(size(&whole), text.len(), "{text}");
            for (at, _) in text.char_indices() {
                let (left, right) = text.split_at(at);
                assert_eq!(
                    parsed(&[left, right], begins),
                    whole,
                    "{left:?} | {right:?}"
                );
            }
            let letters: Vec<_> = text.split("").collect();
            assert_eq!(parsed(&letters, begins), whole, "{text:?} letter by letter");
        }
    }
}

#[test]
fn thoughts_text_and_calls_are_told_apart() {
    let text = |content: &str, thought: &str, calls: &[&str]| {
        let calls = calls.iter().map(ToString::to_string).collect::<Vec<_>>();
        (content.to_owned(), thought.to_owned(), calls)
    };
    let wanted = [
        text("plain text, nothing else", "", &[]),
        text("So: 3 < 4\n", "hm\n\nwell", &[]),
        text("I look.", "", &["clock"]),
        text("after", "", &["a", "b"]),
        text("", "", &[]),
        text(" ", "", &[]),
        text("lone  and  and <tool_ and <", "", &[]),
        text("", "never ended <tool_call>{}</tool_call>", &[]),
        text("", "", &[]),
    ];
    for (fixture, wanted) in FIXTURES.into_iter().zip(wanted) {
        assert_eq!(shown(fixture), wanted, "{fixture:?}");
    }
}

#[test]
fn a_thought_that_the_template_opened_goes_on() {
    assert_eq!(format().begins("<|assistant|>\n<think>\n"), State::Thought);
    assert_eq!(format().begins("<think></think>\n"), State::Content);
    let pieces = parsed(&["\nhm\n</think>\n\nyes"], State::Thought);
    assert!(pieces.contains(&Piece::Thought("hm".into())), "{pieces:?}");
    assert!(pieces.contains(&Piece::Content("yes".into())), "{pieces:?}");
}

#[test]
fn broken_calls_say_why() {
    let why = |text: &str| {
        let pieces = parsed(&[text], State::Content);
        let reasons = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Dropped { reason, .. } if reason != Reason::Markup => Some(reason),
            _ => None,
        });
        reasons.collect::<Vec<_>>()
    };
    assert_eq!(why(FIXTURES[4]), [Reason::Truncated]);
    assert_eq!(why(FIXTURES[5]), [Reason::Malformed, Reason::Malformed]);
    let huge = format!("<tool_call>{}</tool_call>x", "y".repeat(300_000));
    assert_eq!(why(&huge), [Reason::TooLarge]);
    assert_eq!(shown(&huge).0, "x");
    let text = r#"<tool_call>{"name":"a","arguments":"{}"}</tool_call>"#;
    assert_eq!(why(text), [Reason::Malformed]);
}

#[test]
fn what_is_no_marker_is_shown_at_once() {
    let mut parser = Parser::new(format(), State::Content);
    let mut out = Vec::new();
    parser.push("a <b", &mut out);
    assert_eq!(out, [Piece::Content("a <b".into())]);
}

#[test]
fn templates_of_other_families_are_left_alone() {
    let none = [
        "{{ messages }}",
        "{{ tools }}<tool_call><function=f>arguments",
        "{{ tools }}<tool_call>name<arg_key>arguments",
    ];
    for template in none {
        assert_eq!(Format::of_template(template), None, "{template}");
    }
    let calls = |template| Format::of_template(template).map(Format::has_calls);
    assert_eq!(calls("</think>"), Some(false));
    assert_eq!(calls("{{ tools }}<tool_call>arguments"), Some(true));
}

proptest! {
    #[test]
    fn a_written_call_is_read_back(name in "[a-z_\"\\\\]{1,20}", key in "\\PC{0,20}", value in "\\PC{0,40}") {
        // markers inside a value end the call: models are taught not to write them
        prop_assume!(!key.contains("</tool_call>") && !value.contains("</tool_call>"));
        let arguments = serde_json::json!({ key: value }).to_string();
        let call = Call { name, arguments };
        let text = format().render(&call);
        let pieces = parsed(&[&text], State::Content);
        let calls: Vec<_> = pieces.iter().filter_map(|piece| match piece {
            Piece::Call { call, .. } => Some(call),
            _ => None,
        }).collect();
        prop_assert_eq!(calls, [&call]);
    }

    #[test]
    fn any_text_in_any_pieces_is_told_once(
        parts in proptest::collection::vec(
            prop_oneof!["\\PC{0,6}", "\n{1,4}", "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool", "[{}\"a:,]{1,9}"],
            0..24,
        ),
        thinks in any::<bool>(),
    ) {
        let begins = if thinks { State::Thought } else { State::Content };
        let text = parts.concat();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let whole = parsed(&[&text], begins);
        prop_assert_eq!(size(&whole), text.len());
        prop_assert_eq!(parsed(&parts, begins), whole);
    }
}
