//! Over a real folder: racing tasks and processes, kills, and stores that cannot be used.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::ids::{Incarnation, Nonce, ReplicaId};
use crate::record::{Members, Origin, Record, Request};
use crate::wire::frames::WitnessRefusal;
use crate::witness::object::ObjectError;

const PAIR: PairId = PairId([3; 16]);
const WITHIN: Duration = Duration::from_secs(20);
const QUERY: WitnessCall = WitnessCall::Query { known: None };

fn own(place: ReplicaId) -> Incarnation {
    Incarnation(10 + place.slot() as u64)
}

fn hello(place: ReplicaId) -> WitnessCall {
    let protocol = crate::witness::PROTOCOL;
    WitnessCall::Hello { pair: PAIR, place, incarnation: own(place), protocol }
}

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

fn client(folder: &Path) -> ObjectClient {
    ObjectClient::open(&url(folder), PAIR).unwrap()
}

async fn asker(folder: &Path, place: ReplicaId) -> ObjectClient {
    let mut client = client(folder);
    assert_eq!(client.call(hello(place)).await, Ok(None));
    client
}

fn next_of(present: &Record, asker: ReplicaId, members: Members, origin: Origin) -> Record {
    let nonce = Nonce(1 + own(asker).0);
    Record { epoch: present.epoch.next(), members, asker, nonce, origin, ..*present }
}

fn formed(vacant: &Record) -> Record {
    let members = Members::both(own(ReplicaId::A), own(ReplicaId::B));
    next_of(vacant, ReplicaId::A, members, Origin::Formed)
}

fn renewed(present: &Record, asker: ReplicaId) -> Record {
    next_of(present, asker, present.members, Origin::Renewal(present.digest()))
}

fn ask(present: &Record, next: Record) -> WitnessCall {
    WitnessCall::CompareAndSwap { request: Request { present: present.digest(), next } }
}

async fn record(client: &mut ObjectClient, call: WitnessCall) -> Record {
    match client.call(call).await {
        Ok(Some(WitnessAnswer::Present { record })) => record,
        other => panic!("{other:?}"),
    }
}

/// A folder with a pair that is formed.
async fn ready() -> (tempfile::TempDir, Record) {
    let folder = tempfile::tempdir().unwrap();
    let vacant = client(folder.path()).enrol().await.unwrap();
    let mut a = asker(folder.path(), ReplicaId::A).await;
    let present = record(&mut a, ask(&vacant, formed(&vacant))).await;
    assert_eq!(present, formed(&vacant));
    (folder, present)
}

#[tokio::test]
async fn a_record_outlives_the_process_that_wrote_it() {
    let (folder, formed) = ready().await;
    let mut b = asker(folder.path(), ReplicaId::B).await;
    assert_eq!(record(&mut b, QUERY).await, formed);
    assert_eq!(client(folder.path()).enrol().await, Err(ObjectError::Enrolled { pair: PAIR }));
    let objects = folder.path().join(PAIR.to_string());
    let mut names: Vec<_> = std::fs::read_dir(&objects)
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["epoch-0", "epoch-1"]);
}

#[tokio::test]
async fn of_two_that_ask_at_once_exactly_one_is_granted() {
    let (folder, mut present) = ready().await;
    let mut a = asker(folder.path(), ReplicaId::A).await;
    let mut b = asker(folder.path(), ReplicaId::B).await;
    for _ in 0..50 {
        let nexts = ReplicaId::BOTH.map(|place| renewed(&present, place));
        let (by_a, by_b) = tokio::join!(
            record(&mut a, ask(&present, nexts[0])),
            record(&mut b, ask(&present, nexts[1]))
        );
        assert_eq!(by_a, by_b);
        assert!(nexts.contains(&by_a), "{by_a:?}");
        present = by_a;
    }
}

