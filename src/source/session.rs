//! What a session of ours is for, and what it says of itself when it begins. Owns the settings; knows no connection.
//!
//! A role, a database or the server's configuration may have other defaults, and they are the application's: a session that
//! inherits them reads in serializable transactions and makes the application's own fail, writes nothing, gives up after a
//! second, or runs somebody's function. So nothing that could matter is inherited. What a session may spend (`work_mem`) is
//! the DBA's; what only a superuser may set (`session_replication_role`) concerns triggers and foreign keys: the one trigger
//! of our tables fires in each session, and a session that deletes a claim deletes what it follows.

/// What a connection is for; stands in `pg_stat_activity.application_name`, so a DBA sees which is which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// hears the doorbell
    Listen,
    /// reads the outbox and holds the relay's locks
    Read,
    /// the catalogue, status
    Query,
    /// changes of the past and snapshots, for one subscriber
    Replay,
    /// holds the lock of the publisher
    Publish,
    /// migrate, watch, doctor and the like
    Command,
}

/// Names resolve in Postgres' own schema; transactions are short and see what was committed; text has one form; and plans
/// are what they are on a server that nobody has tuned. To be set at once: startup options do not pass every pooler.
/// `transaction_timeout` is of Postgres 17.
macro_rules! plain {
    () => {
        "set search_path = pg_catalog, pg_temp; \
set default_transaction_isolation = 'read committed'; set default_transaction_read_only = off; \
set default_transaction_deferrable = off; set row_security = on; set idle_session_timeout = 0; \
select pg_catalog.set_config('transaction_timeout', '0', false) \
 where pg_catalog.current_setting('transaction_timeout', true) is not null; \
set standard_conforming_strings = on; set backslash_quote = safe_encoding; set transform_null_equals = off; \
set array_nulls = on; set quote_all_identifiers = off; set xmlbinary = base64; \
set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set bytea_output = 'hex'; \
set extra_float_digits = 1; set client_min_messages = notice; \
set jit = off; set plan_cache_mode = auto; set enable_seqscan = on; set enable_indexscan = on; \
set enable_indexonlyscan = on; set enable_bitmapscan = on; set enable_nestloop = on; set enable_hashjoin = on; \
set enable_sort = on; set enable_hashagg = on; "
    };
}

/// What a session of this purpose says first. A `statement_timeout` of 0 is that of a statement which is given up otherwise:
/// the reader's when the doorbell is lost, a command's by the operator who typed it.
pub(super) const fn settings(purpose: Purpose) -> &'static str {
    match purpose {
        // it never opens a transaction
        Purpose::Listen => concat!(
            plain!(),
            "set statement_timeout = 0; set lock_timeout = 0; \
set idle_in_transaction_session_timeout = 0"
        ),
        Purpose::Read => concat!(
            plain!(),
            "set statement_timeout = 0; set lock_timeout = '1s'; \
set idle_in_transaction_session_timeout = '5s'"
        ),
        // prune empties whole segments
        Purpose::Query => concat!(
            plain!(),
            "set statement_timeout = '60s'; set lock_timeout = '2s'; \
set idle_in_transaction_session_timeout = '30s'"
        ),
        Purpose::Replay => concat!(
            plain!(),
            "set statement_timeout = '60s'; set lock_timeout = '1s'; \
set idle_in_transaction_session_timeout = '60s'"
        ),
        Purpose::Publish => concat!(
            plain!(),
            "set statement_timeout = '5s'; set lock_timeout = '1s'; \
set idle_in_transaction_session_timeout = '5s'"
        ),
        Purpose::Command => concat!(
            plain!(),
            "set statement_timeout = 0; set lock_timeout = '30s'; \
set idle_in_transaction_session_timeout = 0"
        ),
    }
}
