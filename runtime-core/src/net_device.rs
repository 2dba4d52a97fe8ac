//! Network devices that move into a container: config-linux.md "Network Devices", rtnetlink(7). Called by `container` while
//! init waits with its namespaces made.
//!
//! A move takes the addresses away and leaves the device down. So they are read first (the IPv6 ones go with the link), the
//! device is taken down, moved and renamed by one message, given its permanent addresses of global scope again and brought
//! up. Nothing is moved back: the kernel returns physical devices when the network namespace ends, and the specification
//! forbids the runtime to be faster.
//!
//! Five messages and one dump: the crates for rtnetlink bring a connection task and hundreds of kilobytes for them, so the
//! bytes are laid out here.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use config::container::NetDevice;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::error::{Error, Kind, Result};

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE_EXCL: u16 = 0x400 | 0x200;
const DUMP: u16 = 0x1 | 0x300;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x2;
const IFA_F_PERMANENT: u32 = 0x80;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const IFF_UP: u32 = 1;

/// Numbers tried for a `%d` in a name, as many as the kernel has.
const NUMBERS: u32 = 32768;

/// Moves `devices` from the network namespace that we are in into that of our child `init`, which is not reaped.
pub(crate) fn relocate(devices: &[NetDevice], init: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let network = File::open(format!("/proc/{init}/ns/net"));
    let network = network.map_err(|error| Error::io("open the container's network namespace", &error))?;
    let network = network.as_fd();
    let here = Rtnetlink::open().map_err(|errno| failed("open rtnetlink", errno))?;
    let there = Rtnetlink::open_in(network)?;
    for device in devices {
        let moved = relocate_one(device, &here, &there, network);
        moved.map_err(|error| error.context(format_args!("/linux/netDevices/{}", device.host)))?;
    }
    Ok(())
}

fn relocate_one(device: &NetDevice, here: &Rtnetlink, there: &Rtnetlink, network: BorrowedFd<'_>) -> Result<()> {
    let NetDevice { host, name } = device;
    let index = name_to_index(&here.socket, host).map_err(|errno| failed("find the device", errno))?;
    let addresses = here.addresses(index).map_err(|errno| failed("read its addresses", errno))?;
    here.set_up(index, false).map_err(|errno| failed("take it down", errno))?;
    let name = here.send_away(index, name, there, network)?;
    let index = name_to_index(&there.socket, &name).map_err(|errno| failed("find it again", errno))?;
    for address in &addresses {
        there.add_address(index, address).map_err(|errno| failed("give it its address", errno))?;
    }
    there.set_up(index, true).map_err(|errno| failed("bring it up", errno))
}

fn failed(what: &str, errno: rustix::io::Errno) -> Error {
    Error::sys(what, Errno::from_raw(errno.raw_os_error()))
}

type Outcome<T> = std::result::Result<T, rustix::io::Errno>;

/// An address to keep: `struct ifaddrmsg` without the device, and the attributes that say what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix_bits: u8,
    attributes: Vec<u8>,
}

/// A socket of one network namespace.
struct Rtnetlink {
    socket: OwnedFd,
}

impl Rtnetlink {
    fn open() -> Outcome<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        // No protocol is NETLINK_ROUTE.
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket })
    }

    /// A socket belongs to the namespace that it was made in, whoever uses it. So we go there for one system call: there is
    /// one thread, and nothing is awaited meanwhile.
    fn open_in(network: BorrowedFd<'_>) -> Result<Self> {
        let own = File::open("/proc/self/ns/net").map_err(|error| Error::io("open our network namespace", &error))?;
        setns(network, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::sys("visit the network namespace", errno))?;
        let there = Self::open();
        // Everything that we are to do belongs to our own namespace: better no runtime than one in the wrong place.
        setns(own.as_fd(), CloneFlags::CLONE_NEWNET).expect("the way back is open as the way out was");
        there.map_err(|errno| failed("open rtnetlink in the container", errno))
    }

    /// Sets or clears IFF_UP.
    fn set_up(&self, index: u32, up: bool) -> Outcome<()> {
        self.ask(Message::link(index, if up { IFF_UP } else { 0 }, IFF_UP))
    }

    /// Moves and renames; answers the name. A template becomes a name here, so that the device can be found again.
    fn send_away(&self, index: u32, name: &str, there: &Self, network: BorrowedFd<'_>) -> Result<String> {
        let numbers = if name.contains("%d") { 0..NUMBERS } else { 0..1 };
        for name in numbers.map(|number| name.replace("%d", &number.to_string())) {
            if name_to_index(&there.socket, &name).is_ok() {
                continue;
            }
            let mut message = Message::link(index, 0, 0);
            message.attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
            message.attribute(IFLA_NET_NS_FD, &network.as_raw_fd().to_ne_bytes());
            return match self.ask(message) {
                Ok(()) => Ok(name),
                Err(errno) => Err(failed(&format!("move it to be {name}"), errno)),
            };
        }
        Err(Error::new(Kind::Exists, format!("the container has a device {name} already")))
    }

    fn add_address(&self, index: u32, address: &Address) -> Outcome<()> {
        let mut message = Message::new(RTM_NEWADDR, REQUEST_ACK | CREATE_EXCL);
        message.put(&[address.family, address.prefix_bits, 0, 0]);
        message.put(&index.to_ne_bytes());
        message.put(&address.attributes);
        self.ask(message)
    }

    /// The permanent addresses of global scope that a device has.
    fn addresses(&self, index: u32) -> Outcome<Vec<Address>> {
        let mut message = Message::new(RTM_GETADDR, DUMP);
        message.put(&[0; 8]);
        self.send(message)?;
        let mut found = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            let (length, _) = recv(&self.socket, &mut *buffer, RecvFlags::empty())?;
            for (kind, body) in messages(&buffer[..length]) {
                match kind {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => error(body)?,
                    RTM_NEWADDR => found.extend(to_keep(body, index)),
                    _ => {}
                }
            }
        }
    }

    /// Sends and waits for the kernel's answer.
    fn ask(&self, message: Message) -> Outcome<()> {
        self.send(message)?;
        let mut buffer = [0; 4096];
        let (length, _) = recv(&self.socket, &mut buffer, RecvFlags::empty())?;
        let answer = messages(&buffer[..length]).find(|(kind, _)| *kind == NLMSG_ERROR);
        answer.map_or(Err(rustix::io::Errno::PROTO), |(_, body)| error(body))
    }

    fn send(&self, message: Message) -> Outcome<()> {
        send(&self.socket, &message.finish(), SendFlags::empty()).map(drop)
    }
}

