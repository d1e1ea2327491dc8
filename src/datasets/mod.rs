//! Finds and reads data sets: below the operator's data directory, in the bundled text, and in fetched files of the hub.
//!
//! Asks the network for nothing: where a data set is not on this machine, [`DataRoots`] says which files of the hub are
//! needed, and [`SplitRows`] reads them from wherever they were put.

mod below;
mod catalog;
mod error;
mod lines;
mod missing;
mod place;
mod records;
mod roots;
mod rows;
mod split_rows;

pub use error::{DatasetError, DatasetNotFound};
pub use place::Place;
pub use roots::DataRoots;
pub use rows::{RowFormat, read_rows};
pub use split_rows::SplitRows;
