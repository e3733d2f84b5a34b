//! `thalamus chat`: a conversation with a running gateway, over the same HTTP that any client uses.
//!
//! It never starts anything and knows nothing of the cluster. Start reading at [`run`].

mod http;

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{cli, exit::Failure};
use http::{Gateway, Response};

/// Runs `thalamus chat`.
///
/// # Errors
/// [`Failure`]: the gateway is not there, does not answer, or says no.
pub fn run(args: &cli::Chat) -> Result<(), Failure> {
    let key = args.api_key_file.as_ref().map(|path| {
        fs::read_to_string(path)
            .map(|key| key.trim().to_owned())
            .with_context(|| format!("cannot read the API key in {}", path.display()))
    });
    let gateway = Gateway::new(&args.url, key.transpose()?).map_err(Failure::Usage)?;
    let model = match &args.model {
        Some(name) => name.clone(),
        None => only_model(&gateway)?,
    };
    let mut conversation = Conversation::new(gateway, model, args);
    match &args.message {
        Some(message) => conversation.say(message, &mut io::stdout()),
        None => converse(&mut conversation),
    }
}

/// Reads messages from standard input until its end; a gateway that says no ends only that message.
fn converse(conversation: &mut Conversation) -> Result<(), Failure> {
    let prompt = io::stdin().is_terminal();
    if prompt {
        eprintln!("{} listens; end with Ctrl-D", conversation.model);
    }
    loop {
        if prompt {
            eprint!("> ");
        }
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        if read.context("cannot read standard input")? == 0 {
            return Ok(());
        }
        match line.trim() {
            "" => {}
            message => match conversation.say(message, &mut io::stdout()) {
                Err(Failure::Refused(why)) if prompt => eprintln!("thalamus: {why}"),
                other => other?,
            },
        }
    }
}

/// The model, if there is no choice.
fn only_model(gateway: &Gateway) -> Result<String, Failure> {
    let list: Value = serde_json::from_reader(good(gateway.get("/v1/models")?)?.body)
        .context("the gateway's list of models is not JSON")?;
    let models = list["data"].as_array().into_iter().flatten();
    let names: Vec<_> = models.filter_map(|model| model["id"].as_str()).collect();
    match names[..] {
        [name] => Ok(name.to_owned()),
        [] => Err(Failure::Refused("no model is served there yet".to_owned())),
        [..] => Err(Failure::Usage(format!(
            "choose with --model: {}",
            names.join(", ")
        ))),
    }
}

struct Conversation {
    gateway: Gateway,
    model: String,
    max_tokens: Option<u32>,
    messages: Vec<Value>,
}

impl Conversation {
    fn new(gateway: Gateway, model: String, args: &cli::Chat) -> Self {
        let system = args.system.iter();
        Self {
            gateway,
            model,
            max_tokens: args.max_tokens,
            messages: system.map(|text| message("system", text)).collect(),
        }
    }

    /// Sends a message and writes the answer as it comes; a message without an answer is forgotten.
    fn say(&mut self, text: &str, out: &mut impl Write) -> Result<(), Failure> {
        self.messages.push(message("user", text));
        match self.answer(out) {
            Ok(answer) => self.messages.push(message("assistant", &answer)),
            Err(failure) => {
                self.messages.pop();
                return Err(failure);
            }
        }
        Ok(())
    }

    fn answer(&self, out: &mut impl Write) -> Result<String, Failure> {
        let mut body = json!({ "model": self.model, "messages": self.messages, "stream": true });
        if let Some(max) = self.max_tokens {
            body["max_tokens"] = max.into();
        }
        let response = good(self.gateway.post("/v1/chat/completions", &body)?)?;
        let mut answer = String::new();
        for line in response.body.lines() {
            let line = line.map_err(|error| http::io_failure("the answer broke off", &error))?;
            match line.strip_prefix("data:").map(str::trim) {
                None | Some("") => {}
                Some("[DONE]") => {
                    writeln!(out).context("cannot write")?;
                    return Ok(answer);
                }
                Some(event) => {
                    let text = delta(event)?;
                    answer.push_str(&text);
                    out.write_all(text.as_bytes()).context("cannot write")?;
                    out.flush().context("cannot write")?;
                }
            }
        }
        let error = anyhow::anyhow!("the answer broke off: the gateway closed the connection");
        Err(Failure::Failed(error))
    }
}

fn message(role: &str, text: &str) -> Value {
    json!({ "role": role, "content": text })
}

