//! What is in ASF files, by ffmpeg's decoders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An ASF file that ffmpeg wrote.
pub fn ffmpeg_file(file: &Path, rate: u32) {
    let made = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-loglevel",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            &format!("testsrc=duration=4:size=160x120:rate={rate}"),
        ])
        .args(["-f", "lavfi", "-i", "sine=duration=4", "-c:v", "wmv2", "-c:a", "wmav2", "-f", "asf"])
        .arg(file)
        .status()
        .unwrap();
    assert!(made.success());
}

/// Checksums of the frames that ffmpeg decodes, of video and of audio.
pub fn frames(file: &Path) -> [Vec<String>; 2] {
    ["0:v", "0:a"].map(|stream| {
        let output = Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-loglevel",
                "error",
                "-i",
                file.to_str().unwrap(),
                "-map",
                stream,
                "-f",
                "framemd5",
                "-",
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit(',').next().unwrap().to_owned())
            .collect()
    })
}

/// How many pictures of a file can be decoded, whatever their times.
pub fn pictures(file: &Path) -> usize {
    let output = Command::new("ffprobe")
        .args(["-loglevel", "error", "-select_streams", "v", "-count_frames", "-show_entries", "stream=nb_read_frames"])
        .args(["-of", "csv=print_section=0", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// The recordings in a folder, the oldest first.
pub fn recordings(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "asf"))
        .collect();
    files.sort();
    files
}

/// The recording decodes to what the source does. Where the source is asfmux's own file, `tail` frames at
/// its end are left out: its Packet Length does not count the padding, and ffmpeg then loses the last of them.
pub fn assert_same_frames(source: &Path, recording: &Path, tail: usize) {
    for (mut source, recording) in frames(source).into_iter().zip(frames(recording)) {
        assert!(source.len() > 10);
        assert!(if tail == 0 { source.len() == recording.len() } else { source.len() <= recording.len() });
        source.truncate(source.len() - tail);
        assert_eq!(source[..], recording[..source.len()]);
    }
}
