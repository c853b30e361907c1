//! One node of the harness: a real process with its own configuration, log and clock.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::network::Network;
use crate::support::canary;

/// How long a node may take to come up, on a machine with other work.
const COME_UP: Duration = Duration::from_secs(30);
/// How long an orderly end may take.
const GO_DOWN: Duration = Duration::from_secs(40);

/// What the program ends with when a store cannot be reached (`EX_UNAVAILABLE` of sysexits.h).
const STORE_IS_AWAY: i32 = 69;
/// Pause before it is started again then.
const START_AGAIN: Duration = Duration::from_millis(200);

/// Which program the nodes run, and how.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Another build than that of the tests.
    pub path: Option<PathBuf>,
    /// A bug that is switched on in it.
    pub bug: Option<String>,
    /// Whether clocks can be moved.
    pub has_clock: bool,
}

/// A node, running or not.
pub struct Node {
    pub place: usize,
    pub name: String,
    folder: PathBuf,
    program: Program,
    child: Option<Child>,
    /// Processor time of runs that have ended, in ticks of 10 ms.
    spent: u64,
}

impl Node {
    /// A node that does not run yet.
    pub fn new(place: usize, name: String, folder: PathBuf, program: Program) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("clock"), "+0").unwrap();
        Self { place, name, folder, program, child: None, spent: 0 }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Looks whether it has ended by itself.
    pub fn look(&mut self) {
        let ticks = self.ticks();
        if self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()) {
            self.child = None;
            self.spent += ticks;
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the process; it may take a while until it serves.
    pub fn start(&mut self, network: &Network) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let program = self.program.path.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_eml")));
        let mut command = network.command(self.place, program.to_str().unwrap());
        command.arg("serve").arg("--config").arg(self.folder.join("eml.toml"));
        if self.program.has_clock {
            // Only the wall clock: a lease is measured by the other one, which nothing moves.
            command.env("LD_PRELOAD", faketime()).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command.env("FAKETIME_TIMESTAMP_FILE", self.folder.join("clock"));
            command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_FORCE_MONOTONIC_FIX", "0");
        }
        if let Some(bug) = &self.program.bug {
            command.env("EML_TEST_BUG", bug);
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn();
        self.child = Some(spawned.unwrap());
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Waits until it is ready for work; answers how long that took.
    pub async fn await_ready(&mut self, network: &Network) -> Duration {
        let (began, url) = (Instant::now(), format!("http://{}/health/ready", network.api(self.place)));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build().unwrap();
        loop {
            if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return began.elapsed();
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            if let Some(ended) = ended {
                assert!(
                    ended.code() == Some(STORE_IS_AWAY),
                    "{} ended with {ended:?}: {}",
                    self.name,
                    self.last_words()
                );
                // As whoever runs the program would: it ends without its store, and is started again.
                self.child = None;
                tokio::time::sleep(START_AGAIN).await;
                self.start(network);
            }
            assert!(began.elapsed() < COME_UP, "{} does not come up: {}", self.name, self.last_words());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Sends a signal, as in `STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.pid().expect("it runs").to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.spent += self.ticks();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it has ended by itself; answers how long that took, and its exit code.
    pub async fn await_end(&mut self) -> (Duration, Option<i32>) {
        let began = Instant::now();
        assert!(self.is_running(), "{} runs", self.name);
        while began.elapsed() < GO_DOWN {
            let ticks = self.ticks();
            if let Some(status) = self.child.as_mut().expect("it runs").try_wait().unwrap() {
                self.child = None;
                self.spent += ticks;
                return (began.elapsed(), status.code());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} does not end: {}", self.name, self.last_words());
    }

    /// Moves its wall clock to so many seconds from the true time.
    pub fn move_clock(&self, seconds: i64) {
        assert!(self.program.has_clock, "this node's clock cannot be moved");
        // Written beside and moved: a half-written file would be no time at all.
        let fresh = self.folder.join("clock.new");
        File::create(&fresh).unwrap().write_all(format!("{seconds:+}").as_bytes()).unwrap();
        std::fs::rename(fresh, self.folder.join("clock")).unwrap();
    }

    fn ticks(&self) -> u64 {
        let Some(pid) = self.pid() else { return 0 };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // User and system time are fields 14 and 15; the first two are gone.
        let number = |i: usize| fields.get(i).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        number(11) + number(12)
    }

    /// Processor time of all its runs.
    pub fn processor_time(&self) -> Duration {
        Duration::from_millis((self.spent + self.ticks()) * 10)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        canary::keep(&std::fs::read(self.log()).unwrap_or_default());
    }
}

/// Debian's library that moves the wall clock of a program.
fn faketime() -> PathBuf {
    let machine = std::env::consts::ARCH;
    PathBuf::from(format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
}

/// Whether clocks of programs can be moved here.
pub fn has_faketime() -> bool {
    faketime().exists()
}
