use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::runtime::exit::Exit;

struct Echo;

impl Answer for Echo {
    async fn answer(&self, command: &str) -> Result<serde_json::Value, Refusal> {
        match command {
            "fail" => Err(Refusal::unknown(command, "all others")),
            other => Ok(serde_json::json!({ "said": other })),
        }
    }
}

const SOON: Duration = Duration::from_secs(10);

/// Serves in the directory while `client` runs on a thread of its own.
fn served<T: Send + 'static>(
    path: &Path,
    client: impl FnOnce(std::path::PathBuf) -> T + Send + 'static,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = path.to_owned();
    runtime.block_on(async move {
        let mut directory = DataDirectory::open(&path).unwrap();
        let listener = directory.listen().unwrap();
        let client = tokio::task::spawn_blocking(move || client(path));
        tokio::select! {
            () = serve(listener, Echo) => unreachable!("it serves for ever"),
            done = client => done.unwrap(),
        }
    })
}

#[test]
fn a_question_is_answered_and_a_wrong_one_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    served(&path, |path| {
        assert_eq!(ask(&path, "status", SOON).unwrap()["said"], "status");
        let refused = ask(&path, "fail", SOON).unwrap_err();
        assert!(matches!(&refused, AskError::Refused { code, .. } if code == "unknown-command"));
        assert_eq!(Exit::from(&refused), Exit::Usage);
        let mode = std::fs::metadata(path.join(SOCKET)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    });
    assert!(!path.join(SOCKET).exists(), "an ended process leaves no socket");
    assert!(matches!(ask(&path, "status", SOON), Err(AskError::NotRunning { .. })));
}

#[test]
fn what_a_dead_process_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let stale = std::os::unix::net::UnixListener::bind(directory.path().join(SOCKET)).unwrap();
    std::fs::write(directory.path().join("control.sock.new"), "half made").unwrap();
    drop(stale);
    served(directory.path(), |path| {
        assert!(ask(&path, "again", SOON).is_ok());
    });
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = DataDirectory::open(directory.path()).unwrap();
    let refused = DataDirectory::open(directory.path()).unwrap_err();
    assert!(refused.to_string().contains("pid"), "{refused}");
    drop(first);
    DataDirectory::open(directory.path()).unwrap();
}

/// A link planted there once led the process's id into a file of its user's.
#[test]
fn a_directory_in_which_others_may_write_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, victim) = (directory.path().join("shared"), directory.path().join("victim"));
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, shared.join("process.lock")).unwrap();
    let refused = DataDirectory::open(&shared).unwrap_err();
    assert!(refused.to_string().contains("chmod go-w"), "{refused}");
    assert_eq!(Exit::from(&refused), Exit::Config);
    fs::set_permissions(&shared, Permissions::from_mode(0o700)).unwrap();
    let refused = DataDirectory::open(&shared).unwrap_err();
    assert!(matches!(refused, DirectoryError::Link { .. }), "{refused}");
    assert_eq!(Exit::from(&refused), Exit::Config);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::remove_file(shared.join("process.lock")).unwrap();
    DataDirectory::open(&shared).unwrap();
}

#[test]
fn lines_and_connections_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    served(directory.path(), |path| {
        let connect = || {
            let stream = UnixStream::connect(path.join(SOCKET)).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream
        };
        let line = |stream: &UnixStream| {
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            line
        };
        let mut long = connect();
        long.write_all(&[b'x'; 256]).unwrap();
        assert!(line(&long).contains("too-long"));
        assert_eq!(line(&long), "", "and the connection is closed");

        let mut binary = connect();
        binary.write_all(b"\xff\xfe\n").unwrap();
        assert!(line(&binary).contains("unknown-command"));
        drop((long, binary));

        // An answer on each shows that its place is taken.
        let held: Vec<_> = std::iter::repeat_with(|| {
            let mut stream = connect();
            let _ = stream.write_all(b"here\n");
            (line(&stream), stream)
        })
        .take_while(|(answer, _)| !answer.contains("busy"))
        .take(64)
        .collect();
        assert!((14..=16).contains(&held.len()), "{} connections", held.len());
        let busy = ask(&path, "status", SOON).unwrap_err();
        assert!(busy.to_string().contains("close one of them"), "{busy}");
        assert_eq!(Exit::from(&busy), Exit::Unavailable);
    });
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x".repeat(120));
    let mut data = DataDirectory::open(path).unwrap();
    assert!(matches!(data.listen(), Err(DirectoryError::TooLong { .. })));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the asker waits for what this thread then does")]
fn a_process_that_is_told_to_stop_is_waited_for_until_its_directory_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let (told, was_told) = std::sync::mpsc::channel();
    let (asker, _was_told) = served(directory.path(), move |path| {
        let early = stop(&path, SOON, Duration::from_millis(20));
        assert!(matches!(early, Err(AskError::NotEnded { .. })), "{early:?}");
        assert!(stop(&path, SOON, Duration::ZERO).is_ok(), "not waited for");
        let asker = std::thread::spawn(move || {
            let answer = stop(&path, SOON, SOON);
            told.send(()).unwrap();
            // Whoever has been told so can start the next one.
            (answer, DataDirectory::open(path))
        });
        assert!(was_told.recv_timeout(Duration::from_millis(200)).is_err(), "it waits");
        (asker, was_told)
    });
    let (answer, next) = asker.join().unwrap();
    assert_eq!(answer.unwrap()["said"], "stop");
    next.unwrap();
    assert!(matches!(stop(directory.path(), SOON, SOON), Err(AskError::NotRunning { .. })));
}

#[test]
fn one_that_was_started_again_meanwhile_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let lock = directory.path().join("process.lock");
    std::fs::write(&lock, "1\n").unwrap();
    let mut holder = directory::Holder::of(directory.path()).unwrap();
    let _next = DataDirectory::open(directory.path()).unwrap();
    assert!(holder.is_gone().unwrap());
}
