//! Passwords: how they are kept, compared and judged. The slow part runs on a thread of its own.

mod policy;
mod scheme;
mod secret;
mod thread;

pub use policy::PasswordContext;
pub use scheme::Verdict;
pub use secret::Password;
pub use thread::Turn;

use super::super::error::{ApiError, Code};
use thread::SlowThread;

/// How passwords are kept and judged.
#[derive(Debug, Clone, Copy)]
pub struct PasswordSettings {
    /// Cost of bcrypt.
    pub cost: u32,
    /// Passwords that may wait for their turn.
    pub line: usize,
    /// Fewest characters where the password is all that is asked.
    pub least: usize,
}

/// Works on passwords.
#[derive(Clone)]
pub struct Passwords {
    settings: PasswordSettings,
    thread: SlowThread,
}

impl Passwords {
    /// Starts the thread that works on them.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(settings: PasswordSettings) -> std::io::Result<Self> {
        Ok(Self { thread: SlowThread::start(settings.line)?, settings })
    }

    /// A place in the line; keep it from before the first look at the store, so that who comes too many
    /// costs nothing.
    ///
    /// # Errors
    /// `TooManyTries` at once when the line is full.
    pub fn turn(&self) -> Result<Turn, ApiError> {
        self.thread.turn()
    }

    /// Hashes a password.
    ///
    /// # Errors
    /// `TooManyTries` when the line is full.
    pub async fn hash(&self, password: Password) -> Result<String, ApiError> {
        self.hash_in(&self.turn()?, password).await
    }

    /// The same for who has a place in the line.
    ///
    /// # Errors
    /// When the work broke down.
    pub async fn hash_in(&self, turn: &Turn, password: Password) -> Result<String, ApiError> {
        let cost = self.settings.cost;
        turn.run(move || scheme::hash(&password, cost)).await?.ok_or(ApiError::new(Code::Internal))
    }

    /// Compares a password with what is kept. Without anything kept it takes as long and is wrong.
    ///
    /// # Errors
    /// `TooManyTries` when the line is full.
    pub async fn verify(&self, password: Password, kept: Option<&str>) -> Result<Verdict, ApiError> {
        self.verify_in(&self.turn()?, password, kept).await
    }

    /// The same for who has a place in the line.
    ///
    /// # Errors
    /// When the work broke down.
    pub async fn verify_in(
        &self,
        turn: &Turn,
        password: Password,
        kept: Option<&str>,
    ) -> Result<Verdict, ApiError> {
        let (cost, kept) = (self.settings.cost, kept.map(ToOwned::to_owned));
        turn.run(move || scheme::compare(&password, kept.as_deref(), cost)).await
    }

    /// Whether somebody may have this password.
    ///
    /// # Errors
    /// `WeakPassword` with advice, `TooManyTries` when the line is full.
    pub async fn check(&self, password: &Password, context: &PasswordContext) -> Result<(), ApiError> {
        self.check_in(&self.turn()?, password, context).await
    }

    /// The same for who has a place in the line.
    ///
    /// # Errors
    /// `WeakPassword` with advice.
    pub async fn check_in(
        &self,
        turn: &Turn,
        password: &Password,
        context: &PasswordContext,
    ) -> Result<(), ApiError> {
        let (password, context, least) = (password.clone(), context.clone(), self.settings.least);
        turn.run(move || policy::check(&password, &context, least)).await?
    }
}

/// Hashes a password here and now, for who has no node around: the command line.
///
/// # Errors
/// When bcrypt does not know this cost.
pub fn hash_now(password: &Password, cost: u32) -> Result<String, ApiError> {
    scheme::hash(password, cost).ok_or(ApiError::new(Code::Internal))
}

/// Whether somebody may have this password, judged here and now.
///
/// # Errors
/// `WeakPassword` with advice.
pub fn check_now(password: &Password, context: &PasswordContext, least: usize) -> Result<(), ApiError> {
    policy::check(password, context, least)
}
