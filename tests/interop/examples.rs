//! Runs the examples with the README's commands, against publishing points.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use asf::{Padding, Parser, Settings};
use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use bytes::Bytes;
use tempfile::TempDir;
use test_support::decoded::{assert_same_frames, ffmpeg_file, recordings};
use test_support::pipeline::{plugin_folder, until};
use test_support::program::Program;
use test_support::terminal::Terminal;
use wmhttp::server::access::AccessPolicy;

const README: &str = include_str!("../../README.md");
/// The publishing points in the README's commands.
const POINTS: [&str; 2] = ["http://localhost:8080/concert", "http://localhost:8081/concert"];

/// A server that records.
struct Point {
    server: BlockingServer,
    recordings: TempDir,
}

impl Point {
    fn new() -> Self {
        Self::serving(None)
    }

    /// A server to which only bob may push, with Digest and the password `secret`.
    fn for_bob() -> Self {
        // The MD5 of `bob:studio:secret`.
        Self::serving(Some(AccessPolicy::new("bob:studio:07a73f56f46f6b4893bfb12feb103e80\n".parse().unwrap())))
    }

    fn serving(rights: Option<AccessPolicy>) -> Self {
        let recordings = TempDir::new().unwrap();
        Self { server: serve(recordings.path(), None, rights), recordings }
    }

    fn location(&self) -> String {
        format!("http://{}/concert", self.server.addr())
    }

    /// Crashes, and restarts at the same address after `between`.
    fn restart(self, between: impl FnOnce()) -> Self {
        let address = self.server.addr();
        self.server.kill();
        between();
        Self { server: serve(self.recordings.path(), Some(address), None), recordings: self.recordings }
    }

    /// Returns the complete files.
    fn recorded(self) -> (Vec<PathBuf>, TempDir) {
        self.server.stop();
        (recordings(self.recordings.path()), self.recordings)
    }

    /// Returns the packets in all its files in the order of their send times, without duplicates.
    fn packets(self) -> Vec<(u32, Vec<u8>)> {
        let (files, _directory) = self.recorded();
        let mut packets: Vec<_> = files.iter().flat_map(|file| packets(file)).collect();
        packets.sort();
        packets.dedup();
        packets
    }
}

fn serve(recordings: &Path, listen: Option<SocketAddr>, rights: Option<AccessPolicy>) -> BlockingServer {
    let point = PointConfig { record: Some(recordings.to_owned()), ..PointConfig::default() };
    let config = Config::with_points(["concert"], &point);
    Server::spawn(Config { listen: listen.unwrap_or(config.listen), users: rights, ..config }).unwrap()
}

/// Returns the send times and bytes of the packets in a file.
fn packets(file: &Path) -> Vec<(u32, Vec<u8>)> {
    let mut parser = Parser::new(Settings { padding: Padding::Keep, live_header: true, remove_encoder_offset: false });
    parser.push(Bytes::from(fs::read(file).unwrap()));
    let units = std::iter::from_fn(|| parser.next_packet().unwrap());
    units.map(|unit| (unit.packet.send_time(), unit.packet.slices().concat())).collect()
}

/// Returns the folder in which cargo has built the tests' profile.
fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// Returns the path of an example, which cargo has built with the tests.
fn example(name: &str) -> PathBuf {
    let program = built().join("examples").join(name);
    assert!(program.exists(), "{} is missing: cargo build --examples", program.display());
    program
}

/// Returns the README's command that begins with `start`, with the test's publishing points and files.
fn readme(start: &str, points: [&Point; 2], directory: &Path) -> String {
    let line = README.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(POINTS.iter().all(|point| line.contains(point)) || start.starts_with("cc "), "{line}");
    let mut line = line.to_owned();
    for (shown, point) in POINTS.iter().zip(points) {
        line = line.replace(shown, &point.location());
    }
    let file = |name: &str| directory.join(name).display().to_string();
    // Debian's packages work only with the system's Python.
    line.replace("concert.wmv", &file("concert.wmv"))
        .replace("-o push", &format!("-Wall -Wextra -Wno-unused-parameter -Werror -o {}", file("push")))
        .replace("./push", &file("push"))
        .replace("python3 ", "/usr/bin/python3 ")
}

/// Returns a folder with the plugins that `scripts/install-deps demo` installs, and no others.
fn plugins_of_demo() -> TempDir {
    let packages = ["libgstreamer1.0-0", "gstreamer1.0-plugins-base", "gstreamer1.0-x", "gstreamer1.0-libav"];
    let listed = Command::new("dpkg").arg("--listfiles").args(packages).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let folder = TempDir::new().unwrap();
    for file in String::from_utf8(listed.stdout).unwrap().lines().map(Path::new) {
        let name = file.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with("libgst") && file.parent().unwrap().ends_with("gstreamer-1.0") {
            symlink(file, folder.path().join(name)).unwrap();
        }
    }
    folder
}

