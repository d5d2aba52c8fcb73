//! Coverage marks: what a campaign has to have reached to be worth anything.

use core::fmt;

use super::options::Profile;

macro_rules! marks {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $required:literal;)*) => {
        /// A situation that the simulator must reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $($(#[doc = $doc])* $name,)*
        }

        impl Mark {
            /// Every mark, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether a campaign over the default profile that never reached it is vacuous.
            pub const fn is_required(self) -> bool {
                match self { $(Self::$name => $required,)* }
            }
        }
    };
}

marks! {
    /// The pair was formed and served a client.
    Duplex = "duplex", true;
    /// A goes on alone.
    RemovalByA = "removal-by-a", true;
    /// B goes on alone.
    RemovalByB = "removal-by-b", true;
    /// A member learned that it is out while it was running.
    Fenced = "fenced", true;
    /// The sequencer role changed hands within an epoch.
    HandedOver = "handed-over", true;
    /// A member left in good order.
    Farewell = "farewell", true;
    /// A member learned of the other's death from its guardian, before anything else told it.
    Noticed = "noticed", true;
    /// A guardian's notice was of another process than the present member.
    NoticeOfAnother = "notice-of-another", true;
    /// A request whose answer was lost was voided by a renewal.
    RenewalVoidsRequest = "renewal-voids-request", true;
    /// A granted request, its answer lost, was found granted by its asker.
    LostGrantFound = "lost-grant-found", true;
    /// The peer's renewal was followed.
    RenewalFollowed = "renewal-followed", true;
    /// An entry came again on another link after it was held.
    LateDuplicate = "late-duplicate", true;
    /// The window was full.
    FullWindow = "full-window", true;
    /// A link's queue was full.
    LinkBlocked = "link-blocked", true;
    /// A member was removed for slowness.
    SlowRemoval = "slow-removal", true;
    /// A member whose disk or service hung said so itself, and the other went on.
    GaveWay = "gave-way", false;
    /// Outputs were held for want of a witness.
    Held = "held", true;
    /// Outputs flowed again after that.
    Resumed = "resumed", true;
    /// Nothing was ordered for long although a wake-up was due.
    Gap = "gap", true;
    /// The replicas computed different outputs.
    Diverged = "diverged", true;
    /// The service panicked on one replica alone.
    PanickedAlone = "panicked-alone", true;
    /// The service panicked on both.
    PanickedBoth = "panicked-both", true;
    /// A follower that became sequencer ordered inputs that it had forwarded before.
    ForwardsReordered = "forwards-reordered", true;
    /// A client had its first answer from the follower.
    FollowerFirst = "follower-first", true;
    /// The witness had just started and refused.
    WitnessStarting = "witness-starting", true;
    /// Both asked to go on alone, from the same record.
    BothAsked = "both-asked", true;
    /// A CoServer that lost its memory was told that it is no member.
    NotAMember = "not-a-member", false;
    /// A replica noticed that it had not been scheduled.
    Stalled = "stalled", true;
    /// A replica's clock and log time strayed apart.
    ClockStrays = "clock-strays", true;
    /// A frame damaged on its way was refused by the decoder.
    CorruptRefused = "corrupt-refused", true;
    /// A client's connection was cut and its requests were sent again.
    ClientResent = "client-resent", true;
    /// A client was turned away with a typed reason.
    ClientRefused = "client-refused", true;
    /// A client's connection was kept until the CoServer served.
    ClientDeferred = "client-deferred", true;
    /// A client was told that the other CoServer is back.
    PeerBack = "peer-back", true;
    /// A client that heard nothing made a new connection beside the one that it had.
    ClientReplaces = "client-replaces", true;
    /// Time was the only input: a wake-up fired while the pair was idle.
    IdleWake = "idle-wake", true;
    /// Several inputs were ordered as one entry.
    Together = "together", true;
    /// An entry large enough to go by one link only.
    Bulk = "bulk", true;
    /// The witness was killed between two requests or while it wrote.
    WitnessRestarted = "witness-restarted", true;
    /// A request reached the witness twice.
    WitnessDuplicate = "witness-duplicate", true;
    /// An operator stopped a member that could not go on.
    Operator = "operator", true;
    /// A member died and a new process took its place, by its disk.
    Restarted = "restarted", true;
    /// The pair became duplex again.
    DuplexAgain = "duplex-again", true;
    /// A joiner began with the entries that it had.
    JoinedByEntries = "joined-by-entries", true;
    /// A joiner was sent a checkpoint.
    JoinedByCheckpoint = "joined-by-checkpoint", true;
    /// A joiner went back to a checkpoint of its own.
    JoinedByOwnCheckpoint = "joined-by-own-checkpoint", true;
    /// A transfer that broke off was gone on with.
    TransferResumed = "transfer-resumed", false;
    /// The sole member took a checkpoint while it brought a joiner up to date.
    CheckpointInJoin = "checkpoint-in-join", true;
    /// The sole member went on without its joiner.
    FellBack = "fell-back", true;
    /// It had recorded the joiner by then.
    FellBackRecorded = "fell-back-recorded", true;
    /// Both were down, and A claimed first.
    BothDownAFirst = "both-down-a-first", true;
    /// Both were down, and B claimed first.
    BothDownBFirst = "both-down-b-first", true;
    /// The one that claimed had the longer log.
    ClaimByBetter = "claim-by-better", true;
    /// The one that claimed had the shorter log.
    ClaimByLesser = "claim-by-lesser", true;
    /// A member left in good order, without a pause.
    Left = "left", true;
    /// A restarted process executed and released what its predecessor had not.
    ReleasedAgain = "released-again", true;
    /// A disk was found damaged.
    DamagedDisk = "damaged-disk", true;
    /// The disk failed while a process used it.
    StorageFailed = "storage-failed", true;
    /// A process was out of descriptors, or of memory, where it had to use the disk.
    StorageExhausted = "storage-exhausted", true;
    /// A disk that had been copied back was refused.
    CopiedRefused = "copied-refused", true;
    /// A disk of the other place was refused.
    SwappedRefused = "swapped-refused", true;
    /// A disk that had lied about syncing was not relied on.
    LiedUnharmed = "lied-unharmed", true;
    /// A process came back with an empty disk.
    EmptyDisk = "empty-disk", true;
    /// The replicas compared their checkpoints.
    Checkpoint = "checkpoint", true;
    /// A process waited because it could neither claim nor join.
    Waited = "waited", true;
    /// A witness refused a pair that it does not know.
    WitnessUnknown = "witness-unknown-pair", true;
    /// One refused because its record is older than the pair's.
    WitnessBehind = "witness-behind", true;
    /// One refused because its disk had failed.
    WitnessStorage = "witness-storage", true;
    /// One could not write its record, and went on with the one before.
    WitnessNotStored = "witness-not-stored", true;
    /// A witness lost everything.
    WitnessWiped = "witness-wiped", true;
    /// A witness got back an old copy of its records.
    WitnessRestored = "witness-restored", true;
    /// A witness that had forgotten the pair has its record again, from the pair.
    EnrolledAnew = "enrolled-anew", true;
    /// The pair turned to the alternate witness.
    TurnedToAlternate = "turned-to-alternate", true;
    /// The pair turned back to the preferred witness.
    TurnedBack = "turned-back", true;
    /// A member went on alone by the alternate's word.
    AloneByAlternate = "alone-by-alternate", true;
    /// A CoServer died while the pair turned to another witness.
    DiedInMove = "died-in-move", true;
    /// Both CoServers died while the pair turned to another witness.
    BothDiedInMove = "both-died-in-move", false;
    /// An operator began a new lineage with what a disk had.
    Adopted = "adopted", true;
    /// A process with a lesser claim waited for the better one.
    Yielded = "yielded", true;
    /// What a joiner lacked was not kept any more.
    PiecesGone = "pieces-gone", true;
    /// A process came back to a disk that a write never reached, or reached elsewhere.
    StrayWrite = "stray-write", true;
    /// The joiner died when it said what it has.
    JoinerDiedAtJoin = "joiner-died-at-join", false;
    /// The joiner died when it was told with what it begins.
    JoinerDiedAtOffer = "joiner-died-at-offer", false;
    /// The joiner died when it had a piece of a checkpoint.
    JoinerDiedAtChunk = "joiner-died-at-chunk", false;
    /// The joiner died when it had the checkpoint.
    JoinerDiedAtInstalled = "joiner-died-at-installed", false;
    /// The joiner died when it was sent what is ordered.
    JoinerDiedAtAttached = "joiner-died-at-attached", false;
    /// The joiner died when it was to be recorded.
    JoinerDiedAtAsked = "joiner-died-at-asked", false;
    /// The joiner died when it was recorded.
    JoinerDiedAtRecorded = "joiner-died-at-recorded", false;
    /// The joiner died when it was to be a member from an entry on.
    JoinerDiedAtOrdered = "joiner-died-at-ordered", false;
    /// The joiner died when it had that entry on its disk.
    JoinerDiedAtPersisted = "joiner-died-at-persisted", false;
    /// The joiner died when it was told that it is a member.
    JoinerDiedAtAdmit = "joiner-died-at-admit", false;
    /// The joiner died when it had that on its disk.
    JoinerDiedAtAdmitted = "joiner-died-at-admitted", false;
    /// The member died when its joiner said what it has.
    MemberDiedAtJoin = "member-died-at-join", false;
    /// The member died when its joiner was told with what it begins.
    MemberDiedAtOffer = "member-died-at-offer", false;
    /// The member died when its joiner had a piece of a checkpoint.
    MemberDiedAtChunk = "member-died-at-chunk", false;
    /// The member died when its joiner had the checkpoint.
    MemberDiedAtInstalled = "member-died-at-installed", false;
    /// The member died when its joiner was sent what is ordered.
    MemberDiedAtAttached = "member-died-at-attached", false;
    /// The member died when its joiner was to be recorded.
    MemberDiedAtAsked = "member-died-at-asked", false;
    /// The member died when its joiner was recorded.
    MemberDiedAtRecorded = "member-died-at-recorded", false;
    /// The member died when its joiner was to be a member from an entry on.
    MemberDiedAtOrdered = "member-died-at-ordered", false;
    /// The member died when its joiner had that entry on its disk.
    MemberDiedAtPersisted = "member-died-at-persisted", false;
    /// The member died when its joiner was told that it is a member.
    MemberDiedAtAdmit = "member-died-at-admit", false;
    /// The member died when its joiner had that on its disk.
    MemberDiedAtAdmitted = "member-died-at-admitted", false;
    /// A session in which nothing was asked gave way to a new one.
    UnusedGaveWay = "unused-gave-way", false;
    /// A session in which nothing was asked ended by itself.
    UnusedEnded = "unused-ended", false;
    /// A session of the owner that had most gave way.
    ShareGaveWay = "share-gave-way", false;
    /// A session that was idle did.
    AbandonedGaveWay = "abandoned-gave-way", false;
    /// A client got no session, since nobody had more.
    SessionRefused = "session-refused", false;
    /// A session that kept replies gave way to another owner's next one.
    RepliesGaveWay = "replies-gave-way", false;
    /// It gave way to the next one of its own owner.
    OwnRepliesGaveWay = "own-replies-gave-way", false;
    /// A request did not take effect for want of room for its reply.
    RepliesRefused = "replies-refused", false;
    /// A session was idle for too long.
    IdleEnded = "idle-ended", false;
    /// A session kept too much for too long.
    UnreadEnded = "unread-ended", false;
    /// A request was refused that its key may not make.
    ReadOnlyRefused = "read-only-refused", false;
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The marks reached in one run or in a campaign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u128);

