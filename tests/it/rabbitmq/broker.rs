//! A broker of one's own, that a test may kill.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng as _;
use tempfile::TempDir;

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(90);

/// A private broker; it ends with the test.
pub(super) struct Broker {
    folder: TempDir,
    port: u16,
    distribution_port: u16,
}

impl Broker {
    /// Starts one where that is possible: the server must be there, and only root can start it, since
    /// it runs as its own user. Elsewhere the test says so; with `CI=true` that is a failure.
    pub(super) fn start() -> Option<Self> {
        if !succeeds(&["sh", "-c", "command -v rabbitmq-server && test $(id -u) = 0"]) {
            let message = "NOT RUN: needs rabbitmq-server and root to start a broker of its own";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
            eprintln!("{message}");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("eml-broker-").tempdir().unwrap();
        let broker = Self { folder, port: free_port(), distribution_port: free_port() };
        broker.prepare();
        broker.start_again();
        Some(broker)
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://eml:secret@127.0.0.1:{}", self.port)
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn prepare(&self) {
        let settings = [
            format!("listeners.tcp.1 = 127.0.0.1:{}", self.port),
            "default_user = eml\ndefault_pass = secret\nloopback_users = none".to_owned(),
            "disk_free_limit.absolute = 50MB\n".to_owned(),
        ];
        std::fs::write(self.path().join("rabbitmq.conf"), settings.join("\n")).unwrap();
        std::fs::write(self.path().join("plugins"), "[].").unwrap();
        std::fs::create_dir(self.path().join("log")).unwrap();
        let owned = Command::new("chown").args(["-R", "rabbitmq:rabbitmq"]).arg(self.path()).status();
        assert!(owned.unwrap().success());
    }

    /// Starts it on what it kept.
    pub(super) fn start_again(&self) {
        let place = |name: &str| self.path().join(name);
        let log = std::fs::File::create(place("out")).unwrap();
        let listen = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +S 2:2";
        let mut server = Command::new("setsid")
            .arg("rabbitmq-server")
            .env("RABBITMQ_NODENAME", format!("eml{}@localhost", self.port))
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONFIG_FILE", place("rabbitmq"))
            .env("RABBITMQ_MNESIA_BASE", place("mnesia"))
            .env("RABBITMQ_LOG_BASE", place("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", place("plugins"))
            .env("RABBITMQ_PID_FILE", place("pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", listen)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        // It is stopped by the process id that it writes.
        std::thread::spawn(move || server.wait());
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let said = || std::fs::read_to_string(place("out")).unwrap_or_default();
            assert!(begin.elapsed() < START_LIMIT, "the broker does not start: {}", said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ends it at once, as a loss of power would.
    pub(super) fn kill(&self) {
        let Ok(pid) = std::fs::read_to_string(self.path().join("pid")) else { return };
        succeeds(&["kill", "-9", pid.trim()]);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn succeeds(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().unwrap().status.success()
}

/// A port below the range from which the kernel hands out its own.
fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(23_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
