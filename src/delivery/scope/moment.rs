//! Days and microseconds as Postgres counts them, from 2000-01-01 on, so that what it can store can be compared: `infinity`,
//! years of five digits, years before Christ, 24:00:00. Pure: text in, a number out.

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Postgres ends with the year 294276.
const END: i64 = 9_223_371_331_200_000_000;
/// It begins with 4714-11-24 BC.
const BEGIN: i64 = -2_451_545 * DAY;
/// Days of a `date` end later.
const END_OF_DAYS: i64 = 2_147_483_494 - 2_451_545;
/// Later than every other: Postgres keeps it so too.
const INFINITY: i64 = i64::MAX;
/// Earlier than every other.
const MINUS_INFINITY: i64 = i64::MIN;

/// Days of a `date`.
pub(crate) fn date(text: &str) -> Option<i64> {
    infinite(text).or_else(|| match text.parse::<jiff::civil::Date>() {
        Ok(date) => Some(days(i64::from(date.year()), i64::from(date.month()), i64::from(date.day()))),
        Err(_) => far(text).filter(|far| far.micros == 0 && far.offset.is_none()).map(|far| far.days),
    })
}

/// Microseconds of a `timestamp`.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    infinite(text).or_else(|| match text.parse::<jiff::civil::DateTime>() {
        Ok(civil) => {
            let days = days(i64::from(civil.year()), i64::from(civil.month()), i64::from(civil.day()));
            days.checked_mul(DAY)?.checked_add(of_day(civil.time()))
        }
        Err(_) => far(text).filter(|far| far.offset.is_none())?.total(),
    })
}

/// Microseconds of a `timestamptz`.
pub(crate) fn timestamptz(text: &str) -> Option<i64> {
    infinite(text).or_else(|| match text.parse::<jiff::Timestamp>() {
        // from 1970 on, in nanoseconds: rounded as Postgres does
        Ok(moment) => {
            let micros = (moment.as_nanosecond() + 500).div_euclid(1_000);
            i64::try_from(micros).ok()?.checked_add(days(1970, 1, 1) * DAY)
        }
        Err(_) => {
            let far = far(text)?;
            far.total()?.checked_sub(far.offset? * SECOND)
        }
    })
}

/// Microseconds of a `time`: up to 24:00:00, which is later than every other.
pub(crate) fn time(text: &str) -> Option<i64> {
    match text.parse::<jiff::civil::Time>() {
        Ok(time) => Some(of_day(time)),
        Err(_) => matches!(text, "24:00:00" | "24:00" | "24:00:00.000000").then_some(DAY),
    }
}

/// The text of a `date`, as Postgres reads it; nothing where it has no such day.
pub(crate) fn date_text(days: i64) -> Option<String> {
    if let Some(text) = infinite_text(days) {
        return Some(text);
    }
    let (date, era) = civil((BEGIN / DAY..END_OF_DAYS).contains(&days).then_some(days)?);
    Some(format!("{date}{era}"))
}

/// The same of a `timestamp`.
pub(crate) fn timestamp_text(micros: i64) -> Option<String> {
    moment_text(micros, "")
}

/// The same of a `timestamptz`.
pub(crate) fn timestamptz_text(micros: i64) -> Option<String> {
    moment_text(micros, "+00")
}

/// The same of a `time`.
pub(crate) fn time_text(micros: i64) -> String {
    let (seconds, micros) = (micros / SECOND, micros % SECOND);
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn moment_text(micros: i64, offset: &str) -> Option<String> {
    if let Some(text) = infinite_text(micros) {
        return Some(text);
    }
    let micros = (BEGIN..END).contains(&micros).then_some(micros)?;
    let (date, era) = civil(micros.div_euclid(DAY));
    Some(format!("{date} {}{offset}{era}", time_text(micros.rem_euclid(DAY))))
}

fn infinite_text(value: i64) -> Option<String> {
    match value {
        INFINITY => Some("infinity".to_owned()),
        MINUS_INFINITY => Some("-infinity".to_owned()),
        _ => None,
    }
}

/// A day as year, month and day, and what follows the time of day where it lies before Christ. The contrary of [`days`], by the
/// same eras.
fn civil(days: i64) -> (String, &'static str) {
    let days = days + 730_425;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

fn infinite(text: &str) -> Option<i64> {
    match text {
        _ if text.eq_ignore_ascii_case("infinity") => Some(INFINITY),
        _ if text.eq_ignore_ascii_case("-infinity") => Some(MINUS_INFINITY),
        _ => None,
    }
}

fn of_day(time: jiff::civil::Time) -> i64 {
    let seconds = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
    seconds * SECOND + (i64::from(time.subsec_nanosecond()) + 500) / 1_000
}

/// Days since 2000-01-01 of the proleptic Gregorian calendar; the year before 1 is 0. By eras of 400 years, which all have as
/// many days, each year beginning in March: <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    // 730,425 days from 0000-03-01 to 2000-01-01
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 730_425
}

/// A moment as Postgres writes it that is beyond the years 0 to 9999.
struct Far {
    days: i64,
    /// of the day
    micros: i64,
    /// seconds east of Greenwich
    offset: Option<i64>,
}

impl Far {
    fn total(&self) -> Option<i64> {
        self.days.checked_mul(DAY)?.checked_add(self.micros).filter(|total| *total < END)
    }
}

/// `12345-06-07T08:09:10.5+00:00`, `0044-03-15 12:00:00 BC`, `4713-01-01 BC`.
fn far(text: &str) -> Option<Far> {
    let (text, is_before_christ) = text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true));
    let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 7)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || year == 0 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let year = if is_before_christ { 1 - year } else { year };
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let days_of = |day| days(year, month, day);
    if days_of(day) >= days(next_year, next_month, 1) {
        return None;
    }
    let (clock, offset) = match clock.find(['Z', '+', '-']) {
        None => (clock, None),
        Some(at) => (&clock[..at], Some(seconds_east(&clock[at..])?)),
    };
    Some(Far { days: days_of(day), micros: if clock.is_empty() { 0 } else { clock_micros(clock)? }, offset })
}

