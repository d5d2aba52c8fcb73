//! Coverage marks: what a campaign has to have reached to be worth anything.

use core::fmt;

macro_rules! marks {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $required:literal;)*) => {
        /// A situation that the simulator must reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $($(#[doc = $doc])* $name,)*
        }

        impl Mark {
            /// Every mark.
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
    /// Outputs were held for want of a witness.
    Held = "held", true;
    /// Outputs flowed again after that.
    Resumed = "resumed", true;
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
    /// Time was the only input: a wake-up fired while the pair was idle.
    IdleWake = "idle-wake", true;
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
    TransferResumed = "transfer-resumed", true;
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
    /// Reaches one.
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
