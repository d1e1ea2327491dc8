//! Many jobs on several processes while a nemesis kills them, stops them, and breaks network and database; then one checker
//! over everything that was done and seen.
//!
//! What is chosen follows from a seed. `SECATEUR_CHAOS_SEEDS` says how many seeds to go through, none unless it is set: one
//! takes minutes. `SECATEUR_CHAOS_FIRST` says which is the first.

mod checker;
mod history;
mod nemesis;
mod proxy;
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::checker::{Expected, Orders, check, what_counts};
use self::history::{Call, History, Record, now};
use self::nemesis::{Cluster, Place, Role};
use self::proxy::Proxy;
use self::random::Random;
use crate::support::database::Database;
use crate::support::database::postgres;
use crate::support::processes::{LOOK, PATIENCE, Site, until};
use crate::support::servers::mock_hub::sha256;
use crate::support::synthetic::{Shape, write_local_model};

on_both_databases!(blocking: no_job_is_lost_whatever_breaks);

/// Jobs of one seed.
const JOBS: usize = 60;

/// So many threads break things at the same time.
const NEMESES: u64 = 2;

/// What clients ask of a job, each as often as it stands here.
const ACTIONS: [&str; 7] = [
    "cancel", "pause", "pause", "pause", "resume", "resume", "retry",
];

/// So many jobs are still of interest to those who submitted them.
const RECENT: usize = 12;

/// How long a client waits for an answer: less than a process is stopped for.
const ANSWER: Duration = Duration::from_secs(2);

fn no_job_is_lost_whatever_breaks(database: &Database) {
    let seeds = setting("SECATEUR_CHAOS_SEEDS", 0);
    if seeds == 0 {
        eprintln!("NOT RUN: chaos: SECATEUR_CHAOS_SEEDS is not set");
    }
    let first = setting("SECATEUR_CHAOS_FIRST", 1);
    for seed in first..first + seeds {
        // The first seed's database is given, the others need their own.
        let fresh = (seed > first).then(|| fresh_like(database));
        let findings = Trial::new(seed, fresh.as_ref().unwrap_or(database)).run();
        assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var_os(name);
    value.map_or(default, |value| value.to_str().unwrap().parse().unwrap())
}

fn fresh_like(database: &Database) -> Database {
    match database {
        Database::Sqlite(_) => Database::sqlite(),
        Database::Postgres { .. } => {
            crate::support::database::block_on(Database::postgres()).unwrap()
        }
    }
}

/// One seed.
struct Trial<'d> {
    seed: u64,
    database: &'d Database,
    /// Kept where something was found.
    dir: TempDir,
    history: History,
    client: Client,
    orders: Orders,
}

impl<'d> Trial<'d> {
    fn new(seed: u64, database: &'d Database) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_models(dir.path());
        let client = Client::builder().no_proxy().timeout(ANSWER);
        let mut trial = Self {
            seed,
            database,
            history: History::new(&dir.path().join("history.jsonl")),
            dir,
            client: client.build().unwrap(),
            orders: Orders::new(),
        };
        trial.orders = trial.undisturbed();
        trial
    }

    fn site(&self) -> Site {
        Site::new(self.dir.path(), self.database)
            .with("SECATEUR_LEASE_SECONDS", "2")
            .with("SECATEUR_THREADS", "1")
    }

    /// What each order leads to when nothing breaks.
    fn undisturbed(&self) -> Orders {
        let site = self.site();
        let server = site.server();
        let orders = bodies().into_iter().map(|(name, body)| {
            let id = server.submit(&body);
            let order = name.to_owned();
            self.history.add(Record::Call {
                at: now(),
                what: Call::Submit { order },
                status: Some(202),
                answer: json!({"id": id}),
            });
            let job = until("an undisturbed job", || {
                Some(server.job(&id)).filter(|job| job["finished_at"].is_string())
            });
            let expected = if job["status"] == "succeeded" {
                Expected::Succeeds {
                    results: what_counts(&job["results"]),
                    weights: self.weights(&id, 1),
                }
            } else {
                Expected::Fails(job["error"]["code"].as_str().unwrap().to_owned())
            };
            (name.to_owned(), expected)
        });
        orders.collect()
    }