/// Runs a command with the plugin of this build; `cargo run` is replaced by the example that is already built.
fn run(line: &str) -> Program {
    let line = match line.split_once(" --example ").filter(|(command, _)| command.starts_with("cargo run")) {
        Some((_, rest)) => {
            let (name, arguments) = rest.split_once(" -- ").unwrap();
            format!("{} {arguments}", example(name).display())
        }
        None => line.to_owned(),
    };
    let plugin = plugin_folder();
    let plugin = plugin.display();
    Program::shell(&format!("export GST_PLUGIN_PATH={plugin} GST_REGISTRY={plugin}/registry.bin; exec {line}"))
}

/// Returns the number after `name` in a line of the plain table.
fn figure(row: &str, name: &str) -> usize {
    let (_, after) = row.split_once(name).unwrap();
    after.split(' ').next().unwrap().parse().unwrap()
}

/// Returns the last row of a publishing point.
fn last_row<'a>(lines: &'a [String], name: &str) -> &'a str {
    lines.iter().rfind(|line| line.starts_with(name) && line.contains(" sent=")).unwrap()
}

/// One of three servers crashes and returns: the others receive everything, and the reported loss is what it missed.
#[test]
fn concert_outlives_a_server() {
    let [first, second, third] = [Point::new(), Point::new(), Point::new()];
    let command = readme("cargo run --example concert", [&first, &second], Path::new(""));
    let concert = run(&format!("{command} {} --plain", third.location()));
    for name in ["dest_0", "dest_1", "dest_2"] {
        concert.wait_for(&format!("{name} started S_OK"));
    }
    until("the push flows", || second.server.stats("concert").unwrap().packets > 20);
    let second = second.restart(|| concert.wait_for("dest_1 reconnect-start NS_E_"));
    concert.wait_for("dest_1 reconnect-end S_OK");
    until("the push flows again", || second.server.stats("concert").unwrap().packets > 20);
    concert.interrupt();
    let output = concert.output();
    for name in ["dest_0", "dest_1", "dest_2"] {
        assert!(output.contains(&format!("{name} stopped S_OK")), "{output:?}");
        assert!(last_row(&output, name).starts_with(&format!("{name} closed")), "{output:?}");
    }
    let [sent, received, third] = [first, second, third].map(Point::packets);
    assert_eq!(sent, third);
    assert_eq!(sent.len(), figure(last_row(&output, "dest_0"), "sent="));
    assert_eq!(figure(last_row(&output, "dest_0"), "dropped="), 0);
    assert!(received.iter().all(|packet| sent.binary_search(packet).is_ok()));
    assert_eq!(received.len() + figure(last_row(&output, "dest_1"), "dropped="), sent.len());
}

#[test]
fn concert_ends_in_time() {
    let points = [Point::new(), Point::new()];
    let command = readme("cargo run --example concert", [&points[0], &points[1]], Path::new(""));
    let output = run(&format!("{command} --plain --seconds 3")).output();
    let row = last_row(&output, "dest_1");
    assert!(figure(row, "sent=") > 20 && figure(row, "dropped=") == 0, "{row}");
    let [first, second] = points.map(Point::packets);
    assert_eq!((first.len(), &first), (figure(row, "sent="), &second));
}

/// The README and the book install the packages of `scripts/install-deps demo` before these commands.
#[test]
fn rust_examples_need_only_the_plugins_of_demo() {
    let plugins = plugins_of_demo();
    let folder = plugins.path().display();
    let only = format!("env GST_PLUGIN_SYSTEM_PATH_1_0={folder} GST_PLUGIN_PATH= GST_REGISTRY={folder}/registry.bin");
    let points = [Point::new(), Point::new()];
    let [first, second] = points.each_ref().map(Point::location);
    run(&format!("{only} {} {first} {second} --plain --seconds 2", example("concert").display())).output();
    run(&format!("{only} {} {first}", example("embedded").display())).output();
    assert!(points.map(Point::packets).iter().all(|packets| packets.len() > 20));
}

/// The program contains the element: GStreamer's plugin folders contain no plugin of this project.
#[test]
fn embedded_needs_no_plugin_file() {
    let point = Point::new();
    let program = example("embedded");
    let output = run(&format!("env --unset=GST_PLUGIN_PATH {} {}", program.display(), point.location())).output();
    let packets = point.packets().len();
    assert!(packets > 20 && output.contains(&format!("pushed {packets} packets")), "{packets}: {output:?}");
}

