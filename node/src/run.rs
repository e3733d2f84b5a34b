//! One arm a command. Never more than loading its configuration and handing over.

use crate::{
    chat,
    cli::{Cli, Command, ConfigCommand},
    ctl, doctor,
    exit::Failure,
    serve, tokenize, up,
};

/// Runs a command to its end.
///
/// # Errors
/// [`Failure`], which knows its exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Doctor(args) => doctor::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Config(command) => config(&command),
        Command::Version => {
            print!("{}", version());
            Ok(())
        }
        Command::Up(settings) => up::run(settings.load()?.config),
        Command::Serve(settings) => serve::run(settings.load()?.config),
        Command::Ctl(args) => ctl::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
    }
}

fn config(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Print { origin, settings } => {
            print!("{}", settings.load()?.to_toml(*origin));
        }
        ConfigCommand::Check { settings } => match settings.load()?.file {
            Some(path) => println!("{} is valid", path.display()),
            None => println!("no file; flags and environment are valid"),
        },
    }
    Ok(())
}

fn version() -> String {
    use bus_schemas::limits::{PROTOCOL_OLDEST, PROTOCOL_VERSION};
    format!(
        "thalamus {}\nprotocol {PROTOCOL_VERSION}, reads {PROTOCOL_OLDEST} to {PROTOCOL_VERSION}\n{}-{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
    )
}
