//! `Retry-After`: seconds or a date.

use std::time::Duration;

use ureq::http::HeaderMap;
use ureq::http::header::{DATE, RETRY_AFTER};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// For how long the server asks not to be asked; 0 where it does not, or says it in no known way.
///
/// A date is compared with the answer's own, since the device's clock may be off.
pub(super) fn quiet(headers: &HeaderMap) -> Duration {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(after) = text(RETRY_AFTER) else { return Duration::ZERO };
    let seconds = after.parse().ok().or_else(|| {
        let now = text(DATE).and_then(seconds)?;
        Some(seconds(after)?.saturating_sub(now))
    });
    Duration::from_secs(seconds.unwrap_or(0))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers may send.
fn seconds(date: &str) -> Option<u64> {
    let mut parts = date.split_once(", ")?.1.split([' ', ':']);
    let mut next = || parts.next();
    let day: u64 = next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let year: u64 = next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut part = |most: u64| next()?.parse::<u64>().ok().filter(|part| *part <= most);
    let (hour, minute, second) = (part(23)?, part(59)?, part(60)?);
    if next() != Some("GMT") || next().is_some() {
        return None;
    }
    // March is the first month, so that a leap day is the last of a year.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    const DAYS_TO_1970: u64 = 719_468;
    Some((days - DAYS_TO_1970) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let rows = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2028 23:59:59 GMT", Some(1_835_481_599)),
            ("Wed, 01 Mar 2028 00:00:00 GMT", Some(1_835_481_600)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 9999999999999999999:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:60:37 GMT", None),
            ("Sun, 06 Nov 1 08:49:37 GMT", None),
            ("", None),
        ];
        for (date, want) in rows {
            assert_eq!(seconds(date), want, "{date}");
        }
    }

    #[test]
    fn fields() {
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        let rows = [
            (None, None, 0),
            (Some("30"), None, 30),
            (Some(" 30 "), None, 30),
            (Some("0"), None, 0),
            (Some("-1"), None, 0),
            (Some("soon"), Some(now), 0),
            (Some("1.5"), None, 0),
            (Some("18446744073709551615"), None, u64::MAX),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(now), 60),
            (Some("Sun, 06 Nov 1994 08:48:37 GMT"), Some(now), 0),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), None, 0),
        ];
        for (after, date, seconds) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in [(RETRY_AFTER, after), (DATE, date)] {
                value.map(|value| headers.insert(name, value.parse().unwrap()));
            }
            assert_eq!(quiet(&headers), Duration::from_secs(seconds), "{after:?}");
        }
    }
}
