//! `rowcast explain`: the way of a change in words, and why somebody sees a row or not. Owns the words of the first; what there is to
//! tell of it is the server's, and of the second the database's (`rowcast.who_sees`).

use std::fmt::Write as _;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::source::client::Client;

/// Why a client with these claims sees rows of a channel, or the row of a key, a line for all and one for each test.
///
/// # Errors
/// When the database cannot be asked, or refuses the question.
pub(super) async fn who_sees(client: &Client, [channel, claims, key]: [Option<&str>; 3]) -> Result<String> {
    let rows = client
        .query(
            "select coalesce(w.test, 'all'), w.seen, coalesce(w.verdict, ''),
                    coalesce(w.source || ': ' || pg_catalog.array_to_string(w.values, ', ')
                             || case when w.total > pg_catalog.cardinality(w.values) then ', .. ' || w.total || ' in all' else '' end, '')
               from rowcast.who_sees($1, $2::text::pg_catalog.jsonb, $3::text::pg_catalog.jsonb) w",
            &[&channel, &claims, &key],
        )
        .await
        .map_err(|e| Error::database("cannot explain who sees it", e))?;
    let mut text = String::new();
    for row in &rows {
        let (test, seen, verdict, values): (&str, Option<bool>, &str, &str) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let seen = seen.map_or("depends", |seen| if seen { "yes" } else { "no" });
        let _ = writeln!(text, "{seen:<8} {test:<30} {verdict}{}{values}", if values.is_empty() { "" } else { "  " });
    }
    Ok(text)
}

/// The story, a line a stage.
pub(super) fn story(told: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut story = format!("change {}\n", told["id"]);
    // writing into a String does not fail
    if let Some(why) = told["absent"].as_str() {
        let _ = writeln!(story, "captured   no: {why}");
        return story;
    }
    let captured = &told["captured"];
    if captured.is_null() {
        let _ = writeln!(story, "captured   yes, but nobody is told of it: {}", text(&told["silent"]));
        return story;
    }
    let actor = captured["actor"].as_str().map_or(String::new(), |actor| format!(", by {actor}"));
    let _ = writeln!(story, "captured   {}, transaction {}{actor}", text(&captured["at"]), text(&captured["tx"]));
    if let Some(channel) = captured["channel"].as_str() {
        let _ = writeln!(story, "what       {} on {channel}", text(&captured["action"]));
    }
    for user in captured["users"].as_array().into_iter().flatten() {
        let _ = writeln!(story, "notifies   user {}", text(user));
    }
    let passed = if told["passed"] == true { "yes" } else { "not yet: its transaction is still ahead of this server" };
    let _ = writeln!(story, "delivered  {passed}");
    let views: &[Value] = told["views"].as_array().map_or(&[], Vec::as_slice);
    if views.is_empty() {
        let _ = writeln!(story, "watched    by nobody on this server");
    }
    for view in views {
        let outcome = view["told"].as_str().map_or_else(|| "not told: none of its rows".to_owned(), str::to_owned);
        let behind = view["behind"].as_u64().filter(|behind| *behind > 0);
        let behind = behind.map_or(String::new(), |behind| format!(", {behind} have not taken everything yet"));
        let (name, sockets) = (text(&view["watches"]), &view["sockets"]);
        let limited = if view["by_policy"] == true { ", as far as their policy goes" } else { "" };
        let _ = writeln!(story, "watched    {name}{limited}: {sockets} sockets{behind}: {outcome}");
    }
    if let Some(more) = told["more_views"].as_u64().filter(|more| *more > 0) {
        let _ = writeln!(story, "           and {more} views more");
    }
    story
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_story_says_each_stage() {
        let told = json!({
            "id": 7, "passed": true, "more_views": 3,
            "captured": {"at": "2024-01-15T10:30:00Z", "tx": "70", "actor": "app", "channel": "pets", "action": "updated", "users": ["5"]},
            "views": [
                {"watches": "pets", "by_policy": false, "sockets": 2, "behind": 1, "told": "updated"},
                {"watches": "pets?user_id=eq.6", "by_policy": true, "sockets": 1, "behind": 0, "told": null},
            ],
        });
        assert_eq!(
            story(&told),
            "change 7\n\
             captured   2024-01-15T10:30:00Z, transaction 70, by app\n\
             what       updated on pets\n\
             notifies   user 5\n\
             delivered  yes\n\
             watched    pets: 2 sockets, 1 have not taken everything yet: updated\n\
             watched    pets?user_id=eq.6, as far as their policy goes: 1 sockets: not told: none of its rows\n\
             \x20          and 3 views more\n"
        );
    }
}
