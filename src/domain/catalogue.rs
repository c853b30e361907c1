//! Every error code: what happened and what to do. One source for answers, pages and `eml explain`.

/// One error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `EML-` and four digits: 0 configuration, 1 request, 2 sign-in, 3 calls, 4 providers, 5 stores, 9 internal.
    pub code: &'static str,
    /// Its page below `/problems/`.
    pub slug: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// The HTTP status it is answered with, where it is an answer.
    pub status: Option<u16>,
    /// What happened.
    pub what: &'static str,
    /// What to do.
    pub fix: &'static str,
}

const fn entry(
    (code, slug, status): (&'static str, &'static str, Option<u16>),
    title: &'static str,
    what: &'static str,
    fix: &'static str,
) -> Entry {
    Entry { code, slug, title, status, what, fix }
}

/// Every code, in order.
pub const ENTRIES: &[Entry] = &[
    entry(
        ("EML-0101", "config-syntax", None),
        "configuration is not TOML",
        "A configuration file cannot be read as TOML.",
        "Look at the line under which the caret stands; quotes and brackets are the usual cause.",
    ),
    entry(
        ("EML-0102", "config-unknown-key", None),
        "unknown key",
        "A configuration file has a key or section that does not exist.",
        "Take the suggested name, or compare with `eml config default`.",
    ),
    entry(
        ("EML-0103", "config-type", None),
        "value of another type",
        "A key has a value of the wrong type, as text where a number is wanted.",
        "See `eml config default` for the type and unit of each key.",
    ),
    entry(
        ("EML-0104", "config-value", None),
        "value not usable",
        "A value has the right type but cannot work.",
        "The message names the key and what it accepts.",
    ),
    entry(
        ("EML-0105", "config-environment", None),
        "unknown environment variable",
        "A variable that begins with EML__ names no key, or sets a key that its …_FILE sets too.",
        "Names are EML__SECTION__KEY; `eml config env` lists them.",
    ),
    entry(
        ("EML-1001", "malformed-body", Some(400)),
        "body cannot be read",
        "The body is not valid JSON, or not of the expected shape.",
        "Send one JSON object of the shape that /docs describes.",
    ),
    entry(
        ("EML-1002", "validation", Some(422)),
        "a value is not acceptable",
        "The request is well formed, but a value in it cannot be used.",
        "`errors` names each value by its JSON pointer.",
    ),
    entry(
        ("EML-1003", "not-found", Some(404)),
        "not found",
        "There is nothing at this path.",
        "Check the id and the path; /docs lists every path.",
    ),
    entry(
        ("EML-1004", "method-not-allowed", Some(405)),
        "method not allowed",
        "The path exists, but not with this method.",
        "The Allow header lists the methods.",
    ),
    entry(
        ("EML-1005", "body-too-large", Some(413)),
        "body too large",
        "The body is longer than server.max_body_bytes.",
        "Send less, or raise server.max_body_bytes.",
    ),
    entry(
        ("EML-1006", "unknown-field", Some(422)),
        "unknown field",
        "The request has a field that does not exist.",
        "Remove it, or correct its name.",
    ),
    entry(
        ("EML-1007", "precondition-required", Some(428)),
        "If-Match is needed",
        "Configuration is only changed by those who know what they change.",
        "Send the ETag of your last GET in If-Match.",
    ),
    entry(
        ("EML-1008", "precondition-failed", Some(412)),
        "changed in the meantime",
        "Somebody else changed it since you read it.",
        "Read it again and repeat your change on what is there now.",
    ),
    entry(
        ("EML-1009", "exists", Some(409)),
        "exists already",
        "The name or id is taken.",
        "Choose another, or change the one that is there.",
    ),
    entry(
        ("EML-1010", "idempotency-key-reused", Some(422)),
        "idempotency key of another request",
        "This Idempotency-Key was used with another body.",
        "Use a fresh key for each new request.",
    ),
    entry(
        ("EML-1011", "idempotency-key-running", Some(409)),
        "first request still running",
        "The first request with this Idempotency-Key has no answer yet.",
        "Repeat it in a moment.",
    ),
    entry(
        ("EML-1012", "media-type", Some(415)),
        "content type not supported",
        "The body must be JSON.",
        "Send Content-Type: application/json.",
    ),
    entry(
        ("EML-1013", "timeout", Some(503)),
        "no answer in time",
        "The request could not be answered in time; it may or may not have been carried out.",
        "Repeat it with the same Idempotency-Key or command id.",
    ),
    entry(
        ("EML-1014", "number-not-e164", Some(422)),
        "number is not E.164",
        "A number must be `+`, country code and subscriber number, digits only.",
        "Write it as +12025550143; client:NAME and sip:ADDRESS are accepted too.",
    ),
    entry(
        ("EML-1015", "bad-cursor", Some(400)),
        "cursor not usable",
        "The cursor is not one that a list gave out.",
        "Take `page.next_cursor` of the page before, unchanged.",
    ),
    entry(
        ("EML-1016", "bad-filter", Some(400)),
        "filter not usable",
        "A query parameter has a value that cannot be used.",
        "The detail names the parameter; /docs lists the filters.",
    ),
    entry(
        ("EML-1017", "bad-header", Some(400)),
        "header not usable",
        "A header has a value that cannot be used.",
        "The detail names the header.",
    ),
    entry(
        ("EML-1018", "in-use", Some(409)),
        "still in use",
        "Other things refer to it.",
        "Change or remove those first.",
    ),
    entry(
        ("EML-2001", "no-token", Some(401)),
        "not signed in",
        "There is no token, or it is not one of ours.",
        "POST /auth/login and send Authorization: Bearer TOKEN.",
    ),
    entry(
        ("EML-2002", "token-expired", Some(401)),
        "token has expired",
        "The token was good, but its time is over.",
        "POST /auth/refresh, or sign in again.",
    ),
    entry(
        ("EML-2003", "forbidden", Some(403)),
        "not permitted",
        "Your roles do not allow this, or your token is for less than they do.",
        "Ask somebody who may, or have your roles changed.",
    ),
    entry(
        ("EML-2004", "second-factor-due", Some(401)),
        "second factor is due",
        "The password is right, but a second factor is needed too.",
        "POST /auth/2fa with `challenge` and a code; when `methods` is `enroll`, POST /auth/2fa/enroll with it.",
    ),
    entry(
        ("EML-2005", "bad-credentials", Some(401)),
        "login or password is wrong",
        "Nobody can sign in with this login and password.",
        "Try again; `eml user create` makes a new user on the host.",
    ),
    entry(
        ("EML-2006", "too-many-tries", Some(429)),
        "too many tries",
        "There were too many tries for this login from this address.",
        "Wait a minute.",
    ),
    entry(
        ("EML-2007", "origin-not-allowed", Some(403)),
        "origin not allowed",
        "The page that opens the socket comes from elsewhere.",
        "Add its origin to websocket.allowed_origins.",
    ),
    entry(
        ("EML-2008", "bad-ticket", Some(401)),
        "ticket not usable",
        "A ticket works once, for 30 seconds.",
        "Get a fresh one from POST /ws/ticket.",
    ),
    entry(
        ("EML-2009", "step-up-due", Some(401)),
        "second factor is needed for this",
        "This is critical, and your second factor was not shown lately.",
        "POST /auth/2fa with `challenge` and a code, and try again with the token it answers with.",
    ),
    entry(
        ("EML-2010", "weak-password", Some(422)),
        "password is too weak",
        "The password is too short, too common or easy to guess.",
        "Take a longer one: several words that do not belong together do well.",
    ),
    entry(
        ("EML-2011", "session-over", Some(401)),
        "session is over",
        "The session was ended, has run out, or its refresh token was used twice.",
        "Sign in again. If you did not use a token twice, somebody else did: look at GET /auth/sessions.",
    ),
    entry(
        ("EML-2012", "link-not-usable", Some(410)),
        "link not usable",
        "A link works once and for a while; this one was used, replaced or is too old.",
        "Ask for another one; `eml user recover` makes one on the host.",
    ),
    entry(
        ("EML-2013", "second-factor-wrong", Some(401)),
        "second factor is wrong",
        "The code is wrong, too old, or was used already.",
        "Try the next code, and look at the clock of your device; a recovery code works too, once.",
    ),
    entry(
        ("EML-2014", "foreign-request", Some(403)),
        "request comes from elsewhere",
        "The form was not sent by a page of ours, or is too old.",
        "Open the page again and send its form.",
    ),
    entry(
        ("EML-2015", "outside-provider-failed", Some(502)),
        "outside provider failed",
        "The provider that you sign in with did not answer as it should.",
        "Try again; the log says what it answered.",
    ),
    entry(
        ("EML-2016", "registration-closed", Some(403)),
        "registration is closed",
        "Here, users are made by an admin or by invitation.",
        "Ask an admin, or open the link of your invitation.",
    ),
    entry(
        ("EML-2017", "challenge-over", Some(401)),
        "challenge is over",
        "The challenge was answered, is too old, or its user changed since.",
        "Sign in again, or repeat what asked for the second factor.",
    ),
    entry(
        ("EML-3001", "call-not-found", Some(404)),
        "call not found",
        "There is no such call.",
        "Check the id; GET /calls/history lists calls.",
    ),
    entry(
        ("EML-3002", "wrong-state", Some(409)),
        "not possible in this state",
        "The call's state does not allow this.",
        "GET /calls/{id} tells its state.",
    ),
    entry(
        ("EML-3003", "not-your-call", Some(403)),
        "another agent's call",
        "The call belongs to another agent.",
        "Supervisors may act on any call.",
    ),
    entry(
        ("EML-3004", "offer-gone", Some(409)),
        "offer does not stand any more",
        "The offer has ended: taken, passed, timed out, or taken back.",
        "Nothing to do; the next offer will come.",
    ),
    entry(
        ("EML-3005", "agent-not-found", Some(404)),
        "agent not found",
        "There is no such agent.",
        "GET /agents lists them.",
    ),
    entry(
        ("EML-3006", "agent-not-ready", Some(409)),
        "agent is not ready",
        "The agent is not connected, not available, or has no room for another call.",
        "Look at GET /agents for what the agent is doing.",
    ),
    entry(
        ("EML-3007", "queue-not-found", Some(422)),
        "queue not found",
        "There is no such queue.",
        "GET /queues lists them.",
    ),
    entry(
        ("EML-3008", "no-provider", Some(409)),
        "no provider",
        "No provider, or no number of one, can make this call.",
        "Configure a [providers.NAME] section and a number, or name the provider.",
    ),
    entry(
        ("EML-3009", "set-aside", Some(503)),
        "set aside after failures",
        "This call or session failed again and again and is left alone for a while.",
        "It is tried again by itself; the log tells why it failed.",
    ),
    entry(
        ("EML-4001", "bad-signature", Some(403)),
        "signature does not hold",
        "The request does not come from the provider, or was signed for another address.",
        "Compare providers.NAME.public_url and auth_token with what the provider has.",
    ),
    entry(
        ("EML-4002", "malformed-webhook", Some(400)),
        "webhook cannot be read",
        "The request lacks a field that nothing can be done without.",
        "Compare with the provider's documentation; the detail names the field.",
    ),
    entry(
        ("EML-4003", "unknown-provider", Some(404)),
        "unknown provider",
        "There is no provider section of this name, or it has no such path.",
        "The path is /webhooks/NAME/… with the name of a [providers.NAME] section.",
    ),
    entry(
        ("EML-5001", "store-unavailable", Some(503)),
        "store not available",
        "Facts cannot be stored now, so nothing is acknowledged.",
        "Look at GET /health; repeat later.",
    ),
    entry(
        ("EML-5002", "overloaded", Some(503)),
        "overloaded",
        "More work is waiting than can be done in time; calls that are under way go first.",
        "Repeat later; add nodes if it stays so.",
    ),
    entry(
        ("EML-5003", "draining", Some(503)),
        "node is being stopped",
        "This node takes no new work.",
        "Use another node, or wait for its restart.",
    ),
    entry(
        ("EML-9001", "internal", Some(500)),
        "internal error",
        "Something that should not happen has happened.",
        "The log has it under the request id; please report it.",
    ),
];

/// The entry of a code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.code.eq_ignore_ascii_case(code))
}

/// The entry of a page.
#[must_use]
pub fn find_slug(slug: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.slug == slug)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_and_slugs_are_unique_and_explained() {
        let codes: HashSet<_> = ENTRIES.iter().map(|entry| entry.code).collect();
        let slugs: HashSet<_> = ENTRIES.iter().map(|entry| entry.slug).collect();
        assert_eq!((codes.len(), slugs.len()), (ENTRIES.len(), ENTRIES.len()));
        for entry in ENTRIES {
            assert!(
                !entry.title.is_empty() && !entry.what.is_empty() && !entry.fix.is_empty(),
                "{}",
                entry.code
            );
        }
    }
}
