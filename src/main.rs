//! The program: arguments, runtime, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = rowcast::cli::command().get_matches();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rowcast: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(rowcast::cli::run(&matches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_told() {
                print(&error);
            }
            // 2 for what the caller must change, as for a wrong flag
            ExitCode::from(if error.kind() == rowcast::error::Kind::Config { 2 } else { 1 })
        }
    }
}

fn print(error: &rowcast::error::Error) {
    eprintln!("rowcast: {}", rowcast::error::chain(error));
    if let Some(remedy) = error.remedy() {
        eprintln!("  -> {remedy}");
    }
}
