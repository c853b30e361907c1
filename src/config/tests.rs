use super::*;

fn file(text: &str) -> Sources {
    Sources { files: vec![("config.toml".to_owned(), text.to_owned())], ..Sources::default() }
}

fn message(sources: &Sources) -> String {
    let problems = load(sources).map(|_| ()).unwrap_err();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_is_the_default_and_needs_nothing() {
    let loaded = load(&Sources::default()).unwrap();
    assert_eq!(loaded.settings.server.listen, "127.0.0.1:8080");
    assert_eq!(loaded.settings.public_url(), "http://127.0.0.1:8080");
    assert_eq!(loaded.settings.store_url(), "sqlite://./data/eml.db");
    assert!(load(&file(DEFAULTS)).is_ok(), "the shipped file can be used as it is");
}

#[test]
fn later_sources_win_and_are_named() {
    let mut sources = file("[server]\nlisten = \"127.0.0.1:1\"\n[calls]\nmax_active = 7\n");
    sources.environment.insert("EML__SERVER__LISTEN".to_owned(), "127.0.0.1:2".to_owned());
    sources.environment.insert("EML__SERVER__TRUSTED_PROXIES".to_owned(), "10.0.0.1, 10.0.0.2".to_owned());
    sources.flags.push(("--listen", "server.listen".to_owned(), "127.0.0.1:3".to_owned()));
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.settings.server.listen, "127.0.0.1:3");
    assert_eq!(loaded.settings.server.trusted_proxies, ["10.0.0.1", "10.0.0.2"]);
    for (key, origin) in [
        ("server.listen", "--listen"),
        ("calls.max_active", "config.toml:4"),
        ("server.trusted_proxies", "EML__SERVER__TRUSTED_PROXIES"),
        ("node.name", "default"),
    ] {
        assert_eq!(loaded.values[key].1, origin);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_fault_is_told_with_its_place_and_a_way_out() {
    for (text, want) in [
        (
            "[server]\nlisten = \"127.0.0.1:1\"\n\"max_body_byte\" = 1\n",
            "config.toml:3:1 EML-0102 \"max_body_byte\" is not a key of [server]; did you mean \"max_body_bytes\"?\n    \"max_body_byte\" = 1\n    ^",
        ),
        (
            "[sever]\n",
            "config.toml:1:2 EML-0102 \"sever\" is not a section; did you mean [server]?\n    [sever]\n     ^",
        ),
        (
            "[calls]\n  max_active = \"many\"\n",
            "config.toml:2:16 EML-0103 calls.max_active must be a whole number, not text\n      max_active = \"many\"\n                   ^",
        ),
        (
            "[server]\nlisten = \"here\"\n",
            "config.toml:2:10 EML-0104 server.listen must be ADDRESS:PORT, as in 127.0.0.1:8080\n    listen = \"here\"\n             ^",
        ),
        (
            "[store]\nurl = \"mysql://x\"\n",
            "config.toml:2:7 EML-0104 store.url must begin with sqlite:// or postgres://, or be memory:\n    url = \"mysql://x\"\n          ^",
        ),
        (
            "[archive]\nurl = \"x\"\n",
            "config.toml:2:7 EML-0104 archive.url must begin with mongodb:// or be store:\n    url = \"x\"\n          ^",
        ),
        (
            "[cache]\nurl = \"x\"\n",
            "config.toml:2:7 EML-0104 cache.url must begin with redis:// or be memory:\n    url = \"x\"\n          ^",
        ),
        (
            "[bus]\nurl = \"x\"\n",
            "config.toml:2:7 EML-0104 bus.url must begin with amqp:// or be memory:\n    url = \"x\"\n          ^",
        ),
        (
            "[server]\npublic_url = \"https://my_host.example.org\"\n",
            "config.toml:2:14 EML-0104 server.public_url must not have a host name with `_`\n    public_url = \"https://my_host.example.org\"\n                 ^",
        ),
        (
            "[auth]\nbcrypt_cost = 3\n",
            "config.toml:2:15 EML-0104 auth.bcrypt_cost must be 4 to 15\n    bcrypt_cost = 3\n                  ^",
        ),
        (
            "[auth]\nbcrypt_cost = -1\n",
            "config.toml:2:15 EML-0104 auth.bcrypt_cost must be a whole number from 0 to 4294967295\n    bcrypt_cost = -1\n                  ^",
        ),
        (
            "[auth]\naccess_ttl_ms = 99999999999999999999\n",
            "config.toml:2:17 EML-0104 auth.access_ttl_ms must be a whole number from 0 to 3153600000000\n    access_ttl_ms = 99999999999999999999\n                    ^",
        ),
        (
            "server = 1\n",
            "config.toml:1:10 EML-0103 server must be a section, not a whole number\n    server = 1\n             ^",
        ),
        (
            "[providers]\nmain = \"twilio\"\n",
            "config.toml:2:8 EML-0103 providers.main must be a section, not text\n    main = \"twilio\"\n           ^",
        ),
        (
            "[server]\ntrusted_proxies = [\"here\"]\n",
            "config.toml:2:19 EML-0104 server.trusted_proxies.0 must be an IP address\n    trusted_proxies = [\"here\"]\n                      ^",
        ),
        (
            "[telemetry]\nlisten = \"127.0.0.1:8080\"\n",
            "config.toml:2:10 EML-0104 telemetry.listen must not be the same as server.listen\n    listen = \"127.0.0.1:8080\"\n             ^",
        ),
        (
            "[telemetry]\nlisten = \"0.0.0.0:8080\"\n",
            "config.toml:2:10 EML-0104 telemetry.listen must not be the same as server.listen\n    listen = \"0.0.0.0:8080\"\n             ^",
        ),
        (
            "[providers.lo]\nkind = \"loopback\"\naccount_sid = \"AC1\"\nauth_token = \"x\"\nlisten = \"127.0.0.1:9090\"\n",
            "config.toml:5:10 EML-0104 providers.lo.listen must not be the same as telemetry.listen\n    listen = \"127.0.0.1:9090\"\n             ^",
        ),
    ] {
        assert_eq!(message(&file(text)), want);
    }
    assert!(message(&file("[server\n")).starts_with("config.toml:1:8 EML-0101"));
}

#[test]
fn a_provider_without_its_secrets_is_refused() {
    let told = message(&file("[providers.twilio]\nkind = \"twilo\"\naccount = \"AC1\"\n"));
    assert!(
        told.contains("\"account\" is not a key of [providers.twilio]; did you mean \"account_sid\"?"),
        "{told}"
    );
    assert!(told.contains("providers.twilio.kind must be twilio or loopback"), "{told}");
    let begin = "config.toml:1:12 EML-0104 providers.twilio.auth_token must be set\n    [providers.twilio]\n";
    assert!(told.contains(begin), "{told}");
}

#[test]
fn sections_of_outside_providers_have_names_of_their_own() {
    let mut sources = file(
        "[auth]\nissuer = \"here\"\n[auth.oidc.work]\nissuer = \"https://id.example.org\"\nclient_id = \"eml\"\nscopes = [\"groups\"]\n",
    );
    sources.environment.insert("EML__AUTH__OIDC__WORK__CLIENT_SECRET".to_owned(), "s3cret".to_owned());
    sources.environment.insert("EML__AUTH__OIDC__WORK__CREATE_USERS".to_owned(), "true".to_owned());
    let auth = load(&sources).unwrap().settings.auth;
    let section = &auth.oidc["work"];
    assert_eq!((auth.issuer.as_str(), section.client_secret.as_str()), ("here", "s3cret"));
    assert_eq!((section.create_users, section.scopes.clone()), (true, vec!["groups".to_owned()]));
    for (text, want) in [
        (
            "[auth.oidc.work]\nissuerr = \"x\"\n",
            "\"issuerr\" is not a key of [auth.oidc.work]; did you mean \"issuer\"?",
        ),
        ("[auth.oidc]\nwork = 1\n", "auth.oidc.work must be a section, not a whole number"),
        ("[auth]\noidc = 1\n", "auth.oidc must be a section, not a whole number"),
        ("[auth.oidc.work]\nroles = 1\n", "auth.oidc.work.roles must be a list of texts, not a whole number"),
        (
            "[auth.oidc.work]\nissuer = \"http://id.example.org\"\n",
            "auth.oidc.work.issuer must be an https URL",
        ),
        ("[auth.oidc.work]\nissuer = \"https://id.example.org\"\n", "auth.oidc.work.client_id must be set"),
    ] {
        let told = message(&file(text));
        assert!(told.contains(want), "{text}: {told}");
    }
}

#[test]
fn variables_with_a_wrong_name_or_value_are_refused() {
    for (name, value, want) in [
        (
            "EML__SERVER__LISTN",
            "x",
            "EML__SERVER__LISTN EML-0105 names no key; did you mean EML__SERVER__LISTEN?",
        ),
        (
            "EML__PROVIDERS__MAIN__AUTH_TOKN",
            "x",
            "EML__PROVIDERS__MAIN__AUTH_TOKN EML-0105 names no key; did you mean EML__PROVIDERS__MAIN__AUTH_TOKEN?",
        ),
        (
            "EML__CALLS__MAX_ACTIVE",
            "-1",
            "EML__CALLS__MAX_ACTIVE EML-0104 calls.max_active must be a whole number from 0 to 4294967295",
        ),
        (
            "EML__SERVER__LISTEN",
            "here",
            "EML__SERVER__LISTEN EML-0104 server.listen must be ADDRESS:PORT, as in 127.0.0.1:8080",
        ),
    ] {
        let mut sources = file("[server]\nlisten = \"127.0.0.1:1\"\n");
        sources.environment.insert(name.to_owned(), value.to_owned());
        assert_eq!(message(&sources), want);
    }
}

#[test]
fn secrets_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let variables = [
        ("EML__PROVIDERS__TWILIO__AUTH_TOKEN_FILE".to_owned(), secret.display().to_string()),
        ("EML__PROVIDERS__TWILIO__ACCOUNT_SID".to_owned(), "AC1".to_owned()),
        ("EML__PROVIDERS__TWILIO__KIND".to_owned(), "twilio".to_owned()),
        ("HOME".to_owned(), "/".to_owned()),
    ];
    let empty = folder.path().join("empty.toml");
    std::fs::write(&empty, "").unwrap();
    let sources = gather(Some(&empty), variables.into()).unwrap();
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.settings.providers["twilio"].auth_token, "s3cret");
}

