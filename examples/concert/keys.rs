//! Keyboard commands.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Help for the keys, at the bottom of the screen.
pub(crate) const HELP: [&str; 7] =
    ["↑ ↓ select", "a add", "r remove, sending the rest", "k disconnect", "c reconnect", "e end of stream", "q quit"];

/// Command of a key.
pub(crate) enum KeyCommand {
    Add(String),
    /// Commands for the selected publishing point.
    Remove,
    Act(&'static str),
    Up,
    Down,
    Quit,
}

/// State of the keyboard input, including a URL that is being typed.
pub(crate) struct Keys {
    /// URLs offered when adding a publishing point, next one first.
    spares: VecDeque<String>,
    typed: Option<String>,
}

impl Keys {
    pub(crate) fn new(spares: Vec<String>) -> Self {
        Self { spares: spares.into(), typed: None }
    }

    /// The URL typed so far, while one is being entered.
    pub(crate) fn typed(&self) -> Option<&str> {
        self.typed.as_deref()
    }

    pub(crate) fn press(&mut self, key: KeyEvent) -> Option<KeyCommand> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(KeyCommand::Quit);
        }
        if self.typed.is_some() {
            return self.edit(key.code).map(KeyCommand::Add);
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other keys mean nothing")]
        match key.code {
            KeyCode::Char('a') => {
                self.typed = Some(self.spares.front().cloned().unwrap_or_else(|| "http://".to_owned()));
                None
            }
            KeyCode::Char('r') => Some(KeyCommand::Remove),
            KeyCode::Char('k') => Some(KeyCommand::Act("disconnect")),
            KeyCode::Char('c') => Some(KeyCommand::Act("reconnect")),
            KeyCode::Char('e') => Some(KeyCommand::Act("end-session")),
            KeyCode::Char('q') => Some(KeyCommand::Quit),
            KeyCode::Up => Some(KeyCommand::Up),
            KeyCode::Down => Some(KeyCommand::Down),
            _ => None,
        }
    }

    /// The URL, once it is complete.
    fn edit(&mut self, key: KeyCode) -> Option<String> {
        let typed = self.typed.as_mut()?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other keys mean nothing")]
        match key {
            KeyCode::Char(letter) => typed.push(letter),
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Esc => self.typed = None,
            KeyCode::Enter => {
                let typed = self.typed.take();
                if typed.as_ref() == self.spares.front() {
                    self.spares.pop_front();
                }
                return typed;
            }
            _ => {}
        }
        None
    }
}
