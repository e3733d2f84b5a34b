//! The binary from outside: help, exit codes, where its output goes. It starts no server and needs no network.

use std::process::{Command, Output};

const COMMANDS: [&str; 8] = [
    "up", "serve", "ctl", "doctor", "tokenize", "chat", "config", "version",
];

#[test]
fn help_lists_every_command_and_exit_code() {
    let help = stdout(&thalamus(&["--help"]));
    for word in COMMANDS.iter().chain(&["3 unreachable", "5 refused"]) {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

#[test]
fn every_command_shows_an_example() {
    let mut paths: Vec<Vec<&str>> = COMMANDS
        .iter()
        .filter(|name| **name != "config")
        .map(|name| vec![*name])
        .collect();
    for path in [
        "config print",
        "config check",
        "ctl node ls",
        "ctl node drain",
        "ctl node cordon",
        "ctl node uncordon",
        "ctl pool ls",
        "ctl req ls",
        "ctl req why",
        "ctl req cancel",
        "ctl kv top",
        "ctl kv audit",
        "ctl log level",
    ] {
        paths.push(path.split(' ').collect());
    }
    for path in paths {
        let output = thalamus(&[&path[..], &["--help"]].concat());
        let help = stdout(&output);
        let example = format!("thalamus {}", path[0]);
        let examples = help.split_once("Example").map_or("", |(_, after)| after);
        assert!(examples.contains(&example), "{path:?}:\n{help}");
    }
}

#[test]
fn flags_explain_the_setting_they_stand_for() {
    for command in ["up", "serve"] {
        let help = stdout(&thalamus(&[command, "--help"]));
        for part in [
            "--model",
            "[worker.kv_blocks, default 0]",
            "--local-prefill-max",
            "--set <KEY=VALUE>",
        ] {
            assert!(help.contains(part), "{part} is not in\n{help}");
        }
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &["fly"][..],
        &["up", "--lisen", "x"],
        &["up", "--set", "novalue"],
        &["ctl", "node", "drain", "Not A Name"],
        &["ctl", "req", "cancel", "17"],
        &["ctl", "--timeout", "0", "node", "ls"],
        &["config", "check", "--set", "worker.kv_blocks=many"],
        &["config", "check", "--config", "nowhere.toml"],
    ] {
        let output = thalamus(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{args:?}"
        );
    }
}

#[test]
fn a_wrong_setting_is_told_in_one_line() {
    let output = thalamus(&["config", "check", "--set", "worker.kvblocks=1"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "thalamus: --set worker.kvblocks: unknown setting worker.kvblocks; did you mean \
         worker.kv_blocks?\n"
    );
}

#[test]
fn config_print_shows_origins() {
    let text = stdout(&thalamus(&[
        "config",
        "print",
        "--origin",
        "--set",
        "log.json=true",
    ]));
    let line = text.lines().find(|line| line.starts_with("log.json"));
    assert_eq!(
        line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")),
        Some("log.json = true # --set log.json (THALAMUS_LOG_JSON)".to_owned())
    );
}

#[test]
fn the_environment_is_heard() {
    let output = command(&["config", "check"])
        .env("THALAMUS_GATEWAY_LISTN", "127.0.0.1:1")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("did you mean THALAMUS_GATEWAY_LISTEN?")
    );
}

#[test]
fn doctor_reports_every_part_in_both_forms() {
    let args = [
        "doctor",
        "--set",
        "gateway.listen=127.0.0.1:0",
        "--set",
        "admin.listen=127.0.0.1:0",
    ];
    let lines = stdout(&thalamus(&args));
    let json = stdout(&thalamus(&[&args[..], &["--json"]].concat()));
    let report: serde_json::Value = serde_json::from_str(&json).expect("doctor --json prints JSON");
    for name in [
        "nats-server",
        "UCX",
        "CUDA",
        "memlock",
        "huge pages",
        "/dev/shm",
        "shared memory",
        "cores",
        "memory",
        "configuration",
        "cookie",
        "HTTP port",
    ] {
        assert!(lines.contains(name), "{name} is not in\n{lines}");
        let checks = report["checks"].as_array().expect("a list of checks");
        assert!(
            checks.iter().any(|check| check["name"] == name),
            "{name} is not in\n{json}"
        );
    }
}

#[test]
fn doctor_fails_where_a_node_would_not_start() {
    let output = thalamus(&["doctor", "--set", "fabric.kind=rdma"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("broken   configuration"));
}

#[test]
fn version_names_the_protocol() {
    assert!(stdout(&thalamus(&["version"])).contains("protocol 1"));
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalamus"));
    command.args(args).current_dir(env!("CARGO_TARGET_TMPDIR"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("THALAMUS_") {
            command.env_remove(name);
        }
    }
    command
}

fn thalamus(args: &[&str]) -> Output {
    command(args).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}