/// `08:09:10.25`, `08:09`.
fn clock_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |second| number(second, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = if fraction.is_empty() { 0 } else { number(&format!("{fraction:0<6}"), 6)? };
    Some((hour * 3600 + minute * 60 + second) * SECOND + micros)
}

/// `Z`, `+02`, `-05:30`.
fn seconds_east(text: &str) -> Option<i64> {
    let east = match text.as_bytes().first()? {
        b'Z' => return (text == "Z").then_some(0),
        b'-' => -1,
        _ => 1,
    };
    let mut parts = text[1..].split(':').map(|part| number(part, 2));
    let hours = parts.next()??;
    let (minutes, seconds) = (parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?);
    (parts.next().is_none() && hours < 16 && minutes < 60 && seconds < 60)
        .then_some(east * (hours * 3600 + minutes * 60 + seconds))
}

/// Digits alone, at most so many.
fn number(text: &str, most: usize) -> Option<i64> {
    (text.len() <= most && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order in which Postgres sorts them.
    #[test]
    fn moments_are_ordered_as_postgres_orders_them() {
        let sorted = |read: fn(&str) -> Option<i64>, texts: &[&str]| {
            let values: Vec<i64> = texts.iter().map(|text| read(text).unwrap_or_else(|| panic!("{text}"))).collect();
            assert!(values.is_sorted_by(|a, b| a < b), "{texts:?}: {values:?}");
        };
        let civil = [
            "-infinity",
            "4713-01-01T00:00:00 BC",
            "0044-03-15T12:00:00 BC",
            "0001-12-31T23:59:59.999999 BC",
            "0001-01-01T00:00:00",
            "1999-12-31T23:59:59.999999",
            "2000-01-01T00:00:00",
            "2024-02-29 00:00:00.5",
            "9999-12-31T23:59:59.999999",
            "10000-01-01T00:00:00",
            "12345-06-07T08:09:10",
            "294276-12-31T23:59:59.999999",
            "infinity",
        ];
        sorted(timestamp, &civil);
        let with_zone: Vec<String> = civil
            .iter()
            .map(|text| match text.strip_suffix(" BC") {
                Some(text) => format!("{text}+00:00 BC"),
                None if text.ends_with("infinity") => (*text).to_owned(),
                None => format!("{text}+00:00"),
            })
            .collect();
        sorted(timestamptz, &with_zone.iter().map(String::as_str).collect::<Vec<_>>());
        sorted(
            date,
            &[
                "-infinity",
                "4713-01-01 BC",
                "0001-01-01 BC",
                "0001-01-01",
                "2000-02-29",
                "2000-03-01",
                "10000-01-01",
                "5874897-12-31",
                "infinity",
            ],
        );
        sorted(time, &["00:00:00", "10:20:30", "23:59:59.999999", "24:00:00"]);
    }

    #[test]
    fn one_moment_has_one_number_however_it_is_written() {
        assert_eq!(timestamptz("12345-06-07T08:09:10+00:00"), timestamptz("12345-06-07 10:09:10+02"));
        assert_eq!(timestamptz("2024-01-31T05:20:00Z"), timestamptz("2024-01-31T10:50:00+05:30"));
        assert_eq!(timestamp("2024-01-31T00:00"), timestamp("2024-01-31"));
        assert_eq!((date("2000-01-01"), date("1970-01-01"), date("2000-03-01")), (Some(0), Some(-10_957), Some(60)));
        assert_eq!(timestamptz("2000-01-01T00:00:00.0000005Z"), Some(1), "rounded");
        assert_eq!(days(0, 2, 29) + 1, days(0, 3, 1), "the year before 1 is a leap year");
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for days in
            (BEGIN / DAY..END_OF_DAYS).step_by(9_973).chain([BEGIN / DAY, END_OF_DAYS - 1, INFINITY, MINUS_INFINITY])
        {
            assert_eq!(date(&date_text(days).unwrap()), Some(days));
        }
        for micros in (BEGIN..END).step_by(999_983_000_777_000).chain([BEGIN, END - 1, -1, 0, INFINITY]) {
            assert_eq!(timestamp(&timestamp_text(micros).unwrap()), Some(micros));
            let text = timestamptz_text(micros).unwrap();
            assert_eq!(timestamptz(&text), Some(micros), "{text}");
        }
        assert_eq!((date_text(BEGIN / DAY - 1), timestamp_text(BEGIN - 1), date_text(END_OF_DAYS)), (None, None, None));
        assert_eq!((time_text(DAY), date_text(-1)), ("24:00:00.000000".to_owned(), Some("1999-12-31".to_owned())));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "12345",
            "12345-13-01",
            "12345-02-30",
            "12345-06-07T25:00:00",
            "0000-01-01 BC",
            "12345-06-07T08:09:10+99",
            "x-01-01",
            "99999999-01-01",
        ] {
            assert_eq!((date(text), timestamp(text), timestamptz(text)), (None, None, None), "{text}");
        }
        assert_eq!((timestamp("294277-01-01"), time("24:00:01"), date("12345-06-07T08:00")), (None, None, None));
    }
}
