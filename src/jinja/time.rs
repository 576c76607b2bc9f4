//! `strftime_now`: the date in UTC, since a board seldom knows its time zone.

use super::budget::{Budget, Result, fail};
use super::value::Value;

const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `now`: seconds since 1970.
pub fn format(format: &str, now: u64, budget: &mut Budget) -> Result<Value> {
    let mut whole = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            budget.append_char(&mut whole, c)?;
            continue;
        }
        // GNU's way to leave out the padding.
        let (bare, code) = match rest.next() {
            Some('-') => (true, rest.next()),
            code => (false, code),
        };
        let mut text = String::new();
        match code {
            Some(code) => field(code, now, &mut text)?,
            None => text.push('%'),
        }
        let text = if bare { without_padding(&text) } else { &text };
        budget.append(&mut whole, text)?;
    }
    budget.text(&whole)
}

fn without_padding(text: &str) -> &str {
    let bare = text.trim_start_matches(['0', ' ']);
    if bare.is_empty() && !text.is_empty() { "0" } else { bare }
}

fn field(code: char, now: u64, to: &mut String) -> Result<()> {
    let (days, seconds) = (now / 86_400, now % 86_400);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = civil(days);
    let name = |names: &[&'static str], at: u64| names.get(at as usize).copied().unwrap_or("");
    let weekday = name(&DAYS, (days + 3) % 7);
    let month_name = name(&MONTHS, month - 1);
    let short = |name: &str| name.get(..3).unwrap_or_default().to_owned();
    let parts = |codes: &str, between: &str, to: &mut String| -> Result<()> {
        for (n, code) in codes.chars().enumerate() {
            *to += if n == 0 { "" } else { between };
            field(code, now, to)?;
        }
        Ok(())
    };
    *to += &match code {
        'd' => format!("{day:02}"),
        'e' => format!("{day:2}"),
        'm' => format!("{month:02}"),
        'Y' => format!("{year}"),
        'y' => format!("{:02}", year % 100),
        'H' => format!("{hour:02}"),
        'I' => format!("{:02}", (hour + 11) % 12 + 1),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'p' => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
        'A' => weekday.to_owned(),
        'a' => short(weekday),
        'B' => month_name.to_owned(),
        'b' | 'h' => short(month_name),
        'j' => format!("{:03}", days + 1 - days_before(year)),
        'Z' => "UTC".to_owned(),
        'z' => "+0000".to_owned(),
        '%' => "%".to_owned(),
        'F' => return parts("Ymd", "-", to),
        'T' => return parts("HMS", ":", to),
        'D' => return parts("mdy", "/", to),
        _ => return fail(format!("strftime_now does not know %{code}")),
    };
    Ok(())
}

/// Year, month and day of a day since 1970, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years that begin in March have their leap day at the end.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let first = (153 * month + 2) / 5;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day - first + 1)
}

/// Days from 1970 to the first of January.
fn days_before(year: u64) -> u64 {
    let before = year - 1;
    before * 365 + before / 4 - before / 100 + before / 400 - 719_162
}
