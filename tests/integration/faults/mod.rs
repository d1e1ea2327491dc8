//! What goes wrong: killed processes, full disks, lost databases, bad input.

pub(crate) mod bad_input;
pub(crate) mod chaos;
pub(crate) mod disk_full;
pub(crate) mod kill;
pub(crate) mod kill_phases;
pub(crate) mod outage;
pub(crate) mod publishing;
pub(crate) mod resume;
pub(crate) mod slow_clients;
pub(crate) mod stand_still;
