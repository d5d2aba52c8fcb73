//! Bounds and times of a connection.

use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::frame::PREFIX;
use crate::limits;
use crate::runtime::tls::Purpose;

/// The largest frame that may be configured. A frame stands whole in memory on both sides; bulk
/// goes in many frames.
const FRAME_CEILING: usize = 64 << 20;

/// Room for urgent frames: for a few of the longest, and no more than is read at once.
const URGENT_LEAST: usize = 1 << 10;
const URGENT_MOST: usize = 64 << 10;

/// Largest UDP payload. quinn hands the kernel up to ten packets at once, and
/// ten of more than 6,553 bytes exceed what one segmented send may carry.
const MTU_CEILING: u16 = 6_000;

/// Smallest UDP payload of QUIC (RFC 9000, section 14).
const MTU_FLOOR: u16 = 1_200;

/// Round trip assumed before one was measured; RFC 9002's 333 ms would repeat a
/// lost first packet only after a second. Sites of a pair are nearer than that,
/// and repeating a packet too early does no harm.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(20);

/// How long a peer may hold back an acknowledgement. With the default of 25 ms
/// one packet lost on a quiet connection is repeated only after as much.
const ACK_DELAY: Duration = Duration::from_millis(1);

/// What a frame takes besides the body that it carries, and some more.
const ENVELOPE: usize = 16 << 10;

const _: () = assert!(limits::INPUT_BYTES >= limits::REPLY_BYTES);

/// Handshake bytes buffered out of order; ours are under 1 KiB.
const HANDSHAKE_BUFFER: usize = 8 << 10;

/// The bounds and times of a connection. One connection takes at most
/// `queue + urgent + send_window + receive_window + frame_max` bytes of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Largest frame accepted, in bytes. A peer that sends a larger one has its connection closed.
    pub frame_max: usize,
    /// Bytes of frames (with their prefixes) that wait here while the stream
    /// takes no more; beyond, sending is refused until some have left.
    pub queue: usize,
    /// Bytes of urgent frames that wait here, for which there is a stream of their own; none
    /// without one, and then they go with the others.
    pub urgent: usize,
    /// Bytes handed to QUIC and not yet acknowledged. Small writes queued in
    /// quinn's buffer cost time quadratic in their number, so this stays small;
    /// divided by the round trip it bounds the rate.
    pub send_window: u32,
    /// Bytes that the peer may send before this side has read them.
    pub receive_window: u32,
    /// The connection is lost after this long without a packet.
    pub idle: Duration,
    /// Something is sent after this long without traffic; less than `idle`.
    pub keep_alive: Duration,
    /// Handshake and greeting must be over after this long.
    pub setup_within: Duration,
    /// UDP payload to start with, for a network known to carry it (6,000 on
    /// jumbo frames or loopback doubles bulk throughput). Otherwise 1,200, and
    /// up to 1,452 is discovered.
    pub mtu: Option<u16>,
}

impl Settings {
    /// What suits `purpose` on a local network.
    pub const fn of(purpose: Purpose) -> Self {
        let link = Settings {
            frame_max: 4 << 20,
            queue: 8 << 20,
            // Heartbeats of a second and more: older ones are of no use.
            urgent: 16 << 10,
            send_window: 1 << 20,
            receive_window: 2 << 20,
            // The protocol's own heartbeats tell silence in tens of
            // milliseconds; this only clears away what they gave up on.
            idle: Duration::from_secs(5),
            keep_alive: Duration::from_secs(1),
            // A lost attempt is soon followed by another.
            setup_within: Duration::from_secs(1),
            mtu: None,
        };
        match purpose {
            Purpose::Link => link,
            Purpose::Witness => Settings {
                frame_max: 64 << 10,
                queue: 256 << 10,
                urgent: 0,
                send_window: 128 << 10,
                receive_window: 128 << 10,
                // No heartbeats tell the silence of this connection, and an operator is to see soon
                // that it is gone. The process has a few such connections, so that asking often
                // costs nothing. A witness may be far away, so that one packet lost, or two, must
                // not end a connection.
                idle: Duration::from_secs(1),
                keep_alive: Duration::from_millis(250),
                ..link
            },
            // A few words in one direction.
            Purpose::Guardian => Settings {
                frame_max: 64 << 10,
                queue: 128 << 10,
                urgent: 0,
                send_window: 64 << 10,
                receive_window: 64 << 10,
                ..link
            },
            Purpose::Client => Settings {
                // The longest request or reply, with what names it.
                frame_max: limits::INPUT_BYTES + ENVELOPE,
                // Every reply that a session may have due, at once: a client that asked for
                // them and reads must not look like one that does not.
                queue: limits::SESSION_REPLY_BYTES + limits::REPLY_BYTES,
                urgent: 0,
                send_window: 256 << 10,
                receive_window: 256 << 10,
                idle: Duration::from_secs(10),
                keep_alive: Duration::from_secs(3),
                setup_within: Duration::from_secs(3),
                mtu: None,
            },
        }
    }

    /// Bytes of payload that one connection takes at most, beside what waits to be sent.
    pub(crate) const fn bytes_beside_queue(&self) -> usize {
        let received = self.receive_window as usize;
        self.send_window as usize + received + received / 4 + self.frame_max
    }

