//! What was measured, by name, and its median over the rounds.

use std::collections::BTreeMap;

/// The figures of one round: a name of [`key`] and its value.
pub type Figures = BTreeMap<&'static str, f64>;

/// The figures' names, in the JSON too. Units last.
pub mod key {
    /// Answers a second.
    pub const REQUESTS_PER_SECOND: &str = "requests_per_second";
    /// CPU time of the server for each request, user and system.
    pub const CPU_US: &str = "cpu_us";
    /// The share of it in user space.
    pub const USER_US: &str = "user_us";
    /// The share of it in the kernel.
    pub const SYSTEM_US: &str = "system_us";
    /// CPU time of the server for each KiB that the client received.
    pub const CPU_NS_PER_KIB: &str = "cpu_ns_per_kib";
    /// Half of the requests took at most as long.
    pub const P50_US: &str = "p50_us";
    /// 99 in 100 requests took at most as long.
    pub const P99_US: &str = "p99_us";
    /// 999 in 1,000 requests took at most as long.
    pub const P999_US: &str = "p999_us";
    /// Bytes that the client received a second.
    pub const BYTES_PER_SECOND: &str = "bytes_per_second";
    /// Threads of the server at the end.
    pub const THREADS: &str = "threads";
    /// Memory of the server at the end.
    pub const MEMORY_BYTES: &str = "memory_bytes";
    /// Memory that each idle connection costs the process.
    pub const BYTES_PER_CONNECTION: &str = "bytes_per_connection";
    /// Idle connections that were held.
    pub const CONNECTIONS: &str = "connections";
    /// 99 in 100 requests took at most as long while no connection was idle.
    pub const P99_NONE_IDLE_US: &str = "p99_none_idle_us";
    /// The same while as many connections were idle at another process on the server's core.
    pub const P99_IDLE_ELSEWHERE_US: &str = "p99_idle_elsewhere_us";
    /// System calls of the server for each request.
    pub const SYSTEM_CALLS: &str = "system_calls";
    /// User-space instructions of the server for each request.
    pub const INSTRUCTIONS: &str = "instructions";
    /// Processor time of a build from cold.
    pub const BUILD_CPU_SECONDS: &str = "build_cpu_seconds";
    /// How long a build from cold took, on two cores.
    pub const BUILD_SECONDS: &str = "build_seconds";
    /// Crates that were built.
    pub const CRATES: &str = "crates";
    /// Connections that broke, and answers that were wrong.
    pub const ERRORS: &str = "errors";
    /// Answers a second that the sleeping connections had.
    pub const SLEEPERS_PER_SECOND: &str = "sleepers_per_second";
    /// The share of the time in which the server's core was busy, 0 to 1.
    pub const SERVER_CORE_BUSY: &str = "server_core_busy";
    /// The share of the time in which the load's core was busy, 0 to 1.
    pub const LOAD_CORE_BUSY: &str = "load_core_busy";
    /// The share of the time in which the server's core did something else, 0 to 1.
    pub const SERVER_CORE_FOREIGN: &str = "server_core_foreign";
}

/// A median with the extremes around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// The median of a figure over the rounds that have it.
pub fn median(rounds: &[Figures], key: &str) -> Option<Median> {
    let mut values: Vec<f64> = rounds.iter().filter_map(|round| round.get(key)).copied().collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    };
    Some(Median { median, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let rounds: Vec<Figures> =
            [4.0, 1.0, 3.0, 10.0].map(|value| Figures::from([("x", value)])).to_vec();
        assert_eq!(median(&rounds, "x"), Some(Median { median: 3.5, min: 1.0, max: 10.0 }));
        assert_eq!(median(&rounds, "y"), None);
    }
}
