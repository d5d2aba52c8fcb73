//! The fields that words are made of.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lockstep::ids::Incarnation;

use super::{Garbled, Handle, Windows};
use crate::limits;
use crate::tcp::Target;

pub(super) fn put_head(out: &mut BytesMut, tag: u8, handle: Handle) {
    out.put_u8(tag);
    out.put_u64_le(handle.process.0);
    out.put_u64_le(handle.number);
}

pub(super) fn get_handle(rest: &mut Bytes) -> Result<Handle, Garbled> {
    let process = get_process(rest)?;
    let number = rest.try_get_u64_le().or(Err(Garbled))?;
    Ok(Handle { process, number })
}

pub(super) fn get_process(rest: &mut Bytes) -> Result<Incarnation, Garbled> {
    Ok(Incarnation(rest.try_get_u64_le().or(Err(Garbled))?))
}

/// An address as sixteen bytes of IPv6 (IPv4 mapped, RFC 4291 section 2.5.5.2) and a port. Flow
/// label and scope mean something on one machine only, and are left out.
pub(super) fn put_address(out: &mut BytesMut, address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.put_slice(&ip.octets());
    out.put_u16_le(address.port());
}

pub(super) fn get_address(rest: &mut Bytes) -> Result<SocketAddr, Garbled> {
    let ip = rest.try_get_u128().or(Err(Garbled))?;
    let port = rest.try_get_u16_le().or(Err(Garbled))?;
    Ok(SocketAddr::new(Ipv6Addr::from_bits(ip).to_canonical(), port))
}

pub(super) fn put_text(out: &mut BytesMut, text: &[u8]) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.put_u16_le(len);
    out.put_slice(&text[..usize::from(len)]);
}

pub(super) fn get_text(rest: &mut Bytes, limit: usize) -> Result<Bytes, Garbled> {
    let len = usize::from(rest.try_get_u16_le().or(Err(Garbled))?);
    if len > limit || len > rest.len() {
        return Err(Garbled);
    }
    Ok(rest.split_to(len))
}

pub(super) fn get_string(rest: &mut Bytes, limit: usize) -> Result<String, Garbled> {
    String::from_utf8(get_text(rest, limit)?.to_vec()).or(Err(Garbled))
}

pub(super) fn put_target(out: &mut BytesMut, target: &Target) {
    match target {
        Target::Address(address) => {
            out.put_u8(0);
            put_address(out, *address);
        }
        Target::Name { host, port, last } => {
            out.put_u8(1);
            put_text(out, host.as_bytes());
            out.put_u16_le(*port);
            let last = &last[..last.len().min(limits::ADDRESSES_TRIED)];
            out.put_u8(last.len() as u8);
            last.iter().for_each(|address| put_address(out, *address));
        }
    }
}

pub(super) fn get_target(rest: &mut Bytes) -> Result<Target, Garbled> {
    match rest.try_get_u8().or(Err(Garbled))? {
        0 => Ok(Target::Address(get_address(rest)?)),
        1 => Ok(Target::Name {
            host: get_string(rest, limits::HOST_BYTES)?,
            port: rest.try_get_u16_le().or(Err(Garbled))?,
            last: get_addresses(rest)?,
        }),
        _ => Err(Garbled),
    }
}

fn get_addresses(rest: &mut Bytes) -> Result<Vec<SocketAddr>, Garbled> {
    let count = usize::from(rest.try_get_u8().or(Err(Garbled))?);
    if count > limits::ADDRESSES_TRIED {
        return Err(Garbled);
    }
    (0..count).map(|_| get_address(rest)).collect()
}

pub(super) fn put_windows(out: &mut BytesMut, windows: Windows) {
    out.put_u32_le(windows.read);
    out.put_u32_le(windows.send);
}

pub(super) fn get_windows(rest: &mut Bytes) -> Result<Windows, Garbled> {
    let read = rest.try_get_u32_le().or(Err(Garbled))?;
    let send = rest.try_get_u32_le().or(Err(Garbled))?;
    Ok(Windows { read, send })
}
