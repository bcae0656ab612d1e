//! The contents of ASF files, decoded with ffmpeg.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes an ASF file with ffmpeg.
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

/// Returns the checksums of the video and audio frames that ffmpeg decodes.
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

/// Returns the number of pictures of a file that can be decoded, whatever their timestamps.
pub fn pictures(file: &Path) -> usize {
    let output = Command::new("ffprobe")
        .args(["-loglevel", "error", "-select_streams", "v", "-count_frames", "-show_entries", "stream=nb_read_frames"])
        .args(["-of", "csv=print_section=0", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Returns the recordings in a folder, the oldest first.
pub fn recordings(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "asf"))
        .collect();
    files.sort();
    files
}

/// Asserts that the recording decodes to the same frames as the source. If the source was written by asfmux, `tail`
/// frames at its end are ignored: its Packet Length does not include the padding, and ffmpeg then loses the last
/// frames.
pub fn assert_same_frames(source: &Path, recording: &Path, tail: usize) {
    for (mut source, recording) in frames(source).into_iter().zip(frames(recording)) {
        assert!(source.len() > 10);
        assert!(if tail == 0 { source.len() == recording.len() } else { source.len() <= recording.len() });
        source.truncate(source.len() - tail);
        assert_eq!(source[..], recording[..source.len()]);
    }
}