#[tokio::test]
async fn what_cannot_be_a_store_is_refused_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let open = |url: &str| ObjectClient::open(url, PAIR).unwrap_err();
    for bad in ["", "/plain/path", "file://relative", "ftp://x/y", "s3://"] {
        assert!(matches!(open(bad), ObjectStoreError::Url { .. }), "{bad}");
    }
    let gone = url(&folder.path().join("nothing"));
    assert!(matches!(open(&gone), ObjectStoreError::Open { .. }));
    let mut empty = asker(folder.path(), ReplicaId::A).await;
    let unenrolled = ObjectError::Unenrolled { pair: PAIR };
    assert_eq!(empty.call(QUERY).await, Err(unenrolled.clone()));
    assert_eq!(client(folder.path()).new_lineage().await, Err(unenrolled));
    #[cfg(not(feature = "object-witness-s3"))]
    assert!(matches!(open("s3://bucket/x"), ObjectStoreError::NotBuilt { .. }));
}

#[tokio::test]
async fn a_new_lineage_begins_above_what_a_coserver_knows() {
    let (folder, formed) = ready().await;
    let later = Record { epoch: crate::ids::Epoch(40), ..formed };
    let known = WitnessCall::Query { known: Some(later) };
    let behind = WitnessAnswer::Refused { reason: WitnessRefusal::Behind };
    let mut a = asker(folder.path(), ReplicaId::A).await;
    assert_eq!(a.call(known).await, Ok(Some(behind.clone())));
    let mut b = asker(folder.path(), ReplicaId::B).await;
    assert_eq!(b.call(ask(&formed, renewed(&formed, ReplicaId::B))).await, Ok(Some(behind)));
    let begun = client(folder.path()).new_lineage().await.unwrap();
    assert_eq!((begun.lineage.0, begun.epoch.0), (2, 41));
    assert_eq!(record(&mut b, QUERY).await, begun);
}

#[tokio::test]
async fn damage_a_gap_and_another_pairs_object_are_refused_by_name() {
    let (folder, _) = ready().await;
    let at = |number: u64| folder.path().join(PAIR.to_string()).join(format!("epoch-{number}"));
    let good = std::fs::read(at(1)).unwrap();
    let mut bytes = good.clone();
    bytes[60] ^= 1;
    for bytes in [bytes, good[..good.len() - 1].to_vec(), vec![7; 1 << 20]] {
        std::fs::write(at(1), bytes).unwrap();
        let error = asker(folder.path(), ReplicaId::A).await.call(QUERY).await.unwrap_err();
        assert!(matches!(error, ObjectError::Damaged { number: 1, .. }), "{error}");
    }
    let other = PairId([4; 16]);
    ObjectClient::open(&url(folder.path()), other).unwrap().enrol().await.unwrap();
    std::fs::copy(folder.path().join(other.to_string()).join("epoch-0"), at(1)).unwrap();
    let error = asker(folder.path(), ReplicaId::A).await.call(QUERY).await.unwrap_err();
    assert_eq!(error, ObjectError::Foreign { pair: PAIR, number: 1, found: other });
    std::fs::write(at(1), good).unwrap();
    std::fs::remove_file(at(0)).unwrap();
    let error = asker(folder.path(), ReplicaId::A).await.call(QUERY).await.unwrap_err();
    assert_eq!(error, ObjectError::Gap { pair: PAIR, number: 0 });
}

/// A folder in the way of the object makes creating it fail, with something there.
#[tokio::test]
async fn after_a_failed_creation_that_may_have_left_something_nothing_is_said() {
    let (folder, formed) = ready().await;
    let mut a = asker(folder.path(), ReplicaId::A).await;
    assert_eq!(record(&mut a, QUERY).await, formed);
    let at = folder.path().join(PAIR.to_string());
    let held = folder.path().join("aside");
    std::fs::rename(&at, &held).unwrap();
    std::fs::write(&at, b"no folder").unwrap();
    let asked = a.call(ask(&formed, renewed(&formed, ReplicaId::A))).await;
    assert!(asked.is_err(), "{asked:?}");
    std::fs::remove_file(&at).unwrap();
    std::fs::rename(&held, &at).unwrap();
    assert_eq!(record(&mut asker(folder.path(), ReplicaId::A).await, QUERY).await, formed);
}

