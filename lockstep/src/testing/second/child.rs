//! In the second process: what its calls of the check do.
//!
//! The test runs there as in the first process. Calls that the first process asks for run the
//! service once, over the script that it sends, and find nothing. Others found something there
//! before they asked, so they check here too.

use std::cell::RefCell;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::mpsc::{Receiver, channel};

use super::message::{Order, Report, receive, send};
use super::{CHILD, Call, conditions};
use crate::entry::Entry;

thread_local! {
    static FIRST: RefCell<Option<First>> = const { RefCell::new(None) };
}

/// Whether this process is a second one: it was started as such, by its parent.
pub(in crate::testing) fn is_second() -> bool {
    socket().is_some()
}

/// The name of the socket of the process that started this one.
#[expect(clippy::disallowed_methods, reason = "nothing of a service: it names the first process")]
fn socket() -> Option<String> {
    let (parent, socket) = std::env::var(CHILD).ok()?.split_once(' ').map(own)?;
    (parent == std::os::unix::process::parent_id().to_string()).then_some(socket)
}

fn own((one, other): (&str, &str)) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

/// Runs for a call of the check what the first process wants run. False if the call is to check
/// by itself.
#[expect(clippy::disallowed_methods, reason = "only the thread of the test is asked for anything")]
pub(super) fn serve(call: &Call, run: impl FnOnce(&[Entry]) -> Report) -> bool {
    if !std::thread::current().name().is_some_and(|name| std::env::args().any(|arg| arg == name)) {
        return true;
    }
    FIRST.with_borrow_mut(|first| {
        let first = first.get_or_insert_with(|| First::meet().unwrap_or_else(|_| leave()));
        first.serve(call, run)
    })
}

/// The first process, as the second one sees it.
struct First {
    stream: UnixStream,
    orders: Receiver<Order>,
    next: Option<Order>,
}

impl First {
    fn meet() -> io::Result<Self> {
        let name = socket().ok_or(io::ErrorKind::NotFound)?;
        let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        let mut reader = stream.try_clone()?;
        let (sender, orders) = channel();
        // Also while a step never ends: the process does not outlive the first one.
        std::thread::Builder::new().spawn(move || {
            while let Ok(order) = receive(&mut reader) {
                if sender.send(order).is_err() {
                    break;
                }
            }
            leave()
        })?;
        Ok(Self { stream, orders, next: None })
    }

    fn serve(&mut self, call: &Call, run: impl FnOnce(&[Entry]) -> Report) -> bool {
        let next = self.next.take().or_else(|| self.orders.recv().ok());
        let order = next.unwrap_or_else(|| leave());
        if order.call != call.place || order.before != call.before {
            let done = !order.check_others;
            self.next = Some(order);
            return done;
        }
        let report = elsewhere(order.directory, || run(&order.entries));
        if send(&mut self.stream, &report).is_err() {
            leave();
        }
        true
    }
}

/// Runs something in another working directory.
fn elsewhere<T>(other: bool, what: impl FnOnce() -> T) -> T {
    let present = std::env::current_dir().ok().filter(|_| other);
    let Some(present) = present else { return what() };
    let moved = std::env::set_current_dir(conditions::directory(&present));
    let result = what();
    if moved.is_ok() && std::env::set_current_dir(&present).is_err() {
        leave();
    }
    result
}

/// Nobody asks for anything any more.
fn leave() -> ! {
    std::process::exit(0)
}