/// The text of one event; an error event is a failure.
fn delta(event: &str) -> Result<String, Failure> {
    let event: Value =
        serde_json::from_str(event).context("the gateway sent an event that is not JSON")?;
    if let Some(message) = event["error"]["message"].as_str() {
        return Err(Failure::Failed(anyhow::anyhow!("{message}")));
    }
    let text = event["choices"][0]["delta"]["content"].as_str();
    Ok(text.unwrap_or_default().to_owned())
}

/// The response, if its status is good; else what it says.
fn good(response: Response) -> Result<Response, Failure> {
    if response.status == 200 {
        return Ok(response);
    }
    let status = response.status;
    let body: Value = serde_json::from_reader(response.body).unwrap_or_default();
    let message = body["error"]["message"].as_str();
    let message = message.unwrap_or("the gateway gives no reason");
    Err(Failure::Refused(format!("{message} (HTTP {status})")))
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener, thread};

    use super::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\n\ndata: [DONE]\n\n";

    #[test]
    fn the_answer_is_written_and_remembered() {
        let mut conversation = conversation(vec![chunked(STREAM)]);
        let mut out = Vec::new();
        conversation.say("Hi", &mut out).expect("a good answer");
        assert_eq!(out, b"Hello\n");
        assert_eq!(
            conversation.messages,
            [message("user", "Hi"), message("assistant", "Hello")]
        );
    }

    #[test]
    fn a_refusal_says_why_and_forgets_the_message() {
        let body = r#"{"error":{"message":"unknown model"}}"#;
        let mut conversation = conversation(vec![whole("404 Not Found", body)]);
        let failure = conversation
            .say("Hi", &mut Vec::new())
            .expect_err("a refusal");
        assert_eq!(failure.to_string(), "unknown model (HTTP 404)");
        assert_eq!((failure.code(), conversation.messages.len()), (5, 0));
    }

    #[test]
    fn an_answer_that_breaks_off_is_no_answer() {
        let part = STREAM.split("data: [DONE]").next().expect("a first part");
        let mut conversation = conversation(vec![chunked(part)]);
        let failure = conversation.say("Hi", &mut Vec::new()).expect_err("no end");
        assert!(failure.to_string().contains("broke off"), "{failure}");
    }

    #[test]
    fn an_error_in_mid_stream_is_told() {
        let stream = "data: {\"error\":{\"message\":\"worker lost\"}}\n\n";
        let mut conversation = conversation(vec![chunked(stream)]);
        let failure = conversation
            .say("Hi", &mut Vec::new())
            .expect_err("an error event");
        assert_eq!(failure.to_string(), "worker lost");
    }

    #[test]
    fn the_only_model_needs_no_name() {
        for (list, want) in [
            (r#"{"data":[{"id":"a"}]}"#, Ok("a")),
            (
                r#"{"data":[{"id":"a"},{"id":"b"}]}"#,
                Err("choose with --model: a, b"),
            ),
            (r#"{"data":[]}"#, Err("no model is served there yet")),
        ] {
            let got = only_model(&gateway(vec![whole("200 OK", list)]));
            let got = got.map_err(|failure| failure.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want);
        }
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", free.local_addr().expect("a bound socket"));
        drop(free);
        let gateway = Gateway::new(&url, None).expect("a good URL");
        assert_eq!(only_model(&gateway).expect_err("nobody listens").code(), 3);
    }

    fn conversation(responses: Vec<String>) -> Conversation {
        Conversation {
            gateway: gateway(responses),
            model: "m".to_owned(),
            max_tokens: None,
            messages: Vec::new(),
        }
    }

    /// A gateway that gives these responses, one a connection.
    fn gateway(responses: Vec<String>) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("a bound socket"));
        thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().expect("a client");
                read_request(&mut stream);
                stream
                    .write_all(response.as_bytes())
                    .expect("a client that reads");
            }
        });
        Gateway::new(&url, None).expect("a good URL")
    }

    fn read_request(stream: &mut impl Read) {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with("\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a whole head");
            text.push(char::from(byte[0]));
        }
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |text| text.parse().expect("a number"));
        stream
            .read_exact(&mut vec![0; length])
            .expect("a whole body");
    }

    fn whole(status: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// In chunks that cut lines in two.
    fn chunked(body: &str) -> String {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        let chunks = body.as_bytes().chunks(7).map(|chunk| {
            let text = String::from_utf8_lossy(chunk);
            format!("{:x}\r\n{text}\r\n", chunk.len())
        });
        head + &chunks.collect::<String>() + "0\r\n\r\n"
    }
}
