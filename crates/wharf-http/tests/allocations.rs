//! Parsing and writing allocate nothing once the memory is there. A binary of its own, for it
//! counts what the whole process allocates, and it has but one test, so that no other disturbs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use wharf_http::{
    ChunkedDecoder, ChunkedLimits, Date, HEAD_END, HeadLimits, LAST_CHUNK, RequestHead, Version,
    content_length, encode_chunk, field, status_line,
};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all is done by the system's allocator; counting changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Relaxed);
    work();
    ALLOCATIONS.load(Relaxed) - before
}

#[test]
fn messages_allocate_nothing_in_steady_state() {
    let mut bytes = b"POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n".to_vec();
    for number in 0..60 {
        bytes.extend_from_slice(format!("X-{number}: {number}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    let limits = HeadLimits::default();

    assert_eq!(allocations_of(|| drop(RequestHead::new())), 0);
    let mut head = RequestHead::new();
    let read = |head: &mut RequestHead| {
        head.clear();
        for end in 0..=bytes.len() {
            assert_eq!(head.parse(&bytes[..end], &limits).unwrap().is_some(), end == bytes.len());
        }
    };
    assert!(allocations_of(|| read(&mut head)) > 0, "the table has to come from somewhere");
    assert_eq!(allocations_of(|| (0..10).for_each(|_| read(&mut head))), 0);
    assert_eq!(
        allocations_of(|| {
            head.clear();
            assert!(head.parse(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", &limits).is_err());
        }),
        0,
        "a refusal allocates nothing either"
    );

    let decode = |decoder: &mut ChunkedDecoder, input: &[u8]| {
        decoder.clear();
        let mut at = 0;
        while !decoder.is_done() {
            at += decoder.decode(&input[at..]).unwrap().consumed;
        }
    };
    let mut decoder = ChunkedDecoder::new(ChunkedLimits::default());
    let plain = b"5;a=b\r\nhello\r\n0\r\n\r\n";
    assert_eq!(allocations_of(|| decode(&mut decoder, plain)), 0);
    let with_trailer = b"0\r\nX: y\r\n\r\n";
    assert!(allocations_of(|| decode(&mut decoder, with_trailer)) > 0);
    assert_eq!(allocations_of(|| decode(&mut decoder, with_trailer)), 0);

    let mut out = Vec::with_capacity(1024);
    let mut date = Date::at(0);
    let written = allocations_of(|| {
        status_line(&mut out, Version::Http11, 599);
        date.update(784_111_777);
        date.write_field(&mut out);
        content_length(&mut out, u64::MAX);
        field(&mut out, b"content-type", b"text/plain").unwrap();
        out.extend_from_slice(HEAD_END);
        encode_chunk(&mut out, b"hello");
        out.extend_from_slice(LAST_CHUNK);
    });
    assert_eq!(written, 0);
}
