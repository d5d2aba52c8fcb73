//! What a guardian and its process share: a lock in shared memory, which the process holds for as
//! long as it lives.
//!
//! The kernel gives such a lock (a priority-inheritance futex, futex(2)) to whoever waits for it as
//! soon as its owner's thread begins to exit. That is before the memory of the process is given
//! back, which takes tens of milliseconds for each GiB, and before its sockets are closed, its
//! parent is told, or a `pidfd` becomes readable. A program that makes another one of itself (`exec`)
//! gives the lock up in the same way.
#![expect(unsafe_code, reason = "memory that processes share has to be mapped; why that is sound")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::thread::futex::{self, Flags};

use crate::ids::Incarnation;

/// What is mapped; the kernel rounds it up to a page.
const BYTES: usize = size_of::<Shared>();

/// A process waits for the lock no longer than this: its guardian may stand still.
const TRIES: u32 = 1000;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// Shared by processes, so not private to one (futex(2), `FUTEX_PRIVATE_FLAG`).
const SHARED: Flags = Flags::empty();

/// The shared memory. All of it is atomic, and any bits are valid.
#[repr(C)]
struct Shared {
    /// The thread that holds the lock, as the kernel writes it.
    lock: AtomicU32,
    /// How many processes have taken the lock, or programs in one process.
    lives: AtomicU32,
    /// The last of them.
    incarnation: AtomicU64,
    /// Whether the process that was started last hears signals.
    hears: AtomicU32,
}

/// One end of a lifeline.
pub(super) struct Lifeline {
    shared: &'static Shared,
    file: OwnedFd,
}