#[test]
fn concert_pushes_a_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("concert.wmv");
    ffmpeg_file(&file, 25);
    let points = [Point::new(), Point::new()];
    let command = readme("cargo run --example concert", [&points[0], &points[1]], Path::new(""));
    run(&format!("{command} --plain --file {}", file.display())).output();
    assert_recorded(&file, points);
}

/// The keys: a publishing point is added, disconnected, connected again and removed; the stream to another is ended.
#[test]
fn concert_takes_keys() {
    let points = [Point::new(), Point::new(), Point::new()];
    let [first, second, spare] = points.each_ref().map(Point::location);
    let program = example("concert");
    let terminal = Terminal::running(&program, &[&first, &second, "--spare", &spare]);
    let is = |name: &str, state: &str| {
        let row = terminal.row(name);
        row.is_some_and(|row| row.contains(state))
    };
    until("two publishing points", || is("dest_0", "streaming") && is("dest_1", "streaming"));
    assert!(terminal.screen().contains("q quit"), "the help is cut: {}", terminal.screen());
    terminal.press("a");
    until("the spare one is offered", || {
        terminal.screen().contains(&format!("URL to add (Enter = add, Esc = cancel): {spare}"))
    });
    terminal.press("\r");
    until("it is added", || is("dest_2", "streaming"));
    terminal.press("\x1b[B\x1b[B");
    until("it is selected", || is(">", "dest_2"));
    terminal.press("k");
    until("it is disconnected", || is("dest_2", "closed"));
    terminal.press("c");
    until("it is connected again", || is("dest_2", "streaming"));
    terminal.press("r");
    until("it is removed", || terminal.row("dest_2").is_none());
    until("the end arrived there", || !points[2].server.stats("concert").unwrap().pushing);
    until("another is selected", || is(">", "dest_1"));
    terminal.press("e");
    until("its stream is ended", || is("dest_1", "closed"));
    assert!(is("dest_0", "streaming"));
    terminal.press("q");
    terminal.wait();
    let sessions = points.each_ref().map(|point| point.server.stats("concert").unwrap().sessions);
    assert_eq!(sessions, [1, 1, 1]);
    let [first, second, third] = points.map(Point::packets);
    assert!(second.len() > 20 && first.starts_with(&second) && first.len() > second.len());
    // Where it started, and after the disconnection, the data of a picture before the key frame was removed from the
    // packet.
    let cut = third.iter().filter(|packet| first.binary_search(packet).is_err()).count();
    assert!(third.len() > 20 && cut <= 2, "{cut} of {} differ", third.len());
}

/// Both recordings contain the whole file.
fn assert_recorded(file: &Path, points: [Point; 2]) {
    for point in points {
        let (files, _directory) = point.recorded();
        assert_eq!(files.len(), 1);
        assert_same_frames(file, &files[0], 0);
    }
}

/// Pushes a file with an example, once to its end and once until Ctrl-C. `prepare` prepares the command.
fn pushes_a_file(command: &str, prepare: impl Fn(&Path)) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("concert.wmv");
    ffmpeg_file(&file, 25);
    prepare(directory.path());

    let points = [Point::new(), Point::new()];
    let output = run(&readme(command, [&points[0], &points[1]], directory.path())).output();
    for step in ["dest_0 opened", "dest_1 opened", "dest_0 stopped", "dest_1 closed"] {
        let line = output.iter().find(|line| line.starts_with(step));
        assert!(line.is_some_and(|line| line.contains("S_OK")), "{step}: {output:?}");
    }
    assert_recorded(&file, points);

    let points = [Point::new(), Point::new()];
    let push = run(&readme(command, [&points[0], &points[1]], directory.path()));
    until("both are pushed to", || points.iter().all(|point| point.server.stats("concert").unwrap().packets > 10));
    push.interrupt();
    let output = push.output();
    assert!(output.iter().any(|line| line.starts_with("dest_1 stopped") && line.contains("S_OK")), "{output:?}");
    let whole = packets(&file);
    for point in points {
        let begun = point.packets();
        let times = |packets: &[(u32, Vec<u8>)]| packets.iter().map(|(time, _)| *time).collect::<Vec<_>>();
        assert!(begun.len() > 10 && begun.len() < whole.len());
        assert_eq!(times(&begun), times(&whole[..begun.len()]));
    }
}

#[test]
fn push_in_python() {
    pushes_a_file("python3 examples/push.py", |_| ());
}

