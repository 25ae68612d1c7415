//! From the URLs that kombu, Celery and redis-py read to what connects.
//!
//! Read as kombu reads them (`kombu.utils.url`, `kombu.transport.redis`), because a site writes one
//! URL for its Python processes and for us.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::sentinel::Sentinels;
use super::tls::Tls;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// How to connect where the URL does not say it.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// Longest time until a connection is established; in the URL `socket_connect_timeout`.
    pub connect_timeout: Duration,
    /// Longest time that one reply may take; in the URL `socket_timeout`.
    pub command_timeout: Duration,
    /// The name that sentinels know the primary by, as in Celery's `master_name` transport
    /// option; in the URL `master_name`.
    pub sentinel_master: Option<String>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            command_timeout: Duration::from_secs(3),
            sentinel_master: None,
        }
    }
}

/// A URL that names no Redis.
#[derive(Debug, thiserror::Error)]
#[error(
    "{url} names no Redis: {reason}; expected redis://[user:password@]host[:port][/database], \
     rediss://… for TLS, unix:///path/to/socket[?db=database], or \
     sentinel://host[:port][/database];sentinel://…"
)]
pub struct UrlError {
    url: String,
    reason: String,
}

/// What a URL says.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) route: Route,
    /// The URL without its password.
    pub(super) display: String,
    pub(super) options: ConnectionOptions,
    /// One sentence each about what an operator may not have meant.
    pub(super) warnings: Vec<String>,
}

/// The way to the server.
#[derive(Clone)]
pub(super) enum Route {
    /// Always the same one.
    Server(Client),
    /// The one that the sentinels name.
    Sentinels(Sentinels),
}

impl Address {
    pub(super) fn parse(url: &str, options: &ConnectionOptions) -> Result<Self, UrlError> {
        read(url, options.clone()).map_err(|reason| UrlError { url: redacted(url), reason })
    }

    pub(super) fn database(&self) -> i64 {
        match &self.route {
            Route::Server(client) => client.get_connection_info().redis_settings().db(),
            Route::Sentinels(sentinels) => sentinels.primary.db(),
        }
    }
}

/// A URL's parts, decoded.
struct Parts {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: String,
    query: Vec<(String, String)>,
}

impl Parts {
    fn split(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
        if rest.contains('#') {
            // To kombu it ends the URL.
            return Err("a # in it is written %23".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let (user, password) = match credentials.map(|text| text.split_once(':')) {
            Some(Some((user, password))) => (decoded(user)?, decoded(password)?),
            Some(None) => (decoded(credentials.unwrap_or_default())?, String::new()),
            None => (String::new(), String::new()),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (place, ""),
        };
        let port = match port {
            "" => None,
            port => Some(port.parse().map_err(|_| {
                // Not its text: a password with a character that ends it looks like a port.
                "the port is no number from 0 to 65535 (in a user name or password, special \
                 characters are written percent-encoded)"
            })?),
        };
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user: Some(user).filter(|user| !user.is_empty()),
            password: Some(password).filter(|password| !password.is_empty()),
            host: Some(decoded(host.trim_matches(['[', ']']))?).filter(|host| !host.is_empty()),
            port,
            path: decoded(path)?,
            query: query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Ok((decoded(name)?, decoded(&value.replace('+', " "))?))
                })
                .collect::<Result<_, String>>()?,
        })
    }

    fn credentials(&self) -> String {
        match (&self.user, &self.password) {
            (None, None) => String::new(),
            (user, Some(_)) => format!("{}:**@", user.as_deref().unwrap_or_default()),
            (Some(user), None) => format!("{user}@"),
        }
    }

    fn place(&self, default_port: u16) -> (String, u16) {
        (
            self.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
            self.port.unwrap_or(default_port),
        )
    }
}

/// What the query says that applies to all kinds of URLs.
struct Parameters {
    database: Option<String>,
    options: ConnectionOptions,
    sentinel_user: Option<String>,
    sentinel_password: Option<String>,
    tls: Option<Tls>,
    warnings: Vec<String>,
}

