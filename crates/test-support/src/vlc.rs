//! VLC without a screen, which writes the pictures that it would show.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::pipeline::until;

/// VLC at work; killed where it does not end by itself.
pub struct Vlc {
    child: Child,
    scenes: TempDir,
}

impl Vlc {
    /// Plays a URL, or a file that everybody can read. It runs as somebody else where the test is root: as root VLC
    /// does not.
    pub fn playing(what: &str) -> Self {
        let scenes = TempDir::new().unwrap();
        fs::set_permissions(scenes.path(), Permissions::from_mode(0o777)).unwrap();
        let log = File::create(scenes.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        if nix::unistd::getuid().is_root() {
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        }
        let child = command
            .args(["cvlc", "--quiet", "--no-audio", "--vout=dummy", "--play-and-exit"])
            .args(["--video-filter=scene", "--scene-format=png", "--scene-ratio=3", "--scene-prefix=frame"])
            .arg(format!("--scene-path={}", scenes.path().display()))
            .arg(what)
            .env("HOME", scenes.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, scenes }
    }

    /// Waits until it has shown so many pictures.
    pub fn shows(&self, pictures: usize) {
        until("VLC's pictures", || self.pictures() >= pictures);
    }

    fn pictures(&self) -> usize {
        let files = fs::read_dir(self.scenes.path()).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("frame")).count()
    }
}

impl Drop for Vlc {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.scenes.path().join("log")).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
