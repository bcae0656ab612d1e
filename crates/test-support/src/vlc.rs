//! VLC without a display, which writes the pictures it would show to files.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::pipeline::until;

/// A running VLC, which is killed on drop if it has not exited.
pub struct Vlc {
    child: Child,
    scenes: TempDir,
}

impl Vlc {
    /// Plays a URL, or a file that every user can read. If root runs the test, VLC runs as another user, because it
    /// does not run as root.
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

    /// Waits until it has shown this number of pictures.
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
