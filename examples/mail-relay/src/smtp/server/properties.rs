//! Claims about every input, not about chosen ones.

use proptest::prelude::*;

use super::fuzz::{converse, fuzz_one, small_config};

/// Lines that get somewhere, so that random conversations reach every phase.
fn scrap() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        &b"EHLO client.example\r\n"[..],
        b"HELO client\r\n",
        b"MAIL FROM:<a@b.org> SIZE=10\r\n",
        b"MAIL FROM:<>\r\n",
        b"RCPT TO:<c@example.org>\r\n",
        b"RCPT TO:<d@example.org>\r\n",
        b"RCPT TO:<c@elsewhere.org>\r\n",
        b"RCPT TO:<.d..@example.org>\r\n",
        b"RCPT TO:<bad@@example.org>\r\n",
        b"EHLO my pc\r\n",
        b"GET / HTTP/1.1\r\n",
        b"DATA\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"text\r\n",
        b"..stuffed\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"\n.\r\n",
        b"\r",
        b"\n",
        b".",
        b"\0",
        b"\xe4",
    ]);
    prop_oneof![
        8 => lines.prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0usize..1200).prop_map(|len| vec![b'x'; len]),
    ]
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(scrap(), 0..60).prop_map(|scraps| scraps.concat())
}

/// A conversation that begins with a mail under way, so that data is tried too.
fn mail_under_way() -> impl Strategy<Value = Vec<u8>> {
    let opening = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n";
    conversation().prop_map(move |rest| [&opening[..], &rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_input_is_cut_never_changes_the_replies(
        input in prop_oneof![conversation(), mail_under_way()],
        pieces in prop::collection::vec(1u8..40, 1..10),
    ) {
        let config = small_config();
        prop_assert_eq!(converse(&config, &input, &pieces), converse(&config, &input, &[1]));
    }

    #[test]
    fn conversations_keep_every_invariant(input in prop_oneof![conversation(), mail_under_way()]) {
        fuzz_one(&[&[7, 1, 30, 2], &input[..]].concat());
    }

    #[test]
    fn garbage_keeps_every_invariant(input in prop::collection::vec(any::<u8>(), 0..4000)) {
        fuzz_one(&input);
    }
}
