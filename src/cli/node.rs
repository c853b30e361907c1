//! `eml node`: the nodes of the cluster, read from and written to the node table itself, so that it
//! works whichever nodes live.

use std::time::{Duration, Instant};

use super::{Failure, output};
use crate::config::Settings;
use crate::domain::node::{ClusterView, NodeRow};
use crate::store::{self, members::Members};

/// How often the node table is read while a node leaves.
const LOOK: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists the nodes: status, roles, shards, address.
    Ls,
    /// Lets a node hand over what it has and stop; waits until it has.
    Drain {
        /// Name of the node.
        node: String,
        /// Seconds to wait.
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        wait: u64,
    },
}

pub(super) async fn run(command: Command, settings: Settings) -> Result<(), Failure> {
    let stores = store::open(&settings.store_url()).await?;
    let alone =
        || Failure::failed("store.url names a store that no cluster can share; see [cluster] in config.toml");
    let members = stores.members.as_deref().ok_or_else(alone)?;
    match command {
        Command::Ls => {
            let view = members.view().await?;
            if view.nodes.is_empty() {
                output::line("no node has registered yet");
            } else {
                output::line("NODE                STATUS    SHARDS  LEASE    ROLES  ADDRESS  VERSION");
            }
            view.nodes.iter().for_each(|row| output::line(line(row, &view)));
            Ok(())
        }
        Command::Drain { node, wait } => drain(members, &node, Duration::from_secs(wait)).await,
    }
}

fn line(row: &NodeRow, view: &ClusterView) -> String {
    let shards = view.owners.iter().filter(|owner| owner.as_ref() == Some(&row.at)).count();
    let roles: Vec<_> = row.roles.iter().map(|role| role.as_str()).collect();
    let lease = if row.status.may_write() {
        format!("{} ms", row.lease_until.millis() - view.now.millis())
    } else {
        "-".to_owned()
    };
    let (name, status) = (&row.at.node, row.status.as_str());
    format!(
        "{name:<19} {status:<9} {shards:>6}  {lease:<8} {}  {}  {}",
        roles.join(","),
        row.address,
        row.version
    )
}

async fn drain(members: &dyn Members, node: &str, wait: Duration) -> Result<(), Failure> {
    let view = members.view().await?;
    let gone = || Failure::failed(format!("no node {node} lives; `eml node ls` lists those that do"));
    let row =
        view.nodes.iter().find(|row| *row.at.node == *node && row.status.may_write()).ok_or_else(gone)?;
    if !members.set_draining(&row.at).await? {
        return Err(gone());
    }
    output::line(format!("{node} hands its shards over"));
    let began = Instant::now();
    while began.elapsed() < wait {
        tokio::time::sleep(LOOK).await;
        if members.view().await?.living(&row.at).is_none() {
            output::line(format!("{node} has left after {:.1} s", began.elapsed().as_secs_f64()));
            return Ok(());
        }
    }
    Err(Failure::failed(format!("{node} has not left within {} s", wait.as_secs())))
}
