//! The models. Each says what may never happen; that nothing waits for ever loom says by itself.

use std::time::Duration;

use loom::thread;

use crate::lease::{Lease, Pool};
use crate::mailbox::Mailbox;
use crate::pool::crew::{Called, Crew};
use crate::pool::lanes::{Job, LaneLimits, Lanes};
use crate::sync::{Arc, AtomicUsize, Ordering, set_time_passes};
use crate::{Request, Waker};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("a_lane_never_exceeds_its_limit_nor_forgets_a_job", a_lane_never_exceeds_its_limit),
    ("a_sleeping_thread_is_called", a_sleeping_thread_is_called),
    ("a_thread_that_takes_one_of_two_jobs_calls_another", who_takes_one_of_two_calls_another),
    ("a_job_that_comes_as_a_thread_ends_is_run", a_job_that_comes_as_a_thread_ends_is_run),
    ("a_shard_that_sleeps_is_woken_by_an_answer", a_shard_that_sleeps_is_woken),
    ("answers_beyond_the_queue_are_not_lost", answers_beyond_the_queue_are_not_lost),
    ("a_lease_that_returns_wakes_a_starving_port", a_lease_that_returns_wakes),
    ("leases_outlive_their_pool", leases_outlive_their_pool),
];

impl Job for usize {
    fn lane(&self) -> usize {
        0
    }
}

/// Where loom's threads wait for each other without time.
struct Bell {
    rung: loom::sync::Mutex<usize>,
    changed: loom::sync::Condvar,
}

