//! The calls on systemd's manager object, over a connection that is opened for one purpose and closed with it;
//! org.freedesktop.systemd1(5).
//!
//! Over the system bus, and not over /run/systemd/private, which is for systemctl alone and where systemd signs its messages
//! with a well-known name, which zbus takes for a broken message. Nothing here has a time limit: the caller has one.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;

use futures_core::Stream as _;
use tokio::net::UnixStream;
use zbus::connection::Builder;
use zbus::message::{Body, Type};
use zbus::{Connection, DBusError as _, MatchRule, MessageStream, OwnedObjectPath, Variant};

use super::properties::Property;
use crate::error::{Error, Kind};

const SYSTEM: &str = "/run/dbus/system_bus_socket";
const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Why a call was not answered as it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection broke, or is refused for the moment.
    Lost(String),
    /// The answer is an error.
    Refused {
        /// `org.freedesktop.systemd1.UnitExists`; empty for what is no answer of systemd's.
        name: String,
        text: String,
    },
}

impl Failure {
    pub(super) fn unit_exists(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if name == "org.freedesktop.systemd1.UnitExists")
    }

    fn no_such_unit(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if name == "org.freedesktop.systemd1.NoSuchUnit")
    }

    /// As an error of what was to be done.
    pub(super) fn error(&self, what: &str) -> Error {
        let kind = match self {
            _ if self.unit_exists() => Kind::Exists,
            Self::Refused { name, .. } if name == "org.freedesktop.DBus.Error.InvalidArgs" => Kind::Invalid,
            _ => Kind::System,
        };
        match self {
            Self::Lost(text) => Error::new(kind, format!("{what}: {text}")),
            Self::Refused { name, text } if name.is_empty() => Error::new(kind, format!("{what}: {text}")),
            Self::Refused { name, text } => Error::new(kind, format!("{what}: {text} ({name})")),
        }
    }
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                Self::Refused { name: name.to_string(), text: text.unwrap_or_else(|| "refused".into()) }
            }
            zbus::Error::FDO(error) => {
                let (name, text) = (error.name().to_string(), error.description().unwrap_or("refused").to_owned());
                // The bus is there and systemd, for the moment, is not.
                let away = ["ServiceUnknown", "NameHasNoOwner", "NoReply", "Disconnected"];
                match name.rsplit_once('.') {
                    Some((_, last)) if away.contains(&last) => Self::Lost(text),
                    _ => Self::Refused { name, text },
                }
            }
            zbus::Error::InputOutput(_) | zbus::Error::Handshake(_) => Self::Lost(error.to_string()),
            error => Self::Refused { name: String::new(), text: error.to_string() },
        }
    }
}

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct Bus {
    connection: Connection,
}

impl Bus {
    pub(super) async fn open() -> Result<Self, Failure> {
        let stream = UnixStream::connect(SYSTEM).await.and_then(UnixStream::into_std).map_err(|error| {
            let text = format!("connect to {SYSTEM}: {error}");
            match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::WouldBlock => Failure::Lost(text),
                _ => Failure::Refused { name: String::new(), text },
            }
        })?;
        Ok(Self { connection: Builder::unix_stream(stream).build().await? })
    }

    /// Starts a transient unit and waits until it is up.
    pub(super) async fn start(&self, unit: &str, properties: &[Property]) -> Result<(), Failure> {
        let auxiliary: &[(&str, &[(&str, Variant<'_>)])] = &[];
        let result = self.job("StartTransientUnit", &(unit, "replace", properties, auxiliary)).await?;
        if result == "done" {
            return Ok(());
        }
        let _ = self.reset_failed(unit).await;
        Err(Failure::Refused { name: String::new(), text: format!("systemd reports {result:?}: see its journal") })
    }

    /// Sets properties of a unit until it is stopped; systemd writes the cgroup's files itself, some time after it has answered.
    pub(super) async fn set(&self, unit: &str, properties: &[Property]) -> Result<(), Failure> {
        self.call("SetUnitProperties", &(unit, true, properties)).await.map(drop)
    }

    /// Waits until systemd has done what it was asked before: it works its queues off before it reads another message.
    pub(super) async fn ping(&self) -> Result<(), Failure> {
        let peer = Some("org.freedesktop.DBus.Peer");
        self.connection.call_method(Some(NAME), OBJECT, peer, "Ping", &()).await?;
        Ok(())
    }

    /// Stops a unit and waits until it is down.
    pub(super) async fn stop(&self, unit: &str) -> Result<(), Failure> {
        match self.job("StopUnit", &(unit, "replace")).await {
            Err(failure) if failure.no_such_unit() => Ok(()),
            result => result.map(drop),
        }
    }

    /// Makes systemd forget that a unit has failed; with that a transient one is forgotten itself.
    pub(super) async fn reset_failed(&self, unit: &str) -> Result<(), Failure> {
        match self.call("ResetFailedUnit", &(unit,)).await {
            Err(failure) if failure.no_such_unit() => Ok(()),
            result => result.map(drop),
        }
    }

    /// Calls a method that answers with a job, and waits for that job's result. Signals are listened for before the call:
    /// the job may be done before its answer is read.
    async fn job<B>(&self, method: &str, body: &B) -> Result<String, Failure>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let rule = MatchRule::builder().msg_type(Type::Signal).interface(MANAGER).member("JobRemoved").build()?;
        let mut signals = MessageStream::for_match_rule(rule, &self.connection, None).await?;
        let job: OwnedObjectPath = self.call(method, body).await?.deserialize()?;
        loop {
            let signal = poll_fn(|context| Pin::new(&mut signals).poll_next(context)).await;
            let signal = signal.ok_or_else(|| Failure::Lost("systemd closed the connection".into()))??;
            let body = signal.body();
            let (_, removed, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
            if removed == job {
                return Ok(result);
            }
        }
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<Body, Failure>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let answer = self.connection.call_method(Some(NAME), OBJECT, Some(MANAGER), method, body).await?;
        Ok(answer.body())
    }
}
