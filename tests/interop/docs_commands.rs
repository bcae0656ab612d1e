//! Runs every command in the documentation, so that a page shows only commands that work.
//!
//! Each shell block is run in one of the [`Way`]s. Servers, ports and files belong to the test and replace those in the
//! command (`localhost:8080`, `concert.wmv`).

#[cfg(feature = "kerberos")]
mod logins;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use tempfile::TempDir;
use test_support::decoded::{ffmpeg_file, recordings};
use test_support::pages::{Page, pages};
use test_support::pipeline::{plugin_folder, until};
use test_support::program::Program;
use test_support::proxy::{self, Proxy, RequiredAuth};
use test_support::server_program;

/// How the commands of a block are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Pushes to the test's publishing points, to its end or until Ctrl-C.
    Push,
    /// Plays a stream of a test's publishing point.
    Play,
    /// Sends requests to a server that receives a push.
    Ask,
    /// Takes half an hour on an idle machine: run manually before a release, as described in CONTRIBUTING.md.
    Measure,
    /// Starts the server on a separate port.
    Serve,
    /// Runs to its end.
    Run,
    /// Installs packages. Each is in `scripts/install-deps`, so that this machine has it.
    Packages,
    /// Compiles the page's program, which is run too.
    Compile,
    /// Contains flags of the server, which are compared with `--help`: on the pages about operating the server, whose
    /// commands name an operator's files.
    Flags,
    /// `live_sources.rs` runs it, with replacements for the devices.
    LiveSource,
    /// `logins.rs` runs it, against a server that requires the login.
    Login,
    /// This file runs it: it builds the project, installs something, or needs something that only that file has.
    Elsewhere(&'static str),
}

/// How a command is tested, by its first words.
const WAYS: &[(&str, Way)] = &[
    ("gst-launch-1.0 ", Way::Push),
    ("ges-launch-1.0 ", Way::Push),
    ("ffmpeg -re", Way::Push),
    ("GST_DEBUG=asfpushsink:6 gst-launch-1.0 ", Way::Push),
    ("GST_DEBUG=GST_PLUGIN_LOADING:4 gst-inspect-1.0 ", Way::Run),
    ("gst-inspect-1.0 ", Way::Run),
    ("export GST_PLUGIN_PATH=", Way::Elsewhere("scripts/demo")),
    ("ffplay ", Way::Play),
    ("mplayer ", Way::Play),
    ("cvlc ", Way::Play),
    ("ffmpeg -i 'http://", Way::Play),
    ("ffmpeg -i mmsh://", Way::Play),
    ("ffmpeg -nostdin -f lavfi", Way::Run),
    ("sudo apt-get install ./target/debian", Way::Elsewhere("scripts/package")),
    ("sudo apt-get install ", Way::Packages),
    ("curl ", Way::Ask),
    ("benches/run", Way::Measure),
    ("asf-publishing-point ", Way::Serve),
    ("target/release/asf-publishing-point ", Way::Serve),
    ("printf ", Way::Serve),
    ("c++ ", Way::Compile),
    ("cargo run --example ", Way::Elsewhere("tests/interop/examples.rs")),
    ("python3 examples/push.py ", Way::Elsewhere("tests/interop/examples.rs")),
    ("python3 examples/monitor.py ", Way::Elsewhere("tests/interop/examples.rs")),
    ("cc examples/push.c ", Way::Elsewhere("tests/interop/examples.rs")),
    ("./push ", Way::Elsewhere("tests/interop/examples.rs")),
    ("cargo build", Way::Elsewhere("scripts/demo")),
    ("scripts/install-deps demo", Way::Elsewhere("scripts/demo")),
    ("scripts/demo", Way::Elsewhere("scripts/test")),
    ("scripts/test", Way::Elsewhere(".ci/run")),
    ("scripts/soak ", Way::Elsewhere("scripts/test")),
    ("meson ", Way::Elsewhere("scripts/test")),
    ("sudo meson ", Way::Elsewhere("scripts/test")),
    ("scripts/package", Way::Elsewhere("scripts/test")),
    ("scripts/cinstall", Way::Elsewhere("scripts/test")),
    ("sudo systemctl ", Way::Elsewhere("scripts/package")),
];