impl Bell {
    fn new() -> Arc<Bell> {
        Arc::new(Bell { rung: loom::sync::Mutex::new(0), changed: loom::sync::Condvar::new() })
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    fn wait_for(&self, count: usize) {
        let mut rung = self.rung.lock().unwrap();
        while *rung < count {
            rung = self.changed.wait(rung).unwrap();
        }
    }
}

fn lanes(limit: usize) -> Lanes<usize> {
    Lanes::new(4, [LaneLimits { running: limit, waiting: 4 }].into_iter())
}

/// Two submit to a lane for one, and each runs what it finds; who finds none relies on the other.
fn a_lane_never_exceeds_its_limit() {
    let shared = Arc::new((lanes(1), AtomicUsize::new(0), AtomicUsize::new(0)));
    let run_all = |shared: &(Lanes<usize>, AtomicUsize, AtomicUsize)| {
        let (lanes, running, done) = shared;
        while let Some(job) = lanes.take() {
            assert_eq!(running.fetch_add(1, Ordering::Relaxed), 0, "two run at once");
            running.fetch_sub(1, Ordering::Relaxed);
            done.fetch_add(1, Ordering::Relaxed);
            lanes.finished(job.lane());
        }
    };
    let other = shared.clone();
    let thread = thread::spawn(move || {
        assert!(other.0.submit(1).is_ok());
        run_all(&other);
    });
    assert!(shared.0.submit(2).is_ok());
    run_all(&shared);
    thread.join().unwrap();
    // Who was last to look may have done so before the other one's job became ready.
    run_all(&shared);
    assert_eq!(shared.2.load(Ordering::Relaxed), 2, "a job was left in the line");
    assert_eq!(shared.0.waiting(), 0);
}

fn spawn_worker(crew: &Arc<Crew<usize>>, delivered: &Arc<Bell>) -> thread::JoinHandle<()> {
    let (crew, delivered) = (crew.clone(), delivered.clone());
    // Threads beyond those of the model are not to be started.
    thread::spawn(move || crew.work(|job| job, |_| delivered.ring(), |_| unreachable!("full")))
}

/// Submits a job and starts the thread that may be asked for.
fn submit(
    crew: &Arc<Crew<usize>>,
    job: usize,
    delivered: &Arc<Bell>,
) -> Option<thread::JoinHandle<()>> {
    let becomes_ready = crew.lanes.submit(job).expect("there is a place");
    match becomes_ready.then(|| crew.call()) {
        Some(Called::Start(_)) => Some(spawn_worker(crew, delivered)),
        _ => None,
    }
}

/// The second job comes while the only thread runs the first, looks, or sleeps.
fn a_sleeping_thread_is_called() {
    set_time_passes(false);
    let crew = Arc::new(Crew::new(lanes(4), 1, Duration::MAX));
    let delivered = Bell::new();
    let thread = submit(&crew, 1, &delivered).expect("the first job starts a thread");
    assert!(submit(&crew, 2, &delivered).is_none());
    delivered.wait_for(2);
    crew.close();
    thread.join().unwrap();
    assert_eq!(crew.threads(), 0);
}

/// Each of two jobs waits for the other one to run, and one call is made for both.
fn who_takes_one_of_two_calls_another() {
    set_time_passes(false);
    let crew = Arc::new(Crew::new(lanes(4), 2, Duration::MAX));
    let meeting = Bell::new();
    let threads = Arc::new(loom::sync::Mutex::new(Vec::new()));
    for job in [1, 2] {
        assert!(crew.lanes.submit(job).expect("there is a place"), "it becomes ready");
    }
    if crew.call() != Called::Enough {
        start_meeting(&crew, &meeting, &threads);
    }
    meeting.wait_for(2);
    crew.close();
    loop {
        let Some(thread) = threads.lock().unwrap().pop() else { break };
        thread.join().unwrap();
    }
}

type Threads = Arc<loom::sync::Mutex<Vec<thread::JoinHandle<()>>>>;

fn start_meeting(crew: &Arc<Crew<usize>>, meeting: &Arc<Bell>, threads: &Threads) {
    let (crew, meeting, all) = (crew.clone(), meeting.clone(), threads.clone());
    let thread = thread::spawn(move || {
        let run = |job| {
            meeting.ring();
            meeting.wait_for(2);
            job
        };
        crew.work(run, |_| {}, |_| start_meeting(&crew, &meeting, &all));
    });
    threads.lock().unwrap().push(thread);
}

/// The thread's time to sleep is over when the second job comes, or is not yet.
fn a_job_that_comes_as_a_thread_ends_is_run() {
    set_time_passes(true);
    let crew = Arc::new(Crew::new(lanes(4), 1, Duration::ZERO));
    let delivered = Bell::new();
    let threads = Arc::new(loom::sync::Mutex::new(Vec::new()));
    for job in [1, 2] {
        if crew.lanes.submit(job).expect("there is a place") && crew.call() != Called::Enough {
            start_ending(&crew, &delivered, &threads);
        }
    }
    delivered.wait_for(2);
    loop {
        let Some(thread) = threads.lock().unwrap().pop() else { break };
        thread.join().unwrap();
    }
    assert_eq!((crew.threads(), crew.lanes.waiting()), (0, 0));
}

fn start_ending(crew: &Arc<Crew<usize>>, delivered: &Arc<Bell>, threads: &Threads) {
    let (crew, bell, all) = (crew.clone(), delivered.clone(), threads.clone());
    let thread = thread::spawn(move || {
        crew.work(|job| job, |_| bell.ring(), |_| start_ending(&crew, &bell, &all));
    });
    threads.lock().unwrap().push(thread);
}

/// A port's wait: sleeps until it is kicked, unless it was woken since the last time.
fn wait(waker: &Waker, kicks: &Bell, seen: &mut usize) {
    if waker.about_to_sleep() {
        *seen += 1;
        kicks.wait_for(*seen);
    }
    waker.awake();
}

fn waker(kicks: &Arc<Bell>) -> Waker {
    let kicks = kicks.clone();
    Waker::new(move || kicks.ring())
}

fn receive_answers(mailbox: &Mailbox, waker: &Waker, kicks: &Bell, count: usize) {
    let (mut answers, mut seen) = (0, 0);
    while answers < count {
        wait(waker, kicks, &mut seen);
        while mailbox.next_answer().is_some() {
            answers += 1;
        }
    }
    assert_eq!(answers, count);
}

fn a_shard_that_sleeps_is_woken() {
    answers_come(4);
}

fn answers_beyond_the_queue_are_not_lost() {
    answers_come(1);
}

/// Two workers answer a shard whose queue has room for so many.
fn answers_come(room: usize) {
    let kicks = Bell::new();
    let waker = waker(&kicks);
    let mailbox = Arc::new(Mailbox::new(room));
    mailbox.open(waker.clone());
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.answer(Box::new(Request)))
        })
        .collect();
    receive_answers(&mailbox, &waker, &kicks, 2);
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

fn leases(pool: &mut Pool, count: usize) -> Vec<Lease> {
    let blocks = (0..count).map(|_| {
        let block = pool.take().expect("a block is free");
        // SAFETY: the block was just taken, and pools begin with zeros.
        unsafe { pool.lease(block, 1) }
    });
    blocks.collect()
}

/// All blocks are leased and the port sleeps until one is back.
fn a_lease_that_returns_wakes() {
    let kicks = Bell::new();
    let waker = waker(&kicks);
    let mut pool = Pool::new(8, 2, 2);
    let threads: Vec<_> =
        leases(&mut pool, 2).into_iter().map(|lease| thread::spawn(move || drop(lease))).collect();
    let (mut free, mut seen) = (pool.free(), 0);
    while free < 2 {
        if pool.starve(&waker) {
            wait(&waker, &kicks, &mut seen);
        }
        free = pool.free();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    pool.close(0);
}

/// The pool closes while two views of one block and one of another are dropped elsewhere; loom
/// counts what is not freed.
fn leases_outlive_their_pool() {
    let mut pool = Pool::new(8, 2, 2);
    let mut held = leases(&mut pool, 2);
    let (first, second) = (held.remove(0), held.remove(0));
    let view = first.clone();
    let threads = [
        thread::spawn(move || drop((first, second))),
        thread::spawn(move || assert_eq!(*view, [0])),
    ];
    pool.close(0);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
