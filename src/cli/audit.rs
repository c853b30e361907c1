//! `eml audit`: whether the audit trail is still what was written.

use std::str::FromStr;

use super::{Failure, output};
use crate::config::Settings;
use crate::store::{self, audit};

/// What to do with the audit trail.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Walks the whole chain; fails with the first number that is missing or was changed.
    Verify {
        /// An end that an earlier run printed, as NUMBER:HASH; it must still be part of the chain. May be
        /// given several times.
        #[arg(long, value_name = "NUMBER:HASH")]
        known: Vec<End>,
    },
}

/// Where the chain ended at some time.
#[derive(Debug, Clone, Copy)]
pub(super) struct End(audit::ChainEnd);

impl FromStr for End {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (number, hash) = text.split_once(':')?;
            let mut bytes = [0; 32];
            hex::decode_to_slice(hash, &mut bytes).ok()?;
            Some(Self(audit::ChainEnd { number: number.parse().ok()?, hash: bytes }))
        };
        read().ok_or("must be a number, a colon and 64 hexadecimal digits")
    }
}

pub(super) async fn run(command: Command, settings: Settings) -> Result<(), Failure> {
    let Command::Verify { known } = command;
    let url = settings.store_url();
    if url.starts_with(store::sqlite::SCHEME) && !store::sqlite::exists(&url) {
        return Err(Failure::failed(format!("there is no store at {url}")));
    }
    let stores = store::open(&url).await?;
    let known: Vec<_> = known.into_iter().map(|End(end)| end).collect();
    match audit::verify(&*stores.audit, &known).await? {
        Ok(end) => {
            output::line(format!("the audit trail is whole: {} entries", end.number));
            output::line(format!("its end, to be noted elsewhere: {}:{}", end.number, hex::encode(end.hash)));
            Ok(())
        }
        Err(broken) => Err(Failure::failed(format!("the audit trail is broken: {broken}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_it_is_printed_or_refused() {
        let text = format!("17:{}", "ab".repeat(32));
        let End(end) = text.parse().unwrap();
        assert_eq!((end.number, end.hash), (17, [0xab; 32]));
        for text in ["", "17", "17:", "17:abcd", &format!("x:{}", "ab".repeat(32)), &format!("{text}00")] {
            assert!(text.parse::<End>().is_err(), "{text}");
        }
    }
}
