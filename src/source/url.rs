//! A database URL as applications have it → one that the driver knows. Owns which options concern other client libraries
//! alone, and how they spell what this one has; knows no connection. Pure.

use std::borrow::Cow;

use super::tls;

/// Options of Prisma, JDBC, SQLAlchemy, asyncpg, node-postgres, Npgsql, pgx, Rails and libpq that say how these keep their
/// connections or what they put into them. In lower case.
const OF_OTHERS: &[&str] = &[
    "applicationname",
    "assumeminserverversion",
    "binarytransfer",
    "channel_binding_required",
    "charset",
    "command_timeout",
    "connection_limit",
    "currentschema",
    "default_query_exec_mode",
    "encoding",
    "fallback_application_name",
    "gssencmode",
    "gsslib",
    "idle_timeout",
    "krbsrvname",
    "max_conn_lifetime",
    "max_inactive_connection_lifetime",
    "max_pool_size",
    "maxpoolsize",
    "min_pool_size",
    "minpoolsize",
    "pgbouncer",
    "pool",
    "pool_max_conns",
    "pool_min_conns",
    "pool_size",
    "pool_timeout",
    "pooling",
    "prepared_statement_cache_queries",
    "prepared_statement_cache_size",
    "prepared_statements",
    "preparethreshold",
    "reconnect",
    "reserve_pool_size",
    "rewritebatchedinserts",
    "schema",
    "serverversion",
    "single_use_connections",
    "socket_timeout",
    "sslaccept",
    "sslpassword",
    "statement_cache_capacity",
    "statement_cache_size",
    "tcpkeepalive",
    "timeout",
    "uselibpqcompat",
];

/// A URL as the driver reads it, and the names of what was passed over.
pub(super) fn of_application(url: &str) -> (Cow<'_, str>, Vec<String>) {
    let without_jdbc = url.strip_prefix("jdbc:").unwrap_or(url);
    // postgresql+asyncpg, postgres+psycopg
    let plain = match without_jdbc.split_once("://") {
        Some((scheme, rest)) if scheme.starts_with("postgres") && scheme.contains('+') => {
            Cow::Owned(format!("postgresql://{rest}"))
        }
        _ => Cow::Borrowed(without_jdbc),
    };
    if !(plain.starts_with("postgres://") || plain.starts_with("postgresql://")) {
        return (plain, Vec::new());
    }
    let (mut passed_over, mut mode, mut has_mode) = (Vec::new(), None, false);
    let mut rest = tls::without_query_parameters(&plain, &mut |name, value| {
        let lower = name.to_ascii_lowercase();
        has_mode |= lower == "sslmode";
        if lower == "ssl" {
            // node-postgres, JDBC, asyncpg
            mode = match &*value.to_ascii_lowercase() {
                "" | "true" | "1" | "require" => Some("require"),
                "false" | "0" | "disable" => Some("disable"),
                _ => return false,
            };
            return true;
        }
        let is_of_others = OF_OTHERS.contains(&&*lower);
        if is_of_others {
            passed_over.push(name);
        }
        is_of_others
    });
    if let Some(mode) = mode.filter(|_| !has_mode) {
        // behind the password, which may have a question mark in it
        let behind = rest.find('@').unwrap_or_default();
        rest.push(if rest[behind..].contains('?') { '&' } else { '?' });
        rest.push_str("sslmode=");
        rest.push_str(mode);
    }
    (if passed_over.is_empty() && mode.is_none() { plain } else { Cow::Owned(rest) }, passed_over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_applications_have_is_understood() {
        for (given, wanted, passed_over) in [
            ("postgres://me:p@host/db", "postgres://me:p@host/db", ""),
            ("host=here dbname=db", "host=here dbname=db", ""),
            ("postgresql://me@host/db?schema=public", "postgresql://me@host/db", "schema"),
            (
                "postgres://me@host/db?pgbouncer=true&connection_limit=5&sslmode=require",
                "postgres://me@host/db?sslmode=require",
                "pgbouncer connection_limit",
            ),
            ("postgres://me@host/db?ssl=false", "postgres://me@host/db?sslmode=disable", ""),
            (
                "postgres://me@host/db?ssl=true&target_session_attrs=any",
                "postgres://me@host/db?target_session_attrs=any&sslmode=require",
                "",
            ),
            ("postgres://me@host/db?ssl=true&sslmode=verify-full", "postgres://me@host/db?sslmode=verify-full", ""),
            (
                "postgres://me@host/db?gssencmode=disable&uselibpqcompat=true",
                "postgres://me@host/db",
                "gssencmode uselibpqcompat",
            ),
            ("postgresql+asyncpg://me@host/db", "postgresql://me@host/db", ""),
            (
                "jdbc:postgresql://host/db?user=me&prepareThreshold=0",
                "postgresql://host/db?user=me",
                "prepareThreshold",
            ),
            ("postgres://me:p?sslmode=x@host/db?ssl=true", "postgres://me:p?sslmode=x@host/db?sslmode=require", ""),
            // what is nobody's is the driver's to refuse
            ("postgres://me@host/db?colour=red", "postgres://me@host/db?colour=red", ""),
            ("postgres://me:p?schema=x@host/db", "postgres://me:p?schema=x@host/db", ""),
        ] {
            let (url, names) = of_application(given);
            assert_eq!((&*url, &*names.join(" ")), (wanted, passed_over), "{given}");
        }
    }
}
