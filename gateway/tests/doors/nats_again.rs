//! The NATS door, when a request comes twice, and when its client acknowledges: streams that go on elsewhere, windows.

use std::{sync::Arc, time::Duration};

use gateway::{Doors, Options, nats_door};
use nats::{Delivery, MemServer};
use nats_door::NatsConfig;
use serde_json::{Value, json};

use crate::support::{
    Double, Step, items,
    nats::{Answers, Caller},
    record,
};

const CHAT: &str = "thalamus.v1.chat";
const ID: (&str, &str) = ("Thalamus-Request-Id", "mine");

fn chat(stream: bool) -> Value {
    json!({"messages": [{"role": "user", "content": "hi"}], "stream": stream})
}

fn code(delivery: &Delivery) -> Option<&str> {
    delivery
        .headers
        .get("Nats-Service-Error-Code")
        .map(String::as_str)
}

fn seq(delivery: &Delivery) -> u64 {
    delivery.headers["Thalamus-Seq"].parse().expect("a number")
}

fn text(delivery: &Delivery) -> String {
    let chunk: Value = serde_json::from_slice(&delivery.payload).expect("JSON");
    let content = chunk["choices"][0]["delta"]["content"].as_str();
    content.unwrap_or_default().to_owned()
}

/// Says `text` a token at a time, each in a moment of its own, then nothing more.
fn slowly(text: &'static str) -> Arc<Double> {
    Double::playing(move |_| {
        let said = text.bytes().zip(0..).flat_map(|(byte, at)| {
            let token = items(vec![record(0, at, byte.into())]);
            [Step::Send(token), Step::Wait(Duration::from_millis(2))]
        });
        said.chain([Step::Hang]).collect()
    })
}

/// Takes messages until this much text was seen.
async fn take(answers: &mut Answers, chars: usize) -> Vec<Delivery> {
    let (mut taken, mut seen) = (Vec::new(), 0);
    while seen < chars {
        let message = answers.next().await;
        assert_eq!(code(&message), None, "{message:?}");
        seen += text(&message).len();
        taken.push(message);
    }
    taken
}

async fn cancel(caller: &Caller, core: &Arc<Double>) {
    let cancel = caller.request("thalamus.v1.cancel.mine").await;
    assert!(cancel.is_ok(), "it runs");
    core.cancelled(1).await;
}

#[tokio::test]
async fn the_same_request_again_gets_the_running_stream_from_its_beginning() {
    let core = slowly("abcdef");
    let caller = Caller::of(&core).await;
    let mut first = caller.ask(CHAT, &[ID], &chat(true)).await;
    let before = take(&mut first, 6).await;
    let mut again = caller.ask(CHAT, &[ID], &chat(true)).await;
    let after = take(&mut again, 6).await;
    let payloads = |all: &[Delivery]| all.iter().map(|m| m.payload.clone()).collect::<Vec<_>>();
    assert_eq!(payloads(&after), payloads(&before));
    for (at, message) in after.iter().enumerate() {
        assert_eq!(seq(message), at as u64);
        assert_eq!(message.headers.contains_key(ID.0), at == 0);
    }
    let told = first.next().await;
    assert_eq!(code(&told), Some("409"));
    assert!(
        first.next().await.payload.is_empty(),
        "its stream has ended"
    );
    assert_eq!(core.seen().len(), 1);
    cancel(&caller, &core).await;
    let last = again.next().await;
    assert_eq!(code(&last), Some("499"));
    assert_eq!(seq(&last), after.len() as u64);
}

#[tokio::test]
async fn a_client_says_from_where_and_the_rest_comes_there() {
    let core = Double::playing(|_| {
        let send = |at: u32, byte: u8| Step::Send(items(vec![record(0, at, byte.into())]));
        let pause = || Step::Wait(Duration::from_millis(100));
        vec![
            send(0, b'a'),
            pause(),
            send(1, b'b'),
            pause(),
            pause(),
            pause(),
            send(2, b'c'),
            Step::Hang,
        ]
    });
    let caller = Caller::of(&core).await;
    let mut first = caller.ask(CHAT, &[ID], &chat(true)).await;
    let taken = take(&mut first, 1).await;
    let lacks = taken.len().to_string();
    let mut again = caller
        .ask(CHAT, &[ID, ("Thalamus-Start-Seq", &lacks)], &chat(true))
        .await;
    let rest = take(&mut again, 2).await;
    let whole: String = rest.iter().map(text).collect();
    assert_eq!(whole, "bc");
    assert_eq!(seq(&rest[0]), taken.len() as u64);
    cancel(&caller, &core).await;
}

