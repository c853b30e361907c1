//! Scopes: names of permissions, separated by one blank.

use super::error::{Fault, OAuthError};
use crate::domain::identity::{Permission, PermissionSet};

/// Longest list of scopes, in bytes; all names together are shorter.
const LONGEST: usize = 1024;

/// Reads a list of scopes within what may be asked for at most; all of that when none is named.
///
/// # Errors
/// `invalid_scope` when a name is not known, or goes beyond.
pub(super) fn read(text: Option<&str>, most: PermissionSet) -> Result<PermissionSet, OAuthError> {
    let Some(text) = text else { return Ok(most) };
    let refused = |why: &str| OAuthError::new(Fault::InvalidScope, why);
    if text.len() > LONGEST {
        return Err(refused("the list of scopes is too long"));
    }
    // A name that is not known is not repeated: this text goes to the browser.
    let asked: Result<PermissionSet, _> = text.split(' ').map(str::parse::<Permission>).collect();
    let asked = asked.map_err(|_| refused("scopes are names of permissions, separated by one blank"))?;
    if !most.includes(asked) {
        return Err(refused("a scope goes beyond what may be asked for"));
    }
    Ok(asked)
}

/// Writes a list of scopes.
pub(super) fn write(scopes: PermissionSet) -> String {
    scopes.iter().map(Permission::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_names_of_permissions_within_what_may_be_asked_for() {
        let most = PermissionSet::NONE.with(Permission::CallsRead).with(Permission::CallsControl);
        let one = PermissionSet::NONE.with(Permission::CallsRead);
        for (text, want) in [
            (None, Some(most)),
            (Some("calls:read"), Some(one)),
            (Some("calls:control calls:read"), Some(most)),
            (Some("calls:read calls:read"), Some(one)),
            (Some("users:write"), None),
            (Some("calls:read  calls:control"), None),
            (Some("calls:*"), None),
            (Some(""), None),
            (Some("openid"), None),
        ] {
            assert_eq!(read(text, most).ok(), want, "{text:?}");
        }
        assert_eq!(write(most), "calls:read calls:control");
    }
}
