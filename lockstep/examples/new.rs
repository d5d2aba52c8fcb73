//! Begins a program of one's own: `cargo run -p lockstep --example new -- DIRECTORY`.
//!
//! What it writes is `examples/template`, under the name of the directory, and this repository's
//! `clippy.toml`. It depends on this copy of the library, by its path.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What is written; the name and the library's path are filled in.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../examples/template/Cargo.toml")),
    ("README.md", include_str!("../../examples/template/README.md")),
    ("clippy.toml", include_str!("../../clippy.toml")),
    ("src/main.rs", include_str!("../../examples/template/src/main.rs")),
    ("src/service.rs", include_str!("../../examples/template/src/service.rs")),
    (".gitignore", "target\npair\n"),
];

/// The name that the template has, and where it finds the library.
const NAME: &str = "my-service";
const LIBRARY: &str = "../../lockstep";

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
enum NewError {
    #[error("usage: cargo run -p lockstep --example new -- DIRECTORY")]
    Usage,
    #[error(
        "`{0}` is no name for a program: let the directory's name begin with a small letter and \
         have small letters, digits and hyphens only"
    )]
    Name(String),
    #[error("{} is there already and is not overwritten: choose another directory", .0.display())]
    Exists(PathBuf),
    #[error("{}: {source}; check the path and the permissions", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match &arguments[..] {
        [directory] => begin(Path::new(directory)),
        _ => Err(NewError::Usage),
    };
    let (said, code) = match done {
        Ok(said) => (said, ExitCode::SUCCESS),
        Err(error) => (error.to_string(), ExitCode::FAILURE),
    };
    let _ = writeln!(io::stderr().lock(), "{said}");
    code
}

/// Writes a new project; what to say of it.
fn begin(directory: &Path) -> Result<String, NewError> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let ordinary = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    if !name.starts_with(|it: char| it.is_ascii_lowercase()) || !name.chars().all(ordinary) {
        return Err(NewError::Name(name.into_owned()));
    }
    if fs::exists(directory).map_err(failed(directory))? {
        return Err(NewError::Exists(directory.to_owned()));
    }
    for (file, text) in FILES {
        let path = directory.join(file);
        let text = text.replace(NAME, &name).replace(LIBRARY, env!("CARGO_MANIFEST_DIR"));
        fs::create_dir_all(path.parent().unwrap_or(directory)).map_err(failed(&path))?;
        let mut file = File::create_new(&path).map_err(failed(&path))?;
        file.write_all(text.as_bytes()).map_err(failed(&path))?;
    }
    Ok(format!("{} is a program now: see its README.md", directory.display()))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> NewError {
    move |source| NewError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_gets_its_name_and_the_path_of_the_library() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("tea-time");
        begin(&directory).unwrap();
        let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
        let manifest = read("Cargo.toml");
        assert!(manifest.contains("name = \"tea-time\""), "{manifest}");
        let library = format!("lockstep = {{ path = \"{}\" }}", env!("CARGO_MANIFEST_DIR"));
        assert!(manifest.contains(&library), "{manifest}");
        for (file, _) in FILES {
            let text = read(file);
            assert!(!text.contains(NAME) && !text.contains(LIBRARY), "{file}: {text}");
        }
    }

    #[test]
    fn nothing_is_overwritten_and_no_absurd_name_taken() {
        let parent = tempfile::tempdir().unwrap();
        let there = parent.path().join("there");
        fs::create_dir(&there).unwrap();
        assert!(matches!(begin(&there), Err(NewError::Exists(_))));
        for name in ["Tea", "7tea", "tea time", "tea/..", "tea_"] {
            let made = begin(&parent.path().join(name));
            assert!(matches!(made, Err(NewError::Name(_))), "{name}: {made:?}");
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