#[tokio::test]
async fn whichever_gateway_is_asked_finds_the_one_that_runs_it() {
    let server = MemServer::new();
    let (here, there) = (slowly("abc"), slowly("xyz"));
    let open = async |core: &Arc<Double>| {
        let doors = Doors::new(core.clone(), Options::default());
        nats_door::serve(server.connect(), doors, NatsConfig::default())
            .await
            .expect("the door opens")
    };
    let door = open(&here).await;
    let caller = Caller {
        bus: server.connect(),
        door,
    };
    let mut answers = caller.ask(CHAT, &[ID], &chat(true)).await;
    take(&mut answers, 3).await;
    let _other = open(&there).await;
    for _ in 0..16 {
        let mut again = caller.ask(CHAT, &[ID], &chat(true)).await;
        let whole: String = take(&mut again, 3).await.iter().map(text).collect();
        assert_eq!(whole, "abc");
        answers = again;
    }
    assert_eq!((here.seen().len(), there.seen().len()), (1, 0));
    let other = json!({"messages": [{"role": "user", "content": "other"}]});
    for _ in 0..16 {
        let refused = caller.ask(CHAT, &[ID], &other).await.next().await;
        assert_eq!(code(&refused), Some("409"));
    }
    cancel(&caller, &here).await;
    assert_eq!(code(&answers.next().await), Some("499"));
    // both are asked in turn: the other one too would have run it
    while there.seen().is_empty() {
        let fresh = caller.ask(CHAT, &[], &chat(true)).await;
        drop(fresh);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_whole_answer_goes_to_whoever_asked_last() {
    let core = Double::playing(|spec| {
        let mut steps = vec![Step::Wait(Duration::from_millis(200))];
        steps.extend(crate::support::say(spec, "late"));
        steps
    });
    let caller = Caller::of(&core).await;
    let mut first = caller.ask(CHAT, &[ID], &chat(false)).await;
    while core.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let body = caller.ask(CHAT, &[ID], &chat(false)).await.json().await;
    assert_eq!(body["choices"][0]["message"]["content"], "late");
    assert_eq!(code(&first.next().await), Some("409"));
    assert_eq!(core.seen().len(), 1);
}

#[tokio::test]
async fn a_window_bounds_what_is_on_its_way_and_loses_nothing() {
    let core = Double::saying("all that is said arrives");
    let caller = Caller::of(&core).await;
    let headers = [ID, ("Thalamus-Window", "2")];
    let mut answers = caller.ask(CHAT, &headers, &chat(true)).await;
    let mut whole = String::new();
    for at in 0..2 {
        let message = answers.next().await;
        assert_eq!(seq(&message), at);
        whole += &text(&message);
    }
    let early = tokio::time::timeout(Duration::from_millis(100), answers.next()).await;
    assert!(early.is_err(), "two are without acknowledgement: {early:?}");
    let mut acked = 1;
    loop {
        caller.publish("thalamus.v1.ack.mine", &acked.to_string());
        let message = answers.next().await;
        if message.payload.is_empty() {
            break;
        }
        assert_eq!(seq(&message), acked + 1);
        whole += &text(&message);
        acked += 1;
    }
    assert_eq!(whole, "all that is said arrives");
    assert!(acked < 6, "what waited came in few messages, not {acked}");
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_loses_its_request() {
    let core = Double::hanging_after("abc");
    let config = NatsConfig {
        ack_within: Duration::from_millis(200),
        ..NatsConfig::default()
    };
    let caller = Caller::with(&core, Options::default(), config).await;
    let headers = [ID, ("Thalamus-Window", "1")];
    let mut answers = caller.ask(CHAT, &headers, &chat(true)).await;
    assert_eq!(seq(&answers.next().await), 0);
    core.cancelled(1).await;
    let last = answers.next().await;
    assert_eq!(code(&last), Some("499"));
    let body: Value = serde_json::from_slice(&last.payload).expect("JSON");
    assert_eq!(body["error"]["code"], "client_too_slow");
    assert!(answers.next().await.payload.is_empty());
}

#[tokio::test]
async fn a_window_is_a_number_within_its_bounds() {
    let caller = Caller::of(&Double::saying("x")).await;
    for bad in ["0", "257", "-1", "many", ""] {
        let headers = [("Thalamus-Window", bad)];
        let refused = caller.ask(CHAT, &headers, &chat(false)).await.next().await;
        assert_eq!(code(&refused), Some("400"), "{bad:?}");
    }
}
