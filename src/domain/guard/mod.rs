//! The collapse guard.