/// A message in the making: `struct nlmsghdr`, a body, attributes.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut message = Self(vec![0; 4]);
        message.put(&kind.to_ne_bytes());
        message.put(&flags.to_ne_bytes());
        // Sequence and port: one question at a time needs neither.
        message.put(&[0; 8]);
        message
    }

    /// RTM_NEWLINK with its `struct ifinfomsg`: `flags` where `change` has bits.
    fn link(index: u32, flags: u32, change: u32) -> Self {
        let mut message = Self::new(RTM_NEWLINK, REQUEST_ACK);
        message.put(&[0; 4]);
        for number in [index, flags, change] {
            message.put(&number.to_ne_bytes());
        }
        message
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        put_attribute(&mut self.0, kind, value);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("a message of some hundred bytes");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn put_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("an attribute of some ten bytes");
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The messages in a datagram: kind and body.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    chunks(bytes, |bytes| Some((u32::from_ne_bytes(bytes.first_chunk().copied()?) as usize, 16)))
        .map(|chunk| (u16::from_ne_bytes([chunk[4], chunk[5]]), &chunk[16..]))
}

/// The attributes in a body: kind and value.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    chunks(bytes, |bytes| Some((u16::from_ne_bytes(bytes.first_chunk().copied()?).into(), 4)))
        .map(|chunk| (u16::from_ne_bytes([chunk[2], chunk[3]]) & 0x3fff, &chunk[4..]))
}

/// Pieces that begin with their length, at multiples of four. `head` tells it, and how long it is at the least.
fn chunks(mut bytes: &[u8], head: impl Fn(&[u8]) -> Option<(usize, usize)>) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, least) = head(bytes)?;
        let chunk = bytes.get(..length).filter(|chunk| chunk.len() >= least)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(chunk)
    })
}

/// `struct nlmsgerr`: 0 or a negative errno.
fn error(body: &[u8]) -> Outcome<()> {
    match body.first_chunk().map_or(-71, |code| i32::from_ne_bytes(*code)) {
        0 => Ok(()),
        code => Err(rustix::io::Errno::from_raw_os_error(-code)),
    }
}

/// An RTM_NEWADDR as an address to keep: of this device, permanent, of global scope.
fn to_keep(body: &[u8], index: u32) -> Option<Address> {
    let &[family, prefix_bits, flags, scope, i0, i1, i2, i3] = body.first_chunk::<8>()?;
    let find = |wanted| attributes(&body[8..]).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let flags = find(IFA_FLAGS).and_then(|value| value.first_chunk().copied()).map_or(flags.into(), u32::from_ne_bytes);
    if u32::from_ne_bytes([i0, i1, i2, i3]) != index || flags & IFA_F_PERMANENT == 0 || scope != 0 {
        return None;
    }
    let mut kept = Vec::new();
    for kind in [IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST] {
        if let Some(value) = find(kind) {
            put_attribute(&mut kept, kind, value);
        }
    }
    let flags = flags & (IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
    put_attribute(&mut kept, IFA_FLAGS, &flags.to_ne_bytes());
    Some(Address { family, prefix_bits, attributes: kept })
}

#[cfg(test)]
mod tests {
    use super::{Address, IFA_ADDRESS, IFA_FLAGS, IFA_LOCAL, attributes, messages, put_attribute, to_keep};

    fn address(scope: u8, flags: u32) -> Vec<u8> {
        let mut body = vec![2, 24, 0x80, scope, 7, 0, 0, 0];
        put_attribute(&mut body, IFA_ADDRESS, &[10, 0, 0, 1]);
        put_attribute(&mut body, IFA_LOCAL, &[10, 0, 0, 1]);
        put_attribute(&mut body, 3, b"eth0\0");
        put_attribute(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
        body
    }

    #[test]
    fn permanent_global_addresses_of_the_device_are_kept() {
        let Address { family, prefix_bits, attributes: kept } = to_keep(&address(0, 0x280), 7).unwrap();
        assert_eq!((family, prefix_bits), (2, 24));
        let kept: Vec<_> = attributes(&kept).collect();
        let flags = 0x200_u32.to_ne_bytes();
        assert_eq!(kept, [(IFA_LOCAL, &[10, 0, 0, 1][..]), (IFA_ADDRESS, &[10, 0, 0, 1]), (IFA_FLAGS, &flags)]);
        assert_eq!(to_keep(&address(0, 0x80), 8), None, "another device's");
        assert_eq!(to_keep(&address(253, 0x80), 7), None, "of the link");
        assert_eq!(to_keep(&address(0, 0), 7), None, "with an end");
        assert_eq!(to_keep(&[2, 24], 7), None);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let mut bytes = vec![20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(messages(&bytes).collect::<Vec<_>>(), [(2, &[1, 2, 3, 4][..])]);
        bytes.truncate(19);
        assert_eq!(messages(&bytes).count(), 0);
        assert_eq!(messages(&[4, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }
}
