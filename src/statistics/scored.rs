//! Scores with the protocol that they were measured under.

use crate::domain::report::protocol::{Protocol, ProtocolMismatch, comparable};

/// One score per document, in the order of the data set.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a, T> {
    /// What the scores depend on; its `n` is their number.
    pub protocol: &'a Protocol,
    /// The scores.
    pub scores: &'a [T],
}

impl<'a, T> Scored<'a, T> {
    /// The scores of both models, document by document.
    pub(super) fn pairs(
        self,
        after: &Self,
    ) -> Result<impl Iterator<Item = (&'a T, &'a T)>, ProtocolMismatch> {
        comparable(self.protocol, after.protocol)?;
        let (before, n) = (self.scores.len(), self.protocol.fields().n);
        if before != n || after.scores.len() != n {
            let differences = format!("n is {n}, scores are {before} and {}", after.scores.len());
            return Err(ProtocolMismatch { differences });
        }
        Ok(self.scores.iter().zip(after.scores))
    }
}
