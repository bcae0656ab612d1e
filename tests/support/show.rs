//! A push and its players, watched while something else happens to the server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gstasfpush::asf;
use gstasfpush::wmhttp::Hresult;
use gstasfpush::wmhttp::packet::Packet;
use socket2::{Domain, Socket, Type};

use super::media;
use super::peer::PATIENCE;
use super::pipeline::until;

/// From one packet to the next.
const STEP: Duration = Duration::from_millis(5);

/// A connection from this address of the loopback.
pub fn from(source: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A request's head of the push protocol.
pub fn push_head(point: &str, kind: &str, id: &str, length: u64, further: &str) -> String {
    format!(
        "POST /{point} HTTP/1.1\r\nHost: media\r\nContent-Type: application/x-wms-push{kind}\r\n\
         User-Agent: WMEncoder/12.0.0.0\r\nContent-Length: {length}\r\nCookie: push-id={id}\r\n{further}\r\n"
    )
}

/// A request to play.
pub fn play_head(point: &str) -> String {
    format!("GET /{point} HTTP/1.1\r\nHost: media\r\nPragma: xPlayStrm=1\r\n\r\n")
}

/// A response's head.
pub fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        head.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Everything up to the far end's close.
pub fn rest(stream: &mut impl Read) -> String {
    let mut rest = Vec::new();
    // A reset after the last byte is a close too.
    let _ = stream.read_to_end(&mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

/// Begins a push: the connection, after the PushStart's head.
pub fn begin_push(to: SocketAddr, point: &str) -> (TcpStream, String) {
    let mut stream = from(Ipv4Addr::LOCALHOST, to).unwrap();
    stream.write_all(push_head(point, "setup", "0", 0, "").as_bytes()).unwrap();
    let answer = head(&mut stream);
    let id = answer.split("push-id=").nth(1).unwrap_or_else(|| panic!("{answer}"));
    let id = id.split("\r\n").next().unwrap().to_owned();
    stream.write_all(push_head(point, "start", &id, 1 << 40, "").as_bytes()).unwrap();
    stream.write_all(&Packet::Header(media::header()).to_bytes().unwrap()).unwrap();
    (stream, id)
}

/// When which packet came.
type Arrivals = Arc<Mutex<Vec<(Instant, u32)>>>;

pub struct Show {
    over: Arc<AtomicBool>,
    pushed: Arc<AtomicU32>,
    pusher: Option<JoinHandle<()>>,
    players: Vec<(JoinHandle<()>, Arrivals)>,
}

impl Show {
    /// Pushes to the point and plays it this often; returns when all players get packets.
    pub fn start(to: SocketAddr, point: &str, players: usize) -> Self {
        let (mut stream, _) = begin_push(to, point);
        let over = Arc::new(AtomicBool::new(false));
        let pushed = Arc::new(AtomicU32::new(0));
        let (ending, count) = (Arc::clone(&over), Arc::clone(&pushed));
        let pusher = thread::spawn(move || {
            let start = Instant::now();
            while !ending.load(Ordering::Relaxed) {
                let n = count.fetch_add(1, Ordering::Relaxed);
                stream.write_all(&Packet::Data(media::packet(n, 5)).to_bytes().unwrap()).unwrap();
                thread::sleep((start + STEP * (n + 1)).saturating_duration_since(Instant::now()));
            }
            stream.write_all(&Packet::End(Hresult::OK).to_bytes().unwrap()).unwrap();
            rest(&mut stream);
        });
        until("a stream", || pushed.load(Ordering::Relaxed) > 20);
        let players: Vec<_> = (0..players).map(|_| play(to, point)).collect();
        let show = Self { over, pushed, pusher: Some(pusher), players };
        until("packets for all", || show.players.iter().all(|(_, arrivals)| !arrivals.lock().unwrap().is_empty()));
        show
    }

    /// Packets pushed so far.
    pub fn pushed(&self) -> u32 {
        self.pushed.load(Ordering::Relaxed)
    }

    /// The longest time from one packet to the next of any player, since then.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let longest = |arrivals: &Arrivals| {
            let arrivals = arrivals.lock().unwrap();
            let times: Vec<_> = arrivals.iter().map(|(at, _)| *at).filter(|at| *at >= since).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        self.players.iter().map(|(_, arrivals)| longest(arrivals)).max().unwrap()
    }

    /// Ends it: each player must have got each packet since its first, in order.
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

impl Drop for Show {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn play(to: SocketAddr, point: &str) -> (JoinHandle<()>, Arrivals) {
    let mut stream = from(Ipv4Addr::LOCALHOST, to).unwrap();
    stream.write_all(play_head(point).as_bytes()).unwrap();
    let answer = head(&mut stream);
    assert!(answer.contains(" 200 "), "{answer}");
    let arrivals: Arrivals = Arc::default();
    let seen = Arc::clone(&arrivals);
    let player = thread::spawn(move || {
        let mut header = None;
        loop {
            let mut framing = [0; 4];
            stream.read_exact(&mut framing).unwrap();
            let mut payload = vec![0; u16::from_le_bytes([framing[2], framing[3]]).into()];
            stream.read_exact(&mut payload).unwrap();
            match framing[1] {
                b'H' => header = Some(asf::Header::parse(payload[8..].to_vec().into()).unwrap()),
                b'D' => {
                    let packet = payload[8..].to_vec().into();
                    let number = media::number(header.as_ref().unwrap(), &packet, 5);
                    seen.lock().unwrap().push((Instant::now(), number));
                }
                b'E' => return,
                other => panic!("${}", char::from(other)),
            }
        }
    });
    (player, arrivals)
}