/// The example reads enums, flags and arrays of structures, and answers `should-reconnect`, as described in
/// docs/bindings.md.
#[test]
fn monitor_in_python() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("concert.wmv");
    ffmpeg_file(&file, 25);
    let point = Point::new();
    let monitor = |location: &str| format!("/usr/bin/python3 examples/monitor.py {} {location}", file.display());
    let output = run(&monitor(&point.location())).output();
    for line in ["dest_0: started (0x00000000)", "dest_0: closed (0x00000000)"] {
        assert!(output.iter().any(|printed| printed == line), "{line}: {output:?}");
    }
    let sent = output.iter().find(|line| line.contains(" packets sent, 0 dropped"));
    assert!(sent.is_some_and(|line| line.starts_with(&point.location())), "{output:?}");

    // No process listens on port 9. The destination's own properties permit three retries.
    let failed_output = run(&monitor("http://127.0.0.1:9/concert")).failed_output();
    assert!(failed_output.iter().any(|line| line.contains("refused")), "{failed_output:?}");
}

/// Ctrl-C sends the end of the stream.
#[test]
fn monitor_in_python_is_interrupted() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("concert.wmv");
    ffmpeg_file(&file, 250);
    let point = Point::new();
    let monitor = run(&format!("/usr/bin/python3 examples/monitor.py {} {}", file.display(), point.location()));
    monitor.wait_for("dest_0: started");
    until("the stream arrives", || point.server.stats("concert").unwrap().packets > 5);
    monitor.interrupt();
    let output = monitor.output();
    assert!(output.iter().any(|line| line == "dest_0: closed (0x00000000)"), "{output:?}");
    assert!(!output.iter().any(|line| line.contains("Traceback")), "{output:?}");
}

/// Each example names a file that does not exist.
#[test]
fn a_missing_file_is_named() {
    let concert = example("concert");
    let commands = [
        "/usr/bin/python3 examples/monitor.py".to_owned(),
        "/usr/bin/python3 examples/push.py".to_owned(),
        format!("{} --plain --file", concert.display()),
    ];
    for command in commands {
        let output = run(&format!("{command} nowhere.wmv http://127.0.0.1:9/concert")).failed_output();
        assert!(output.iter().any(|line| line.contains("cannot read nowhere.wmv")), "{command}: {output:?}");
    }
}

#[test]
fn push_in_c() {
    pushes_a_file("./push", |directory| {
        let points = [Point::new(), Point::new()];
        run(&readme("cc examples/push.c", [&points[0], &points[1]], directory)).output();
    });
}

/// If a server requires authentication, the user is asked, here on the standard input.
#[test]
fn pushes_authenticate() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("concert.wmv");
    ffmpeg_file(&file, 25);
    let none = [Point::new(), Point::new()];
    run(&readme("cc examples/push.c", [&none[0], &none[1]], directory.path())).output();
    for command in ["python3 examples/push.py", "./push"] {
        let points = [Point::for_bob(), Point::new()];
        let answers = directory.path().join("answers");
        fs::write(&answers, "bob\nsecret\n").unwrap();
        let command = readme(command, [&points[0], &points[1]], directory.path());
        // Without the terminal of the tests, on which the password would be requested.
        let output = run(&format!("setsid --wait {command} <{}", answers.display())).output();
        assert!(!output.iter().any(|line| line.contains("secret")), "{output:?}");
        assert_recorded(&file, points);
    }
}

/// An invalid location is reported with its cause.
#[test]
fn all_report_the_error() {
    let directory = TempDir::new().unwrap();
    let points = [Point::new(), Point::new()];
    run(&readme("cc examples/push.c", [&points[0], &points[1]], directory.path())).output();
    let push = readme("./push", [&points[0], &points[1]], directory.path());
    let no_file = run(&push).failed_output();
    assert!(no_file.iter().any(|line| line.starts_with("cannot read ")), "{no_file:?}");
    ffmpeg_file(&directory.path().join("concert.wmv"), 25);
    for (command, says) in [
        ("cargo run --example concert", "concert: unsupported scheme rtsp: in location"),
        ("python3 examples/push.py", "unsupported scheme rtsp: in location"),
        ("./push", "unsupported scheme rtsp: in location"),
    ] {
        let command = readme(command, [&points[0], &points[1]], directory.path());
        let wrong = command.replace("http:", "rtsp:") + if says.starts_with("concert") { " --plain" } else { "" };
        let failed_output = run(&wrong).failed_output();
        assert!(failed_output.iter().any(|line| line.starts_with(says)), "{failed_output:?}");
    }
}
