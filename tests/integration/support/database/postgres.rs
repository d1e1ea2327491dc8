//! A throw-away PostgreSQL server, made from the programs that are installed.
//!
//! A shell watches over it: it holds the read end of a pipe whose other end dies with the test binary, however that
//! ends. Then it stops the server and removes its directory.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

/// Runs as long as its standard input is open. `$1` is the directory.
const WATCH: &str = "\
trap '' INT TERM HUP
cat > /dev/null
pid=$(head -n 1 \"$1/data/postmaster.pid\" 2> /dev/null)
# At once: what it has not written is of no use to anybody.
[ -z \"$pid\" ] || kill -QUIT \"$pid\"
tries=0
while [ -n \"$pid\" ] && [ \"$tries\" -lt 100 ] && kill -0 \"$pid\" 2> /dev/null; do
    sleep 0.1
    tries=$((tries + 1))
done
# A process of the server may outlive it for a moment, and write.
until rm -rf \"$1\" || [ \"$tries\" -gt 300 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
";

/// Nothing here has to survive the end of the machine.
const SETTINGS: &str = "-c fsync=off -c full_page_writes=off -c shared_buffers=32MB \
    -c max_connections=200 -c listen_addresses=";

/// The longest path of a socket, its final zero included.
const SOCKET_PATH: usize = 108;

/// The programs, and whom they run as: the server refuses to run as root.
struct Programs {
    directory: PathBuf,
    user: Option<(u32, u32)>,
}

/// A server that runs. It listens on a socket in its own directory, which nobody else can enter.
pub(crate) struct Cluster {
    directory: PathBuf,
    programs: Programs,
    _watch: ChildStdin,
}

impl Cluster {
    /// The one that all tests share; started by the first. `None` where no server is installed, which `CI` forbids.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Self::own).as_ref()
    }

    /// One that a test can stop. `None` as for [`Cluster::shared`].
    pub(crate) fn own() -> Option<Self> {
        let Some(programs) = Programs::find() else {
            let message =
                "no PostgreSQL server is installed (initdb in PATH or /usr/lib/postgresql/*/bin)";
            assert!(std::env::var_os("CI").is_none(), "{message}");
            // Past the capture of the output of tests that pass.
            let line = format!("NOT RUN: tests on PostgreSQL: {message}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        };
        Some(Self::start(programs))
    }

    #[expect(
        clippy::zombie_processes,
        reason = "what watches over the end of this process outlives it"
    )]
    fn start(programs: Programs) -> Self {
        let directory = programs.make_directory();
        let mut watch = Command::new("sh")
            .args(["-c", WATCH, "watch"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let cluster = Self {
            _watch: watch.stdin.take().unwrap(),
            directory,
            programs,
        };
        let data = cluster.data();
        cluster.programs.run("initdb", |initdb| {
            initdb.arg("--pgdata").arg(data).args([
                "--username=secateur",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ]);
        });
        cluster.start_again();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Goes on after [`Cluster::stop_at_once`].
    pub(crate) fn start_again(&self) {
        self.programs.run("pg_ctl", |pg_ctl| {
            let settings = format!(
                "{SETTINGS} -c unix_socket_directories='{}'",
                self.directory.display()
            );
            pg_ctl.arg("--pgdata").arg(self.data());
            pg_ctl.arg("--options").arg(settings);
            pg_ctl.arg("--log").arg(self.directory.join("log"));
            pg_ctl.args(["--wait", "--timeout=60", "start"]);
        });
    }

    /// As a crash would.
    pub(crate) fn stop_at_once(&self) {
        self.programs.run("pg_ctl", |pg_ctl| {
            pg_ctl.arg("--pgdata").arg(self.data());
            pg_ctl.args(["--mode=immediate", "--wait", "--timeout=60", "stop"]);
        });
    }

    /// A database of it.
    pub(crate) fn url(&self, database: &str) -> String {
        let mut url =
            reqwest::Url::parse(&format!("postgres://secateur@localhost/{database}")).unwrap();
        let socket = self.directory.to_str().unwrap();
        url.query_pairs_mut().append_pair("host", socket);
        url.into()
    }
}

impl Cluster {
    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }
}

impl Programs {
    fn find() -> Option<Self> {
        let in_path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<_> = std::env::split_paths(&in_path).collect();
        let mut installed: Vec<_> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .map(|version| version.unwrap().path().join("bin"))
            .collect();
        // The newest last: PATH first, then that one.
        installed.sort_by_key(|bin| version(bin));
        directories.extend(installed.into_iter().rev());
        let is_complete = |bin: &PathBuf| {
            ["initdb", "pg_ctl"]
                .iter()
                .all(|name| bin.join(name).is_file())
        };
        let directory = directories.into_iter().find(is_complete)?;
        let user = rustix::process::geteuid().is_root().then(other_user);
        Some(Self { directory, user })
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn run(&self, name: &str, arguments: impl FnOnce(&mut Command)) {
        let mut command = self.command(self.directory.join(name));
        command.current_dir("/");
        arguments(&mut command);
        // The server that stays behind must not hold a pipe that is read to its end.
        let output = command.stdout(Stdio::null()).output().unwrap();
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Where the server's user can write, and the path of a socket is not too long.
    fn make_directory(&self) -> PathBuf {
        let bases = [std::env::temp_dir(), PathBuf::from("/tmp")];
        let base = bases.iter().find(|base| {
            let can_enter = self.command("test").arg("-x").arg(base).status();
            can_enter.unwrap().success() && base.as_os_str().len() + 40 < SOCKET_PATH
        });
        let directory = tempfile::Builder::new()
            .prefix("secateur-pg-")
            .tempdir_in(base.unwrap())
            .unwrap()
            .keep();
        if let Some((uid, gid)) = self.user {
            chown(&directory, Some(uid), Some(gid)).unwrap();
        }
        directory
    }
}

fn version(bin: &Path) -> u32 {
    let version = bin
        .parent()
        .and_then(Path::file_name)
        .and_then(OsStr::to_str);
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

/// `postgres` where the system has it.
fn other_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).unwrap()
}
