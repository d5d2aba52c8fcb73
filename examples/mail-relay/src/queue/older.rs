//! Mails as older versions of the relay froze them.

use lockstep::shares::AddressBlock;
use rkyv::{Archive, Deserialize, Serialize};

use super::entry::{MailState, QueuedMail, Recipient};
use super::trace;
use crate::smtp::{Message, ReversePath};

/// A mail of versions 3 and 4, which kept nothing of its block of addresses but the trace field.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct QueuedMailV4 {
    from: ReversePath,
    recipients: Vec<Recipient>,
    message: Message,
    accepted: u64,
    skipped: u64,
    state: MailState,
    attempts: u32,
    lost: u32,
    round: u64,
    needs_new: bool,
}

impl From<QueuedMailV4> for QueuedMail {
    /// A notice of failure has no trace field, and counts for no block.
    fn from(mail: QueuedMailV4) -> QueuedMail {
        QueuedMail {
            block: trace::client_address(&mail.message.trace).map(AddressBlock::of),
            from: mail.from,
            recipients: mail.recipients,
            message: mail.message,
            accepted: mail.accepted,
            skipped: mail.skipped,
            state: mail.state,
            attempts: mail.attempts,
            lost: mail.lost,
            round: mail.round,
            needs_new: mail.needs_new,
        }
    }
}
