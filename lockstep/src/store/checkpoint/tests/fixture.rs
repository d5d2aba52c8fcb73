//! Files of this version, which later versions must open, or refuse by name.

use std::path::PathBuf;

use super::*;
use crate::limits::CHECKPOINT_BLOCK_BYTES;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoint-v1")
}

#[test]
fn the_fixture_opens_and_is_still_written_the_same() {
    let name = file_name(AT);
    let (dir, again) = (Scratch::new(), Scratch::new());
    let (large, state) = (CHECKPOINT_BLOCK_BYTES, blocks_of(CHECKPOINT_BLOCK_BYTES));
    let stamp = take_in_blocks(&again, &header(), &state, large).unwrap();
    let written = again.bytes(&name).unwrap();
    let path = folder().join(&name);
    // Only where there is none: a file that was released is never replaced.
    let kept = std::fs::read(&path).unwrap_or_else(|_| {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, &written).unwrap();
        panic!("{} was missing and has been written: look at it and commit it", path.display())
    });
    dir.put(&name, &kept);
    assert_eq!(records(&dir, AT).unwrap(), state);
    let summary = verify(&dir, AT).unwrap();
    assert_eq!((summary.stamp.hash, summary.header), (stamp.hash, header()));
    assert_eq!(kept, written, "the format or the compression changed: see docs/checkpoint.md");
}
