//! Commands to a destination, and its requested state.

use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::{DestinationTask, TaskEvent};
use crate::publish::status::{State, Status};
use crate::publish::{Settings, lock};
use wmhttp::Hresult;

/// A command to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// End the session with `$E`(0) now, then rest.
    EndSession,
    /// Close the connection without `$E` and wait for [`Command::Reconnect`]. The server keeps the session for a while.
    Disconnect,
    /// Connect now, even during a retry delay, or after the destination has failed or ended.
    Reconnect,
}

/// The requested state of a destination. It is a state and not a command: only the latest value matters, so that a full
/// command queue cannot lose it.
pub(in crate::publish) struct Control {
    pub(in crate::publish) settings: Settings,
    /// Whether connections may be made. Once the time for the end of the stream is over, none is made until
    /// [`Command::Reconnect`], but an end in progress may complete.
    pub(in crate::publish) may_connect: bool,
    /// Set when the reader has an end: end the session with `$E`(0) when the end is reached, or at this time at the
    /// latest, and end the task.
    pub(in crate::publish) drain_by: Option<Instant>,
}

impl Control {
    pub(in crate::publish) fn new(settings: Settings) -> Self {
        Self { settings, may_connect: true, drain_by: None }
    }
}

impl DestinationTask {
    /// Carries out a command.
    pub(super) fn handle_command(&mut self, command: Command, now: Instant) {
        // Settings that were changed before the command was given apply to it.
        if self.control.has_changed().unwrap_or(false) {
            let settings = self.control.borrow().settings.clone();
            self.apply_settings(settings);
        }
        match command {
            Command::EndSession => {
                self.cancel_retry();
                if self.session.is_down() {
                    if !self.state.is_final() {
                        self.stop_with(Status::Closed, State::Closed, Hresult::OK, None);
                    }
                } else {
                    self.shutdown.ending = true;
                    self.session.end(now);
                }
            }
            Command::Disconnect => {
                self.cancel_retry();
                self.shutdown.ending = false;
                if !self.state.is_final() {
                    self.disconnect(now);
                    self.change_state(Status::Closed, State::Closed, Hresult::OK, None);
                    self.mark_at_rest();
                }
            }
            Command::Reconnect => {
                self.shutdown.may_connect = self.control.borrow().may_connect;
                // The time for the end of the stream may have ended after this command had been sent.
                if !self.shutdown.may_connect {
                    return;
                }
                if self.state.is_final() {
                    self.restart();
                } else if self.session.is_down() {
                    self.reset_backoff();
                    self.connect();
                }
            }
        }
    }

    /// Applies the requested state, after it has changed.
    pub(super) fn handle_control(&mut self, now: Instant) {
        let (settings, may_connect, drain_by) = {
            let control = self.control.borrow_and_update();
            (control.settings.clone(), control.may_connect, control.drain_by)
        };
        self.apply_settings(settings);
        if !may_connect && std::mem::replace(&mut self.shutdown.may_connect, false) {
            self.stop_connecting(now);
        }
        if drain_by.is_some() {
            self.shutdown.drain_by = drain_by;
            if self.state.is_final() {
                self.close_permanently();
            }
        }
    }

    /// Closes a destination that is not streaming, because the time for the end of the stream is over.
    fn stop_connecting(&mut self, now: Instant) {
        if !self.state.is_final() && !matches!(self.state, State::Streaming | State::Ending) {
            self.cancel_retry();
            self.disconnect(now);
            self.stop_with(Status::Closed, State::Closed, Hresult::OK, None);
        }
    }

    fn apply_settings(&mut self, settings: Settings) {
        self.reporting.location = settings.session.url.to_string();
        lock(&self.stats).location.clone_from(&self.reporting.location);
        self.reader.set_options(settings.reader_options());
        self.client.set_settings(settings.transport);
        self.session.set_config(settings.session);
    }
}

/// Returns the next command, or else a change of [`Control`], so that a drain follows the commands sent before it.
pub(super) async fn next_instruction(
    commands: &mut mpsc::Receiver<Command>,
    control: &mut watch::Receiver<Control>,
) -> TaskEvent {
    tokio::select! {
        biased;
        command = commands.recv() => command.map_or(TaskEvent::Stop, TaskEvent::Command),
        // An error means that the publisher was dropped, which the command queue reports after its last command.
        Ok(()) = control.changed() => TaskEvent::Control,
    }
}
