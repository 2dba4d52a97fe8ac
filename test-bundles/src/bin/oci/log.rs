//! What goes wrong, told as runc tells it: lines of level, message and time in the file of `--log`, as text or JSON (which
//! containerd's runc shim and conmon read), and on standard error.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use log::{Level, LevelFilter, Metadata, Record};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where it goes beside standard error.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) path: PathBuf,
    pub(crate) json: bool,
}

impl Log {
    /// Appends a line. There is nobody left to tell when that fails, too.
    pub(crate) fn write(&self, level: &str, message: &str) {
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let line = if self.json {
            serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
        } else {
            format!("time={time:?} level={level} msg={message:?}")
        };
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }

    /// Takes what the core logs: what went wrong and was not fatal, such as a poststop hook.
    pub(crate) fn install(self) {
        // Installed once, from main.
        if log::set_boxed_logger(Box::new(self)).is_ok() {
            log::set_max_level(LevelFilter::Warn);
        }
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = if record.level() == Level::Error { "error" } else { "warning" };
            self.write(level, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
