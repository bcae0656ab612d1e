//! The pages of the documentation, for tests that verify their statements.

use std::fs;
use std::path::{Path, PathBuf};

/// A Markdown file.
pub struct Page {
    pub path: PathBuf,
    pub text: String,
}

/// Returns the pages of the project's folder and of the book, sorted.
pub fn pages() -> Vec<Page> {
    let root = crate::root();
    let mut paths: Vec<PathBuf> = [root.clone(), root.join("docs")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| Page { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

impl Page {
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap()
    }

    /// Returns the path relative to the project's folder.
    pub fn name(&self) -> String {
        let root = crate::root();
        self.path.strip_prefix(root).unwrap().display().to_string()
    }

    /// Returns the contents of the code blocks in `language`.
    pub fn blocks(&self, language: &str) -> Vec<String> {
        let fence = format!("```{language}\n");
        self.text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    }

    /// Returns the targets of its links, except external ones.
    pub fn links(&self) -> impl Iterator<Item = &str> {
        let targets = self.text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        targets.filter(|target| !target.contains("://"))
    }

    /// Returns the anchors of its headings.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            kept.chars().filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign)).collect::<String>()
        };
        headings.map(|heading| anchor(heading).replace(' ', "-")).collect()
    }
}
