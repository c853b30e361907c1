//! Where things are kept, by role: journal, configuration records, call history.

pub mod error;
pub mod history;
pub mod journal;
pub mod records;

use std::sync::Arc;

pub use error::StoreError;

/// The stores of a node, whichever products stand behind them.
#[derive(Clone)]
pub struct Stores {
    /// Facts.
    pub journal: Arc<dyn journal::Journal>,
    /// Configuration records.
    pub records: Arc<dyn records::Records>,
    /// Summaries of calls.
    pub history: Arc<dyn history::History>,
}
