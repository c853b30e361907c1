//! `eml migrate`: changes of the store's tables, applied and pending. Forward only; a node that
//! starts applies them by itself.

use super::{Failure, output};
use crate::config::Settings;
use crate::store::migrations::{self, Migration};

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Shows what was applied and what is pending; changes nothing.
    Status,
    /// Applies what is pending, under a lock that other nodes wait for.
    Up,
}

pub(super) async fn run(command: Command, settings: Settings) -> Result<(), Failure> {
    let url = settings.store_url();
    let before = migrations::status(&url).await?;
    let is_pending = |known: &[Migration]| known.iter().filter(|migration| migration.is_pending()).count();
    match command {
        Command::Status => {
            before.iter().for_each(show);
            output::line(format!("{} pending", is_pending(&before)));
        }
        Command::Up => {
            let after = migrations::up(&url).await?;
            let applied = is_pending(&before) - is_pending(&after);
            output::line(format!("{applied} applied, {} pending", is_pending(&after)));
        }
    }
    Ok(())
}

fn show(migration: &Migration) {
    let state = migration.applied_at.map_or("pending".to_owned(), |at| format!("applied {at}"));
    output::line(format!("{}  {:<12} {state}", migration.version, migration.description));
}
