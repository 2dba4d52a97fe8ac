//! The small things done from inside on request. Most take several arguments and answer with one JSON object that has an
//! entry for each: its result, or in the result's place the errno's name (`"EROFS"`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, exit};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, raise};
use nix::sys::stat::Mode;
use rustix::net::{AddressFamily, SocketType};
use serde_json::{Map, Value, json};

use crate::{attack, seen, terminal};

/// Does what `arguments` say. None where they make no sense; several actions do not come back.
pub(crate) fn act(arguments: &[String]) -> Option<Value> {
    let (action, rest) = arguments.split_first()?;
    match (action.as_str(), rest) {
        ("exit", [code]) => exit(code.parse().ok()?),
        ("signal", [number]) => signal(number.parse().ok()?),
        ("sleep", []) => sleep(),
        ("fork-orphan", []) => orphan(),
        ("fork", [count]) => Some(fork(count.parse().ok()?)),
        ("allocate", [mebibytes]) => Some(json!(allocate(mebibytes.parse().ok()?))),
        ("spin", []) => spin(),
        ("write-through", [path, mebibytes]) => {
            let written = write_through(path.as_ref(), mebibytes.parse().ok()?);
            Some(written.unwrap_or_else(|error| json!(errno(&error))))
        }
        ("nest", []) => nest(),
        ("hook", [name, file]) => Some(hook(name, Path::new(file)).unwrap_or_else(|error| json!(errno(&error)))),
        ("env", [name]) => Some(json!(std::env::var(name).ok())),
        ("tty-size", []) => Some(terminal::size(io::stdin())),
        ("tty-sizes", []) => terminal::sizes(),
        ("tty-comes-back", []) => terminal::comes_back(),
        ("read", paths) => Some(each(paths, |path| Ok(json!(fs::read_to_string(path)?)))),
        ("write", paths) => Some(each(paths, |path| write(path.as_ref()))),
        ("list", paths) => Some(each(paths, |path| list(path.as_ref()))),
        ("stat", paths) => Some(each(paths, |path| seen::file(path.as_ref()))),
        ("escape", paths) => Some(attack::escape(paths)),
        ("beneath", paths) => Some(attack::beneath(paths)),
        ("spy", []) => Some(attack::spy()),
        ("watch", [host, allowed, times]) => attack::watch(host, allowed, times),
        ("kill-all", []) => Some(json!(attack::kill_all())),
        ("syscall", names) => Some(each(names, |name| attempt(name).map(|()| json!("ok")))),
        _ => None,
    }
}

pub(crate) fn each(arguments: &[String], action: impl Fn(&str) -> io::Result<Value>) -> Value {
    let entry = |argument: &String| (argument.clone(), action(argument).unwrap_or_else(|error| json!(errno(&error))));
    Value::Object(arguments.iter().map(entry).collect::<Map<_, _>>())
}