    fn run(self) -> Vec<String> {
        let began = Instant::now();
        let places = self.places();
        let cluster = Cluster {
            places: &places,
            database: self.database,
            history: &self.history,
            database_faults: Mutex::new(()),
        };
        let (submitted, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let faults: usize = std::thread::scope(|scope| {
            let torment = |stream| {
                let random = Random::new(self.seed, stream);
                cluster.torment(random, || submitted.load(Ordering::Relaxed))
            };
            let nemeses = (1..=NEMESES).map(|stream| scope.spawn(move || torment(stream)));
            let nemeses: Vec<_> = nemeses.collect();
            scope.spawn(|| {
                let mut known = BTreeMap::new();
                while !ended.load(Ordering::Relaxed) {
                    self.observe(&places, &mut known);
                    std::thread::sleep(LOOK);
                }
            });
            // Also where this thread panics, or the others would never end.
            let _ended = Finally(&ended);
            let _submitted = Finally(&submitted);
            self.act(&places);
            submitted.store(true, Ordering::Relaxed);
            let faults = nemeses.into_iter().map(|nemesis| nemesis.join().unwrap());
            let faults = faults.sum();
            self.wait_for_the_end(&places);
            faults
        });
        let states = self.look_back(&places);
        let mut findings = check(&self.history.records(), &self.orders);
        let dead = places.iter().filter(|place| !place.is_alive());
        findings.extend(dead.map(|place| format!("ended by itself: {}", place.name())));
        let (seed, seconds) = (self.seed, began.elapsed().as_secs());
        let database = match self.database {
            Database::Sqlite(_) => "SQLite",
            Database::Postgres { .. } => "PostgreSQL",
        };
        eprintln!(
            "chaos on {database}: seed {seed}, {faults} faults, jobs {states:?}, {seconds} s"
        );
        if !findings.is_empty() {
            eprintln!("what happened: {}", self.dir.keep().display());
        }
        findings
    }

    fn places(&self) -> Vec<Place> {
        let roles = [Role::Server, Role::Api, Role::Worker, Role::Worker];
        let places = roles.into_iter().zip(1..).map(|(role, number)| {
            let kind = match role {
                Role::Server => "server",
                Role::Api => "api",
                Role::Worker => "worker",
            };
            let mut site = self.site();
            let proxy = match self.database {
                Database::Sqlite(_) => None,
                Database::Postgres { name, .. } => {
                    let proxy = Proxy::start(postgres::Cluster::shared().unwrap().socket());
                    let url = format!("postgres://secateur@127.0.0.1:{}/{name}", proxy.port());
                    site = site.with("SECATEUR_DATABASE_URL", url);
                    Some(proxy)
                }
            };
            Place::new(format!("{kind} {number}"), role, site, proxy)
        });
        places.collect()
    }

    /// What the clients do: they submit, and change their minds.
    fn act(&self, places: &[Place]) {
        let mut random = Random::new(self.seed, 0);
        let orders: Vec<_> = bodies().into_iter().collect();
        let mut accepted = Vec::new();
        while accepted.len() < JOBS {
            std::thread::sleep(random.millis(20, 300));
            let (order, body) = random.pick(&orders);
            let what = Call::Submit {
                order: (*order).to_owned(),
            };
            // Also where the answer is lost, the job says what it is.
            let mut body = body.clone();
            body["name"] = json!(order);
            let (status, answer) = self.call(random.pick(places), "/v1/jobs", what, &body);
            if status == Some(202) {
                accepted.push(answer["id"].as_str().unwrap().to_owned());
            }
            if !accepted.is_empty() && random.below(2) == 0 {
                // One of the last: most of the others are over.
                let recent = &accepted[accepted.len().saturating_sub(RECENT)..];
                let (action, job) = (*random.pick(&ACTIONS), random.pick(recent));
                self.ask(random.pick(places), action, job);
            }
        }
    }

    fn ask(&self, place: &Place, action: &str, job: &str) {
        let path = format!("/v1/jobs/{job}/{action}");
        let (action, job) = (action.to_owned(), job.to_owned());
        self.call(place, &path, Call::Act { action, job }, &json!({}));
    }

    /// `None` where no answer came; of places without an API none comes.
    fn call(&self, place: &Place, path: &str, what: Call, body: &Value) -> (Option<u16>, Value) {
        let Some(address) = place.address() else {
            return (None, Value::Null);
        };
        let answer = self
            .client
            .post(format!("{address}{path}"))
            .json(body)
            .send();
        let (status, answer) = match answer.map(|answer| (answer.status(), answer.json())) {
            Ok((status, Ok(answer))) => (Some(status.as_u16()), answer),
            Ok((_, Err(_))) | Err(_) => (None, Value::Null),
        };
        let record = Record::Call {
            at: now(),
            what,
            status,
            answer: answer.clone(),
        };
        self.history.add(record);
        (status, answer)
    }

    /// Reads from the first place that answers.
    fn read(&self, places: &[Place], path: &str) -> Option<Value> {
        let addresses = places.iter().filter_map(Place::address);
        let mut answers = addresses.filter_map(|address| {
            let answer = self.client.get(format!("{address}{path}")).send().ok()?;
            answer.error_for_status().ok()?.json().ok()
        });
        answers.next()
    }

    /// Writes down how every job is now that is not as it is known.
    fn observe(&self, places: &[Place], known: &mut BTreeMap<String, Value>) {
        let Some(page) = self.read(places, "/v1/jobs?limit=100") else {
            return;
        };
        for job in page["data"].as_array().unwrap() {
            let id = job["id"].as_str().unwrap();
            if known.get(id) != Some(job) {
                known.insert(id.to_owned(), job.clone());
                self.history.add(Record::Seen {
                    at: now(),
                    job: job.clone(),
                });
            }
        }
    }

    fn wait_for_the_end(&self, places: &[Place]) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let paused = self.read(places, "/v1/jobs?limit=100&status=paused");
            for job in paused
                .iter()
                .flat_map(|page| page["data"].as_array().unwrap())
            {
                self.ask(&places[0], "resume", job["id"].as_str().unwrap());
            }
            let page = self.read(places, "/v1/jobs?limit=1");
            let is_over = page.is_some_and(|page| {
                let counts = page["counts"].as_object().unwrap().iter();
                let mut open = counts.filter(|(state, _)| {
                    !["succeeded", "failed", "cancelled"].contains(&state.as_str())
                });
                open.all(|(_, count)| count == 0)
            });
            if is_over {
                return;
            }
            std::thread::sleep(LOOK);
        }
        // The checker says which job it is that never ends.
    }

    /// Writes down everything that can be known of every job; gives the number of jobs by state.
    fn look_back(&self, places: &[Place]) -> BTreeMap<String, usize> {
        let read = |path: &str| until("an answer", || self.read(places, path));
        let mut by_state = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = read(&format!("/v1/jobs?limit=100{cursor}"));
            for job in page["data"].as_array().unwrap() {
                let id = job["id"].as_str().unwrap();
                let job = read(&format!("/v1/jobs/{id}"));
                let status = job["status"].as_str().unwrap().to_owned();
                *by_state.entry(status).or_default() += 1;
                for event in read(&format!("/v1/jobs/{id}/events?limit=1000"))["data"]
                    .as_array()
                    .unwrap()
                {
                    self.history.add(Record::Event {
                        job: id.to_owned(),
                        event: event.clone(),
                    });
                }
                self.look_into_store(&job);
                self.history.add(Record::Last { job });
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return by_state,
            }
        }
    }

    /// What dead workers left there is removed by the sweep, so that is waited for.
    fn look_into_store(&self, job: &Value) {
        let id = job["id"].as_str().unwrap();
        let began = Instant::now();
        let attempts = loop {
            let attempts = self.stored(id);
            let expected = usize::from(job["status"] == "succeeded");
            if attempts.len() == expected || began.elapsed() > 5 * ANSWER {
                break attempts;
            }
            std::thread::sleep(LOOK);
        };
        let weights = attempts.last().and_then(|last| self.weights(id, *last));
        self.history.add(Record::Stored {
            job: id.to_owned(),
            attempts,
            weights,
        });
    }

    fn attempts_dir(&self, id: &str) -> PathBuf {
        let attempts = format!("home/artifacts/jobs/{id}/attempts");
        self.dir.path().join(attempts)
    }

    fn stored(&self, id: &str) -> Vec<u32> {
        let entries = fs::read_dir(self.attempts_dir(id)).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut attempts: Vec<_> = names.map(|name| name.parse().unwrap()).collect();
        attempts.sort_unstable();
        attempts
    }

    fn weights(&self, id: &str, attempt: u32) -> Option<String> {
        let file = format!("{attempt}/dense/model.safetensors");
        let content = fs::read(self.attempts_dir(id).join(file)).ok()?;
        Some(sha256(&content))
    }
}