impl Parameters {
    fn read(query: Vec<(String, String)>, options: ConnectionOptions) -> Result<Self, String> {
        let mut parameters = Self {
            database: None,
            options,
            sentinel_user: None,
            sentinel_password: None,
            tls: None,
            warnings: Vec::new(),
        };
        for (name, value) in query {
            match name.as_str() {
                "db" | "virtual_host" => parameters.database = Some(value),
                "socket_connect_timeout" => {
                    parameters.options.connect_timeout = seconds(&name, &value)?;
                }
                "socket_timeout" => parameters.options.command_timeout = seconds(&name, &value)?,
                "master_name" => parameters.options.sentinel_master = Some(value),
                "sentinel_username" => parameters.sentinel_user = Some(value),
                "sentinel_password" => parameters.sentinel_password = Some(value),
                _ if name.starts_with("ssl_") => {
                    parameters.tls.get_or_insert_default().set(&name, value)?;
                }
                _ => parameters
                    .warnings
                    .push(format!("the URL's parameter {name} has no meaning here")),
            }
        }
        Ok(parameters)
    }

    fn no_tls(&self) -> Result<(), String> {
        match self.tls {
            None => Ok(()),
            Some(_) => Err("parameters that begin with ssl_ belong to rediss://".to_owned()),
        }
    }
}

fn read(url: &str, options: ConnectionOptions) -> Result<Address, String> {
    let mut parts = Parts::split(url.split(';').next().unwrap_or_default())?;
    if parts.scheme == "sentinel" {
        return sentinels(url, options);
    }
    // A `;` separates URLs for sentinels only.
    parts = Parts::split(url)?;
    let parameters = Parameters::read(std::mem::take(&mut parts.query), options)?;
    match parts.scheme.as_str() {
        "redis" => {
            parameters.no_tls()?;
            let (host, port) = parts.place(REDIS_PORT);
            server(&parts, parameters, ConnectionAddr::Tcp(host, port), None)
        }
        "rediss" => {
            let tls = parameters.tls.clone().unwrap_or_default();
            let (host, port) = parts.place(REDIS_PORT);
            server(&parts, parameters, tls.address(host, port), Some(&tls))
        }
        "unix" | "redis+unix" | "redis+socket" => {
            parameters.no_tls()?;
            if parts.host.is_some() || parts.path.is_empty() {
                return Err(format!(
                    "the path of a socket is absolute: {}:///path/to/socket",
                    parts.scheme
                ));
            }
            let path = format!("/{}", parts.path);
            server(&parts, parameters, ConnectionAddr::Unix(path.into()), None)
        }
        scheme => Err(format!("its scheme is {scheme}")),
    }
}

fn server(
    parts: &Parts,
    mut parameters: Parameters,
    address: ConnectionAddr,
    tls: Option<&Tls>,
) -> Result<Address, String> {
    let on_socket = matches!(address, ConnectionAddr::Unix(_));
    let path = if on_socket { "" } else { parts.path.as_str() };
    let database = database(parameters.database.as_deref().unwrap_or(path))?;
    let place = match &address {
        ConnectionAddr::Unix(path) => format!("{}?db={database}", path.display()),
        _ => format!("{}/{database}", shown_place(&parts.place(REDIS_PORT))),
    };
    let info = connection_info(address, login(parts, database))?;
    let client = match tls {
        Some(tls) => tls.client(info)?,
        None => Client::open(info).map_err(|error| error.to_string())?,
    };
    parameters.warnings.extend(tls.and_then(Tls::warning));
    Ok(Address {
        route: Route::Server(client),
        display: format!("{}://{}{place}", parts.scheme, parts.credentials()),
        options: parameters.options,
        warnings: parameters.warnings,
    })
}

