//! `eml key`: the keys that tokens are signed with, on the host. A node that runs notices within a second.

use super::host::Host;
use super::{Failure, output};
use crate::config::Settings;
use crate::edge::auth::Authority;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists the keys, newest first.
    Ls,
    /// Makes the next key: it signs from now on, and the one before verifies until its tokens have expired.
    Rotate,
    /// Refuses everything that a key has signed, at once, and makes another one.
    Revoke {
        /// Name of the key, as `eml key ls` shows it.
        kid: String,
    },
}

pub(super) async fn run(command: Command, settings: Settings) -> Result<(), Failure> {
    let host = Host::open(&settings).await?;
    match command {
        Command::Ls => ls(&host).await,
        Command::Rotate => {
            let kid = host.authority.rotate(&host.stores).await?;
            host.note("key.rotated", &kid).await?;
            output::line(kid);
            Ok(())
        }
        Command::Revoke { kid } => {
            if !host.authority.revoke_key(&host.stores, &kid).await? {
                return Err(Failure::failed(format!("there is no key {kid}; `eml key ls` lists them")));
            }
            host.note("key.revoked", &kid).await?;
            output::line(format!("{kid} is revoked; everybody whose token it signed signs in again"));
            Ok(())
        }
    }
}

async fn ls(host: &Host) -> Result<(), Failure> {
    let keys = Authority::stored(&*host.stores.records).await?;
    output::line("KID                               MADE                      STATUS");
    let mut is_newest = true;
    for key in keys {
        let status = match (key.revoked, is_newest) {
            (true, _) => "revoked",
            (false, true) => "signs",
            (false, false) => "verifies",
        };
        is_newest &= key.revoked;
        output::line(format!("{}  {}  {status}", key.kid, key.created_at));
    }
    Ok(())
}
