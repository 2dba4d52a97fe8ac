//! `linux.resources`, resolved: what a container may use, in the kernel's units.
//!
//! Runtime spec 1.3, config-linux.md, "Control groups". Called by `spec` for a container and for the JSON of an update. Zero
//! means "not set" wherever clients send it so (limits, shares, quota, weights), as runc has always read it; `-1` and its like
//! become [`Limit::Unlimited`]. `memory.kernel`, `kernelTCP` and `useHierarchy` are read and left: no kernel we run on has them.

use oci_spec::runtime::LinuxResources;

use crate::refuse::Refusal;

mod resolve;

/// What a container may use. Absent values leave the kernel's defaults, or, in an update, what was set before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// `devices`, in order. A new container without them starts from "nothing but the default devices".
    pub devices: Option<Vec<DeviceRule>>,
    /// `memory`
    pub memory: Memory,
    /// `cpu`
    pub cpu: Cpu,
    /// `pids.limit`
    pub pids: Option<Limit>,
    /// `blockIO`
    pub block_io: BlockIo,
    /// `hugepageLimits`
    pub hugepages: Vec<HugepageLimit>,
    /// `network`
    pub network: Network,
    /// `rdma`, by device name.
    pub rdma: Vec<Rdma>,
    /// `unified`: file and value, by file name. Values may have several lines, each to be written alone.
    pub unified: Vec<(String, String)>,
}

/// A number that may be without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `-1` in the spec, `max` in cgroup v2.
    Unlimited,
    /// This many: bytes, processes, microseconds.
    At(u64),
}

/// One of `devices[]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allowed or denied.
    pub allow: bool,
    /// Which devices; none is every device, every access.
    pub device: Option<DeviceSet>,
}

/// The devices that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSet {
    /// Block, or else character.
    pub block: bool,
    /// None is every one.
    pub major: Option<u32>,
    /// None is every one.
    pub minor: Option<u32>,
    /// [`DeviceSet::MKNOD`], [`DeviceSet::READ`], [`DeviceSet::WRITE`].
    pub access: u32,
}

impl DeviceSet {
    /// `BPF_DEVCG_ACC_MKNOD`
    pub const MKNOD: u32 = 1;
    /// `BPF_DEVCG_ACC_READ`
    pub const READ: u32 = 2;
    /// `BPF_DEVCG_ACC_WRITE`
    pub const WRITE: u32 = 4;
}

/// `memory`, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// `limit`
    pub limit: Option<Limit>,
    /// `reservation`
    pub reservation: Option<Limit>,
    /// `swap`: memory and swap together, at least `limit`.
    pub swap: Option<Limit>,
    /// `swappiness`, 0 to 100.
    pub swappiness: Option<u8>,
    /// `disableOOMKiller`
    pub disable_oom_killer: bool,
    /// `checkBeforeUpdate`
    pub check_before_update: bool,
}

/// `cpu`, times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// `shares`, v1's weight: 2 to 262144, 1024 being usual.
    pub shares: Option<u64>,
    /// `quota`
    pub quota: Option<Limit>,
    /// `burst`, at most `quota`.
    pub burst: Option<u64>,
    /// `period`
    pub period: Option<u64>,
    /// `realtimeRuntime`
    pub realtime_runtime: Option<i64>,
    /// `realtimePeriod`
    pub realtime_period: Option<u64>,
    /// `cpus`: a list such as `0-3,7`.
    pub cpus: Option<String>,
    /// `mems`: a list of memory nodes.
    pub mems: Option<String>,
    /// `idle`: `SCHED_IDLE` for the whole group.
    pub idle: Option<bool>,
}

/// `blockIO`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// `weight`, 10 to 1000.
    pub weight: Option<u16>,
    /// `leafWeight`, 10 to 1000.
    pub leaf_weight: Option<u16>,
    /// `weightDevice`
    pub weight_devices: Vec<WeightDevice>,
    /// `throttleReadBpsDevice`
    pub read_bps: Vec<Throttle>,
    /// `throttleWriteBpsDevice`
    pub write_bps: Vec<Throttle>,
    /// `throttleReadIOPSDevice`
    pub read_iops: Vec<Throttle>,
    /// `throttleWriteIOPSDevice`
    pub write_iops: Vec<Throttle>,
}

/// One of `blockIO.weightDevice[]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightDevice {
    /// Of the device.
    pub major: u32,
    /// Of the device.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000.
    pub leaf_weight: Option<u16>,
}

/// One of `blockIO.throttle…Device[]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Of the device.
    pub major: u32,
    /// Of the device.
    pub minor: u32,
    /// Bytes or operations per second; 0 takes a throttle away.
    pub rate: u64,
}

/// One of `hugepageLimits[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugepageLimit {
    /// As it stands in file names: `2MB`, `1GB`, `64KB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// `network` (v1 only).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// `classID`
    pub class_id: Option<u32>,
    /// `priorities`: interface and priority.
    pub priorities: Vec<(String, u32)>,
}

/// One entry of `rdma`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rdma {
    /// Such as `mlx5_1`.
    pub device: String,
    /// `hcaHandles`
    pub handles: Option<u32>,
    /// `hcaObjects`
    pub objects: Option<u32>,
}

impl Resources {
    /// Resolves `resources`, which stand at the JSON pointer `pointer` (`/linux/resources`).
    pub fn resolve(resources: &LinuxResources, pointer: &str) -> Result<Self, Refusal> {
        resolve::resources(resources, pointer)
    }
}
