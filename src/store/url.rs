//! Which database, as the operator names it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::StoreError;

/// `sqlite://PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. What is printed of it never holds the password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Inner);

#[derive(Clone, PartialEq, Eq)]
enum Inner {
    /// A file by its path: that need not be text.
    File(PathBuf),
    /// Parsed when it is opened, so that no settings parser prints a wrong one.
    Text(String),
}

/// What a URL names.
pub(super) enum Location {
    /// A file of the embedded database.
    Sqlite(PathBuf),
    /// A database on a server.
    Postgres(Box<PgConnectOptions>),
}

impl DatabaseUrl {
    /// The embedded database in this file.
    pub fn file(path: &Path) -> Self {
        Self(Inner::File(path.to_owned()))
    }

    /// Where the file of an embedded database lies.
    pub fn directory(&self) -> Option<PathBuf> {
        match self.locate().ok()? {
            Location::Sqlite(file) => Some(file.parent()?.to_owned()),
            Location::Postgres(_) => None,
        }
    }

    pub(super) fn locate(&self) -> Result<Location, StoreError> {
        let text = match &self.0 {
            Inner::File(path) => return Ok(Location::Sqlite(path.clone())),
            Inner::Text(text) => text,
        };
        if let Some(path) = text.strip_prefix("sqlite://") {
            return if path.is_empty() || path.contains(['?', '#']) {
                Err(StoreError::Url("expected sqlite://PATH"))
            } else {
                Ok(Location::Sqlite(PathBuf::from(path)))
            };
        }
        if !is_postgres(text) {
            return Err(StoreError::Url(
                "expected sqlite://PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            ));
        }
        // The parser's own words are left out: they may repeat a part of what was given.
        let options = PgConnectOptions::from_str(text)
            .map_err(|_| StoreError::Url("expected postgres://USER:PASSWORD@HOST:PORT/DATABASE"))?;
        Ok(Location::Postgres(Box::new(options)))
    }
}

fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

impl From<String> for DatabaseUrl {
    fn from(text: String) -> Self {
        Self(Inner::Text(text))
    }
}

/// The place without credentials and options.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.locate() {
            Ok(Location::Sqlite(path)) => write!(f, "sqlite://{}", path.display()),
            Ok(Location::Postgres(options)) => f.write_str(&place(&options)),
            Err(_) => f.write_str("a database URL that cannot be read"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// Server and database, without credentials.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let database = options
        .get_database()
        .unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("postgres:///{database}?host={}", socket.display()),
        None => format!(
            "postgres://{}:{}/{database}",
            options.get_host(),
            options.get_port()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let url = DatabaseUrl::from(text.to_owned());
        assert_eq!(format!("{url:?}"), format!("DatabaseUrl({url})"));
        url.to_string()
    }

    #[test]
    fn what_is_printed_of_a_url_is_the_place_alone() {
        for (text, place) in [
            ("sqlite:///srv/a b.db", "sqlite:///srv/a b.db"),
            ("sqlite://a.db", "sqlite://a.db"),
            (
                "postgres://me:hunter2@db.example:5433/jobs?application_name=hunter2",
                "postgres://db.example:5433/jobs",
            ),
            (
                "postgresql://db/jobs?user=me&password=hunter2",
                "postgres://db:5432/jobs",
            ),
            (
                "postgres://me:hunter2@localhost/jobs?host=/run/pg",
                "postgres:///jobs?host=/run/pg",
            ),
        ] {
            assert_eq!(shown(text), place);
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_refused_without_repeating_it() {
        for text in [
            "",
            "hunter2",
            "mysql://me:hunter2@db/jobs",
            "sqlite://",
            "sqlite::memory:",
            "sqlite://a.db?mode=hunter2",
            "postgres://me:hunter2@db:port/jobs",
            "postgres://me:hunter2@db/jobs?sslmode=hunter2",
        ] {
            let url = DatabaseUrl::from(text.to_owned());
            let error = url.locate().err().unwrap_or_else(|| panic!("{text:?}"));
            let chain = format!("{error} {error:?} {}", shown(text));
            assert!(!chain.contains("hunter2"), "{chain}");
            assert!(chain.contains("expected "), "{chain}");
        }
    }
}