impl Marks {
    /// Notes that the run has reached a mark.
    pub fn reach(&mut self, mark: Mark) {
        self.0 |= 1 << mark as u128;
    }

    /// Whether it was reached.
    pub fn has(self, mark: Mark) -> bool {
        self.0 & (1 << mark as u128) != 0
    }

    /// Those that were reached, in order.
    pub fn iter(self) -> impl Iterator<Item = Mark> {
        Mark::ALL.iter().copied().filter(move |mark| self.has(*mark))
    }
}

/// What a campaign of a profile of its own has to reach besides.
const REJOIN: &[Mark] = &[
    Mark::Yielded,
    Mark::PiecesGone,
    Mark::TransferResumed,
    Mark::JoinerDiedAtJoin,
    Mark::JoinerDiedAtOffer,
    Mark::JoinerDiedAtChunk,
    Mark::JoinerDiedAtInstalled,
    Mark::JoinerDiedAtAttached,
    Mark::JoinerDiedAtAsked,
    Mark::JoinerDiedAtRecorded,
    Mark::JoinerDiedAtOrdered,
    Mark::JoinerDiedAtPersisted,
    Mark::JoinerDiedAtAdmit,
    Mark::JoinerDiedAtAdmitted,
    Mark::MemberDiedAtJoin,
    Mark::MemberDiedAtOffer,
    Mark::MemberDiedAtChunk,
    Mark::MemberDiedAtInstalled,
    Mark::MemberDiedAtAttached,
    Mark::MemberDiedAtAsked,
    Mark::MemberDiedAtRecorded,
    Mark::MemberDiedAtOrdered,
    Mark::MemberDiedAtPersisted,
    Mark::MemberDiedAtAdmit,
    Mark::MemberDiedAtAdmitted,
];

