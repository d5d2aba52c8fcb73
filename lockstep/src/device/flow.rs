//! Which inputs of one device belong together.

use std::net::IpAddr;

use crate::shares::AddressBlock;

/// The owner of a device's input: a block of addresses, a line, or whatever else may say more than
/// the others of the same device. Flows have the way into the log in turn, each as many bytes as
/// the next, so that a flow that says a lot waits behind itself. Inputs of one flow keep their
/// order; between flows there is none.
///
/// A flow says which sender waits on this CoServer and is no part of the input: the service does
/// not see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(u128);

impl Flow {
    /// The flow of this number. What is pushed without a flow has that of 0.
    pub const fn new(number: u64) -> Self {
        Self(number as u128)
    }

    /// That of a peer which came: one for all addresses of its [block](AddressBlock).
    pub fn of_peer(address: IpAddr) -> Self {
        Self(AddressBlock::of(address).number())
    }

    /// That of a peer which the service called: another than of those who came from the same block.
    pub fn of_called(address: IpAddr) -> Self {
        // The last bits of a block's number are no part of it.
        Self(AddressBlock::of(address).number() | 1)
    }
}
