//! The server's log: lines in the form of Go's logrus, into the fifo `log` of the bundle.
//!
//! containerd makes the fifo, holds both of its ends open while it runs, and copies what arrives to its own stderr. It may
//! be restarting, or slow: a line that the fifo does not take at once is dropped, counted, and the count told in the next
//! line that fits. Nothing here waits or locks; a line is one write of at most `PIPE_BUF` bytes, so lines never mix.

use std::fmt::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{LevelFilter, Log, Metadata, Record};
use runtime_core::{Error, Kind, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::flags::Flags;

/// The longest write to a pipe that is all or nothing, pipe(7).
const PIPE_BUF: usize = 4096;

/// The one logger, once there is a server.
static LOGGER: OnceLock<Logger> = OnceLock::new();

/// The fifo and what is known of it.
struct Logger {
    /// The bundle, in which the fifo is looked for until it can be opened.
    bundle: OwnedFd,
    fifo: OnceLock<OwnedFd>,
    /// Lines that did not fit since the last one that did.
    dropped: AtomicU64,
    /// ` id=… namespace=…` and a newline: how every line ends.
    ending: String,
}

/// Logs to the fifo in the working directory from now on. That nobody reads it yet is no error.
pub(crate) fn init(flags: &Flags) -> Result<()> {
    let bundle = openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open the bundle", &e.into()))?;
    let logger = LOGGER.get_or_init(|| Logger::new(bundle, &flags.id, &flags.namespace));
    log::set_logger(logger).map_err(|e| Error::new(Kind::Precondition, format!("set up logging: {e}")))?;
    log::set_max_level(level(flags));
    Ok(())
}

/// Has panics written to the log, or to stderr before there is one, by write(2) alone: it may be memory that is broken.
pub(crate) fn catch_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let mut line = Line::new();
        // What is too long is cut, and that is no error.
        let _ = write!(line, "level=fatal msg=\"{panic}");
        let text = line.end();
        let _ = match LOGGER.get().and_then(|logger| logger.fifo.get()) {
            Some(fifo) => rustix::io::write(fifo, text),
            None => rustix::io::write(rustix::stdio::stderr(), text),
        };
    }));
}

/// How much to log; a level that is not understood is the usual one.
fn level(flags: &Flags) -> LevelFilter {
    let asked = flags.log_level.parse().unwrap_or(LevelFilter::Info);
    if flags.debug { asked.max(LevelFilter::Debug) } else { asked }
}

impl Logger {
    fn new(bundle: OwnedFd, id: &str, namespace: &str) -> Self {
        let ending = format!(" id={id:?} namespace={namespace:?} runtime={}\n", crate::RUNTIME);
        Self { bundle, fifo: OnceLock::new(), dropped: AtomicU64::new(0), ending }
    }

    /// The fifo's end, opened when first it can be: without a reader the kernel refuses a writer (ENXIO).
    fn fifo(&self) -> Option<&OwnedFd> {
        if self.fifo.get().is_none() {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let fifo = openat(self.bundle.as_fd(), "log", flags, Mode::empty()).ok()?;
            // Lost to another thread, it is closed again.
            let _ = self.fifo.set(fifo);
        }
        self.fifo.get()
    }

