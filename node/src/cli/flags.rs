//! Flags that stand for settings, by command: a flag, and the setting that it sets.
//!
//! Help, shape and defaults come from the table of settings, so a flag says nothing twice. Values are
//! read by `config` alone; here they are text.

use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, parser::ValueSource};

use crate::config::{Flag, Setting, Shape, settings};

/// One flag.
#[derive(Debug)]
pub struct FlagOf {
    /// Without its dashes.
    pub flag: &'static str,
    /// The setting.
    pub key: &'static str,
    /// What its value is called in the help.
    pub value: &'static str,
}

/// The flags of one command.
pub trait List: std::fmt::Debug {
    /// All of them, in the order of the help.
    const FLAGS: &'static [FlagOf];
}

macro_rules! flags {
    ($($(#[doc = $doc:literal])+ $list:ident { $($flag:literal => $key:literal, $value:literal;)* })*) => {$(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub struct $list;

        impl List for $list {
            const FLAGS: &'static [FlagOf] =
                &[$(FlagOf { flag: $flag, key: $key, value: $value },)*];
        }
    )*};
}

flags! {
    /// Flags of `up`.
    UpFlags {
        "model" => "worker.model", "DIR|script/NAME";
        "model-name" => "worker.model_name", "NAME";
        "listen" => "gateway.listen", "ADDR:PORT";
        "probe-listen" => "gateway.probe_listen", "ADDR:PORT";
        "admin-listen" => "admin.listen", "ADDR:PORT";
        "prefill" => "up.prefill", "N";
        "decode" => "up.decode", "M";
        "worker" => "up.worker", "K";
        "profile" => "worker.profile", "FILE";
        "local-prefill-max" => "worker.local_prefill_max", "TOKENS";
        "prefill-chunk" => "worker.prefill_chunk", "TOKENS";
        "kv-blocks" => "worker.kv_blocks", "N";
        "threads" => "worker.threads", "N";
        "backend" => "worker.backend", "NAME";
        "quantize" => "worker.quantize", "none|int8";
        "processes" => "up.processes", "true|false";
        "nats" => "up.nats", "URL";
        "nats-creds" => "nats.creds_file", "FILE";
        "cluster" => "cluster", "NAME";
        "fabric" => "fabric.kind", "auto|memory|shm|ucx";
        "log" => "log.filter", "FILTER";
    }

    /// Flags of `serve`.
    ServeFlags {
        "role" => "roles", "ROLE";
        "nats" => "nats.url", "URL";
        "nats-creds" => "nats.creds_file", "FILE";
        "cluster" => "cluster", "NAME";
        "name" => "name", "NAME";
        "model" => "worker.model", "DIR|script/NAME";
        "model-name" => "worker.model_name", "NAME";
        "listen" => "gateway.listen", "ADDR:PORT";
        "probe-listen" => "gateway.probe_listen", "ADDR:PORT";
        "api-keys-file" => "gateway.api_keys_file", "FILE";
        "admin-listen" => "admin.listen", "ADDR:PORT";
        "cookie-file" => "admin.cookie_file", "FILE";
        "profile" => "worker.profile", "FILE";
        "local-prefill-max" => "worker.local_prefill_max", "TOKENS";
        "prefill-chunk" => "worker.prefill_chunk", "TOKENS";
        "kv-blocks" => "worker.kv_blocks", "N";
        "threads" => "worker.threads", "N";
        "backend" => "worker.backend", "NAME";
        "quantize" => "worker.quantize", "none|int8";
        "fabric" => "fabric.kind", "auto|shm|ucx";
        "log" => "log.filter", "FILTER";
    }

    /// Flags of `ctl`.
    CtlFlags {
        "admin" => "admin.listen", "ADDR:PORT";
        "cookie-file" => "admin.cookie_file", "FILE";
    }

    /// No flags but `--set`.
    NoFlags {}
}

/// What was given of the flags of `F`, and of `--set`.
#[derive(Debug)]
pub struct SettingFlags<F: List> {
    /// In the order of the list, `--set` last: it wins.
    pub given: Vec<Flag>,
    list: PhantomData<F>,
}

/// The flag that sets any setting.
const SET: &str = "set";

impl<F: List> Args for SettingFlags<F> {
    fn augment_args(command: Command) -> Command {
        let known = settings();
        let args = F::FLAGS.iter().map(|flag| {
            let setting = known
                .iter()
                .find(|setting| setting.key == flag.key)
                .expect("a test looks every flag's setting up");
            arg(flag, setting)
        });
        command.args(args).arg(set_arg())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<F: List> FromArgMatches for SettingFlags<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given: Vec<_> = F::FLAGS
            .iter()
            .filter(|flag| matches.value_source(flag.flag) == Some(ValueSource::CommandLine))
            .map(|flag| Flag {
                flag: format!("--{}", flag.flag),
                key: flag.key.to_owned(),
                value: values(matches, flag.flag).join(","),
            })
            .collect();
        given.extend(values(matches, SET).into_iter().map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Flag {
                flag: format!("--set {key}"),
                key: key.to_owned(),
                value: value.to_owned(),
            }
        }));
        Ok(Self {
            given,
            list: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn arg(flag: &'static FlagOf, setting: &Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        default => format!(", default {default}"),
    };
    let help = format!(
        "{} [{}{default}]",
        setting.help.trim_end_matches('.'),
        setting.key
    );
    let arg = Arg::new(flag.flag)
        .long(flag.flag)
        .value_name(flag.value)
        .help(help);
    match setting.shape {
        Shape::One => arg.action(ArgAction::Set),
        Shape::Many => arg.action(ArgAction::Append),
        Shape::Switch => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

fn set_arg() -> Arg {
    Arg::new(SET)
        .long(SET)
        .value_name("KEY=VALUE")
        .help("Any setting, such as worker.running_max=64; may be repeated")
        .action(ArgAction::Append)
        .value_parser(|pair: &str| {
            if pair.contains('=') {
                Ok(pair.to_owned())
            } else {
                Err("write it as KEY=VALUE".to_owned())
            }
        })
}

fn values<'a>(matches: &'a ArgMatches, id: &str) -> Vec<&'a str> {
    matches
        .get_many::<String>(id)
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect()
}
