//! Runs the commands of docs/live-sources.md. Devices that this machine does not have, such as a camera, a microphone
//! or OBS, are replaced by GStreamer's test sources, an RTSP server, and ffmpeg as the sender.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use test_support::pages::pages;
use test_support::pipeline::{plugin_folder, until};
use test_support::program::Program;

/// A program that a command needs, which ends with the test.
struct Companion(Child);

impl Companion {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{program}: {error}")))
    }

    /// Returns the first line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the page's block that contains this word, as one command.
fn block(word: &str) -> String {
    let page = pages().into_iter().find(|page| page.name() == "docs/live-sources.md").unwrap();
    let blocks = page.blocks("sh");
    let found: Vec<_> = blocks.iter().filter(|block| block.contains(word)).collect();
    assert_eq!(found.len(), 1, "{word}");
    found[0].replace("\\\n", " ").trim().to_owned()
}

/// Runs a command against a test's publishing point until packets of `streams` streams arrive.
fn pushes(command: &str, streams: usize, start_sender: impl FnOnce() -> Option<Companion>) {
    let point: BlockingServer = Server::spawn(Config::with_points(["concert"], &PointConfig::default())).unwrap();
    let command = command.replace("localhost:8080", &point.addr().to_string());
    let plugin = plugin_folder();
    let plugin = plugin.display();
    let program = Program::shell(&format!(
        "trap : INT; export GST_PLUGIN_PATH={plugin} GST_REGISTRY={plugin}/registry-of-live-sources.bin && {command}"
    ));
    let sender = start_sender();
    until(&format!("{streams} streams arrive: {command}"), || {
        point.stats("concert").unwrap().packets > 10 && streams_of(&point) == streams
    });
    drop(sender);
    program.interrupt();
    program.output();
}

/// Returns the number of streams in the header that the publishing point received.
fn streams_of(point: &BlockingServer) -> usize {
    let url = format!("http://{}/api/v1/points/concert", point.addr());
    let output = Command::new("curl").args(["--silent", "--fail", "--noproxy", "*", &url]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["stream"]["streams"].as_array().map_or(0, Vec::len)
}

/// Sends like OBS, and retries until the listener is ready.
fn sender(format: &str, url: &str) -> Companion {
    let command = format!(
        "until ffmpeg -nostdin -loglevel error -re -f lavfi -i testsrc=size=160x120:rate=25 -f lavfi -i sine \
         -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac -t 60 -f {format} '{url}'; do sleep 0.2; done"
    );
    Companion::start("setpriv", &["--pdeathsig=TERM", "bash", "-c", &command])
}

#[test]
fn every_block_of_the_page_is_run() {
    let page = pages().into_iter().find(|page| page.name() == "docs/live-sources.md").unwrap();
    let run = ["v4l2src", "ximagesrc", "rtsp://camera.example", "srt://", "rtmp://", "packet-size=1600"];
    for block in page.blocks("sh") {
        // `docs_commands.rs` compares the packages with `scripts/install-deps`.
        if block.starts_with("sudo apt-get install ") {
            continue;
        }
        assert!(run.iter().any(|word| block.contains(word)), "{block}");
    }
}

#[test]
fn a_camera_and_a_microphone() {
    let command = block("v4l2src");
    let command =
        command.replace("v4l2src", "videotestsrc is-live=true").replace("autoaudiosrc", "audiotestsrc is-live=true");
    pushes(&command, 2, || None);
}

#[test]
fn the_screen() {
    let mut display = Companion::start("Xvfb", &["-displayfd", "1", "-screen", "0", "320x240x24"]);
    let number = display.line();
    pushes(&format!("export DISPLAY=:{number} && {}", block("ximagesrc")), 1, || None);
}

#[test]
fn an_rtsp_camera() {
    let script = test_support::root().join("crates/test-support/src/rtsp_server.py");
    let mut camera = Companion::start("/usr/bin/python3", &[script.to_str().unwrap()]);
    let port = camera.line();
    pushes(&block("rtsp://camera.example").replace("camera.example", &format!("127.0.0.1:{port}")), 2, || None);
}

#[test]
fn obs_over_srt() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let command = block("srt://").replace("0.0.0.0:9000", &format!("127.0.0.1:{port}"));
    pushes(&command, 2, || Some(sender("mpegts", &format!("srt://127.0.0.1:{port}"))));
}

#[test]
fn obs_over_rtmp() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let command = block("rtmp://").replace("0.0.0.0:1935", &address);
    pushes(&command, 2, || Some(sender("flv", &format!("rtmp://{address}/live/concert"))));
}

#[test]
fn sound_alone() {
    pushes(&block("packet-size=1600").replace("autoaudiosrc", "audiotestsrc is-live=true"), 1, || None);
}
