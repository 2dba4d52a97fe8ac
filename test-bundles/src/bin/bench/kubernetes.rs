//! Through CRI, as a kubelet has it: crictl on the lab's containerd, their own shares included, beside runc's handler. Where
//! there is no lab there are no such rows.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use test_bundles::containerd::Release;
use test_bundles::cri::{HANDLERS, IMAGE, Node, missing};

use crate::subject::{Bench, Side};

/// Whose, and its handler with a pause container.
const BOTH: [(Side, &str); 2] = [(Side::Ours, "paused"), (Side::Theirs, "runc")];

/// The same, where ours holds the pod's namespaces itself.
const HELD: [(Side, &str); 2] = [(Side::Ours, "held"), (Side::Theirs, "runc")];

/// CRI's `NamespaceMode`: the pod has a network of its own, which plugins make, or the host's.
const POD: u32 = 0;
const NODE: u32 = 2;

pub(crate) fn measure(bench: &mut Bench, rounds: usize) -> Result<()> {
    let release = Release::known().into_iter().find(|release| release.version == "2.1").context("2.1 is known")?;
    if missing().is_some() || release.missing().is_some() {
        return Ok(());
    }
    let node = Node::start(&release, HANDLERS);
    for round in 0..=rounds {
        for (side, handler) in BOTH {
            let config = config(&node, handler, NODE);
            let mut times = Times { bench, side, counts: round > 0 };
            let pod = times.of("`crictl runp`, on the host's network", || node.run_pod(handler, &config));
            let container =
                json!({"metadata": {"name": "one"}, "image": {"image": IMAGE}, "command": ["sleep", "1000"]});
            let id = node.create(&pod, &config, &container);
            times.of("`crictl start`", || node.crictl(&["start", &id]));
            times.of("`crictl exec --sync` of `true`", || node.crictl(&["exec", "--sync", &id, "true"]));
            node.crictl(&["rmp", "--force", &pod]);
        }
        for (both, name) in
            [(BOTH, "`crictl runp`, with a network that plugins make"), (HELD, "the same, without a pause container")]
        {
            for (side, handler) in both {
                let config = config(&node, handler, POD);
                let mut times = Times { bench, side, counts: round > 0 };
                let pod = times.of(name, || node.run_pod(handler, &config));
                node.crictl(&["rmp", "--force", &pod]);
            }
        }
    }
    Ok(())
}

fn config(node: &Node, handler: &str, network: u32) -> Value {
    let mut config = node.pod(handler, handler, &json!({"network": network, "pid": 1, "ipc": 0}));
    if network == NODE {
        // A kubelet gives such a pod none: it has the host's.
        config["hostname"] = json!("");
    }
    config
}

/// Where times go, unless the machine is still warming up.
struct Times<'a> {
    bench: &'a mut Bench,
    side: Side,
    counts: bool,
}

impl Times<'_> {
    fn of<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        if self.counts {
            self.bench.add_time(self.side, name, began.elapsed());
        }
        done
    }
}
