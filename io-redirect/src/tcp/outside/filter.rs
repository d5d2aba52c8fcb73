//! Keeps blocks of addresses from a listening socket: what comes from there to begin a connection
//! is dropped by the kernel, before anybody is woken for it.
//!
//! It is a program for the kernel's packet filter (classic BPF: McCanne and Jacobson, USENIX 1993;
//! Linux: `Documentation/networking/filter.rst`), which needs no privilege.

use std::io;
use std::net::IpAddr;

use lockstep::shares::AddressBlock;
use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};

/// Where the header of the network's layer begins, for instructions that load from a packet.
const NETWORK: u32 = 0xfff0_0000;

/// Offsets in that header: its version's octet, and the sender (RFC 791 section 3.1, RFC 8200
/// section 3).
const VERSION: u32 = NETWORK;
const V4_SOURCE: u32 = NETWORK + 12;
const V6_SOURCE: u32 = NETWORK + 8;

/// Let the whole packet pass, or none of it.
const PASS: u32 = u32::MAX;
const DROP: u32 = 0;

/// An instruction: what it does, how many it skips if a comparison holds or does not, its operand.
type Instruction = (u16, u8, u8, u32);

const fn load_octet(at: u32) -> Instruction {
    (0x30, 0, 0, at)
}

const fn load_two(at: u32) -> Instruction {
    (0x28, 0, 0, at)
}

const fn load_four(at: u32) -> Instruction {
    (0x20, 0, 0, at)
}

const fn shift_right(bits: u32) -> Instruction {
    (0x74, 0, 0, bits)
}

const fn mask(bits: u32) -> Instruction {
    (0x54, 0, 0, bits)
}

const fn if_equal(value: u32, skip: u8, skip_otherwise: u8) -> Instruction {
    (0x15, skip, skip_otherwise, value)
}

const fn answer(octets: u32) -> Instruction {
    (0x06, 0, 0, octets)
}

/// Drops what is from one of these blocks.
fn program(blocks: &[AddressBlock]) -> Vec<Instruction> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for block in blocks {
        match block.network() {
            (IpAddr::V4(first), bits) => {
                let bits = u32::MAX << (32 - u32::from(bits));
                v4.extend([load_four(V4_SOURCE), mask(bits)]);
                v4.extend([if_equal(first.to_bits(), 0, 1), answer(DROP)]);
            }
            (IpAddr::V6(first), bits) => {
                debug_assert_eq!(bits, 48);
                let [a, b, c, ..] = first.segments().map(u32::from);
                v6.extend([load_four(V6_SOURCE), if_equal(a << 16 | b, 0, 3)]);
                v6.extend([load_two(V6_SOURCE + 4), if_equal(c, 0, 1), answer(DROP)]);
            }
        }
    }
    v4.push(answer(PASS));
    v6.push(answer(PASS));
    let skip = u8::try_from(v4.len()).unwrap_or(u8::MAX);
    let first = [load_octet(VERSION), shift_right(4), if_equal(4, 0, skip)];
    first.into_iter().chain(v4).chain(v6).collect()
}

/// The filter of one listening socket.
#[derive(Debug, Default)]
pub(super) struct Filter {
    kept_out: Vec<AddressBlock>,
    was_set: bool,
}

impl Filter {
    /// From now on no other client is kept out.
    ///
    /// # Errors
    /// What the system reported; then no client is kept out.
    pub(super) fn keep_out(
        &mut self,
        listener: &TcpListener,
        blocks: Vec<AddressBlock>,
    ) -> io::Result<()> {
        if self.kept_out == blocks {
            return Ok(());
        }
        self.kept_out.clear();
        let socket = SockRef::from(listener);
        if blocks.is_empty() {
            return socket.detach_filter();
        }
        self.was_set = true;
        let program: Vec<_> = program(&blocks)
            .into_iter()
            .map(|(code, yes, no, value)| SockFilter::new(code, yes, no, value))
            .collect();
        socket.attach_filter(&program).inspect_err(|_| {
            // There may be none.
            let _ = socket.detach_filter();
        })?;
        self.kept_out = blocks;
        Ok(())
    }

