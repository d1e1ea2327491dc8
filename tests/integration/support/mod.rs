//! What the tests are made with: the service in this process or as processes, databases, servers, models.

#[macro_use]
pub(crate) mod database;

pub(crate) mod command_line;
pub(crate) mod gate;
pub(crate) mod processes;
pub(crate) mod servers;
pub(crate) mod stub;
pub(crate) mod synthetic;
pub(crate) mod test_app;
