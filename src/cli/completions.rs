//! `completions`: the script with which a shell completes verbs, flags and values.

use super::output;
use crate::exit::Failure;

/// The shells for which there is a script.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Shell {
    /// Source it from `~/.bashrc`, or save it below `/etc/bash_completion.d`
    Bash,
    /// Save it as `_pagesyncd` in a folder of `$fpath`
    Zsh,
    /// Save it below `/etc/fish/completions`
    Fish,
}

/// Prints the script for this command line. No configuration is read.
pub(super) fn completions(shell: Shell, mut command: clap::Command) -> Result<(), Failure> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    let generator = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    clap_complete::generate(generator, &mut command, name, &mut script);
    output::all(&script)
}