#[test]
fn a_secret_that_is_given_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.toml");
    std::fs::write(&empty, "").unwrap();
    let variables =
        ["EML__AUTH__ISSUER", "EML__AUTH__ISSUER_FILE"].map(|name| (name.to_owned(), "x".to_owned()));
    let problem = gather(Some(&empty), variables.into()).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "EML__AUTH__ISSUER_FILE EML-0105 is set together with EML__AUTH__ISSUER; keep one of them"
    );
}

#[test]
fn a_file_that_is_there_but_cannot_be_read_is_never_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, "").unwrap();
    assert!(gather(Some(&path), BTreeMap::new()).is_ok(), "config.d may be missing");
    std::fs::create_dir_all(folder.path().join("config.d/20.toml")).unwrap();
    let problem = gather(Some(&path), BTreeMap::new()).unwrap_err();
    assert!(problem.place.ends_with("20.toml") && problem.message.contains("cannot be read"), "{problem}");
}

#[test]
fn parts_are_read_by_name_and_the_last_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("config.d")).unwrap();
    for (name, text) in [
        ("config.toml", "[node]\nname = \"main\"\n"),
        ("config.d/20.toml", "[node]\nname = \"second\"\n"),
        ("config.d/10.toml", "[node]\nname = \"first\"\n"),
        ("config.d/30.txt", "not read"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let sources = gather(Some(&folder.path().join("config.toml")), BTreeMap::new()).unwrap();
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.settings.node.name, "second");
    assert!(loaded.values["node.name"].1.ends_with("20.toml:2"));
}

#[test]
fn secrets_do_not_show_when_settings_are_printed() {
    let text = "[providers.main]\nkind = \"twilio\"\naccount_sid = \"AC1\"\nauth_token = \"one\"\nauth_token_next = \"two\"\n";
    let printed = format!("{:?}", load(&file(text)).unwrap());
    assert!(printed.contains("AC1") && !printed.contains("one\"") && !printed.contains("two\""), "{printed}");
}

#[test]
fn a_log_level_is_a_level_or_directives() {
    for (level, is_fine) in [
        ("info", true),
        ("WARN,eml::store=debug", true),
        ("eml[request]=trace", true),
        ("inof", false),
        ("info,eml::store=loud", false),
        ("", false),
    ] {
        let loaded = load(&file(&format!("[telemetry]\nlog_level = \"{level}\"\n")));
        assert_eq!(loaded.is_ok(), is_fine, "{level}");
    }
}
