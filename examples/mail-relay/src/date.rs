//! RFC 5322 dates made of log time; no clock and no time zone is consulted.

use std::fmt;

/// Writes nanoseconds since the Unix epoch as an RFC 5322 section 3.3
/// date-time in UTC, such as `Thu, 01 Jan 1970 00:00:00 +0000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc5322Date(
    /// Nanoseconds since the Unix epoch.
    pub u64,
);

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl fmt::Display for Rfc5322Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / crate::limits::SECOND;
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        write!(
            f,
            "{}, {day:02} {} {year} {:02}:{:02}:{:02} +0000",
            DAYS[(days % 7) as usize],
            MONTHS[month],
            second_of_day / 3600,
            second_of_day / 60 % 60,
            second_of_day % 60,
        )
    }
}

/// Year, month (from 0) and day (from 1) of a day counted from 1970-01-01, in
/// the Gregorian calendar. Years are taken to begin in March, so that the leap
/// day is the last of its year and month lengths follow one formula.
fn civil(days: u64) -> (u64, usize, u64) {
    const DAYS_FROM_MARCH_0000: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days + DAYS_FROM_MARCH_0000;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(seconds: u64) -> String {
        Rfc5322Date(seconds * crate::limits::SECOND).to_string()
    }

    #[test]
    fn known_dates() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_000_000_000, "Sun, 09 Sep 2001 01:46:40 +0000"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 +0000"),
            (1_709_251_200, "Fri, 01 Mar 2024 00:00:00 +0000"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 +0000"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut expected = (1970, 0, 1);
        for days in 0..146_097 {
            assert_eq!(civil(days), expected, "day {days}");
            expected = next_day(expected);
        }
    }

    fn next_day((year, month, day): (u64, usize, u64)) -> (u64, usize, u64) {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length =
            [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
        match (month, day) {
            (11, 31) => (year + 1, 0, 1),
            (_, day) if day == length => (year, month + 1, 1),
            _ => (year, month, day + 1),
        }
    }

    #[test]
    fn the_last_representable_instant_does_not_panic() {
        assert!(Rfc5322Date(u64::MAX).to_string().contains(" 2554 "));
    }
}
