//! Dates for chat templates, in UTC and English, from seconds since 1970.
//!
//! It knows the conversions that chat templates use; an unknown one stays as it is written.

use std::fmt::Write;

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
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
/// Letters of a short name.
const SHORT: usize = 3;
const DAY_SECONDS: u64 = 86_400;

/// A moment in the calendar.
struct Moment {
    year: u64,
    /// 1 to 12.
    month: usize,
    day: u64,
    /// 0 is Sunday.
    weekday: usize,
    second_of_day: u64,
}

/// Fills in `format` for the moment `seconds` after the start of 1970.
pub(super) fn strftime(format: &str, seconds: u64) -> String {
    let moment = Moment::at(seconds);
    let mut text = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('%', Some(conversion)) => {
                chars.next();
                moment
                    .write(conversion, &mut text)
                    .expect("writing to a string cannot fail");
            }
            _ => text.push(c),
        }
    }
    text
}

impl Moment {
    fn at(seconds: u64) -> Self {
        let days = seconds / DAY_SECONDS;
        let (mut year, mut left) = (1970, days);
        while left >= year_days(year) {
            left -= year_days(year);
            year += 1;
        }
        let mut month = 1;
        while left >= month_days(year, month) {
            left -= month_days(year, month);
            month += 1;
        }
        // The first day of 1970 was a Thursday.
        let weekday = ((days + 4) % 7) as usize;
        Self {
            year,
            month,
            day: left + 1,
            weekday,
            second_of_day: seconds % DAY_SECONDS,
        }
    }

    fn write(&self, conversion: char, out: &mut String) -> std::fmt::Result {
        let (hour, minute) = (self.second_of_day / 3600, self.second_of_day / 60 % 60);
        let (weekday, month) = (DAYS[self.weekday], MONTHS[self.month - 1]);
        match conversion {
            'Y' => write!(out, "{}", self.year),
            'y' => write!(out, "{:02}", self.year % 100),
            'm' => write!(out, "{:02}", self.month),
            'd' => write!(out, "{:02}", self.day),
            'e' => write!(out, "{:2}", self.day),
            'B' => write!(out, "{month}"),
            'b' | 'h' => write!(out, "{}", &month[..SHORT]),
            'A' => write!(out, "{weekday}"),
            'a' => write!(out, "{}", &weekday[..SHORT]),
            'H' => write!(out, "{hour:02}"),
            'I' => write!(out, "{:02}", (hour + 11) % 12 + 1),
            'M' => write!(out, "{minute:02}"),
            'S' => write!(out, "{:02}", self.second_of_day % 60),
            'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            'j' => write!(out, "{:03}", self.day_of_year()),
            'F' => write!(out, "{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => write!(out, "{hour:02}:{minute:02}:{:02}", self.second_of_day % 60),
            'Z' => write!(out, "UTC"),
            'z' => write!(out, "+0000"),
            '%' => write!(out, "%"),
            other => write!(out, "%{other}"),
        }
    }

    fn day_of_year(&self) -> u64 {
        (1..self.month)
            .map(|month| month_days(self.year, month))
            .sum::<u64>()
            + self.day
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn year_days(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn month_days(year: u64, month: usize) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, format: &str, expected: &str) {
        assert_eq!(strftime(format, seconds), expected, "{format} at {seconds}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        check(
            0,
            "%A %d %B %Y %H:%M:%S %j",
            "Thursday 01 January 1970 00:00:00 001",
        );
        check(951_782_400, "%a %d %b %y %F", "Tue 29 Feb 00 2000-02-29");
        check(1_709_210_096, "%F %T %j", "2024-02-29 12:34:56 060");
        check(4_107_542_399, "%F %I:%M %p", "2100-02-28 11:59 PM");
        check(4_107_542_400, "%F %I:%M %p", "2100-03-01 12:00 AM");
    }

    #[test]
    fn what_is_no_conversion_stays() {
        check(0, "100%", "100%");
        check(0, "%Q %% é%Y", "%Q % é1970");
    }
}
