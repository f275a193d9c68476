//! Variables that look like settings and are none. A misspelt one would be a check that is never made.

use strsim::levenshtein;

use super::SETTINGS;

const PREFIX: &str = "ROWCAST_";
/// What else this program reads.
const OTHERS: [&str; 2] = ["ROWCAST_CONFIG", "ROWCAST_TOKEN"];
/// What this project's scripts and tests read.
const OF_SCRIPTS: [&str; 7] = [
    "ROWCAST_BIN",
    "ROWCAST_ORDER_",
    "ROWCAST_PG_",
    "ROWCAST_QUICKSTART_",
    "ROWCAST_REDIS_SERVER",
    "ROWCAST_TEST_",
    "ROWCAST_WHOLE",
];

/// What is wrong with the names of the environment's variables, a line each.
pub(super) fn mistakes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let known = || SETTINGS.iter().flat_map(|setting| setting.env.iter().copied()).chain(OTHERS);
    let is_stranger = |name: &&str| {
        name.starts_with(PREFIX)
            && !known().any(|known| known == *name)
            && !OF_SCRIPTS.iter().any(|ours| *name == *ours || (ours.ends_with('_') && name.starts_with(ours)))
            && !is_of_a_service(name)
    };
    let mut mistakes: Vec<String> = names
        .filter(is_stranger)
        .map(|name| match known().map(|known| (levenshtein(name, known), known)).min() {
            Some((away, nearest)) if is_near(name, nearest, away) => {
                format!("${name} is no setting: is ${nearest} meant?")
            }
            _ => format!("${name} is no setting: rowcast serve --help lists them. Remove the variable"),
        })
        .collect();
    mistakes.sort();
    mistakes
}

/// Whether one may be meant by the other: a third of its letters behind the prefix differs at most, or it has a word more.
fn is_near(name: &str, known: &str, away: usize) -> bool {
    away <= (name.len() - PREFIX.len()) / 3 || name.starts_with(known) || known.starts_with(name)
}

/// Kubernetes tells each pod the services of its namespace so, and one may be called rowcast: `ROWCAST_SERVICE_HOST`,
/// `ROWCAST_SERVICE_PORT_HTTP`, `ROWCAST_GATEWAY_PORT_8000_TCP_ADDR`, `ROWCAST_PORT`.
fn is_of_a_service(name: &str) -> bool {
    let of_port = |rest: &str| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.is_empty() || rest.starts_with("_TCP") || rest.starts_with("_UDP") || rest.starts_with("_SCTP")
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(|(at, found)| of_port(&name[at + found.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_named_with_the_one_that_is_meant() {
        for (name, meant) in [
            ("ROWCAST_JWKS_URL", "$ROWCAST_JWKS meant?"),
            ("ROWCAST_JWT_SECRETS", "$ROWCAST_JWT_SECRET meant?"),
            ("ROWCAST_ORIGIN", "$ROWCAST_ORIGINS meant?"),
            ("ROWCAST_BIND", "Remove the variable"),
            ("ROWCAST_DB_URL", "Remove the variable"),
            ("ROWCAST_COLOUR_OF_THE_ROWS", "Remove the variable"),
        ] {
            let mistakes = mistakes([name, "HOME", "ROWCAST_JWKS"].into_iter());
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].starts_with(&format!("${name} ")) && mistakes[0].contains(meant), "{}", mistakes[0]);
        }
    }

    #[test]
    fn what_an_orchestrator_and_the_scripts_set_is_no_mistake() {
        let names = [
            "ROWCAST_SERVICE_HOST",
            "ROWCAST_SERVICE_PORT",
            "ROWCAST_SERVICE_PORT_HTTP",
            "ROWCAST_PORT",
            "ROWCAST_PORT_8000_TCP",
            "ROWCAST_PORT_8000_TCP_PROTO",
            "ROWCAST_GATEWAY_PORT_8000_TCP_ADDR",
            "ROWCAST_PG_BIN",
            "ROWCAST_TEST_POSTGRES",
            "ROWCAST_CONFIG",
            "DATABASE_URL",
            "ROWCAST_LISTEN",
            "rowcast_x",
        ];
        assert_eq!(mistakes(names.into_iter()), Vec::<String>::new());
    }
}
