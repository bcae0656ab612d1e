//! The terminal display: a row for each publishing point, and the latest events.

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Paragraph, Row as TableRow, Table};
use ratatui::{DefaultTerminal, Frame};

use crate::ending::Ending;
use crate::keys::{HELP, KeyCommand, Keys};
use crate::pipeline::Concert;
use crate::report::{Report, Row};

/// Maximum delay before a key press or a bus message is handled.
const FRAME: Duration = Duration::from_millis(100);
const LINES_KEPT: usize = 100;
/// Width in cells of the bar that shows congestion.
const BAR: usize = 10;
const COLUMNS: [(&str, Constraint); 8] = [
    ("", Constraint::Length(9)),
    ("state", Constraint::Length(12)),
    ("kbit/s", Constraint::Length(7)),
    ("sent", Constraint::Length(7)),
    ("dropped", Constraint::Length(7)),
    ("queued", Constraint::Length(17)),
    ("retries", Constraint::Length(7)),
    ("rtt", Constraint::Fill(1)),
];

/// State of the screen.
struct Screen {
    rows: Vec<Row>,
    selected: usize,
    lines: VecDeque<String>,
    keys: Keys,
}

/// Shows the stream and handles keys until the stream has ended.
///
/// # Errors
/// If the pipeline or the terminal fails.
pub(crate) fn run(
    terminal: &mut DefaultTerminal,
    concert: &Concert,
    keys: Keys,
    mut ending: Ending,
) -> Result<(), Box<dyn Error>> {
    let mut screen = Screen { rows: Vec::new(), selected: 0, lines: VecDeque::new(), keys };
    loop {
        while let Some(report) = concert.report(Duration::ZERO) {
            match report {
                Report::Rows(rows) => screen.rows = rows,
                Report::Line(line) => screen.line(line),
                Report::Failed(text) => return Err(text.into()),
                Report::Ended => return Ok(()),
            }
        }
        terminal.draw(|frame| screen.draw(frame))?;
        if event::poll(FRAME)?
            && let Event::Key(key) = event::read()?
            && key.is_press()
            && let Some(command) = screen.keys.press(key)
        {
            screen.run(command, concert, &mut ending)?;
        }
        ending.look(concert)?;
    }
}

impl Screen {
    fn line(&mut self, line: String) {
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn run(&mut self, command: KeyCommand, concert: &Concert, ending: &mut Ending) -> Result<(), Box<dyn Error>> {
        let selected = self.rows.get(self.selected).map(|row| row.name.as_str());
        match (command, selected) {
            (KeyCommand::Add(location), _) => concert.add(&location),
            (KeyCommand::Remove, Some(name)) => concert.remove(name),
            (KeyCommand::Act(action), Some(name)) => concert.act(action, name),
            (KeyCommand::Up, _) => self.selected = self.selected.saturating_sub(1),
            (KeyCommand::Down, _) => self.selected += 1,
            (KeyCommand::Quit, _) => ending.ask(concert)?,
            (KeyCommand::Remove | KeyCommand::Act(_), None) => {}
        }
        // Statistics arrive once per second; reading them here shows the effect of a key immediately.
        self.rows = concert.rows();
        self.selected = self.selected.min(self.rows.len().saturating_sub(1));
        Ok(())
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let bottom_text = match self.keys.typed() {
            Some(typed) => {
                Line::from(vec!["URL to add (Enter = add, Esc = cancel): ".bold(), typed.into(), "█".into()]).into()
            }
            // The last key, which quits, must be visible at any width.
            None => Text::from(lines(HELP, "   ", frame.area().width)).dim(),
        };
        let bottom_height = u16::try_from(bottom_text.height()).unwrap_or(u16::MAX);
        let [table, steps, bottom] =
            Layout::vertical([Constraint::Percentage(60), Constraint::Fill(1), Constraint::Length(bottom_height)])
                .areas(frame.area());
        self.draw_table(frame, table);
        let room = usize::from(steps.height.saturating_sub(1));
        let all = self.lines.iter().flat_map(|line| lines(line.split(' '), " ", steps.width));
        let mut last: VecDeque<_> = all.collect();
        last.drain(..last.len().saturating_sub(room));
        let last = Text::from_iter(last);
        frame.render_widget(Paragraph::new(last).block(Block::new().title("steps".bold())), steps);
        frame.render_widget(bottom_text, bottom);
    }

    /// Two lines for each publishing point: its figures, and below them its location and last error.
    fn draw_table(&self, frame: &mut Frame<'_>, area: Rect) {
        let columns = u16::try_from(COLUMNS.len()).unwrap_or(u16::MAX);
        let rows = self.rows.iter().enumerate().flat_map(|(index, row)| {
            let (mark, style) =
                if index == self.selected { (">", Style::new().reversed()) } else { (" ", Style::new()) };
            let figures = TableRow::new([
                Cell::new(format!("{mark} {}", row.name)),
                Cell::new(row.state.as_str()).style(colour(&row.state)),
                right(row.rate / 1000),
                right(row.sent),
                right(row.dropped),
                Cell::new(Line::raw(format!("{} {:>6}", bar(row.congestion), row.queued))),
                right(row.retries),
                Cell::new(row.rtt()),
            ]);
            let mut place = format!("  {}", row.location);
            if let Some(error) = &row.last_error {
                place += &format!("; last error: {error}");
            }
            [figures.style(style), TableRow::new([Cell::new(place.dim()).column_span(columns)])]
        });
        // If not all rows fit, rows above the selected one are hidden.
        let shown = usize::from(area.height.saturating_sub(2) / 2).max(1);
        let hidden = (self.selected + 1).saturating_sub(shown) * 2;
        let table = Table::new(rows.skip(hidden), COLUMNS.map(|(_, width)| width))
            .header(TableRow::new(COLUMNS.map(|(title, _)| title)).bold())
            .block(Block::new().title("publishing points".bold()));
        frame.render_widget(table, area);
    }
}

/// Arranges words in as many lines as this width needs. A longer word than the width is cut.
fn lines<'a>(words: impl IntoIterator<Item = &'a str>, gap: &str, width: u16) -> Vec<Line<'static>> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if Line::raw(format!("{line}{gap}{word}")).width() <= usize::from(width) => {
                *line += &format!("{gap}{word}");
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(Line::from).collect()
}

fn right(figure: impl ToString) -> Cell<'static> {
    Cell::new(Line::raw(figure.to_string()).right_aligned())
}

fn bar(share: f64) -> String {
    // The value is from 0 to 1 by definition, and a cast saturates anyway.
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    "█".repeat(full) + &"░".repeat(BAR - full)
}

fn colour(state: &str) -> Color {
    match state {
        "streaming" => Color::Green,
        "reconnecting" => Color::Yellow,
        "failed" => Color::Red,
        _ => Color::Reset,
    }
}
