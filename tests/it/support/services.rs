//! The real servers that `scripts/test` starts for the tests, by their addresses in the environment.

/// Says that a test has nothing to do, and why; with `CI=true` that is a failure.
pub(crate) fn not_run<T>(why: &str) -> Option<T> {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "NOT RUN: {why}");
    eprintln!("NOT RUN: {why}");
    None
}

/// A server that a suite runs against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Service {
    Postgres,
    Mongo,
    Redis,
    Rabbit,
}

impl Service {
    /// The variable that holds its address.
    const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "EML_TEST_POSTGRES",
            Self::Mongo => "EML_TEST_MONGO",
            Self::Redis => "EML_TEST_REDIS",
            Self::Rabbit => "EML_TEST_RABBIT",
        }
    }

    /// Its address. Where it is missing the test says so and has nothing to do; with `CI=true` that
    /// is a failure.
    pub(crate) fn url(self) -> Option<String> {
        let url = std::env::var(self.variable()).ok().filter(|url| !url.is_empty());
        let missing =
            || not_run(&format!("{} is not set; ./scripts/test starts the servers", self.variable()));
        url.or_else(missing)
    }
}
