//! Which backend a test runs on, and how.

use std::env;
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use wharf_port::sim::{Faults, Network};
use wharf_port::{Backend, Choice, Config, Port};

use crate::rig::Rig;

/// Longer than anything here takes, so that a test which hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Runs of a test on the simulated port.
const SEEDS: u64 = 8;
/// The command of an emulator that runs this process, if one does.
const EMULATOR: &str = "WHARF_TEST_EMULATOR";
/// Says to a child process that it is one.
const CHILD: &str = "WHARF_CONTRACT_CHILD";

/// The module and the function of a test.
type Name = (&'static str, &'static str);

/// Makes a test of each function, for each backend of the platform.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        #[cfg(target_os = "linux")]
        mod uring {
            $(#[test] fn $name() {
                crate::setup::run(wharf_port::Backend::Uring, (module_path!(), stringify!($name)), super::$name)
            })*
        }
        /// Every connection in the ring's own table.
        #[cfg(target_os = "linux")]
        mod uring_direct {
            $(#[test] fn $name() {
                crate::setup::run_direct((module_path!(), stringify!($name)), super::$name)
            })*
        }
        #[cfg(unix)]
        mod readiness {
            $(#[test] fn $name() {
                crate::setup::run(wharf_port::Backend::Readiness, (module_path!(), stringify!($name)), super::$name)
            })*
        }
        #[cfg(windows)]
        mod iocp {
            $(#[test] fn $name() {
                crate::setup::run(wharf_port::Backend::Iocp, (module_path!(), stringify!($name)), super::$name)
            })*
        }
        mod sim {
            $(#[test] fn $name() {
                crate::setup::run(wharf_port::Backend::Sim, (module_path!(), stringify!($name)), super::$name)
            })*
        }
    };
}
pub(crate) use on_every_backend;

/// What a test makes its [`Rig`]s with: all of them are in one network.
pub(crate) struct Setup {
    pub(crate) backend: Backend,
    /// The simulated network, on the simulated port.
    pub(crate) network: Option<Network>,
    /// What the test's own chance begins with.
    pub(crate) seed: u64,
    test: Name,
    /// Connections have no descriptors.
    direct: bool,
}

/// Slots of a ring's own table.
const DIRECT_SOCKETS: u32 = 4096;

/// Runs a test, unless this machine forbids the backend; `WHARF_REQUIRE_URING` makes that a
/// failure.
pub(crate) fn run(backend: Backend, test: Name, body: fn(&Setup)) {
    run_as(backend, test, false, body);
}

/// The same on io_uring without a descriptor for any connection.
#[cfg(target_os = "linux")]
pub(crate) fn run_direct(test: Name, body: fn(&Setup)) {
    run_as(Backend::Uring, test, true, body);
}

fn run_as(backend: Backend, test: Name, direct: bool, body: fn(&Setup)) {
    allow_many_descriptors();
    if backend != Backend::Sim {
        return match Port::open(Choice::Only(backend), &Config::default()) {
            Ok(_) => body(&Setup { backend, network: None, seed: 1, test, direct }),
            Err(error) if env::var_os("WHARF_REQUIRE_URING").is_none() => {
                println!("not run, for this machine has no {backend}: {error}");
            }
            Err(error) => panic!("{backend} has to be there: {error}"),
        };
    }
    for seed in 0..SEEDS {
        // The first seed's network is a plain one, for what fails there is easier to understand.
        let faults = if seed == 0 { Faults::none() } else { Faults::default() };
        let network = Some(Network::new(seed, faults));
        let _told = TellSeed(seed);
        body(&Setup { backend, network, seed, test, direct });
    }
}

/// Tells which seed it was, if it is dropped by a panic.
pub(crate) struct TellSeed(pub(crate) u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was seed {}", self.0);
        }
    }
}

impl Setup {
    pub(crate) fn is_simulated(&self) -> bool {
        self.network.is_some()
    }

    /// The same with another seed, and, if it is simulated, a network of that seed.
    pub(crate) fn reseeded(&self, seed: u64, faults: Faults) -> Setup {
        let network = self.network.as_ref().map(|_| Network::new(seed, faults));
        Setup { backend: self.backend, network, seed, test: self.test, direct: self.direct }
    }

    pub(crate) fn rig(&self) -> Rig {
        self.rig_with(&Config::default())
    }

    pub(crate) fn rig_with(&self, config: &Config) -> Rig {
        let mut config = config.clone();
        if self.direct {
            config.plain_sockets = 0;
            config.direct_sockets = DIRECT_SOCKETS;
        }
        let port = match &self.network {
            Some(network) => network.port(&config),
            None => Port::open(Choice::Only(self.backend), &config).expect("it opened before"),
        };
        Rig::new(port, self.network.clone())
    }

    /// Fewer bytes, or whatever it is, on the simulated port, which does it all for each seed.
    pub(crate) fn amount(&self, real: usize, simulated: usize) -> usize {
        if self.is_simulated() { simulated } else { real }
    }

    /// Runs what would disturb other tests (a limit of the process, its descriptors counted) in a
    /// process of its own: this one again, with this test alone. The simulated port has no such
    /// thing in common with others.
    pub(crate) fn in_child(&self, body: impl FnOnce()) {
        if self.is_simulated() || env::var_os(CHILD).is_some() {
            return body();
        }
        let (module, function) = self.test;
        let (_crate, module) = module.split_once("::").expect("a test is in a module");
        let name = format!("{module}::{function}");
        // Where an emulator runs this process, the child needs it too.
        let emulator = env::var(EMULATOR).unwrap_or_default();
        let emulator = emulator.split_whitespace().map(OsString::from);
        let mut words = emulator.chain([env::current_exe().unwrap().into_os_string()]);
        let mut child = Command::new(words.next().expect("one at least"))
            .args(words)
            .args([&name, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > 2 * PATIENCE {
                child.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "in a process of its own: {}\n{said}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
    }
}

/// Where the default limit of descriptors is low, raises it to what may be had.
fn allow_many_descriptors() {
    static ONCE: Once = Once::new();
    #[cfg(unix)]
    ONCE.call_once(|| limit_descriptors(None).expect("the limit may be raised to its maximum"));
    #[cfg(windows)]
    let _ = &ONCE;
}

/// Limits the descriptors of this process. None: as many as may be had.
#[cfg(unix)]
pub(crate) fn limit_descriptors(to: Option<u64>) -> std::io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result, and outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    limit.rlim_cur = to.map_or(limit.rlim_max, |to| to as libc::rlim_t);
    // SAFETY: `limit` is a valid place to read from, and outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
