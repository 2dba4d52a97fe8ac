//! A cgroup's statistics as the messages that containerd's clients know: `io.containerd.cgroups.v1.Metrics` and
//! `io.containerd.cgroups.v2.Metrics`, each under its bare name, by which `ctr`, CRI and nerdctl tell them apart.
//!
//! Called by the Task service. Units and the meaning of what is absent are those of github.com/containerd/cgroups, which
//! fills these messages for runc: no limit on processes is 0 on v1 and the largest number on v2, what the kernel does not
//! count is 0. `network` and `cgroup_stats` stay empty, as there.

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use runtime_core::cgroup::stats::Stats;
use runtime_core::{Error, Kind, Result};

mod v1;
mod v2;

/// Packs `stats`.
pub(crate) fn pack(stats: &Stats) -> Result<Any> {
    let (name, value) = match stats {
        Stats::V1(stats) => ("io.containerd.cgroups.v1.Metrics", v1::metrics(stats).write_to_bytes()),
        Stats::V2(stats) => ("io.containerd.cgroups.v2.Metrics", v2::metrics(stats).write_to_bytes()),
    };
    let value = value.map_err(|error| Error::new(Kind::System, format!("encode {name}: {error}")))?;
    Ok(Any { type_url: name.to_owned(), value, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::MessageFull;
    use containerd_shim_protos::{cgroups, cgroups_v2};

    use super::*;

    #[test]
    fn each_version_goes_under_the_name_of_its_message() {
        let url = |stats| pack(&stats).unwrap().type_url;
        let names = [cgroups::metrics::Metrics::descriptor(), cgroups_v2::metrics::Metrics::descriptor()];
        let names = names.map(|descriptor| descriptor.full_name().to_owned());
        assert_eq!([url(Stats::V1(Box::default())), url(Stats::V2(Box::default()))], names);
    }
}
