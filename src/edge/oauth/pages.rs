//! The few pages that people see: signing in, consent, the code of a device. Plain HTML without script;
//! nobody may frame them, and their forms lead to us and to the one client's address only.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::unkept;
use crate::domain::identity::{Permission, PermissionSet};

/// How the pages look.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.6 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem}\
label{display:block;margin:1rem 0}\
input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5rem}\
button{font:inherit;padding:.5rem 1.25rem;margin:1rem .5rem 0 0}\
.code{font:1.5rem ui-monospace,monospace;letter-spacing:.15em}\
.fault{border-left:.25rem solid #c33;padding-left:.75rem}";

/// The policy's name for the style.
static STYLE_HASH: LazyLock<String> =
    LazyLock::new(|| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, STYLE.as_bytes()))));

/// A text that stands in HTML and is nothing but text there.
pub(super) fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for letter in raw.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}

/// A page on its way to a browser.
pub(super) struct Page {
    title: &'static str,
    body: String,
    status: StatusCode,
    /// Where its form may lead besides to us.
    leads_to: Option<String>,
    /// A cookie that goes with it.
    cookie: Option<String>,
}

impl Page {
    fn new(title: &'static str, body: String) -> Self {
        Self { title, body, status: StatusCode::OK, leads_to: None, cookie: None }
    }

    /// The same with another status.
    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with a form that may end at a client's address.
    pub(super) fn leading_to(mut self, source: Option<String>) -> Self {
        self.leads_to = source;
        self
    }

    /// The same with a cookie.
    pub(super) fn cookie(mut self, cookie: String) -> Self {
        self.cookie = Some(cookie);
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { title, body, status, leads_to, cookie } = self;
        let html = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title} - EML</title>\
             <style>{STYLE}</style><h1>{title}</h1>{body}</html>"
        );
        let leads_to = leads_to.map(|source| format!(" {source}")).unwrap_or_default();
        let policy = format!(
            "default-src 'none'; style-src {}; form-action 'self'{leads_to}; frame-ancestors 'none'; \
             base-uri 'none'",
            *STYLE_HASH
        );
        let mut response = unkept((status, Html(html)).into_response());
        let headers = response.headers_mut();
        // A policy that cannot be written as a header allows nothing.
        let policy = HeaderValue::from_str(&policy)
            .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
        if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
            headers.insert(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// What a page's form carries, and what went wrong with the one before.
#[derive(Clone, Copy)]
pub(super) struct Sheet<'a> {
    /// The sealed journey.
    pub journey: &'a str,
    /// Why the form comes again.
    pub fault: Option<&'a str>,
}

impl Sheet<'_> {
    fn form(&self, inner: &str) -> String {
        let fault = self.fault.map(|fault| format!("<p class=\"fault\" role=\"alert\">{}</p>", text(fault)));
        format!(
            "{}<form method=\"post\" action=\"/oauth/consent\">\
             <input type=\"hidden\" name=\"journey\" value=\"{}\">{inner}</form>",
            fault.unwrap_or_default(),
            text(self.journey)
        )
    }
}

/// Who wants something, as told on pages.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    /// The client's name.
    pub client: &'a str,
    /// The code that its device shows.
    pub user_code: Option<&'a str>,
}

impl Asker<'_> {
    fn told(&self) -> String {
        let client = text(self.client);
        match self.user_code {
            None => format!("<p><strong>{client}</strong> asks for access to EML in your name.</p>"),
            Some(code) => format!(
                "<p><strong>{client}</strong> on a device asks for access to EML in your name. The device \
                 shows this code:</p><p class=\"code\">{}</p><p>Go on only if you started this yourself, on \
                 a device that you have before you.</p>",
                text(code)
            ),
        }
    }
}

const CANCEL: &str = "<button name=\"step\" value=\"deny\" formnovalidate>Cancel</button>";

/// Asks for login and password.
pub(super) fn sign_in(asker: Asker<'_>, sheet: Sheet<'_>) -> Page {
    let form = sheet.form(&format!(
        "<label>Login<input name=\"login\" autocomplete=\"username\" autocapitalize=\"none\" \
         spellcheck=\"false\" maxlength=\"254\" required autofocus></label>\
         <label>Password<input name=\"password\" type=\"password\" autocomplete=\"current-password\" \
         required></label><button name=\"step\" value=\"sign_in\">Sign in</button>{CANCEL}"
    ));
    Page::new("Sign in", format!("{}{form}", asker.told()))
}

