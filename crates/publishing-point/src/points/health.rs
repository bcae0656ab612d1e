//! Whether the server, or one of its points, can serve another player. Load balancers ask for this.

use http::StatusCode;

use super::publishing_point::PublishingPoint;
use super::registry::Registry;
use super::source_state::SourceStage;

/// The result of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// The server accepts players.
    Ok,
    /// The server is about to stop and should get no new players.
    Draining,
    /// The point has no stream and cannot get one now.
    NoStream,
    /// The point does not exist.
    UnknownPoint,
}

impl Health {
    /// Returns the status of the response.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::Draining | Self::NoStream => StatusCode::SERVICE_UNAVAILABLE,
            Self::UnknownPoint => StatusCode::NOT_FOUND,
        }
    }

    /// Returns the body of the response.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok\n",
            Self::Draining => "draining\n",
            Self::NoStream => "no stream\n",
            Self::UnknownPoint => "no such publishing point\n",
        }
    }

    /// Returns the health of a point: it is healthy if it has a stream, or can get one when a player requests it.
    fn of(point: &PublishingPoint) -> Self {
        let config = point.config();
        let on_demand = config.source.as_ref().is_some_and(|source| source.on_demand.is_some());
        let stage = point.source().stats().stage;
        let fetchable = on_demand && matches!(stage, SourceStage::Idle | SourceStage::Connecting);
        if point.header().is_some() || fetchable { Self::Ok } else { Self::NoStream }
    }
}

impl Registry {
    /// Returns the health of the server, or of the point of this name.
    pub(crate) fn health(&self, point: Option<&str>) -> Health {
        if self.is_draining() {
            return Health::Draining;
        }
        let Some(name) = point else { return Health::Ok };
        self.point_named(name).map_or(Health::UnknownPoint, |point| Health::of(&point))
    }
}
