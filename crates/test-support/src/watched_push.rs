//! A push and its players, monitored while something else happens to the server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use asf;
use wmhttp::packet::Packet;

use crate::media;
use crate::pipeline::until;
use crate::wire::{END, Push, Wire, play_request};

/// Time between packets.
const STEP: Duration = Duration::from_millis(5);

/// Starts a push with only the header, and returns the connection and the push-id.
pub fn begin_push(to: SocketAddr, point: &str) -> (Wire, String) {
    let push = Push::to(point);
    let (mut wire, id) = Wire::set_up(to, push);
    wire.start(push.id(&id), [Packet::Header(media::header())]);
    (wire, id)
}

/// When each packet arrived.
type Arrivals = Arc<Mutex<Vec<(Instant, u32)>>>;

pub struct WatchedPush {
    over: Arc<AtomicBool>,
    pushed: Arc<AtomicU32>,
    pusher: Option<JoinHandle<()>>,
    players: Vec<(JoinHandle<()>, Arrivals)>,
}

impl WatchedPush {
    /// Pushes to the publishing point and starts this number of players; returns when all of them receive packets.
    pub fn start(to: SocketAddr, point: &str, players: usize) -> Self {
        let (mut wire, _) = begin_push(to, point);
        let over = Arc::new(AtomicBool::new(false));
        let pushed = Arc::new(AtomicU32::new(0));
        let (ending, count) = (Arc::clone(&over), Arc::clone(&pushed));
        let pusher = thread::spawn(move || {
            let start = Instant::now();
            while !ending.load(Ordering::Relaxed) {
                let n = count.fetch_add(1, Ordering::Relaxed);
                wire.packet(Packet::Data(media::packet(n, 5)));
                thread::sleep((start + STEP * (n + 1)).saturating_duration_since(Instant::now()));
            }
            wire.packet(END);
            wire.rest();
        });
        until("a stream", || pushed.load(Ordering::Relaxed) > 20);
        let players: Vec<_> = (0..players).map(|_| play(to, point)).collect();
        let push = Self { over, pushed, pusher: Some(pusher), players };
        until("packets for all", || push.players.iter().all(|(_, arrivals)| !arrivals.lock().unwrap().is_empty()));
        push
    }

    /// Returns the number of packets pushed so far.
    pub fn pushed(&self) -> u32 {
        self.pushed.load(Ordering::Relaxed)
    }

    /// Returns the longest time between two packets of any player since then.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let longest = |arrivals: &Arrivals| {
            let arrivals = arrivals.lock().unwrap();
            let times: Vec<_> = arrivals.iter().map(|(at, _)| *at).filter(|at| *at >= since).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        self.players.iter().map(|(_, arrivals)| longest(arrivals)).max().unwrap()
    }

    /// Ends the push and asserts that each player has received every packet since its first, in order.
    pub fn end(mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.pusher.take().unwrap().join().unwrap();
        let pushed = self.pushed();
        for (player, arrivals) in std::mem::take(&mut self.players) {
            player.join().unwrap();
            let numbers: Vec<u32> = arrivals.lock().unwrap().iter().map(|(_, number)| *number).collect();
            assert_eq!(numbers, (numbers[0]..pushed).collect::<Vec<_>>());
        }
    }
}

impl Drop for WatchedPush {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn play(to: SocketAddr, point: &str) -> (JoinHandle<()>, Arrivals) {
    let mut wire = Wire::to(to);
    wire.send(play_request(point));
    let answer = wire.head();
    assert!(answer.contains(" 200 "), "{answer}");
    let arrivals: Arrivals = Arc::default();
    let seen = Arc::clone(&arrivals);
    let player = thread::spawn(move || {
        let mut header = None;
        loop {
            let (letter, payload) = wire.pulled();
            match letter {
                'H' => header = Some(asf::Header::parse(payload[8..].to_vec().into()).unwrap()),
                'D' => {
                    let packet = payload[8..].to_vec().into();
                    let number = media::number(header.as_ref().unwrap(), &packet, 5);
                    seen.lock().unwrap().push((Instant::now(), number));
                }
                'E' => return,
                other => panic!("${other}"),
            }
        }
    });
    (player, arrivals)
}