pub(crate) fn errno(error: &io::Error) -> String {
    format!("{:?}", Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// Sends itself a signal. One that does not end it (pid 1 is immune to its own) makes it exit with 99.
fn signal(number: i32) -> Option<Value> {
    raise(Signal::try_from(number).ok()?).ok()?;
    exit(99)
}

/// Until a signal ends it.
fn sleep() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Exits with 0 and leaves a child behind that sleeps.
fn orphan() -> ! {
    let child = Command::new("/probe").arg("sleep").spawn();
    exit(i32::from(child.is_err()))
}

/// Starts `count` processes that sleep, and says how many there came to be and what stopped it.
fn fork(count: usize) -> Value {
    let mut forked = 0;
    for _ in 0..count {
        if let Err(error) = Command::new("/probe").arg("sleep").spawn() {
            return json!({ "forked": forked, "stopped": errno(&error) });
        }
        forked += 1;
    }
    json!({ "forked": forked, "stopped": null })
}

/// Uses memory, every page of it; says how many bytes.
fn allocate(mebibytes: usize) -> usize {
    let bytes = vec![1_u8; mebibytes << 20];
    std::hint::black_box(&bytes).len()
}

/// As a hook: appends a line of what it was told and what it sees to a file.
fn hook(name: &str, file: &Path) -> io::Result<Value> {
    let mut told = String::new();
    io::stdin().read_to_string(&mut told)?;
    let told: Value = serde_json::from_str(&told)?;
    let line = json!({ "hook": name, "told": told, "seen": seen::document() });
    writeln!(OpenOptions::new().create(true).append(true).open(file)?, "{line}")?;
    Ok(json!("ok"))
}

/// Uses all the time that it gets, until a signal ends it.
fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Writes past the page cache, and says how long that took.
fn write_through(path: &Path, mebibytes: usize) -> io::Result<Value> {
    /// What O_DIRECT asks of memory and lengths.
    #[repr(align(4096))]
    struct Aligned([u8; 8 << 10]);
    let aligned = Box::new(Aligned([1; 8 << 10]));
    let mut file = File::options().write(true).create(true).custom_flags(nix::libc::O_DIRECT).open(path)?;
    let start = std::time::Instant::now();
    for _ in 0..mebibytes * 128 {
        file.write_all(&aligned.0)?;
    }
    Ok(json!({ "ms": start.elapsed().as_millis() }))
}

/// In a cgroup namespace of its own: moves into `init` below, has controllers enabled on v2, and limits `beside`. Then
/// makes `beside/done` and sleeps.
fn nest() -> Option<Value> {
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let root = Path::new(if is_v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" });
    let steps = || -> io::Result<()> {
        fs::create_dir(root.join("init"))?;
        fs::write(root.join("init/cgroup.procs"), "0")?;
        if is_v2 {
            fs::write(root.join("cgroup.subtree_control"), "+memory +pids")?;
        }
        fs::create_dir(root.join("beside"))?;
        fs::write(root.join("beside/pids.max"), "7")?;
        fs::create_dir(root.join("beside/done"))
    };
    match steps() {
        Ok(()) => sleep(),
        Err(error) => Some(json!(errno(&error))),
    }
}

fn write(path: &Path) -> io::Result<Value> {
    let mut file = if path.is_dir() {
        File::create(path.join("written-by-probe"))?
    } else {
        OpenOptions::new().write(true).create(true).truncate(false).open(path)?
    };
    file.write_all(b"written\n")?;
    Ok(json!("ok"))
}

pub(crate) fn list(path: &Path) -> io::Result<Value> {
    let mut names: Vec<String> = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(json!(names))
}

/// Makes one system call that a container may be denied, with harmless arguments.
fn attempt(name: &str) -> io::Result<()> {
    let socket = |family| rustix::net::socket(family, SocketType::DGRAM, None).map(drop);
    match name {
        "mkdir" => nix::unistd::mkdir("/made-by-probe", Mode::S_IRWXU)?,
        "chmod" => fs::set_permissions("/probe", std::os::unix::fs::PermissionsExt::from_mode(0o755))?,
        "chown" => nix::unistd::chown("/probe", None, Some(nix::unistd::getgid()))?,
        "chroot" => nix::unistd::chroot("/")?,
        "mknod" => nix::sys::stat::mknod("/node-by-probe", nix::sys::stat::SFlag::S_IFCHR, Mode::S_IRUSR, 0x103)?,
        "sethostname" => rustix::system::sethostname(b"set-by-probe")?,
        "setuid" => nix::unistd::setuid(nix::unistd::Uid::from_raw(4242))?,
        "unshare-uts" => nix::sched::unshare(CloneFlags::CLONE_NEWUTS)?,
        "unshare-files" => nix::sched::unshare(CloneFlags::CLONE_FILES)?,
        "openat2" => {
            let (flags, mode) = (rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
            drop(rustix::fs::openat2(rustix::fs::CWD, "/", flags, mode, rustix::fs::ResolveFlags::empty())?);
        }
        "socket-unix" => socket(AddressFamily::UNIX)?,
        "socket-inet" => socket(AddressFamily::INET)?,
        "socket-inet6" => socket(AddressFamily::INET6)?,
        newer => by_number(newer)?,
    }
    Ok(())
}

/// Makes a call that is too new for a library to know it, by its number, which is the same on every architecture. All of its
/// arguments are 0: where it is not forbidden, the kernel has something else to say against it.
#[allow(unsafe_code)]
fn by_number(name: &str) -> io::Result<()> {
    let number = match name {
        "statmount" => 457,
        "listmount" => 458,
        "lsm_get_self_attr" => 459,
        "mseal" => 462,
        "setxattrat" => 463,
        "open_tree_attr" => 467,
        _ => return Err(Errno::ENOSYS.into()),
    };
    // SAFETY: of null pointers and no bytes nothing is read or written.
    let done = unsafe { nix::libc::syscall(number, 0, 0, 0, 0, 0, 0) };
    Errno::result(done).map(drop).map_err(Into::into)
}
