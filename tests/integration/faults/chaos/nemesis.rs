//! Breaks processes, the network and the database, at moments and in an order that follow from a seed.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::history::{History, Record, now};
use super::proxy::{Proxy, Weather};
use super::random::Random;
use crate::support::database::{Database, block_on};
use crate::support::processes::{LOOK, Process, Server, Site, children_of, until};

/// Longer than a lease.
const LONG: Duration = Duration::from_millis(2600);

/// What a place of the cluster runs.
pub(crate) enum Running {
    Server(Server),
    Worker(Process),
}

impl Running {
    fn pid(&self) -> u32 {
        match self {
            Self::Server(server) => server.process.pid(),
            Self::Worker(process) => process.pid(),
        }
    }

    fn into_process(self) -> Process {
        match self {
            Self::Server(server) => server.into(),
            Self::Worker(process) => process,
        }
    }
}

/// What a place runs, and starts again after a death.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// API and worker.
    Server,
    /// The API alone.
    Api,
    Worker,
}

/// One process of the cluster, and the network that it has to itself.
pub(crate) struct Place {
    name: String,
    role: Role,
    site: Site,
    proxy: Option<Proxy>,
    running: Mutex<Option<Running>>,
    /// Where the API listens now.
    address: Mutex<Option<String>>,
}

impl Place {
    pub(crate) fn new(name: String, role: Role, site: Site, proxy: Option<Proxy>) -> Self {
        let place = Self {
            name,
            role,
            site,
            proxy,
            running: Mutex::new(None),
            address: Mutex::new(None),
        };
        place.start(&mut place.running.lock().unwrap());
        place
    }

    /// Tried again where the database was not there: so does whatever starts it on a real machine.
    fn start(&self, running: &mut Option<Running>) {
        let started = until("a process that starts", || match self.role {
            Role::Server => self.site.starting(&[]).try_listening().map(Running::Server),
            Role::Api => {
                let starting = self.site.starting(&["--no-worker"]);
                starting.try_listening().map(Running::Server)
            }
            Role::Worker => self.site.try_worker().map(Running::Worker),
        });
        if let Running::Server(server) = &started {
            *self.address.lock().unwrap() = Some(server.url(""));
        }
        *running = Some(started);
    }

    /// Whether it still does what it was started for.
    pub(crate) fn is_alive(&self) -> bool {
        let running = self.running.lock().unwrap();
        running.as_ref().is_some_and(|running| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid()));
            stat.is_ok_and(|stat| !stat.contains(") Z"))
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `None` for workers.
    pub(crate) fn address(&self) -> Option<String> {
        self.address.lock().unwrap().clone()
    }

    fn has_worker(&self) -> bool {
        self.role != Role::Api
    }
}

/// What the nemesis can do.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9`; started again a moment later.
    Kill,
    /// `kill`; started again.
    Terminate,
    /// `kill -9` of the process that runs an attempt.
    KillChild,
    /// SIGSTOP for longer than a lease, then SIGCONT.
    Stop,
    /// The same for the process that runs an attempt.
    StopChild,
    Slow,
    Silent,
    Cut,
    /// Nobody can write for a while.
    LockDatabase,
    /// The database refuses a kind of statement for a while.
    RefuseWrites,
}

/// Each as often as it stands here.
const FAULTS: [Fault; 12] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Terminate,
    Fault::KillChild,
    Fault::KillChild,
    Fault::Stop,
    Fault::StopChild,
    Fault::Slow,
    Fault::Silent,
    Fault::Cut,
    Fault::LockDatabase,
    Fault::RefuseWrites,
];

/// Tables whose changes are refused; not the jobs alone, so that transactions fail in their middle.
const TABLES: [&str; 4] = ["jobs", "events", "attempts", "publications"];

/// What the nemesis works on.
pub(crate) struct Cluster<'c> {
    pub(crate) places: &'c [Place],
    pub(crate) database: &'c Database,
    pub(crate) history: &'c History,
    /// One at a time: a second one would fail.
    pub(crate) database_faults: Mutex<()>,
}

impl Cluster<'_> {
    /// Goes on until `is_over`; everything is healed when it returns. Gives the number of faults.
    pub(crate) fn torment(&self, mut random: Random, is_over: impl Fn() -> bool) -> usize {
        let mut faults = 0;
        while !is_over() {
            std::thread::sleep(random.millis(50, 500));
            let fault = *random.pick(&FAULTS);
            let place = random.pick(self.places);
            let from = now();
            if self.inflict(fault, place, &mut random).is_some() {
                let until = now();
                let what = format!("{fault:?} {}", place.name);
                self.history.add(Record::Fault { from, until, what });
                faults += 1;
            }
        }
        faults
    }

    /// `None` where there was nothing to break.
    fn inflict(&self, fault: Fault, place: &Place, random: &mut Random) -> Option<()> {
        match fault {
            Fault::LockDatabase => return self.lock_database(random),
            Fault::RefuseWrites => return self.refuse_writes(random),
            Fault::Slow => return weather(place, Weather::Slow(random.millis(20, 200)), random),
            Fault::Silent => return weather(place, Weather::Silent, random),
            Fault::Cut => return weather(place, Weather::Cut, random),
            Fault::Kill | Fault::Terminate | Fault::KillChild | Fault::Stop | Fault::StopChild => {}
        }
        // Whoever is at this place already is left to it.
        let mut running = place.running.try_lock().ok()?;
        let pid = running.as_ref()?.pid();
        match fault {
            Fault::Kill | Fault::Terminate => {
                let process = running.take()?.into_process();
                if matches!(fault, Fault::Kill) {
                    process.kill();
                } else {
                    process.terminate();
                }
                std::thread::sleep(random.millis(10, 600));
                place.start(&mut running);
            }
            Fault::Stop => pause(pid, LONG),
            Fault::KillChild | Fault::StopChild => {
                let child = *children_of(pid).first().filter(|_| place.has_worker())?;
                if matches!(fault, Fault::KillChild) {
                    signal_if_there(child, Signal::KILL);
                } else {
                    pause(child, LONG);
                }
            }
            Fault::Slow
            | Fault::Silent
            | Fault::Cut
            | Fault::LockDatabase
            | Fault::RefuseWrites => {}
        }
        Some(())
    }

    /// On SQLite as another program that writes would; on PostgreSQL as somebody who alters the table would.
    fn lock_database(&self, random: &mut Random) -> Option<()> {
        let _alone = self.database_faults.try_lock().ok()?;
        let held = random.millis(300, 3000);
        block_on(self.database.lock(held)).ok()
    }

    fn refuse_writes(&self, random: &mut Random) -> Option<()> {
        let _alone = self.database_faults.try_lock().ok()?;
        let table = random.pick(&TABLES);
        let operation = random.pick(&["insert", "update"]);
        let held = random.millis(300, 2000);
        block_on(async {
            self.database.refuse(operation, table).await.ok()?;
            tokio::time::sleep(held).await;
            // It may be busy just now.
            while self.database.accept_again(table).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
            Some(())
        })
    }
}

/// `None` where there is no network.
fn weather(place: &Place, weather: Weather, random: &mut Random) -> Option<()> {
    let proxy = place.proxy.as_ref()?;
    proxy.set(weather);
    std::thread::sleep(random.millis(200, 3500));
    proxy.set(Weather::Fine);
    Some(())
}

fn pause(pid: u32, duration: Duration) {
    let until = Instant::now() + duration;
    signal_if_there(pid, Signal::STOP);
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    signal_if_there(pid, Signal::CONT);
}

/// An attempt may be over already.
fn signal_if_there(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), signal).ok();
}