async fn event(link: &mut ObjectLink) -> ObjectEvent {
    let next = std::future::poll_fn(|cx| link.poll_next(cx));
    tokio::time::timeout(WITHIN, next).await.expect("an event in time")
}

#[tokio::test]
async fn a_link_comes_up_answers_and_goes_down_and_up_with_its_store() {
    let (folder, formed) = ready().await;
    let mut link = ObjectLink::start(&url(folder.path()), PAIR).unwrap();
    assert_eq!(event(&mut link).await, ObjectEvent::Up);
    link.call(hello(ReplicaId::A));
    link.call(QUERY);
    let present = ObjectEvent::Answer(WitnessAnswer::Present { record: formed });
    assert_eq!(event(&mut link).await, present);
    let (at, aside) = (folder.path().join(PAIR.to_string()), folder.path().join("aside"));
    std::fs::rename(&at, &aside).unwrap();
    std::fs::write(&at, b"no folder").unwrap();
    link.call(QUERY);
    assert_eq!(event(&mut link).await, ObjectEvent::Down);
    std::fs::remove_file(&at).unwrap();
    std::fs::rename(&aside, &at).unwrap();
    assert_eq!(event(&mut link).await, ObjectEvent::Up);
    link.call(hello(ReplicaId::A));
    link.call(QUERY);
    assert_eq!(event(&mut link).await, present);
}

const CHILD: &str = "LOCKSTEP_TEST_OBJECT_WITNESS";

/// One of the racing processes of the test below; without a folder there is nothing to do.
#[tokio::test]
async fn child_that_renews_until_killed() {
    #[expect(clippy::disallowed_methods, reason = "a test's way to speak to its own child")]
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let (place, folder) = told.split_once(':').unwrap();
    let place = if place == "a" { ReplicaId::A } else { ReplicaId::B };
    let mut client = asker(Path::new(folder), place).await;
    let mut present = record(&mut client, QUERY).await;
    loop {
        let next = renewed(&present, place);
        present = record(&mut client, ask(&present, next)).await;
        if present == next {
            // Not captured by the test harness, as print would be.
            writeln!(std::io::stdout(), "granted {}", present.epoch).unwrap();
        }
    }
}

#[tokio::test]
async fn of_racing_processes_that_are_killed_each_grant_is_one_and_stays() {
    let (folder, _) = ready().await;
    let path = folder.path().display();
    let mut granted: [Vec<u64>; 2] = Default::default();
    for round in 1..=4 {
        let children = ["a", "b"].map(|place| {
            Command::new(std::env::current_exe().unwrap())
                .args(["child_that_renews_until_killed", "--nocapture"])
                .env(CHILD, format!("{place}:{path}"))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let readers = children.map(|mut child| {
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let parse = |line: std::io::Result<String>| -> Option<u64> {
                line.ok()?.split("granted ").nth(1)?.parse().ok()
            };
            std::thread::Builder::new()
                .spawn(move || {
                    let mut grants = lines.filter_map(parse);
                    let mut seen: Vec<u64> = grants.by_ref().take(5 * round).collect();
                    child.kill().unwrap();
                    seen.extend(grants);
                    child.wait().unwrap();
                    seen
                })
                .unwrap()
        });
        for (all, reader) in granted.iter_mut().zip(readers) {
            all.extend(reader.join().unwrap());
        }
    }
    let mut numbers = granted.concat();
    numbers.sort_unstable();
    let all = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "two were granted one epoch");
    // Every grant that was told is there, and says who got it.
    for (place, epochs) in ReplicaId::BOTH.into_iter().zip(granted) {
        assert!(!epochs.is_empty());
        for epoch in epochs {
            let object = folder.path().join(PAIR.to_string()).join(format!("epoch-{epoch}"));
            let link = crate::witness::object::decode(PAIR, epoch, &std::fs::read(object).unwrap());
            assert_eq!(link.unwrap().record.asker, place);
        }
    }
}