impl Lifeline {
    /// A lifeline that nobody holds.
    pub(super) fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create(c"lockstep-lifeline", flags)?;
        ftruncate(&file, BYTES as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file)
    }

    /// The one that this process was started with, by its number among the open files.
    pub(super) fn inherited(number: i32) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{number}");
        let file = File::options().read(true).write(true).open(path)?;
        let seals = fcntl_get_seals(&file)?;
        if file.metadata()?.len() != BYTES as u64 || !seals.contains(SealFlags::SHRINK) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::map(file.into())
    }

    fn map(file: OwnedFd) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: Where no address is asked for, the kernel chooses one at which nothing is mapped, so
        // nothing that Rust knows of changes.
        let at = unsafe { mmap(ptr::null_mut(), BYTES, access, MapFlags::SHARED, &file, 0)? };
        let at = NonNull::<c_void>::new(at).ok_or(io::ErrorKind::AddrNotAvailable)?;
        // SAFETY: The mapping begins at a page, which is aligned for `Shared`, and is as long. Both
        // callers made sure that the file is as long, and sealed against becoming shorter, so that each
        // of its bytes can be read and written. It is never unmapped.
        // All fields are atomics, for which any bits are valid, and nothing else refers to it here. That
        // other processes write to it at any time is what atomics are for.
        let shared = unsafe { at.cast::<Shared>().as_ref() };
        Ok(Self { shared, file })
    }

    /// Does this, which starts a process, in such a way that it inherits the lifeline under this
    /// number.
    pub(super) fn inheriting<T>(&self, start: impl FnOnce(i32) -> io::Result<T>) -> io::Result<T> {
        self.shared.hears.store(0, Ordering::SeqCst);
        fcntl_setfd(self.file.as_fd(), FdFlags::empty())?;
        let started = start(self.file.as_raw_fd());
        fcntl_setfd(self.file.as_fd(), FdFlags::CLOEXEC)?;
        started
    }

    /// Says that this process hears signals from now on.
    pub(super) fn hear(&self) {
        self.shared.hears.store(1, Ordering::SeqCst);
    }

    /// Whether the process that was started last hears signals: one that comes before ends it.
    pub(super) fn is_heard(&self) -> bool {
        self.shared.hears.load(Ordering::SeqCst) != 0
    }

    /// Takes the lock for the thread that calls, which keeps it until it ends.
    ///
    /// # Errors
    /// If somebody else keeps it.
    pub(super) async fn hold(&self, incarnation: Incarnation) -> io::Result<()> {
        for _ in 0..TRIES {
            match futex::trylock_pi(&self.shared.lock, SHARED) {
                // Of a program that became this one, while nobody waited for its end.
                Ok(true) | Err(Errno::DEADLK) => {
                    self.shared.incarnation.store(incarnation.0, Ordering::SeqCst);
                    self.shared.lives.fetch_add(1, Ordering::SeqCst);
                    futex::wake(&self.shared.lives, SHARED, u32::MAX)?;
                    return Ok(());
                }
                // Of a process that died before anybody waited for its end.
                Err(Errno::SRCH) => {
                    let named = self.shared.lock.load(Ordering::SeqCst);
                    let swap = self.shared.lock.compare_exchange(
                        named,
                        0,
                        Ordering::SeqCst,
                        Ordering::SeqCst,
                    );
                    if swap.is_err() {
                        tokio::time::sleep(BETWEEN_TRIES).await;
                    }
                }
                // The guardian is about to let it go.
                Ok(false) | Err(Errno::AGAIN | Errno::INTR) => {
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// How many have taken the lock so far.
    pub(super) fn lives(&self) -> u32 {
        self.shared.lives.load(Ordering::SeqCst)
    }

    /// The process that took the lock last, if one has since there were so many.
    pub(super) fn last_since(&self, lives: u32) -> Option<Incarnation> {
        let incarnation = self.shared.incarnation.load(Ordering::SeqCst);
        (self.lives() != lives).then_some(Incarnation(incarnation))
    }

    /// Reports the end of each process that holds the lock, from a thread of its own, for as long as
    /// this process lives.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn watch(
        &self,
        mut report: impl FnMut(Incarnation) + Send + 'static,
    ) -> io::Result<()> {
        let shared = self.shared;
        let run = move || {
            let mut seen = 0;
            loop {
                seen = next_life(shared, seen);
                wait_for_end(shared);
                // Of the last program, if one took the lock while nobody waited.
                seen = seen.max(shared.lives.load(Ordering::SeqCst));
                report(Incarnation(shared.incarnation.load(Ordering::SeqCst)));
                let_go(shared);
            }
        };
        thread::Builder::new().name("lockstep-lifeline".into()).spawn(run)?;
        Ok(())
    }
}

/// Waits until there are more lives than were seen; how many there are.
fn next_life(shared: &Shared, seen: u32) -> u32 {
    loop {
        let lives = shared.lives.load(Ordering::SeqCst);
        if lives != seen {
            return lives;
        }
        // Whatever it returns for, there is a look at what it waited for.
        let _ = futex::wait(&shared.lives, SHARED, seen, None);
    }
}

/// Waits until the owner has ended, and has the lock then.
#[expect(clippy::disallowed_methods, reason = "it is a thread of its own that waits")]
fn wait_for_end(shared: &Shared) {
    loop {
        match futex::lock_pi(&shared.lock, SHARED, None) {
            Ok(()) => return,
            // The owner had ended before this thread waited.
            Err(Errno::SRCH) => return,
            // Interrupted, or the owner is just ending.
            Err(Errno::INTR | Errno::AGAIN) => thread::yield_now(),
            // No futex, as after somebody else wrote there: a parent hears of the end all the same.
            Err(_) => thread::sleep(BETWEEN_TRIES),
        }
    }
}

/// Lets the next process have the lock.
fn let_go(shared: &Shared) {
    if futex::unlock_pi(&shared.lock, SHARED).is_err() {
        // It is still in the name of an owner that has ended.
        shared.lock.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn watched() -> (Lifeline, Receiver<Incarnation>) {
        let lifeline = Lifeline::new().unwrap();
        let (sends, ended) = channel();
        lifeline.watch(move |incarnation| sends.send(incarnation).unwrap()).unwrap();
        (lifeline, ended)
    }

    /// A thread holds it, as that process, while this is done, and then ends.
    fn live(lifeline: &Lifeline, incarnation: u64, meanwhile: impl FnOnce()) {
        let (holds, held) = channel();
        let (end, ends) = channel::<()>();
        thread::scope(|scope| {
            let holder = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(lifeline.hold(Incarnation(incarnation))).unwrap();
                holds.send(()).unwrap();
                let _ = ends.recv();
            });
            held.recv().unwrap();
            meanwhile();
            drop(end);
            holder.join().unwrap();
        });
    }

    #[test]
    fn the_end_of_each_that_held_it_is_reported_once_and_not_before() {
        let (lifeline, ended) = watched();
        assert_eq!(lifeline.last_since(0), None);
        for incarnation in 1..=50 {
            let holds = || {
                let waited = ended.recv_timeout(Duration::from_millis(1));
                assert_eq!(waited, Err(RecvTimeoutError::Timeout), "it lives");
            };
            live(&lifeline, incarnation, holds);
            assert_eq!(ended.recv_timeout(SOON), Ok(Incarnation(incarnation)));
            let before = u32::try_from(incarnation).unwrap() - 1;
            assert_eq!(lifeline.last_since(before), Some(Incarnation(incarnation)));
            assert_eq!(lifeline.last_since(before + 1), None);
        }
        assert!(ended.try_recv().is_err());
    }

    #[test]
    fn whoever_ends_at_once_is_reported_too() {
        let (lifeline, ended) = watched();
        for incarnation in 1..=50 {
            live(&lifeline, incarnation, || ());
            assert_eq!(ended.recv_timeout(SOON), Ok(Incarnation(incarnation)));
        }
    }

    #[test]
    fn one_that_was_inherited_is_the_same_and_another_file_is_none() {
        let (lifeline, ended) = watched();
        let inherited = lifeline.inheriting(Lifeline::inherited).unwrap();
        live(&inherited, 7, || ());
        assert_eq!(ended.recv_timeout(SOON), Ok(Incarnation(7)));
        let other = File::open("/dev/null").unwrap();
        assert!(Lifeline::inherited(other.as_raw_fd()).is_err());
        assert!(Lifeline::inherited(-1).is_err());
    }
}
