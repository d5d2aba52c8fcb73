use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::ids::ReplicaId;

#[test]
fn a_public_key_survives_its_text_and_its_spki() {
    let key = SecretKey::generate().unwrap().public();
    assert_eq!(key.to_string().parse(), Ok(key));
    assert_eq!(
        format!(" {}\n", key.to_string().to_uppercase().replace("ED25519", "ed25519")).parse(),
        Ok(key)
    );
    assert_eq!(PublicKey::from_spki(&key.to_spki()), Some(key));
    assert_eq!(PublicKey::from_spki(&key.to_spki()[1..]), None);
    assert_eq!(PublicKey::from_spki(&[key.to_spki(), vec![0]].concat()), None);
}

#[test]
fn a_text_that_is_no_key_is_refused_with_its_reason() {
    let parse = |text: &str| text.parse::<PublicKey>().unwrap_err();
    assert_eq!(parse(""), ParseKeyError::Prefix);
    assert_eq!(parse("rsa:00"), ParseKeyError::Prefix);
    assert_eq!(parse("ed25519:00"), ParseKeyError::Length { found: 2 });
    let key = format!("ed25519:{}g{}", "0".repeat(10), "0".repeat(53));
    assert_eq!(parse(&key), ParseKeyError::Digit { digit: 'g', at: 10 });
    let key = format!("ed25519:{}", "é".repeat(64));
    assert_eq!(parse(&key), ParseKeyError::Digit { digit: 'é', at: 0 });
}

/// With both signs of x, and nothing else: a key that differs from one in a bit is no such point.
#[test]
fn a_key_for_which_anybody_can_sign_is_refused() {
    let parse = |bytes: [u8; 32]| PublicKey::from_bytes(bytes).to_string().parse::<PublicKey>();
    for mut bytes in SMALL_ORDER {
        for sign in [0, 0x80] {
            bytes[31] = bytes[31] & 0x7f | sign;
            assert_eq!(parse(bytes), Err(ParseKeyError::Weak), "{bytes:x?}");
            let mut other = bytes;
            other[7] ^= 0x10;
            assert_eq!(parse(other), Ok(PublicKey::from_bytes(other)));
        }
    }
    let said = ParseKeyError::Weak.to_string();
    assert!(said.contains("copy the one that `init` wrote"), "{said}");
}

#[test]
fn a_key_file_is_private_exclusive_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.key");
    let key = SecretKey::generate().unwrap();
    key.save_new(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(SecretKey::load(&path).unwrap().public(), key.public());
    let again = SecretKey::generate().unwrap().save_new(&path);
    assert!(matches!(again, Err(KeyFileError::Exists { .. })));
    assert_eq!(SecretKey::load(&path).unwrap().public(), key.public());
}

#[test]
fn a_key_file_that_others_may_read_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.key");
    SecretKey::generate().unwrap().save_new(&path).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = SecretKey::load(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Exposed { mode: found, .. } if found == mode));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.key");
    assert!(matches!(SecretKey::load(&path), Err(KeyFileError::Io { .. })));
    for content in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let refused = SecretKey::load(&path).unwrap_err();
        assert!(matches!(refused, KeyFileError::Malformed { .. }), "{content}");
        assert!(refused.to_string().contains("have `init` make a new key"), "{refused}");
    }
    fs::write(&path, vec![b'x'; 20_000]).unwrap();
    assert!(matches!(SecretKey::load(&path), Err(KeyFileError::NotAKeyFile { .. })));
    assert!(matches!(SecretKey::load(dir.path()), Err(KeyFileError::NotAKeyFile { .. })));
}

#[test]
fn a_secret_shows_only_its_public_half() {
    let key = SecretKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), format!("SecretKey(of {})", key.public()));
}

#[test]
fn what_is_derived_depends_on_key_and_purpose_alone() {
    let tag = |key: &SecretKey, purpose: &[u8]| {
        ring::hmac::sign(&key.derive(purpose), b"x").as_ref().to_vec()
    };
    let (one, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    assert_eq!(tag(&one, b"p"), tag(&one, b"p"));
    assert_ne!(tag(&one, b"p"), tag(&one, b"q"));
    assert_ne!(tag(&one, b"p"), tag(&other, b"p"));
}

#[test]
fn a_key_holds_one_role() {
    let key = SecretKey::generate().unwrap().public();
    let mut roster = Roster::new();
    roster.pin(Role::Client, key).unwrap();
    roster.pin(Role::Client, key).unwrap();
    for wanted in [Role::CoServer(ReplicaId::A), Role::Witness] {
        let refused = roster.pin(wanted, key);
        assert_eq!(refused, Err(RosterError::TwoRoles { key, held: Role::Client, wanted }));
    }
    assert_eq!(roster.role_of(&key), Some(Role::Client));
}

#[test]
fn a_client_s_name_goes_with_its_key() {
    let key = |number| PublicKey::from_bytes([number; 32]);
    let called =
        |name: &str| ClientTerms { name: Some(name.parse().unwrap()), ..ClientTerms::default() };
    let mut roster = Roster::new();
    roster.pin_client(key(1), called("one")).unwrap();
    let twice = roster.pin_client(key(1), called("two"));
    assert_eq!(twice, Err(RosterError::ClientTwice { key: key(1) }));
    let (first, second) = (key(1), key(2));
    let same = roster.pin_client(second, called("one"));
    assert_eq!(same, Err(RosterError::NameTwice { first, second }));
    assert_eq!((roster.clients().len(), roster.client_name(&second)), (1, None));
    // Whoever takes a key's place may what that one might, and is called so.
    roster.pin_client(second, called("two")).unwrap();
    let mut roster = roster.replaced(Role::Client, &[first, second], key(3)).unwrap();
    assert_eq!(roster.client(&key(3)), Some(&called("one")));
    // The name of a key that is gone can be had again.
    roster.pin_client(second, called("two")).unwrap();
    assert_eq!(roster.client_name(&second), Some("two"));
}

#[test]
fn a_key_file_at_odds_with_the_roster_is_noticed_at_start() {
    let (own, other) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
    let role = Role::CoServer(ReplicaId::A);
    let mut roster = Roster::new();
    assert_eq!(roster.check_own(role, &own), Ok(()));
    roster.pin(role, other).unwrap();
    assert_eq!(roster.check_own(role, &own), Err(RosterError::NotOwn { role, key: own }));
    roster.pin(role, own).unwrap();
    assert_eq!(roster.check_own(role, &own), Ok(()));
    assert!(matches!(
        roster.check_own(Role::CoServer(ReplicaId::B), &own),
        Err(RosterError::TwoRoles { .. })
    ));
}
