//! The client: sends requests to the leader and waits for their replies.

use hdrhistogram::Histogram;
use lockstep_benches::part::{Part, PartError, current_thread};
use lockstep_benches::talk::{Go, Ready};
use lockstep_benches::trips::drive_stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::network::{CLIENT, SERVING};

/// Makes all trips and gives back how long they took.
pub(crate) fn play(part: &Part) -> Result<Histogram<u64>, PartError> {
    let go = part.ready(Ready::silent())?;
    current_thread()?.block_on(drive(part, &go))
}

async fn drive(part: &Part, go: &Go) -> Result<Histogram<u64>, PartError> {
    // The first node is the one that leads.
    let leader = go.parts.iter().find_map(|ready| ready.address);
    let leader = leader.ok_or_else(|| PartError::NoGo("no node listens".to_owned()))?;
    let mut stream =
        TcpStream::connect(leader).await.map_err(PartError::io("connect to the leader"))?;
    stream.set_nodelay(true).map_err(PartError::io("set TCP_NODELAY"))?;
    stream.write_u8(CLIENT).await.map_err(PartError::io("greet the leader"))?;
    let greeting = stream.read_u8().await.map_err(PartError::io("hear from the leader"))?;
    if greeting != SERVING {
        return Err(PartError::NoGo(format!("the leader greeted with {greeting}")));
    }
    let (mut reader, mut writer) = stream.split();
    Ok(drive_stream(&mut reader, &mut writer, part.options.load).await?)
}