    /// Writes one line, or counts it as dropped.
    fn line(&self, level: &str, message: &str) {
        if !self.tell_dropped() || !self.write(&self.format(level, message)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says how many lines are missing, if any are. False when not even that fits.
    fn tell_dropped(&self) -> bool {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped == 0 {
            return true;
        }
        let told = self.write(&self.format("warning", &format!("{dropped} lines of this log were dropped")));
        if told {
            self.dropped.fetch_sub(dropped, Ordering::Relaxed);
        }
        told
    }

    fn write(&self, line: &str) -> bool {
        self.fifo().is_some_and(|fifo| rustix::io::write(fifo, line.as_bytes()).is_ok())
    }

    /// `time="…" level=info msg="…" id="…"`, cut to what one write takes.
    fn format(&self, level: &str, message: &str) -> String {
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let mut line = format!("time=\"{time}\" level={level} msg={message:?}");
        let limit = PIPE_BUF.saturating_sub(self.ending.len());
        if line.len() > limit {
            line.truncate(line.floor_char_boundary(limit.saturating_sub("…\"".len())));
            line.push_str("…\"");
        }
        line.push_str(&self.ending);
        line
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                log::Level::Error => "error",
                log::Level::Warn => "warning",
                log::Level::Info => "info",
                log::Level::Debug => "debug",
                log::Level::Trace => "trace",
            };
            self.line(level, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// A line made without allocating. Its message is quoted; line breaks in it become spaces.
struct Line {
    bytes: [u8; 512],
    length: usize,
}

/// What ends a [`Line`], and is always room for.
const LINE_END: [u8; 2] = *b"\"\n";

impl Line {
    fn new() -> Self {
        Self { bytes: [0; 512], length: 0 }
    }

    fn end(&mut self) -> &[u8] {
        if let Some(end) = self.bytes.get_mut(self.length..self.length + LINE_END.len()) {
            end.copy_from_slice(&LINE_END);
            self.length += LINE_END.len();
        }
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - LINE_END.len();
        for byte in text.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }) {
            let free = self.bytes.get_mut(..room).and_then(|bytes| bytes.get_mut(self.length));
            *free.ok_or(fmt::Error)? = byte;
            self.length += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use rustix::fs::mknodat;

    use super::*;

    /// A logger on a new fifo, and the fifo's path.
    fn logger() -> (Logger, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        mknodat(CWD, dir.path().join("log"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        (Logger::new(File::open(dir.path()).unwrap().into(), "a b", "default"), dir)
    }

    /// Opened as containerd does it.
    fn reader(dir: &tempfile::TempDir) -> File {
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        openat(CWD, dir.path().join("log"), flags, Mode::empty()).unwrap().into()
    }

    fn read(reader: &mut File) -> String {
        let mut text = vec![0; 1 << 20];
        let length = reader.read(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_line_is_what_containerd_copies() {
        let (logger, dir) = logger();
        let mut reader = reader(&dir);
        logger.line("info", "mount \"proc\"\nat /proc");
        let line = read(&mut reader);
        let (time, rest) = line.split_once("Z\" ").unwrap();
        assert!(time.starts_with("time=\"20"), "{line}");
        let expected =
            r#"level=info msg="mount \"proc\"\nat /proc" id="a b" namespace="default" runtime=io.containerd.myshim.v2"#;
        assert_eq!(rest, format!("{expected}\n"));
    }

    #[test]
    fn lines_without_a_reader_are_counted_and_told() {
        let (logger, dir) = logger();
        logger.line("info", "one");
        logger.line("info", "two");
        let mut reader = reader(&dir);
        logger.line("info", "three");
        let text = read(&mut reader);
        assert!(text.contains("2 lines of this log were dropped") && text.contains("three"), "{text}");
        logger.line("info", "four");
        assert!(!read(&mut reader).contains("dropped"));
    }

    #[test]
    fn a_full_fifo_drops_and_does_not_wait() {
        let (logger, dir) = logger();
        let mut reader = reader(&dir);
        for _ in 0..100 {
            logger.line("info", &"x".repeat(3000));
        }
        let dropped = logger.dropped.load(Ordering::Relaxed);
        assert!(dropped > 50, "{dropped}");
        let kept = read(&mut reader);
        assert_eq!(kept.lines().count() as u64 + dropped, 100);
        logger.line("info", "after");
        assert!(read(&mut reader).contains(&format!("{dropped} lines of this log were dropped")));
    }

    #[test]
    fn a_long_line_is_cut_to_one_write() {
        let (logger, dir) = logger();
        let mut reader = reader(&dir);
        logger.line("info", &"é".repeat(5000));
        let line = read(&mut reader);
        assert!(line.len() <= PIPE_BUF && line.len() > PIPE_BUF - 4, "{}", line.len());
        assert!(line.contains("…\" id=") && line.ends_with('\n'), "{line}");
    }

    #[test]
    fn a_panics_line_is_one_line_and_cut_where_it_must_be() {
        let mut line = Line::new();
        write!(line, "msg=\"panicked at\nhere").unwrap();
        assert_eq!(line.end(), b"msg=\"panicked at here\"\n");
        let mut line = Line::new();
        assert!(write!(line, "{}", "x".repeat(600)).is_err());
        assert!(line.end().len() == 512 && line.end().ends_with(b"x\"\n"));
    }

    #[test]
    fn the_level_comes_from_either_flag() {
        let with = |debug, log_level: &str| level(&Flags { debug, log_level: log_level.into(), ..Flags::default() });
        assert_eq!(with(false, ""), LevelFilter::Info);
        assert_eq!(with(true, ""), LevelFilter::Debug);
        assert_eq!(with(false, "WARN"), LevelFilter::Warn);
        assert_eq!(with(true, "TRACE"), LevelFilter::Trace);
    }
}