/// kombu's form: `sentinel://a:26379/0;sentinel://b:26379/0`, where database, user and password
/// are the first one's and those of the primary. The scheme may be left out from the second on.
fn sentinels(url: &str, options: ConnectionOptions) -> Result<Address, String> {
    let mut all = Vec::new();
    for url in url.split(';').filter(|url| !url.is_empty()) {
        let parts = match url.contains("://") {
            true => Parts::split(url)?,
            false => Parts::split(&format!("sentinel://{url}"))?,
        };
        if parts.scheme != "sentinel" {
            return Err(format!("{}:// stands among sentinels", parts.scheme));
        }
        all.push(parts);
    }
    let query = all.iter_mut().flat_map(|parts| std::mem::take(&mut parts.query)).collect();
    let parameters = Parameters::read(query, options)?;
    parameters.no_tls()?;
    let [first, others @ ..] = all.as_slice() else { return Err("it is empty".to_owned()) };
    let number = database(parameters.database.as_deref().unwrap_or(&first.path))?;
    for other in others {
        let same_login = other.password.is_none()
            || (&other.user, &other.password) == (&first.user, &first.password);
        let same_database = other.path.trim_matches('/').is_empty() || other.path == first.path;
        if !same_login || !same_database {
            return Err(
                "database, user and password are those of the primary and stand in the first part"
                    .to_owned(),
            );
        }
    }
    let master = parameters.options.sentinel_master.clone().ok_or(
        "the name that the sentinels know the primary by is missing: set BROKER_SENTINEL_MASTER, \
         or add ?master_name=NAME to the URL",
    )?;
    let mut sentinel_login = RedisConnectionInfo::default();
    if let Some(user) = parameters.sentinel_user {
        sentinel_login = sentinel_login.set_username(user);
    }
    if let Some(password) = parameters.sentinel_password {
        sentinel_login = sentinel_login.set_password(password);
    }
    let clients = all
        .iter()
        .map(|parts| {
            let (host, port) = parts.place(SENTINEL_PORT);
            let info = connection_info(ConnectionAddr::Tcp(host, port), sentinel_login.clone())?;
            Client::open(info).map_err(|error| error.to_string())
        })
        .collect::<Result<_, String>>()?;
    let places: Vec<_> = all.iter().map(|parts| shown_place(&parts.place(SENTINEL_PORT))).collect();
    Ok(Address {
        display: format!(
            "sentinel://{}{}/{number}?master_name={master}",
            first.credentials(),
            places.join(";")
        ),
        route: Route::Sentinels(Sentinels { clients, master, primary: login(first, number) }),
        options: parameters.options,
        warnings: parameters.warnings,
    })
}

fn login(parts: &Parts, database: i64) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_db(database);
    if let Some(user) = &parts.user {
        login = login.set_username(user);
    }
    if let Some(password) = &parts.password {
        login = login.set_password(password);
    }
    login
}

/// As everything here connects: a command is sent at once, however short it is.
pub(super) fn connection_info(
    address: ConnectionAddr,
    login: RedisConnectionInfo,
) -> Result<ConnectionInfo, String> {
    let info = address.into_connection_info().map_err(|error| error.to_string())?;
    Ok(info.set_redis_settings(login).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

fn database(text: &str) -> Result<i64, String> {
    match text.trim_matches('/') {
        "" => Ok(0),
        number => number
            .parse::<u32>()
            .map(i64::from)
            .map_err(|_| "the database is a number, 0 or more".to_owned()),
    }
}

fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|seconds| !seconds.is_zero())
        .ok_or_else(|| format!("{name} is a number of seconds above 0"))
}

fn decoded(text: &str) -> Result<String, String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| "a percent-encoded part of it is no UTF-8".to_owned())
}