/// Marks about disks that fail; see [`REJOIN`].
const STORAGE: &[Mark] = &[
    Mark::DamagedDisk,
    Mark::StorageFailed,
    Mark::StorageExhausted,
    Mark::LiedUnharmed,
    Mark::StrayWrite,
    Mark::GaveWay,
];

/// Marks about the witnesses; see [`REJOIN`].
const WITNESSES: &[Mark] = &[
    Mark::WitnessUnknown,
    Mark::WitnessBehind,
    Mark::WitnessStorage,
    Mark::WitnessNotStored,
    Mark::WitnessStarting,
    Mark::EnrolledAnew,
    Mark::TurnedToAlternate,
    Mark::TurnedBack,
    Mark::AloneByAlternate,
    Mark::DiedInMove,
    Mark::BothDiedInMove,
    Mark::Adopted,
];

/// Marks about shares of what is full; see [`REJOIN`].
const SHARES: &[Mark] = &[
    Mark::UnusedGaveWay,
    Mark::UnusedEnded,
    Mark::ShareGaveWay,
    Mark::AbandonedGaveWay,
    Mark::SessionRefused,
    Mark::RepliesGaveWay,
    Mark::OwnRepliesGaveWay,
    Mark::RepliesRefused,
    Mark::IdleEnded,
    Mark::UnreadEnded,
    Mark::ReadOnlyRefused,
];

impl Mark {
    /// What a campaign of this profile has to reach, or it is vacuous.
    pub fn required(profile: Profile) -> Vec<Self> {
        match profile {
            Profile::Default => {
                Self::ALL.iter().copied().filter(|mark| mark.is_required()).collect()
            }
            Profile::Rejoin => REJOIN.to_vec(),
            Profile::Storage => STORAGE.to_vec(),
            Profile::Witnesses => WITNESSES.to_vec(),
            Profile::Shares => SHARES.to_vec(),
            _ => Vec::new(),
        }
    }
}

const _: () = assert!(Mark::ALL.len() <= 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_apart() {
        let mut marks = Marks::default();
        marks.reach(Mark::Held);
        assert!(marks.has(Mark::Held) && !marks.has(Mark::Resumed));
        assert_eq!(marks.iter().collect::<Vec<_>>(), [Mark::Held]);
    }
}
