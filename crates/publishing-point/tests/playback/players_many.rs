//! Many players of one point receive the same bytes. `benches/run server` measures a thousand.

use std::collections::HashSet;
use std::sync::mpsc::channel;

use test_support::pipeline::until;
use test_support::player_load::{self, listen};
use test_support::server_fixture::*;
use test_support::wire::{CONCERT, Wire};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

const PLAYERS: usize = 200;
const PACKETS: u32 = 100;

/// All players use the plain stream, in which all bytes are shared. With the pull protocol, only packet numbers would
/// differ.
#[test]
fn two_hundred_players_get_the_same_bytes() {
    let server = server();
    let mut pusher = Wire::to(server.addr());
    let id = pusher.setup(CONCERT, "").push_id();
    pusher.start(CONCERT.id(&id), []);
    pusher.packet(Packet::Header(player_load::header()));
    until("the header", || server.stats("concert").unwrap().headers == 1);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (begun, begins) = channel();
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| {
            let begun = begun.clone();
            runtime.spawn(listen(server.addr(), "/concert?format=asf", move || begun.send(()).unwrap()))
        })
        .collect();
    begins.iter().take(PLAYERS).for_each(drop);
    assert_eq!(server.stats("concert").unwrap().playing, PLAYERS as u64);
    for n in 0..PACKETS {
        pusher.packet(Packet::Data(player_load::packet(n)));
    }
    pusher.packet(Packet::End(Hresult::OK));
    let received: HashSet<_> =
        players.into_iter().map(|player| runtime.block_on(player).unwrap()).map(|got| (got.hash, got.bytes)).collect();
    assert_eq!(received.len(), 1, "{received:?}");
    let (_, bytes) = received.into_iter().next().unwrap();
    assert_eq!(bytes as usize, player_load::header().len() + PACKETS as usize * player_load::PACKET);
    assert_eq!(server.stats("concert").unwrap().missed, 0);
}
