//! `rowcast types`: TypeScript types of the rows that channels carry, for `connect<Channels>()` of rowcast-client. Owns
//! the mapping; reads the catalogue, no row.

use std::fmt::Write as _;

use crate::error::{Error, Result};
use crate::source::client::Client;

/// A column as the catalogue describes it.
#[derive(Debug)]
struct DescribedColumn {
    channel: String,
    name: String,
    /// as `format_type` names it, of a domain what it lies over, of an array its elements'
    base: String,
    /// a cast of the type's own says what its JSON is
    has_json: bool,
    is_array: bool,
    is_composite: bool,
    /// of an enum
    labels: Vec<String>,
    is_nullable: bool,
}

/// The types of all channels with a table, without excluded columns.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn of(client: &Client) -> Result<String> {
    let rows = client
        .query(
            "select c.name, a.attname::text, pg_catalog.format_type(e.oid, null), b.typcategory = 'A', e.typtype = 'c',
                    array(select l.enumlabel::text from pg_catalog.pg_enum l where l.enumtypid = e.oid order by l.enumsortorder),
                    not (a.attnotnull or t.typnotnull),
                    exists (select from pg_catalog.pg_cast k
                             where k.castsource = e.oid and e.oid >= 16384 and k.castmethod = 'f'
                               and k.casttarget = 'pg_catalog.json'::pg_catalog.regtype)
               from rowcast.channel c
               join pg_catalog.pg_attribute a
                 on a.attrelid = c.target and c.target = c.target_oid and c.origin = (select rowcast.origin()) and a.attnum > 0 and not a.attisdropped and exists (select from rowcast.shown_column s where s.channel = c.id and s.attnum = a.attnum)
               join pg_catalog.pg_type t on t.oid = a.atttypid
              cross join lateral (
                -- domains may lie over domains
                with recursive d(oid, base) as (
                  select t.oid, t.typbasetype
                  union all select y.oid, y.typbasetype from d join pg_catalog.pg_type y on y.oid = d.base)
                select d.oid from d where d.base = 0) bare
               join pg_catalog.pg_type b on b.oid = bare.oid
              cross join lateral (
                with recursive d(oid, base) as (
                  select y.oid, y.typbasetype from pg_catalog.pg_type y
                   where y.oid = case when b.typcategory = 'A' and b.typelem <> 0 then b.typelem else b.oid end
                  union all select y.oid, y.typbasetype from d join pg_catalog.pg_type y on y.oid = d.base)
                select d.oid from d where d.base = 0) element
               join pg_catalog.pg_type e on e.oid = element.oid
              order by c.name, a.attnum",
            &[],
        )
        .await
        .map_err(|e| Error::database("cannot read the columns of the watched tables", e))?;
    let columns = rows.iter().map(|row| DescribedColumn {
        channel: row.get(0),
        name: row.get(1),
        base: row.get(2),
        is_array: row.get(3),
        is_composite: row.get(4),
        labels: row.get(5),
        is_nullable: row.get(6),
        has_json: row.get(7),
    });
    Ok(render(&columns.collect::<Vec<_>>()))
}

fn render(columns: &[DescribedColumn]) -> String {
    let mut text = String::from(
        "// Made by `rowcast types` from the watched tables: make it again when one was altered.\n\
         // JSON.parse rounds a number of more than 15 digits. A column of text shows all of a bigint or a numeric:\n\
         // alter table orders add total_text text generated always as (total::text) stored\n\n\
         /** What JSON has no number for comes as text. */\n\
         export type Numeric = number | \"NaN\" | \"Infinity\" | \"-Infinity\";\n\nexport interface Channels {\n",
    );
    for channel in columns.chunk_by(|one, other| one.channel == other.channel) {
        let _ = writeln!(text, "  {}: {{", key(&channel[0].channel));
        for column in channel {
            let null = if column.is_nullable { " | null" } else { "" };
            let _ = writeln!(text, "    {}: {}{null};", key(&column.name), type_of(column));
        }
        text.push_str("  };\n");
    }
    text.push_str("}\n");
    text
}

/// As `row_to_json` writes it.
fn type_of(column: &DescribedColumn) -> String {
    let element = match column.base.as_str() {
        "smallint" | "integer" | "bigint" => "number".to_owned(),
        "real" | "double precision" | "numeric" => "Numeric".to_owned(),
        "boolean" => "boolean".to_owned(),
        "json" | "jsonb" => "unknown".to_owned(),
        _ if column.has_json => "unknown".to_owned(),
        _ if column.is_composite => "Record<string, unknown>".to_owned(),
        _ if !column.labels.is_empty() => {
            column.labels.iter().map(|label| quoted(label)).collect::<Vec<_>>().join(" | ")
        }
        _ => "string".to_owned(),
    };
    // of any number of dimensions, so an element may be an array
    if column.is_array { format!("Array<{element} | null>") } else { element }
}

fn key(name: &str) -> String {
    let mut chars = name.chars();
    let is_plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_plain { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_typed_as_its_json_is() {
        let column = |channel: &str, name: &str, base: &str| DescribedColumn {
            channel: channel.into(),
            name: name.into(),
            base: base.into(),
            has_json: false,
            is_array: false,
            is_composite: false,
            labels: vec![],
            is_nullable: false,
        };
        let columns = [
            column("medical-history", "id", "bigint"),
            DescribedColumn { is_nullable: true, ..column("medical-history", "full name", "text") },
            DescribedColumn { labels: vec!["calm".into(), "very \"wild\"".into()], ..column("pets", "mood", "mood") },
            DescribedColumn { is_array: true, is_nullable: true, ..column("pets", "tags", "text") },
            column("pets", "extra", "jsonb"),
            column("pets", "weight", "double precision"),
            DescribedColumn { is_array: true, ..column("pets", "prices", "numeric") },
        ];
        let text = render(&columns);
        let body = text.split_once("export interface ").unwrap().1;
        assert_eq!(
            body,
            "Channels {\n  \"medical-history\": {\n    id: number;\n    \"full name\": string | null;\n  };\n  pets: {\n    \
             mood: \"calm\" | \"very \\\"wild\\\"\";\n    tags: Array<string | null> | null;\n    extra: unknown;\n    \
             weight: Numeric;\n    prices: Array<Numeric | null>;\n  };\n}\n"
        );
    }
}