/// Pages whose server commands name files and addresses of the reader's machine: only their flags are tested.
const FLAGS_ONLY: [&str; 3] = ["docs/publishing-point.md", "docs/recordings.md", "docs/fault-injection.md"];

/// Returns the commands of a block, each on one line.
fn commands(block: &str) -> Vec<String> {
    block.replace("\\\n", " ").lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn way(page: &Page, command: &str) -> Way {
    let begins_with_one_of = |starts: &[&str]| starts.iter().any(|start| command.starts_with(start));
    match page.name().as_str() {
        // Not every machine has its sources.
        "docs/live-sources.md" if !begins_with_one_of(&["sudo apt-get "]) => return Way::LiveSource,
        "docs/authentication.md" if begins_with_one_of(&["gst-launch-1.0 ", "kinit "]) => return Way::Login,
        _ => {}
    }
    let known = WAYS.iter().find(|(start, _)| command.starts_with(start.trim_end()));
    let (_, way) = known.unwrap_or_else(|| panic!("{}: how to run this is unknown: {command}", page.name()));
    if *way == Way::Serve && FLAGS_ONLY.contains(&page.name().as_str()) { Way::Flags } else { *way }
}

/// Returns all commands that are tested in one of these ways.
fn all(ways: &[Way]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for page in pages() {
        for command in page.blocks("sh").iter().flat_map(|block| commands(block)) {
            if ways.contains(&way(&page, &command)) {
                found.push((page.name(), command));
            }
        }
    }
    assert!(!found.is_empty(), "{ways:?}");
    found
}

/// Creates a folder with the files that the commands name.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    ffmpeg_file(&folder.path().join("concert.wmv"), 25);
    let concert = folder.path().join("concert.mp4");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=duration=3:size=160x120:rate=25"])
        .args(["-f", "lavfi", "-i", "sine=duration=3", "-c:v", "mpeg4", "-c:a", "aac"])
        .arg(concert)
        .status();
    assert!(made.unwrap().success());
    let song = folder.path().join("song.m4a");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "sine=duration=3", "-c:a", "aac"])
        .arg(song)
        .status();
    assert!(made.unwrap().success());
    folder
}

fn point() -> BlockingServer {
    Server::spawn(Config::with_points(["concert"], &PointConfig::default())).unwrap()
}

/// Runs a command in a folder, with the plugin of this build.
fn run(folder: &Path, command: &str) -> Program {
    let plugin = plugin_folder();
    let plugin = plugin.display();
    // The proxies of the environment are not for the test. Ctrl-C is for the program; the shell waits for its end.
    Program::shell(&format!(
        "trap : INT; cd {} && unset http_proxy https_proxy all_proxy && \
         export GST_PLUGIN_PATH={plugin} GST_REGISTRY={plugin}/registry-of-docs.bin && {command}",
        folder.display()
    ))
}

/// VLC does not run as root.
fn not_root() -> &'static str {
    let is_root = nix::unistd::getuid().is_root();
    if is_root { "setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/tmp" } else { "env" }
}

/// Replaces the publishing point's address in a command.
fn at(command: &str, points: [&BlockingServer; 2]) -> String {
    let [first, second] = points.map(|point| point.addr().to_string());
    let shown = ["localhost:8080", "127.0.0.1:8080", "media.example/"];
    let by = [first.clone(), first.clone(), format!("{first}/")];
    let command = shown.iter().zip(by).fold(command.to_owned(), |command, (shown, by)| command.replace(shown, &by));
    command.replace("localhost:8081", &second)
}

