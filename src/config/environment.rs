//! How variables are read: an empty one is not set, and a boolean may be written as `1`, `yes` or `on`.

use std::any::TypeId;
use std::ffi::OsStr;

use clap::builder::BoolishValueParser;
use clap::{Arg, Command};

/// A command, and those below it, with its variables read in this way.
pub fn read_leniently(command: Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
    let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
    let command = command.mut_args(lenient);
    names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, read_leniently)
    })
}

fn lenient(arg: Arg) -> Arg {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let arg = if arg.get_env().is_some_and(is_empty) {
        arg.env(None)
    } else {
        arg
    };
    if arg.get_value_parser().type_id() == TypeId::of::<bool>() {
        arg.value_parser(BoolishValueParser::new())
    } else {
        arg
    }
}
