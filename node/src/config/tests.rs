//! Rules of the configuration, tried without touching the process's own environment.

use std::{collections::BTreeSet, fs, path::PathBuf};

use tempfile::TempDir;

use super::{
    FabricKind, Flag, Loaded, ModelSource, NatsUrl, Origin, Sources, load, settings,
    sources::variable,
};

#[test]
fn every_default_is_valid_and_together_they_are() {
    let loaded = load(&Sources::default()).expect("defaults are valid");
    assert!(loaded.settings.iter().all(|s| s.origin == Origin::Default));
    assert_eq!(loaded.config.gateway.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn names_of_variables_are_as_distinct_as_names_of_settings() {
    let known = settings();
    let variables: BTreeSet<_> = known.iter().map(|s| variable(&s.key)).collect();
    assert_eq!(variables.len(), known.len());
}

#[test]
fn every_setting_explains_itself() {
    for setting in settings() {
        assert!(setting.help.ends_with('.'), "{}", setting.key);
        assert!(!setting.help.contains("  "), "{}", setting.key);
    }
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let mut world = World::with_file("[worker]\nkv_blocks = 1\nthreads = 1\nrunning_max = 1\n");
    world.variable("THALAMUS_WORKER_KV_BLOCKS", "2");
    world.variable("THALAMUS_WORKER_THREADS", "2");
    world.flag("--kv-blocks", "worker.kv_blocks", "3");
    let worker = world.load().config.worker;
    assert_eq!(
        (
            worker.kv_blocks,
            worker.threads,
            worker.running_max,
            worker.block_tokens
        ),
        (3, 2, 1, 16)
    );
}

#[test]
fn each_value_knows_where_it_came_from() {
    let mut world = World::with_file("# first line\ncluster = 'lab'\n");
    world.variable("THALAMUS_LOG_JSON", "1");
    world.flag("--listen", "gateway.listen", "127.0.0.1:1");
    let file = world.file();
    let text = world.load().to_toml(true);
    for (setting, origin) in [
        ("cluster = \"lab\"", format!("{}:2", file.display())),
        ("log.json = true", "THALAMUS_LOG_JSON".to_owned()),
        ("gateway.listen = \"127.0.0.1:1\"", "--listen".to_owned()),
        ("up.prefill = 1", "default".to_owned()),
    ] {
        let line = text.lines().find(|line| line.starts_with(setting));
        let line = line.unwrap_or_else(|| panic!("no line {setting:?} in\n{text}"));
        assert!(line.contains(&format!("# {origin} (")), "{line}");
    }
}

#[test]
fn what_is_printed_can_be_read_back() {
    let mut world = World::new();
    world.flag("--role", "roles", "gateway,decode");
    world.flag("--set", "fabric.ucx.tls", "tcp,self");
    world.flag("--set", "worker.model", "script/echo");
    let first = world.load();
    let again = World::with_file(&first.to_toml(false)).load();
    assert_eq!(first.config, again.config);
}

#[test]
fn unknown_names_are_refused_with_a_suggestion() {
    file_problem(
        "[gateway]\nlisten_adr = 'x'\n",
        ":2: unknown setting gateway.listen_adr",
    );
    file_problem(
        "[gatway]\nlisten = '127.0.0.1:1'\n",
        "did you mean gateway.listen?",
    );
    file_problem("[worker]\nkv_block = 1\n", "did you mean worker.kv_blocks?");
    file_problem("[worker]\nlisten = '127.0.0.1:1'\n", "did you mean ");
    file_problem(
        "zzzzzzzz = 1\n",
        "`thalamus config print` lists all of them",
    );
    file_problem("gateway = 5\n", ":1: gateway is a section, not a value");
    variable_problem(
        "THALAMUS_GATEWAY_LISTN",
        "x",
        "did you mean THALAMUS_GATEWAY_LISTEN?",
    );
    flag_problem("worker.kvblocks", "1", "did you mean worker.kv_blocks?");
}

#[test]
fn refused_values_name_their_origin_and_what_is_allowed() {
    file_problem(
        "\n[worker]\nkv_blocks = '12'\n",
        ":3: \"12\" is not allowed for worker.kv_blocks; allowed is a whole number from 0 to 16777216",
    );
    file_problem(
        "[log]\njson = 1\n",
        "1 is not allowed for log.json; allowed is true or false",
    );
    file_problem(
        "[worker]\nthreads = 1.5\n",
        "a number with a fraction is not allowed",
    );
    file_problem(
        "[worker]\nblock_tokens = 12\n",
        "allowed is a power of two from 1 to 1024",
    );
    file_problem(
        "[worker]\nkv_blocks = -1\n",
        "-1 is not allowed for worker.kv_blocks",
    );
    file_problem("[nats]\nurl = []\n", "at least one of: nats://HOST:PORT");
    file_problem(
        "cluster = 'Lab 1'\n",
        "1 to 32 characters from a-z, 0-9 and '-'",
    );
    variable_problem(
        "THALAMUS_FABRIC_KIND",
        "rdma",
        "THALAMUS_FABRIC_KIND: \"rdma\" is not allowed for fabric.kind; allowed is auto, memory, shm or ucx",
    );
    variable_problem(
        "THALAMUS_WORKER_MODEL",
        "script/",
        "a checkpoint's folder or script/NAME",
    );
    flag_problem(
        "gateway.listen",
        "8080",
        "--test: \"8080\" is not allowed for gateway.listen",
    );
    flag_problem(
        "roles",
        "gateway,boss",
        "allowed is a list of gateway, router",
    );
    flag_problem("up.prefill", "99999999999", "a whole number from 0 to 64");
}

#[test]
fn all_problems_are_told_at_once() {
    let mut world = World::with_file("[worker]\nkv_blocks = true\ntreads = 1\n");
    world.variable("THALAMUS_NOPE", "1");
    assert_eq!(world.problems().len(), 3);
}

#[test]
fn broken_toml_names_file_and_line() {
    file_problem("cluster = 'lab'\n[worker\n", ":2: ");
}

#[test]
fn a_named_file_must_exist() {
    let sources = Sources {
        file: Some(PathBuf::from("nowhere/thalamus.toml")),
        ..Sources::default()
    };
    let error = load(&sources).expect_err("it does not exist");
    assert!(
        error
            .to_string()
            .starts_with("nowhere/thalamus.toml: cannot be read")
    );
}

#[test]
fn contradictions_are_refused() {
    file_problem(
        "[gateway.tls]\ncert = 'c'\n",
        "gateway.tls.cert needs gateway.tls.key",
    );
    file_problem(
        "[nats]\npassword_file = 'p'\n",
        "nats.password_file needs nats.user",
    );
    file_problem(
        "[nats]\ncreds_file = 'c'\nnkey_file = 'n'\n",
        ":2: nats.creds_file excludes nats.nkey_file",
    );
    file_problem(
        "[limits]\ndeadline_max_ms = 5\n",
        "more than limits.deadline_max_ms, which is 5",
    );
}

#[test]
fn a_door_to_the_outside_needs_a_lock() {
    flag_problem(
        "gateway.listen",
        "0.0.0.0:8080",
        "set gateway.api_keys_file, or gateway.anonymous",
    );
    flag_problem("admin.listen", "0.0.0.0:7700", "set admin.cookie_file");
    let mut world = World::new();
    world.flag("--listen", "gateway.listen", "0.0.0.0:8080");
    world.flag("--set", "gateway.anonymous", "true");
    world.load();
}

#[test]
fn passwords_in_urls_are_never_shown() {
    let mut world = World::new();
    world.variable(
        "THALAMUS_NATS_URL",
        "nats://me:hunter2@host:4222,tls://b:4222",
    );
    let loaded = world.load();
    let shown = loaded.to_toml(true) + &format!("{:?}", loaded.config);
    assert!(!shown.contains("hunter2") && shown.contains("nats://***@host:4222"));
    let urls: Vec<_> = loaded.config.nats.url.iter().map(NatsUrl::as_str).collect();
    assert_eq!(urls, ["nats://me:hunter2@host:4222", "tls://b:4222"]);

    let mut world = World::new();
    world.variable("THALAMUS_NATS_URL", "http://me:hunter2@host:4222");
    assert!(!world.problems().concat().contains("hunter2"));
}

#[test]
fn variables_that_others_put_there_are_left_alone() {
    let mut world = World::new();
    for (name, value) in [
        ("THALAMUS_CONFIG", "ignored.toml"),
        ("THALAMUS_TEST_LEDGER", "somewhere"),
        ("THALAMUS_UCX_DIR", "somewhere"),
        ("THALAMUS_SERVICE_HOST", "10.0.0.1"),
        ("THALAMUS_SERVICE_PORT_HTTP", "80"),
        ("THALAMUS_PORT", "tcp://10.0.0.1:80"),
        ("THALAMUS_GATEWAY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("PATH", "/bin"),
    ] {
        world.variable(name, value);
    }
    world.load();
}

#[test]
fn models_are_folders_or_scripts() {
    for (text, want) in [
        ("script/echo", ModelSource::Script("echo".to_owned())),
        (
            "./script/echo",
            ModelSource::Directory("./script/echo".into()),
        ),
        ("llama", ModelSource::Directory("llama".into())),
    ] {
        let mut world = World::new();
        world.flag("--model", "worker.model", text);
        assert_eq!(world.load().config.worker.model, Some(want));
    }
}

#[test]
fn an_empty_value_unsets_what_a_lower_layer_set() {
    let mut world = World::with_file("[worker]\nmodel = 'llama'\n[fabric]\nkind = 'shm'\n");
    world.flag("--model", "worker.model", "");
    let config = world.load().config;
    assert_eq!(
        (config.worker.model, config.fabric.kind),
        (None, FabricKind::Shm)
    );
}

fn file_problem(text: &str, expected: &str) {
    expect_problem(&World::with_file(text), expected);
}

fn variable_problem(name: &str, value: &str, expected: &str) {
    let mut world = World::new();
    world.variable(name, value);
    expect_problem(&world, expected);
}

fn flag_problem(key: &str, value: &str, expected: &str) {
    let mut world = World::new();
    world.flag("--test", key, value);
    expect_problem(&world, expected);
}

fn expect_problem(world: &World, expected: &str) {
    let problems = world.problems();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].contains(expected),
        "{:?} lacks {expected:?}",
        problems[0]
    );
}

/// A file in a folder of its own, variables and flags.
struct World {
    _dir: Option<TempDir>,
    sources: Sources,
}

impl World {
    fn new() -> Self {
        Self {
            _dir: None,
            sources: Sources::default(),
        }
    }

    fn with_file(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("thalamus.toml");
        fs::write(&path, text).expect("a writable folder");
        Self {
            _dir: Some(dir),
            sources: Sources {
                file: Some(path),
                ..Sources::default()
            },
        }
    }

    fn file(&self) -> PathBuf {
        self.sources.file.clone().expect("made with a file")
    }

    fn variable(&mut self, name: &str, value: &str) {
        self.sources
            .variables
            .push((name.to_owned(), value.to_owned()));
    }

    fn flag(&mut self, flag: &str, key: &str, value: &str) {
        self.sources.flags.push(Flag {
            flag: flag.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        });
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|error| panic!("{error}"))
    }

    fn problems(&self) -> Vec<String> {
        load(&self.sources).expect_err("something is wrong").0
    }
}