#[test]
fn every_command_has_a_way_to_run() {
    let mut elsewhere = 0;
    for page in pages() {
        for command in page.blocks("sh").iter().flat_map(|block| commands(block)) {
            let Way::Elsewhere(file) = way(&page, &command) else { continue };
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = fs::read_to_string(&file).unwrap().replace("\"$target\"", "target");
            // Compares only the first two words, because options and files differ.
            let words: Vec<&str> = command.split(['=', ' ']).take(2).collect();
            let word = words.iter().find(|word| !["export", "cargo", "python3", "cc", "sudo"].contains(word)).unwrap();
            assert!(text.contains(word), "{} does not run `{command}` ({word})", file.display());
            elsewhere += 1;
        }
    }
    assert!(elsewhere > 10);
}

#[test]
fn pushes() {
    let folder = folder();
    let squid = Proxy::squid(RequiredAuth::Digest);
    // Pushing files takes time, so all are pushed simultaneously.
    thread::scope(|scope| {
        for (page, command) in all(&[Way::Push]) {
            scope.spawn(|| pushes_by(folder.path(), &squid, page, command));
        }
    });
}

fn pushes_by(folder: &Path, squid: &Proxy, page: String, shown: String) {
    let points = [point(), point()];
    let command = at(&shown, [&points[0], &points[1]])
        .replace("proxy.example:3128", &squid.addr.to_string())
        .replace("proxy-pw=secret", &format!("proxy-pw={}", proxy::PASSWORD));
    let program = run(folder, &command);
    until(&format!("{page}: the stream arrives: {command}"), || points[0].stats("concert").unwrap().packets > 10);
    if command.contains("is-live=true") {
        program.interrupt();
    }
    program.output();
    if shown.contains("localhost:8081") {
        assert!(points[1].stats("concert").unwrap().packets > 10, "{page}: {command}");
    }
}

#[test]
fn plays() {
    let folder = folder();
    for (page, command) in all(&[Way::Play]) {
        let point = point();
        let push = format!(
            "gst-launch-1.0 videotestsrc is-live=true ! avenc_wmv2 ! identity single-segment=true \
             ! asfmux streamable=true ! asfpushsink location=http://{}/concert",
            point.addr()
        );
        let push = run(folder.path(), &push);
        until("there is something to play", || point.stats("concert").unwrap().packets > 10);
        let without_screen = [
            ("ffplay ", "SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy ffplay -autoexit "),
            ("mplayer ", "mplayer -vo null -ao null "),
            ("cvlc ", &format!("{} cvlc --no-audio --vout dummy ", not_root())),
        ];
        let command = at(&command, [&point, &point]);
        let command = without_screen.iter().fold(command, |command, (player, headless)| {
            command.strip_prefix(player).map(|rest| format!("{headless}{rest}")).unwrap_or(command)
        });
        let player = run(folder.path(), &command);
        until(&format!("{page}: {command}"), || point.stats("concert").unwrap().players > 0);
        drop(player);
        drop(push);
    }
}

/// In the order of the page: the last one ends the push.
#[test]
fn asks() {
    let (folder, recorded) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let config = PointConfig { record: Some(recorded.path().to_owned()), ..PointConfig::default() };
    let point = Server::spawn(Config::with_points(["concert"], &config)).unwrap();
    let push = format!(
        "gst-launch-1.0 videotestsrc is-live=true ! avenc_wmv2 ! identity single-segment=true \
         ! asfmux streamable=true ! asfpushsink location=http://{}/concert on-error=fail-all",
        point.addr()
    );
    let push = run(folder.path(), &push);
    until("a push", || point.stats("concert").unwrap().packets > 10);
    until("a recording", || !recordings(recorded.path()).is_empty());
    let recording = recordings(recorded.path())[0].file_name().unwrap().to_string_lossy().into_owned();
    for (_, command) in all(&[Way::Ask]) {
        let command = command.replace("concert-20261125T001500Z-0001.asf", &recording);
        run(folder.path(), &at(&command, [&point, &point])).output();
    }
    drop(push);
}

