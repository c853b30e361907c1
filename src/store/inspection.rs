//! What a product says of itself, for people who look for a fault.

use crate::domain::time::Timestamp;

/// What a product says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its name and version, as in `PostgreSQL 15.8`.
    pub product: String,
    /// What its clock shows, where it has one of its own.
    pub clock: Option<Timestamp>,
}

impl Inspection {
    /// A product inside this program, which has no clock of its own.
    #[must_use]
    pub fn embedded(product: impl Into<String>) -> Self {
        Self { product: product.into(), clock: None }
    }
}
