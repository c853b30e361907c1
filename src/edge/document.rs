//! The `OpenAPI` document: what each operation says of itself, and what all of them have in common.
//!
//! Layers around the handlers answer too: who is asking, what the body is, whether the store is there. What
//! they can answer follows from the shape of an operation, so it is added here and not written a hundred
//! times.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, ObjectBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder, Type,
};
use utoipa::{Modify, OpenApi};

/// Name of the schema of errors.
const PROBLEM: &str = "Problem";
/// Name of the schema of errors of the authorization server.
const OAUTH_ERROR: &str = "OAuthError";

#[derive(OpenApi)]
#[openapi(info(
    title = "EML",
    description = "Calls, agents and queues of a call centre. Errors are problem documents (RFC 9457) with a code of the catalogue; creating requests accept `Idempotency-Key`."
), modifiers(&Bearer))]
pub(super) struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        if let Some(components) = &mut document.components {
            components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
        }
        document.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    }
}

/// Adds to each operation what the layers around its handler can answer.
pub(super) fn complete(mut document: Document) -> Document {
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let problem = ObjectBuilder::new()
        .property("type", text())
        .property("title", text())
        .property("status", ObjectBuilder::new().schema_type(Type::Integer).build())
        .property("code", text())
        .property("hint", text())
        .required("type")
        .required("title")
        .required("status")
        .required("code")
        .description(Some("What went wrong (RFC 9457); `code` is explained under `/problems`."))
        .build();
    let oauth_error = ObjectBuilder::new()
        .property("error", text())
        .property("error_description", text())
        .required("error")
        .description(Some("What went wrong (RFC 6749, section 5.2)."))
        .build();
    if let Some(components) = &mut document.components {
        components.schemas.insert(PROBLEM.to_owned(), problem.into());
        components.schemas.insert(OAUTH_ERROR.to_owned(), oauth_error.into());
    }
    for (path, item) in &mut document.paths.paths {
        let has_name = path.contains('{');
        let is_oauth = path.starts_with("/oauth/");
        for (method, operation) in operations(item) {
            for (status, why) in common(method, has_name, operation) {
                operation.responses.responses.entry(status.to_owned()).or_insert_with(|| told(why, is_oauth));
            }
            for (status, response) in &mut operation.responses.responses {
                let is_error = status.starts_with(['4', '5']);
                if let RefOr::T(bare) = response
                    && is_error
                    && bare.content.is_empty()
                {
                    *response = told(&bare.description.clone(), is_oauth);
                }
            }
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [("GET", get), ("PUT", put), ("POST", post), ("DELETE", delete), ("PATCH", patch)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Status and reason of what any operation of this shape can answer.
fn common(method: &str, has_name: bool, operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let is_open = operation.security.as_ref().is_some_and(|needed| needed.iter().all(is_nothing));
    let mut answers = vec![
        ("400", "header, query or body cannot be read"),
        ("503", "the node is being stopped, has too much to do, or its store is away"),
    ];
    if !is_open {
        answers.extend([("401", "not signed in, or more must be shown"), ("403", "not permitted")]);
    }
    if has_name {
        answers.push(("404", "there is no such thing"));
    }
    if operation.request_body.is_some() {
        answers.extend([
            ("413", "the body is too large"),
            ("415", "the body has another content type"),
            ("422", "a value is not acceptable"),
        ]);
    }
    if method != "GET" {
        answers.push(("409", "something else stands against it, or the same request is still running"));
    }
    if has_name && (method == "PATCH" || method == "DELETE" || method == "PUT") {
        answers.extend([("412", "it was changed in the meantime"), ("428", "`If-Match` is needed")]);
    }
    answers
}

fn is_nothing(requirement: &SecurityRequirement) -> bool {
    serde_json::to_value(requirement)
        .is_ok_and(|value| value.as_object().is_some_and(serde_json::Map::is_empty))
}

/// An error. Those of the authorization server are what its protocol says, or a page where a browser asks.
fn told(why: &str, is_oauth: bool) -> RefOr<Response> {
    let of = |schema: &str| ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
    let response = ResponseBuilder::new().description(why).content("application/problem+json", of(PROBLEM));
    if !is_oauth {
        return response.build().into();
    }
    let page = ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build();
    response.content("application/json", of(OAUTH_ERROR)).content("text/html", page).build().into()
}

#[cfg(test)]
mod tests {
    use super::super::router::openapi;

    #[test]
    fn each_operation_says_what_the_layers_around_it_answer() {
        let document = serde_json::to_value(openapi()).unwrap();
        let answers = |path: &str, method: &str| -> Vec<String> {
            document["paths"][path][method]["responses"].as_object().unwrap().keys().cloned().collect()
        };
        let all = answers("/queues/{id}", "patch");
        for status in ["400", "401", "403", "404", "409", "412", "413", "415", "422", "428", "503"] {
            assert!(all.iter().any(|known| known == status), "{status} in {all:?}");
        }
        assert!(!answers("/health", "get").iter().any(|status| status == "401"), "everybody may ask that");
        let told = &document["paths"]["/auth/login"]["post"]["responses"]["401"]["content"];
        assert!(told["application/problem+json"].is_object(), "{told}");
    }
}