#[test]
fn serves() {
    for page in pages() {
        for block in page.blocks("sh") {
            let commands = commands(&block);
            if commands.is_empty() || commands.iter().any(|command| way(&page, command) != Way::Serve) {
                continue;
            }
            let folder = TempDir::new().unwrap();
            let block = commands.join(" && ").replace("target/release/", "");
            let block = ["8080", "8081"]
                .iter()
                .fold(block, |block, port| block.replace(&format!("--listen 127.0.0.1:{port}"), ""));
            let started = block.replace(
                "asf-publishing-point ",
                &format!("exec {} --listen 127.0.0.1:0 ", server_program().display()),
            );
            let server = run(folder.path(), &started);
            server.wait_for("listening on http://127.0.0.1:");
            server.interrupt();
            server.output();
        }
    }
}

#[test]
fn documented_flags_exist() {
    let help = Command::new(server_program()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for (page, command) in all(&[Way::Flags, Way::Serve]) {
        let (_, arguments) = command.split_once("asf-publishing-point").unwrap_or_default();
        for flag in arguments.split([' ', '=']).filter(|word| word.starts_with("--")) {
            assert!(help.contains(&format!("{flag} ")), "{page}: {flag} is not a flag of the server");
        }
    }
}

#[test]
fn runs() {
    for (page, command) in all(&[Way::Run]) {
        let folder = TempDir::new().unwrap();
        run(folder.path(), &command).output();
        // Several pages make the same file: ffmpeg must keep the first one, and not wait for an answer.
        assert!(!command.starts_with("ffmpeg ") || command.contains(" -nostdin "), "{page}: {command}");
    }
}

#[test]
fn packages_are_in_the_list_of_dependencies() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install-deps");
    let script = fs::read_to_string(script).unwrap();
    let known: Vec<&str> = script.split([' ', '"', '\n']).collect();
    for (page, command) in all(&[Way::Packages]) {
        let words = command.split(' ').skip(3).filter(|word| !word.starts_with('-'));
        let packages: Vec<&str> = words.collect();
        assert!(!packages.is_empty(), "{page}: {command}");
        for package in packages {
            assert!(known.contains(&package), "{page}: {package} is not in scripts/install-deps");
        }
    }
}

/// An ordinary user without sudo is told so before the build, which takes minutes.
#[test]
fn packaging_needs_root_or_sudo() {
    let path = TempDir::new().unwrap();
    for program in ["bash", "dirname", "id"] {
        symlink(Path::new("/usr/bin").join(program), path.path().join(program)).unwrap();
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package");
    // In a user namespace without a map of users, nobody is root.
    let output = Command::new("/usr/bin/unshare").arg("--user").arg(package).env("PATH", path.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("Install sudo, or run it as root"), "{said}");
}

/// Builds the page's C++ program with its command, and pushes with it.
#[test]
fn compiles() {
    for page in pages() {
        for command in page.blocks("sh").iter().flat_map(|block| commands(block)) {
            if way(&page, &command) != Way::Compile {
                continue;
            }
            let (folder, point) = (TempDir::new().unwrap(), point());
            let program = page.blocks("cpp").into_iter().find(|block| block.contains("int main(")).unwrap();
            fs::write(folder.path().join("push.cpp"), at(&program, [&point, &point])).unwrap();
            run(folder.path(), &command.replacen("c++ ", "c++ -Wall -Wextra -Werror ", 1)).output();
            let output = run(folder.path(), "./push").output();
            // WMT_OPENED with S_OK.
            assert!(output.iter().any(|line| line == "status 1, hresult 0x00000000"), "{output:?}");
            // It requests the removal of the publishing point at the end, which does not apply to a configured one.
            assert!(point.stats("concert").is_some());
        }
    }
}
