//! The examples' pages in a browser, on a phone and on a desktop, mostly without scripts.

use std::fs;

use crate::browser::Browser;
use crate::programs::Program;

const LOOPBACK: &str = "127.0.0.1:0";

/// One test, since a browser takes a while to start.
#[test]
fn the_examples_pages_work_in_a_browser() {
    let Some(mut browser) = Browser::start() else { return };
    browser.scripts(false);
    sign_the_guestbook(&mut browser);
    upload_a_file(&mut browser);
    walk_through_the_site(&mut browser);
    watch_the_clock(&mut browser);
}

fn sign_the_guestbook(browser: &mut Browser) {
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let data = folder.path().join("entries.db");
    let data = data.to_str().expect("the test's own name");
    let guestbook = Program::start("guestbook", &["--listen", LOOPBACK, "--data", data]);
    browser.open(&format!("http://{}/", guestbook.address));
    browser.assert_fits();
    browser.fill_in("#name", "Ada <Lovelace>");
    browser.fill_in("#message", "Typed in a browser");
    browser.click("button");
    browser.wait_for("location.hash === '#entry-1' && document.readyState === 'complete'");
    assert_eq!(browser.value("document.querySelector('h2').innerText"), "Ada <Lovelace>");
    assert_eq!(
        browser.value("document.querySelector('.entries p').innerText"),
        "Typed in a browser"
    );
    browser.assert_fits();
}

fn upload_a_file(browser: &mut Browser) {
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let file = folder.path().join("photo of a boat.bin");
    fs::write(&file, vec![7; 2_000_000]).expect("it is the test's own");
    let stored = folder.path().join("stored");
    let stored = stored.to_str().expect("the test's own name");
    let upload = Program::start("upload", &[LOOPBACK, stored]);
    let url = format!("http://{}/", upload.address);
    browser.open(&url);
    browser.assert_fits();
    // The frame's page has begun, and does not end before the upload.
    browser.wait_for("frames['progress'].document.querySelector('.frame') !== null");
    browser.choose("#files", &file);
    browser.click("button");
    browser.wait_for("frames['answer'].document.body.innerText.includes('Stored 1 file.')");
    browser.wait_for("frames['progress'].document.body.innerText.includes('Over')");
    browser.open(&url);
    let entry = browser.value("document.querySelector('li').innerText.replace(/\\s+/g, ' ')");
    assert_eq!(entry, "photo of a boat.bin 2.0 MB");
    browser.assert_fits();
}

fn walk_through_the_site(browser: &mut Browser) {
    let site = Program::start("static-site", &[LOOPBACK]);
    browser.open(&format!("http://{}/", site.address));
    browser.assert_fits();
    browser.click("header nav a");
    browser
        .wait_for("location.pathname === '/tides.html' && document.querySelector('td') !== null");
    browser.assert_fits();
    // Its style has come, and its policy lets it be used.
    assert_eq!(browser.value("getComputedStyle(document.querySelector('header')).display"), "flex");
    browser.open(&format!("http://{}/lost", site.address));
    assert_eq!(browser.value("document.querySelector('h1').innerText"), "There is nothing here");
    browser.assert_fits();
}

fn watch_the_clock(browser: &mut Browser) {
    let clock = Program::start("sse-clock", &[LOOPBACK]);
    let url = format!("http://{}/", clock.address);
    browser.open(&url);
    browser.wait_for("document.querySelector('#state').innerText.includes('JavaScript')");
    browser.assert_fits();
    // It asks for itself again.
    browser.wait_for("document.querySelectorAll('#ticks li').length > 2");
    browser.scripts(true);
    browser.open(&url);
    browser.wait_for("document.querySelector('#state').innerText === 'Live'");
    let latest = "document.querySelector('#ticks li').value";
    let first = browser.value(latest).as_i64().expect("a number");
    browser.wait_for(&format!("{latest} > {first} + 1"));
    // A mark on the page: it was not loaded anew.
    browser.value("document.title = 'the same page'");
    browser.wait_for(&format!("{latest} > {first} + 2"));
    assert_eq!(browser.value("document.title"), "the same page");
    browser.assert_fits();
}
