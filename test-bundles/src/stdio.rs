//! The client's side of a process's stdio: fifos made here, their paths handed to containerd, their bytes read as they come.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::sync::mpsc;

/// Where one stream of a process goes.
#[derive(Debug, Clone, Default)]
pub enum Stream {
    /// Nowhere: `/dev/null` inside.
    #[default]
    Null,
    /// A fifo that the test reads, or writes for stdin.
    Fifo,
    /// Whatever the text says: `file:///…`, `binary://…`.
    Uri(String),
}

/// The three streams and whether they are a terminal.
#[derive(Debug, Clone)]
pub struct Stdio {
    /// Standard input: [`Stream::Null`] or [`Stream::Fifo`].
    pub stdin: Stream,
    /// Standard output; everything, with a terminal.
    pub stdout: Stream,
    /// Standard error; unused with a terminal.
    pub stderr: Stream,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

impl Stdio {
    /// No stdin, both outputs read by the test.
    pub fn outputs() -> Self {
        Self { stdin: Stream::Null, stdout: Stream::Fifo, stderr: Stream::Fifo, terminal: false }
    }

    /// Everything to `/dev/null`.
    pub fn null() -> Self {
        Self { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null, terminal: false }
    }

    /// Like [`Self::outputs`], with a stdin to write to.
    pub fn piped() -> Self {
        Self { stdin: Stream::Fifo, ..Self::outputs() }
    }

    /// A terminal: input and output on fifos.
    pub fn terminal() -> Self {
        Self { stdin: Stream::Fifo, stdout: Stream::Fifo, stderr: Stream::Null, terminal: true }
    }

    /// Output and errors to `uri`.
    pub fn to(uri: String) -> Self {
        Self { stdin: Stream::Null, stdout: Stream::Uri(uri.clone()), stderr: Stream::Uri(uri), terminal: false }
    }
}

/// What a create or exec request says, and the test's ends of it.
#[derive(Debug)]
pub struct Streams {
    /// Path or URI for the request; empty for none.
    pub stdin: String,
    /// Path or URI for the request; empty for none.
    pub stdout: String,
    /// Path or URI for the request; empty for none.
    pub stderr: String,
    /// What arrives on stdout.
    pub output: Option<Reader>,
    /// What arrives on stderr.
    pub errors: Option<Reader>,
}

impl Streams {
    /// Makes the fifos for process `name` in `dir` and begins to read them.
    pub fn open(dir: &Path, name: &str, wanted: &Stdio) -> Result<Self> {
        // Others are kept out, as by containerd: only then is a fifo handed over.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = |stream: &Stream, which: &str| -> Result<String> {
            Ok(match stream {
                Stream::Null => String::new(),
                Stream::Uri(uri) => uri.clone(),
                Stream::Fifo => {
                    let path = dir.join(format!("{name}-{which}"));
                    mkfifo(&path, Mode::from_bits_truncate(0o600)).with_context(|| format!("{}", path.display()))?;
                    path.to_string_lossy().into_owned()
                }
            })
        };
        let (stdin, stdout, stderr) =
            (path(&wanted.stdin, "in")?, path(&wanted.stdout, "out")?, path(&wanted.stderr, "err")?);
        let read = |stream: &Stream, path: &str| matches!(stream, Stream::Fifo).then(|| Reader::open(path));
        let (output, errors) = (read(&wanted.stdout, &stdout), read(&wanted.stderr, &stderr));
        Ok(Self { stdin, stdout, stderr, output, errors })
    }

    /// The writing end of stdin, once the shim reads it; dropping it is the end of input.
    pub fn input(&self) -> Result<File> {
        let mut opened = None;
        let there = crate::wait_until(Duration::from_secs(5), || {
            // Without O_NONBLOCK this would wait for ever for a shim that never opens its end.
            let file = File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&self.stdin);
            opened = file.ok();
            opened.is_some()
        });
        let Some(file) = opened.filter(|_| there) else { bail!("nobody reads {}", self.stdin) };
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).context("make stdin blocking")?;
        Ok(file)
    }
}

/// The reading end of a fifo, read by a thread of its own from the first byte to the last.
#[derive(Debug)]
pub struct Reader {
    chunks: mpsc::UnboundedReceiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Reader {
    fn open(path: &str) -> Self {
        let (send, chunks) = mpsc::unbounded_channel();
        let path = path.to_owned();
        std::thread::spawn(move || {
            let Ok(mut fifo) = File::open(path) else { return };
            let mut buffer = vec![0; 1 << 16];
            while let Ok(bytes) = fifo.read(&mut buffer) {
                if bytes == 0 || send.send(buffer[..bytes].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { chunks, seen: Vec::new() }
    }

    /// Reads until `text` has been seen; returns everything so far.
    pub async fn until(&mut self, text: &str) -> Result<String> {
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if seen.contains(text) {
                return Ok(seen);
            }
            match self.chunks.recv().await {
                Some(chunk) => self.seen.extend(chunk),
                None => bail!("the stream ended before {text:?}: {seen:?}"),
            }
        }
    }

    /// Reads to the end: until every writer has closed.
    pub async fn bytes(mut self) -> Vec<u8> {
        while let Some(chunk) = self.chunks.recv().await {
            self.seen.extend(chunk);
        }
        self.seen
    }

    /// Reads to the end, as text.
    pub async fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes().await).into_owned()
    }
}
