use eml::domain::directory::User;
use eml::domain::identity::{DisplayName, Login};
use eml::domain::time::Clock;
use eml::edge::auth::passwords::{Password, hash_now};
use eml::edge::users::{self, NewAccount};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{House, canary};

/// A password that nobody objects to.
pub const PASSWORD: &str = "seven herons over the pond";

impl House {
    /// Asks for something with a token, or without one.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        canary::secrets_in(&body);
        let response = request.send().await.unwrap();
        let status = response.status();
        let answer = response.json().await.unwrap_or(Value::Null);
        canary::secrets_in(&answer);
        (status, answer)
    }

    /// Keeps a user with [`PASSWORD`] and these roles, past the API.
    pub async fn person(&self, login: &str, roles: &[&str]) -> User {
        let new = NewAccount {
            login: login.parse::<Login>().unwrap(),
            name: None::<DisplayName>,
            email: None,
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            password_hash: hash_now(&Password::new(PASSWORD.to_owned()), 4).unwrap(),
        };
        users::create(&*self.node().engine.stores().records, new, Clock.now()).await.unwrap()
    }

    /// Tries to sign in.
    pub async fn try_sign_in(&self, login: &str, password: &str) -> (StatusCode, Value) {
        let body = json!({ "login": login, "password": password });
        self.ask(Method::POST, "/auth/login", None, body).await
    }

    /// Signs in; answers what that leads to.
    pub async fn sign_in(&self, login: &str) -> Value {
        let (status, answer) = self.try_sign_in(login, PASSWORD).await;
        assert_eq!(status, StatusCode::OK, "{login}: {answer}");
        answer
    }

    /// Signs in; answers the access token.
    pub async fn token_of(&self, login: &str) -> String {
        self.sign_in(login).await["access_token"].as_str().unwrap().to_owned()
    }
}
