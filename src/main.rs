//! The binary: calls the library, and ends with its exit code.

fn main() -> std::process::ExitCode {
    pagesyncd::cli::main(std::env::args_os())
}