fn shown_place((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What can be shown of a URL that could not be read: its scheme and its host. Anything else may
/// be a part of a password.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "the URL (it has no scheme)".to_owned();
    };
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("**@", rest),
        None => ("", rest),
    };
    let host = rest.split([':', '/', '?', '#', ';']).next().unwrap_or_default();
    format!("{scheme}://{credentials}{host}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url, &ConnectionOptions::default())
            .unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn refusal(url: &str) -> String {
        let Err(error) = Address::parse(url, &ConnectionOptions::default()) else {
            panic!("{url} was accepted")
        };
        error.to_string()
    }

    fn login_of(url: &str) -> (Option<String>, Option<String>, i64) {
        let Route::Server(client) = address(url).route else { panic!("{url} names sentinels") };
        let login = client.get_connection_info().redis_settings().clone();
        (
            login.username().map(ToOwned::to_owned),
            login.password().map(ToOwned::to_owned),
            login.db(),
        )
    }

    #[test]
    fn what_is_shown_of_a_url_is_where_it_leads_and_never_its_password() {
        for (url, shown) in [
            ("redis://", "redis://127.0.0.1:6379/0"),
            ("redis://h", "redis://h:6379/0"),
            ("redis://:hunter2@h:1/7", "redis://:**@h:1/7"),
            ("rediss://bob:hunter2@h/?db=3", "rediss://bob:**@h:6379/3"),
            ("redis://[::1]:7/2", "redis://[::1]:7/2"),
            ("unix:///run/r.sock?db=2", "unix:///run/r.sock?db=2"),
            (
                "redis+socket://:hunter2@/run/r%20s.sock?virtual_host=1",
                "redis+socket://:**@/run/r s.sock?db=1",
            ),
            (
                "sentinel://:hunter2@a/4;sentinel://b:7/4;c?master_name=m&sentinel_password=hunter2",
                "sentinel://:**@a:26379;b:7;c:26379/4?master_name=m",
            ),
        ] {
            assert_eq!(address(url).display, shown);
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_shows_no_part_of_its_password() {
        for url in [
            "redis://h:99999x/hunter2@y",
            "redis://:hunter2?swordfish@h/0",
            "redis://:hunter2/swordfish@h/0",
            "redis://:hunter2#swordfish@h/0",
            "redis://bob:hunter2@h/zero",
            "redis://bob:hunter2@h/0?ssl_ca_certs=/x",
            "amqp://bob:hunter2@h//",
            "redis://:hunter2",
            "sentinel://:hunter2@a;sentinel://:swordfish@b?master_name=m",
            "sentinel://:hunter2@a;redis://b",
        ] {
            let shown = refusal(url);
            for secret in ["hunter2", "swordfish"] {
                assert!(!shown.contains(secret), "{url}: {shown}");
            }
        }
    }

    #[test]
    fn users_passwords_and_databases_are_decoded_as_kombu_does() {
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(login_of("redis://:p%40s%2Fs%3A%25@h/5"), (None, text("p@s/s:%"), 5));
        assert_eq!(login_of("redis://b%3Ao:a:b+c@h"), (text("b:o"), text("a:b+c"), 0));
        assert_eq!(login_of("rediss://bob:pw@h:1/"), (text("bob"), text("pw"), 0));
        assert_eq!(login_of("unix://bob:pw@/s?virtual_host=9"), (text("bob"), text("pw"), 9));
    }

    #[test]
    fn the_url_wins_over_the_options() {
        let options = ConnectionOptions {
            connect_timeout: Duration::from_secs(7),
            command_timeout: Duration::from_secs(8),
            sentinel_master: Some("main".to_owned()),
        };
        let address = Address::parse("sentinel://a?socket_timeout=0.5", &options)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(address.options.connect_timeout, Duration::from_secs(7));
        assert_eq!(address.options.command_timeout, Duration::from_millis(500));
        assert_eq!(address.display, "sentinel://a:26379/0?master_name=main");
    }

    #[test]
    fn a_mistake_is_named_with_what_would_be_right() {
        for (url, said) in [
            ("amqp://h", "expected redis://"),
            ("localhost", "it has no scheme"),
            ("redis://h/celery", "the database is a number"),
            ("redis://h/-1", "the database is a number"),
            ("redis://h?socket_timeout=0", "socket_timeout is a number of seconds above 0"),
            ("redis://h?ssl_cert_reqs=none", "belong to rediss://"),
            ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs is required, optional or none"),
            ("rediss://h?ssl_ca_cert=/x", "ssl_ca_cert is not known"),
            ("rediss://h?ssl_ca_certs=/no/such", "/no/such"),
            ("unix://host/path", "absolute: unix:///path"),
            ("sentinel://a", "set BROKER_SENTINEL_MASTER"),
            ("sentinel://a;sentinel://b/3?master_name=m", "stand in the first part"),
        ] {
            let error = refusal(url);
            assert!(error.contains(said), "{url}: {error}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_told_and_harmless() {
        let warnings = address("redis://h?health_check_interval=30").warnings;
        assert_eq!(warnings, ["the URL's parameter health_check_interval has no meaning here"]);
    }
}
