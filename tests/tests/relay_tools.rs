//! The relay takes mail from programs that are not ours, and delivers to programs that are not.
//! Where one is not installed, its test says so and passes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lockstep::ids::ReplicaId;
use lockstep_tests::mail::{
    Campaign, Hop, Python, RelayPair, find_tool, free_address, run_to_end, runtime, wait_until,
};
use lockstep_tests::pair::SILENCE;
use tokio::net::TcpStream;

const RELAY: &str = env!("CARGO_BIN_EXE_relay");
const WITHIN: Duration = Duration::from_secs(60);

fn pair(hop: SocketAddr) -> RelayPair {
    RelayPair::start(RELAY, SILENCE, hop, "")
}

#[test]
fn postfix_smtp_source_sends() {
    let Some(source) = find_tool("smtp-source", "postfix") else { return };
    runtime().block_on(async {
        let hop = Hop::start().await;
        let relay = pair(hop.address());
        for place in ReplicaId::BOTH {
            let to = relay.at(place).to_string();
            let args = [
                "-s",
                "5",
                "-m",
                "100",
                "-l",
                "5000",
                "-f",
                "a@example.org",
                "-t",
                "b@example.org",
                &to,
            ];
            run_to_end(&source, &args, WITHIN).await;
        }
        let texts = hop.wait_for_texts(200, WITHIN).await;
        assert_eq!(texts.len(), 200);
        assert!(texts.iter().all(|text| text.len() > 5000 && text.starts_with(b"Received: ")));
    });
}

#[test]
fn swaks_sends() {
    let Some(swaks) = find_tool("swaks", "swaks") else { return };
    runtime().block_on(async {
        let hop = Hop::start().await;
        let relay = pair(hop.address());
        let to = relay.at(ReplicaId::B).to_string();
        let common =
            ["--server", &to, "--from", "a@example.org", "--to", "b@example.org,c@example.org"];
        for more in [
            &["--body", "plain"][..],
            &["--pipeline", "--body", ".\n..\n.a"],
            &["--ehlo", "x", "--protocol", "SMTP"],
        ] {
            run_to_end(&swaks, &[&common[..], more].concat(), WITHIN).await;
        }
        let texts = hop.wait_for_texts(3, WITHIN).await;
        let second = String::from_utf8_lossy(&texts[1]);
        assert!(second.contains("\r\n.\r\n..\r\n.a\r\n"), "{second}");
    });
}

const SMTPLIB: &str = r#"
import smtplib, sys
host, port = sys.argv[1].rsplit(":", 1)
with smtplib.SMTP(host, int(port), timeout=30) as server:
    server.ehlo()
    for name in ("size", "pipelining", "8bitmime", "enhancedstatuscodes"):
        assert server.has_extn(name), name
    for number in range(20):
        body = "Subject: %d\r\n\r\n.dots\r\n..\r\n" % number + "x" * 70 * 1 + "\r\n"
        refused = server.sendmail("a@example.org", ["b@example.org", "c@example.org"], body * (1 + number % 3))
        assert refused == {}, refused
    server.sendmail("a@example.org", "b@example.org", "Subject: umlaut\r\n\r\n\xfc\r\n".encode("latin-1"), mail_options=["BODY=8BITMIME"])
    assert server.verify("b@example.org")[0] == 252
    try:
        server.sendmail("no address", "b@example.org", "x")
        raise SystemExit("a bad sender was taken")
    except smtplib.SMTPSenderRefused as error:
        assert error.smtp_code == 501, error
"#;

#[test]
fn pythons_smtplib_sends() {
    let Some(python) = Python::with("smtplib") else { return };
    runtime().block_on(async {
        let hop = Hop::start().await;
        let relay = pair(hop.address());
        let to = relay.at(ReplicaId::A).to_string();
        run_to_end(&python.0, &["-c", SMTPLIB, &to], WITHIN).await;
        let texts = hop.wait_for_texts(21, WITHIN).await;
        assert!(texts.iter().any(|text| text.contains(&0xfc)), "8-bit octets go on as they came");
    });
}

/// A next hop that is a program; killed when it is dropped.
async fn hop_program(
    program: &Path,
    args: &[&str],
    directory: &Path,
    at: SocketAddr,
) -> tokio::process::Child {
    let child = tokio::process::Command::new(program)
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .expect("it can be started");
    wait_until("the next hop to listen", WITHIN, async || TcpStream::connect(at).await.ok()).await;
    child
}

fn mails(count: u64) -> Campaign {
    Campaign {
        mails: count,
        least: 1 << 10,
        most: 64 << 10,
        connections: 4,
        kill: None,
        within: WITHIN,
    }
}

/// How many files in a directory hold mails of a campaign.
fn arrived(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| std::fs::read(file.path()).ok());
    texts.map(|text| String::from_utf8_lossy(&text).matches("X-Load-Id: ").count()).sum()
}

async fn deliver_into(relay: &RelayPair, files: &Path, count: usize) {
    mails(count as u64).send(relay).await;
    wait_until("the mails to arrive", WITHIN, async || (arrived(files) >= count).then_some(()))
        .await;
    assert_eq!(arrived(files), count);
}

#[test]
fn postfix_smtp_sink_takes() {
    let Some(sink) = find_tool("smtp-sink", "postfix") else { return };
    let directory = tempfile::tempdir().unwrap();
    // It refuses to run as root unless it may become somebody else, who has to write here.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open).unwrap();
    runtime().block_on(async {
        let at = free_address();
        let address = at.to_string();
        let mut args = vec!["-D", "mails", &address, "100"];
        if rustix::process::geteuid().is_root() {
            args.splice(0..0, ["-u", "nobody"]);
        }
        let _sink = hop_program(&sink, &args, directory.path(), at).await;
        let relay = pair(at);
        deliver_into(&relay, directory.path(), 60).await;
    });
}

#[test]
fn pythons_aiosmtpd_takes() {
    let Some(python) = Python::with("aiosmtpd") else { return };
    let directory = tempfile::tempdir().unwrap();
    let maildir = directory.path().join("mails");
    runtime().block_on(async {
        let at = free_address();
        let address = at.to_string();
        let path = maildir.to_str().unwrap();
        let args =
            ["-m", "aiosmtpd", "-n", "-l", &address, "-c", "aiosmtpd.handlers.Mailbox", path];
        let _hop = hop_program(&python.0, &args, directory.path(), at).await;
        let relay = pair(at);
        deliver_into(&relay, &maildir.join("new"), 60).await;
    });
}