    /// Checks that the values fit each other.
    ///
    /// # Errors
    /// Names the first that does not, and what it must be.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.frame_max == 0 || self.frame_max > FRAME_CEILING {
            return Err(SettingsError::FrameMax { found: self.frame_max });
        }
        if self.queue < self.frame_max + PREFIX {
            return Err(SettingsError::Queue { found: self.queue, least: self.frame_max + PREFIX });
        }
        if self.urgent > 0 && !(URGENT_LEAST..=URGENT_MOST).contains(&self.urgent) {
            return Err(SettingsError::Urgent { found: self.urgent });
        }
        if self.send_window < u32::from(MTU_FLOOR) || self.receive_window < u32::from(MTU_FLOOR) {
            return Err(SettingsError::Window);
        }
        if self.keep_alive.is_zero() || self.keep_alive >= self.idle {
            return Err(SettingsError::KeepAlive);
        }
        if self.idle > Duration::from_secs(3600) {
            return Err(SettingsError::Idle);
        }
        if self.setup_within.is_zero() {
            return Err(SettingsError::SetupWithin);
        }
        match self.mtu {
            Some(found) if !(MTU_FLOOR..=MTU_CEILING).contains(&found) => {
                Err(SettingsError::Mtu { found })
            }
            _ => Ok(()),
        }
    }

    /// Largest UDP payload that the endpoint must be ready to take.
    pub(super) fn largest_datagram(&self) -> u16 {
        self.mtu.unwrap_or(0).max(1_472)
    }

    /// quinn's form of these settings. `streams` is how many the peer may open.
    pub(super) fn transport(&self, streams: u8) -> Arc<TransportConfig> {
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(1)).max_ack_delay(Some(ACK_DELAY));
        let idle = u32::try_from(self.idle.as_millis()).unwrap_or(u32::MAX);
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from(streams))
            .max_concurrent_uni_streams(VarInt::from_u32(u32::from(self.urgent > 0)))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(self.receive_window))
            // What is urgent is not kept waiting by what is not read of the other stream. Credit is
            // given anew by eighths.
            .receive_window(VarInt::from_u32(self.receive_window + self.receive_window / 4))
            .send_window(u64::from(self.send_window))
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))))
            .keep_alive_interval(Some(self.keep_alive))
            .initial_rtt(FIRST_ROUND_TRIP)
            .crypto_buffer_size(HANDSHAKE_BUFFER)
            .ack_frequency_config(Some(acks));
        if let Some(mtu) = self.mtu {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(mtu.max(1_452));
            config.initial_mtu(mtu).mtu_discovery_config(Some(discovery));
        }
        Arc::new(config)
    }
}

/// Settings that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// [`Settings::frame_max`] is zero or over its limit.
    #[error("largest frame of {found} bytes: choose 1 to {FRAME_CEILING}")]
    FrameMax {
        /// The value that was given, in bytes.
        found: usize,
    },
    /// [`Settings::queue`] does not hold the largest frame.
    #[error("queue of {found} bytes: choose at least {least}, so that it holds the largest frame")]
    Queue {
        /// The value that was given, in bytes.
        found: usize,
        /// The smallest value that will do.
        least: usize,
    },
    /// [`Settings::urgent`] is too small or too large.
    #[error("{found} bytes for urgent frames: choose none, or {URGENT_LEAST} to {URGENT_MOST}")]
    Urgent {
        /// The value that was given, in bytes.
        found: usize,
    },
    /// [`Settings::send_window`] or [`Settings::receive_window`] is too small.
    #[error("a window smaller than a packet: choose at least {MTU_FLOOR} bytes")]
    Window,
    /// [`Settings::keep_alive`] is zero, or not less than the idle time.
    #[error("the keep-alive interval must be more than zero and less than the idle time")]
    KeepAlive,
    /// [`Settings::idle`] is too long.
    #[error("the idle time must be at most an hour")]
    Idle,
    /// [`Settings::setup_within`] is zero.
    #[error("the time for setting up a connection must be more than zero")]
    SetupWithin,
    /// [`Settings::mtu`] is out of its bounds.
    #[error("UDP payload of {found} bytes: choose {MTU_FLOOR} to {MTU_CEILING}, or leave it out")]
    Mtu {
        /// The value that was given, in bytes.
        found: u16,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_suits_each_purpose_is_consistent() {
        for purpose in [Purpose::Link, Purpose::Witness, Purpose::Client, Purpose::Guardian] {
            assert_eq!(Settings::of(purpose).check(), Ok(()));
        }
    }

    #[test]
    fn settings_at_odds_are_refused() {
        let good = Settings::of(Purpose::Link);
        let refused = |settings: Settings| settings.check().unwrap_err();
        assert_eq!(
            refused(Settings { frame_max: 0, ..good }),
            SettingsError::FrameMax { found: 0 }
        );
        assert_eq!(
            refused(Settings { queue: good.frame_max, ..good }),
            SettingsError::Queue { found: good.frame_max, least: good.frame_max + 4 }
        );
        assert_eq!(refused(Settings { urgent: 10, ..good }), SettingsError::Urgent { found: 10 });
        assert_eq!(refused(Settings { send_window: 10, ..good }), SettingsError::Window);
        assert_eq!(refused(Settings { keep_alive: good.idle, ..good }), SettingsError::KeepAlive);
        assert_eq!(refused(Settings { idle: Duration::MAX, ..good }), SettingsError::Idle);
        assert_eq!(
            refused(Settings { setup_within: Duration::ZERO, ..good }),
            SettingsError::SetupWithin
        );
        assert_eq!(
            refused(Settings { mtu: Some(9_000), ..good }),
            SettingsError::Mtu { found: 9_000 }
        );
    }
}
