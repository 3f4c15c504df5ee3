//! The exchanges of `tests/conformance` on the simulated port.

#[path = "../../tests/conformance/answer.rs"]
mod answer;
#[path = "../../tests/conformance/case.rs"]
mod case;
#[path = "../../tests/conformance/exchange.rs"]
mod exchange;
#[path = "../../tests/conformance/program.rs"]
mod program;

use std::path::Path;
use std::time::Duration;

use wharf_port::sim::{Faults, Peer};

use self::exchange::{Cuts, WAYS, Wire};
use super::{MAX_TURNS, Simulation, address};

/// A client's end of a simulated connection, which takes the server's turns while it waits.
struct Simulated<'a> {
    simulation: &'a mut Simulation,
    peer: Peer,
    /// Taken from the network while it sent: a reset takes what lies unread with it.
    received: Vec<u8>,
}

impl Simulated<'_> {
    fn step(&mut self) {
        let soon = self.simulation.network.now() + Duration::from_millis(1);
        self.simulation.network.wake_at(soon);
        self.simulation.turn();
        self.simulation.run_one();
        self.received.extend(self.peer.receive());
    }
}

impl Wire for Simulated<'_> {
    fn send(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        while sent < bytes.len() && !self.peer.is_reset() {
            sent += self.peer.send(&bytes[sent..]);
            self.step();
        }
    }

    fn finish_sending(&mut self) {
        self.peer.shutdown();
    }

    fn receive(&mut self) -> Result<Option<Vec<u8>>, String> {
        for _ in 0..MAX_TURNS {
            self.received.extend(self.peer.receive());
            let bytes = std::mem::take(&mut self.received);
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
            if self.peer.at_end() || self.peer.is_reset() {
                return Ok(None);
            }
            self.step();
        }
        Err("nothing comes".to_owned())
    }
}

fn play(case: &case::Case, cuts: Cuts, seed: u64, faults: Faults) -> exchange::Transcript {
    let mut simulation = Simulation::serving(program::router(), seed, faults);
    let peer = simulation.network.connect(address());
    let wire = Simulated { simulation: &mut simulation, peer, received: Vec::new() };
    let transcript = exchange::play(case, wire, cuts).unwrap_or_else(|what| {
        let words = &case.requirement.words;
        panic!("{} ({cuts:?}, seed {seed}), {words}: {what}", case.name)
    });
    simulation.end();
    transcript
}

#[test]
fn every_exchange_comes_out_the_same_however_the_network_cuts_it() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    for case in case::all(&cases) {
        // By its name, so that a new case changes no other one's.
        let seed =
            case.name.bytes().fold(7, |seed: u64, byte| seed * 31 % 1_000_003 + u64::from(byte));
        let whole = play(&case, Cuts::Whole, seed, Faults::none());
        for cuts in WAYS {
            let other = play(&case, cuts, seed, Faults::default());
            assert_eq!(whole, other, "{} ({cuts:?}, seed {seed})", case.name);
        }
    }
}
