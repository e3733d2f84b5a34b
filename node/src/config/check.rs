//! Settings that are each fine but not together. It never reads a file: that is for whoever uses one.

use super::{
    reader::{Origin, Setting},
    schema::Config,
};

/// What contradicts what, one line each, with the origin of the setting that is named first.
pub(super) fn contradictions(config: &Config, settings: &[Setting]) -> Vec<String> {
    [
        pairs(config),
        one_identity(config),
        orders(config),
        open_doors(config),
    ]
    .concat()
    .into_iter()
    .map(|(key, problem)| format!("{}: {key} {problem}", origin(settings, key)))
    .collect()
}

type Problem = (&'static str, String);

fn origin<'a>(settings: &'a [Setting], key: &str) -> &'a Origin {
    settings
        .iter()
        .find(|setting| setting.key == key)
        .map_or(&Origin::Default, |setting| &setting.origin)
}

/// Two settings that need each other.
fn pairs(config: &Config) -> Vec<Problem> {
    let (nats, gateway) = (&config.nats, &config.gateway);
    [
        (
            "gateway.tls.cert",
            gateway.tls.cert.is_some(),
            "gateway.tls.key",
            gateway.tls.key.is_some(),
        ),
        (
            "nats.tls.cert",
            nats.tls.cert.is_some(),
            "nats.tls.key",
            nats.tls.key.is_some(),
        ),
        (
            "nats.user",
            nats.user.is_some(),
            "nats.password_file",
            nats.password_file.is_some(),
        ),
    ]
    .into_iter()
    .filter(|(_, a, _, b)| a != b)
    .map(|(first, has_first, second, _)| {
        let (set, other) = if has_first {
            (first, second)
        } else {
            (second, first)
        };
        (set, format!("needs {other}"))
    })
    .collect()
}

/// A server knows us by one thing.
fn one_identity(config: &Config) -> Vec<Problem> {
    let nats = &config.nats;
    let given: Vec<_> = [
        ("nats.creds_file", nats.creds_file.is_some()),
        ("nats.nkey_file", nats.nkey_file.is_some()),
        ("nats.user", nats.user.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect();
    match given[..] {
        [first, second, ..] => vec![(first, format!("excludes {second}: give one of them"))],
        _ => Vec::new(),
    }
}

/// One time must not exceed another.
fn orders(config: &Config) -> Vec<Problem> {
    let (default, max) = (
        config.limits.deadline_default_ms,
        config.limits.deadline_max_ms,
    );
    if default <= max {
        return Vec::new();
    }
    let problem = format!("is {default}, more than limits.deadline_max_ms, which is {max}");
    vec![("limits.deadline_default_ms", problem)]
}

/// Who is reachable from outside says who may come in.
fn open_doors(config: &Config) -> Vec<Problem> {
    let (gateway, admin) = (&config.gateway, &config.admin);
    let mut problems = Vec::new();
    if !gateway.listen.ip().is_loopback() && gateway.api_keys_file.is_none() && !gateway.anonymous {
        problems.push((
            "gateway.listen",
            format!(
                "{} is reachable from outside: set gateway.api_keys_file, or gateway.anonymous = true \
                 to let anybody in",
                gateway.listen
            ),
        ));
    }
    if !admin.listen.ip().is_loopback() && admin.cookie_file.is_none() {
        problems.push((
            "admin.listen",
            format!(
                "{} is reachable from outside: set admin.cookie_file",
                admin.listen
            ),
        ));
    }
    problems
}
