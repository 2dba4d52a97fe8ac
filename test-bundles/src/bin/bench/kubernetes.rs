//! Through CRI, as a kubelet has it: crictl on the lab's containerd, their own shares included, beside runc's handler. Where
//! there is no lab there are no such rows.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use test_bundles::containerd::Release;
use test_bundles::cri::mode::{CONTAINER, NODE, POD};
use test_bundles::cri::{HANDLERS, IMAGE, Node, missing};

use crate::subject::{Bench, Side};

/// Whose, and its handler with a pause container.
const PAUSED: [(Side, &str); 2] = [(Side::Ours, "paused"), (Side::Theirs, "runc")];

/// The same, where ours holds the pod's namespaces itself.
const HELD: [(Side, &str); 2] = [(Side::Ours, "held"), (Side::Theirs, "runc")];

pub(crate) fn measure(bench: &mut Bench, rounds: usize) -> Result<()> {
    let release = Release::known().into_iter().find(|release| release.version == "2.1").context("2.1 is known")?;
    if missing().is_some() || release.missing().is_some() {
        return Ok(());
    }
    let node = Node::start(&release, HANDLERS);
    for round in 0..=rounds {
        for (side, handler) in PAUSED {
            let mut times = Times { node: &node, bench, side, counts: round > 0 };
            side.context(times.container(handler))?;
        }
        for (both, name) in
            [(PAUSED, "`crictl runp`, with a network that plugins make"), (HELD, "the same, without a pause container")]
        {
            for (side, handler) in both {
                let mut times = Times { node: &node, bench, side, counts: round > 0 };
                let pod = side.context(times.pod(name, handler, POD).map(|(pod, _)| pod))?;
                side.context(ask(&node, &["rmp", "--force", &pod]))?;
            }
        }
    }
    Ok(())
}

/// What crictl says. An error and no panic, which would end this program before its daemon.
fn ask(node: &Node, arguments: &[&str]) -> Result<String> {
    node.ask(arguments).map_err(|said| anyhow!("crictl {arguments:?}: {said}"))
}

/// Where times go, unless the machine is still warming up.
struct Times<'a> {
    node: &'a Node,
    bench: &'a mut Bench,
    side: Side,
    counts: bool,
}

impl Times<'_> {
    /// A pod on the host's network, with a container and an exec, comes and goes.
    fn container(&mut self, handler: &str) -> Result<()> {
        let (pod, config) = self.pod("`crictl runp`, on the host's network", handler, NODE)?;
        let container = json!({"metadata": {"name": "one"}, "image": {"image": IMAGE}, "command": ["sleep", "1000"]});
        let container = self.node.file("container", &container);
        let id = ask(self.node, &["create", &pod, &container, &config])?;
        self.ask("`crictl start`", &["start", &id])?;
        self.ask("`crictl exec --sync` of `true`", &["exec", "--sync", &id, "true"])?;
        ask(self.node, &["rmp", "--force", &pod]).map(drop)
    }

    /// A pod's id and its configuration's path.
    fn pod(&mut self, name: &'static str, handler: &str, network: u8) -> Result<(String, String)> {
        let mut config = self.node.pod(handler, handler, &json!({"network": network, "pid": CONTAINER, "ipc": POD}));
        if network == NODE {
            // A kubelet gives such a pod none: it has the host's.
            config["hostname"] = json!("");
        }
        let config = self.node.file("pod", &config);
        let pod = self.ask(name, &["runp", "--runtime", handler, &config])?;
        Ok((pod, config))
    }

    fn ask(&mut self, name: &'static str, arguments: &[&str]) -> Result<String> {
        let began = Instant::now();
        let said = ask(self.node, arguments)?;
        if self.counts {
            self.bench.add_time(self.side, name, began.elapsed());
        }
        Ok(said)
    }
}