/// Asks for the second factor.
pub(super) fn second_factor(asker: Asker<'_>, sheet: Sheet<'_>) -> Page {
    let form = sheet.form(&format!(
        "<label>Code of your authenticator, or a recovery code<input name=\"code\" \
         autocomplete=\"one-time-code\" spellcheck=\"false\" maxlength=\"64\" required autofocus></label>\
         <button name=\"step\" value=\"second_factor\">Go on</button>{CANCEL}"
    ));
    Page::new("Second factor", format!("{}{form}", asker.told()))
}

/// Asks whether the client may.
pub(super) fn consent(asker: Asker<'_>, (login, scopes): (&str, PermissionSet), sheet: Sheet<'_>) -> Page {
    let mut wanted = String::new();
    for permission in scopes.iter() {
        let _ = write!(wanted, "<li>{} <small>({})</small></li>", sentence(permission), permission.as_str());
    }
    let form = sheet.form(
        "<button name=\"step\" value=\"allow\">Allow</button>\
         <button name=\"step\" value=\"deny\">Deny</button>",
    );
    let body = format!(
        "{}<p>You are signed in as <strong>{}</strong>. It could then:</p><ul>{wanted}</ul>{form}",
        asker.told(),
        text(login)
    );
    Page::new("Allow access?", body)
}

/// Asks for the code that a device shows.
pub(super) fn user_code(shown: Option<&str>, sheet: Sheet<'_>) -> Page {
    let form = sheet.form(&format!(
        "<label>Code<input class=\"code\" name=\"user_code\" value=\"{}\" autocomplete=\"off\" \
         autocapitalize=\"characters\" spellcheck=\"false\" maxlength=\"16\" required autofocus></label>\
         <button name=\"step\" value=\"user_code\">Go on</button>",
        text(shown.unwrap_or_default())
    ));
    let intro = "<p>Type the code that your device shows, or compare it with the one below.</p>";
    Page::new("Connect a device", format!("{intro}{form}"))
}

/// Tells that a device may.
pub(super) fn connected(client: &str) -> Page {
    let body = format!(
        "<p><strong>{}</strong> has access now. You can close this window and go back to your device.</p>",
        text(client)
    );
    Page::new("Device connected", body)
}

/// Tells that a device may not.
pub(super) fn refused() -> Page {
    Page::new("Access refused", "<p>The device gets no access. You can close this window.</p>".to_owned())
}

/// Tells that it does not go on from here.
pub(super) fn broken(why: &str) -> Page {
    let body =
        format!("<p>{}</p><p>Go back to the program that sent you here, and begin again.</p>", text(why));
    Page::new("This does not work", body).status(StatusCode::BAD_REQUEST)
}

/// A permission in words.
const fn sentence(permission: Permission) -> &'static str {
    match permission {
        Permission::Own => "read and change your own profile, sessions and second factor",
        Permission::SetupRead => "read how the call centre is set up",
        Permission::SetupWrite => "change how the call centre is set up",
        Permission::UsersRead => "read users and roles",
        Permission::UsersWrite => "make and change users",
        Permission::RolesWrite => "change what roles may do",
        Permission::ClientsWrite => "let other programs in",
        Permission::AuditRead => "read the audit trail",
        Permission::CallsRead => "read calls",
        Permission::CallsControl => "start calls and act on them",
        Permission::CallsSupervise => "act on the calls of others",
        Permission::AgentsControl => "set what agents are doing",
        Permission::AgentsRelease => "free agents that hang on a call",
        Permission::ClusterRead => "see the nodes of the cluster",
        Permission::ClusterWrite => "send nodes of the cluster away",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    const EVIL: &str = "\"><script>alert('x')</script>&";

    async fn sent(page: Page) -> (axum::http::HeaderMap, String) {
        let (parts, body) = page.into_response().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        (parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn nothing_that_somebody_sent_becomes_markup() {
        let asker = Asker { client: EVIL, user_code: Some(EVIL) };
        let sheet = Sheet { journey: EVIL, fault: Some(EVIL) };
        for page in [
            sign_in(asker, sheet),
            second_factor(asker, sheet),
            consent(asker, (EVIL, PermissionSet::all()), sheet),
            user_code(Some(EVIL), sheet),
            connected(EVIL),
            broken(EVIL),
        ] {
            let (_, html) = sent(page).await;
            assert!(!html.contains("<script") && !html.contains("alert('"), "{html}");
            assert!(html.contains("&lt;script&gt;"), "{html}");
        }
    }

    #[tokio::test]
    async fn no_page_may_be_framed_kept_or_led_astray() {
        let page = refused().leading_to(Some("https://app.example.org".to_owned()));
        let (headers, html) = sent(page).await;
        let policy = headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self' https://app.example.org;",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        for (name, want) in [
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(headers[name], want);
        }
        assert!(html.contains("<style>") && policy.contains("style-src 'sha256-"), "{policy}");
    }
}