    /// An accepted connection has its listener's filter, which is not for it: it may be from a
    /// block that was shut out while it knocked.
    pub(super) fn let_in(&self, stream: &TcpStream) {
        if self.was_set {
            // Mostly there is none.
            let _ = SockRef::from(stream).detach_filter();
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    use super::*;
    use crate::limits;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn block(text: &str) -> AddressBlock {
        AddressBlock::of(text.parse().unwrap())
    }

    /// What the kernel would make of it.
    fn runs(program: &[Instruction], packet: &[u8]) -> u32 {
        let octets = |at: u32, count| {
            let at = (at - NETWORK) as usize;
            packet[at..at + count].iter().fold(0, |value, octet| value << 8 | u32::from(*octet))
        };
        let (mut next, mut value) = (0, 0);
        loop {
            let (code, yes, no, operand) = program[next];
            next += 1;
            match code {
                0x30 => value = octets(operand, 1),
                0x28 => value = octets(operand, 2),
                0x20 => value = octets(operand, 4),
                0x74 => value >>= operand,
                0x54 => value &= operand,
                0x15 => next += usize::from(if value == operand { yes } else { no }),
                0x06 => return operand,
                _ => unreachable!("{code:#x}"),
            }
        }
    }

    fn header(from: &str) -> Vec<u8> {
        let mut header = vec![0; 40];
        match from.parse().unwrap() {
            IpAddr::V4(from) => {
                header[0] = 0x45;
                header[12..16].copy_from_slice(&from.octets());
            }
            IpAddr::V6(from) => {
                header[0] = 0x60;
                header[8..24].copy_from_slice(&from.octets());
            }
        }
        header
    }

    #[test]
    fn what_comes_from_a_block_is_dropped_and_nothing_else_is() {
        let of_v4 = ["192.0.2.7", "198.51.100.1"];
        let of_v6 = ["2001:db8:1::1", "2001:db8:2:3::4"];
        for kept_out in [of_v4.as_slice(), &of_v6, &[of_v4, of_v6].concat()] {
            let program = program(&kept_out.iter().map(|text| block(text)).collect::<Vec<_>>());
            let others = ["192.0.3.7", "0.0.0.0", "2001:db8:3::1", "2001:db9:1::1", "::"];
            for from in of_v4.into_iter().chain(of_v6).chain(others) {
                let expected = if kept_out.contains(&from) { DROP } else { PASS };
                assert_eq!(runs(&program, &header(from)), expected, "{from} of {kept_out:?}");
            }
        }
    }

    async fn connect_from(host: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((host, 0)))?;
        socket.connect(to).await
    }

    #[test]
    fn the_kernel_keeps_a_block_out_until_it_is_let_in_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let scenario = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut filter = Filter::default();
            // One that is let in before the filter is taken off it would hear nothing any more.
            let early = connect_from([127, 0, 1, 1], address);
            let blocks = vec![block("127.0.1.9"), block("2001:db8::1")];
            let mut early = early.await.unwrap();
            filter.keep_out(&listener, blocks).unwrap();
            let (mut served, _) = listener.accept().await.unwrap();
            filter.let_in(&served);
            early.write_all(b"!").await.unwrap();
            served.read_exact(&mut [0]).await.unwrap();
            let barred = tokio::spawn(connect_from([127, 0, 1, 1], address));
            // The client has knocked when it waits.
            tokio::task::yield_now().await;
            for _ in 0..10 {
                let other = connect_from([127, 0, 2, 1], address).await.unwrap();
                let (accepted, peer) = listener.accept().await.unwrap();
                assert_eq!(peer, other.local_addr().unwrap());
                drop(accepted);
            }
            assert!(!barred.is_finished());
            filter.keep_out(&listener, Vec::new()).unwrap();
            filter.keep_out(&listener, Vec::new()).expect("there is none to take off");
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), Ipv4Addr::new(127, 0, 1, 1));
            barred.await.unwrap().unwrap();
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, scenario).await.unwrap() });
    }

    #[test]
    fn the_longest_program_skips_no_further_than_an_instruction_can() {
        let blocks: Vec<_> =
            (0..limits::SHUT_OUT_BLOCKS).map(|nth| block(&format!("192.0.{nth}.1"))).collect();
        let program = program(&blocks);
        assert_eq!(runs(&program, &header("2001:db8::1")), PASS);
        assert_eq!(runs(&program, &header(&format!("192.0.{}.9", blocks.len() - 1))), DROP);
    }
}