/// Says that something is over, however that came.
struct Finally<'f>(&'f AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Two good models and one whose weights are cut off.
fn write_models(dir: &Path) {
    for (name, blocks) in [("small", 3), ("deep", 12), ("torn", 3)] {
        let shape = Shape {
            hidden: 64,
            intermediate: 128,
            blocks,
            vocab: 768,
        };
        write_local_model(&dir.join("models").join(name), shape);
    }
    let weights = dir.join("models/torn/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(weights, &whole[..whole.len() / 2]).unwrap();
    fs::create_dir_all(dir.join("data")).unwrap();
    fs::write(dir.join("data/short.txt"), "a few words").unwrap();
}

/// What clients order, by name.
fn bodies() -> [(&'static str, Value); 6] {
    let evaluation = json!({"perplexity": ["demo"], "seq_len": 64, "windows": 2});
    let prune = |model: &str, sparsity: f64, method: &str, calibration: Value| {
        let mut body = json!({
            "model": {"source": "local", "id": model}, "sparsity": sparsity, "method": method,
            "pattern": "unstructured", "evaluation": evaluation,
        });
        if method != "magnitude" {
            body["calibration"] = calibration;
        }
        body
    };
    let demo = |samples: u32| json!({"dataset": "demo", "n_samples": samples, "seq_len": 64});
    let short = json!({"dataset": "local", "path": "short.txt", "n_samples": 4, "seq_len": 64});
    [
        ("wanda", prune("small", 0.5, "wanda", demo(8))),
        ("deep", prune("deep", 0.6, "wanda", demo(32))),
        ("magnitude", prune("small", 0.4, "magnitude", Value::Null)),
        ("torn", prune("torn", 0.5, "wanda", demo(4))),
        ("short", prune("small", 0.5, "wanda", short)),
        (
            "evaluate",
            json!({"type": "evaluate", "model": {"source": "local", "id": "small"}, "evaluation": evaluation}),
        ),
    ]
}
