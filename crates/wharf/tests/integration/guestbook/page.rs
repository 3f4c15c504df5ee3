//! The page and its form.

use std::process::Command;

use super::{Directory, FORM, Guestbook};

#[test]
fn what_the_form_brings_is_kept_and_shown_escaped() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    assert!(guestbook.get("/").text().contains("Nobody has signed yet"));

    let message = "<script>alert('1')</script>\r\n\"two\" & more";
    let answer = guestbook.post_form(&[("name", " Ada <b> "), ("message", message)]);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/#entry-1")));

    let page = guestbook.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").expect("there is one");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let escaped = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;\n&quot;two&quot; &amp; more";
    for part in [escaped, "Ada &lt;b&gt;<", "id=\"entry-1\""] {
        assert!(page.text().contains(part), "{part:?} is not in {}", page.text());
    }
    assert!(!page.text().contains("<script") && !page.text().contains("Nobody has signed yet"));
    assert_eq!(guestbook.messages(), [message.replace("\r\n", "\n")]);
}

#[test]
fn a_form_with_faults_comes_back_as_it_was_filled_in() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let long = "é".repeat(2_001);
    let comes_back = |fields: &[(&str, &str)], parts: [&str; 2]| {
        let answer = guestbook.post_form(fields);
        assert_eq!(answer.status, 422);
        for part in parts {
            assert!(answer.text().contains(part), "{part:?} is not in {}", answer.text());
        }
    };
    let message_empty = "message is empty";
    let name_empty = "name is empty";
    let name_unfit = "name has characters that are not text";
    comes_back(&[("name", "\"><i>")], ["value=\"&quot;&gt;&lt;i&gt;\"", message_empty]);
    comes_back(&[("name", " "), ("message", "</textarea>")], ["&lt;/textarea&gt;", name_empty]);
    comes_back(&[("name", "Ada"), ("message", &long)], [&long, "2001 characters; 2000 is"]);
    comes_back(&[("name", "A\tda"), ("message", "x")], ["value=\"A\tda\"", name_unfit]);
    comes_back(&[("message", "kept")], ["kept</textarea>", name_empty]);
    comes_back(&[], [name_empty, message_empty]);
    // Bytes that are not UTF-8.
    let answer = guestbook.send("POST", "/", FORM, "name=%FF&message=x");
    assert!(answer.status == 400 && answer.text().contains("not UTF-8"), "{}", answer.text());
    assert!(guestbook.messages().is_empty());
}

#[test]
fn forms_of_other_sites_and_of_other_types_are_refused() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let cases = [
        ("", 303),
        ("origin: http://a\r\n", 303),
        ("sec-fetch-site: same-origin\r\norigin: https://a\r\n", 303),
        ("origin: null\r\n", 403),
        ("origin: http://b\r\n", 403),
        ("origin: http://a.b\r\n", 403),
        ("sec-fetch-site: cross-site\r\n", 403),
        ("sec-fetch-site: same-site\r\norigin: http://a\r\n", 403),
    ];
    for (fields, status) in cases {
        let answer = guestbook.send("POST", "/", &format!("{FORM}{fields}"), "name=a&message=b");
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.text());
    }
    for content_type in
        ["", "content-type: text/plain\r\n", "content-type: multipart/form-data\r\n"]
    {
        let answer = guestbook.send("POST", "/", content_type, "name=a&message=b");
        assert_eq!(answer.status, 415, "{content_type:?}");
    }
    assert_eq!(guestbook.messages().len(), 3);
}

#[test]
fn what_the_page_refers_to_is_there() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let page = guestbook.get("/");
    for (path, content_type) in [("/style.css", "text/css"), ("/icon.svg", "image/svg+xml")] {
        assert!(page.text().contains(path));
        let asset = guestbook.get(path);
        assert_eq!((asset.status, asset.header("content-type")), (200, Some(content_type)));
    }
    for (path, status) in [("/none", 404), ("/?before=x", 400), ("/?limit=101", 400)] {
        let answer = guestbook.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains("role=\"alert\""), "{}", answer.text());
    }
}

#[test]
fn older_entries_are_a_link_away() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    for number in 1..=5 {
        let answer = guestbook.post_form(&[("name", "Ada"), ("message", &format!("no. {number}"))]);
        assert_eq!(answer.status, 303);
    }
    let (mut path, mut seen) = ("/?limit=2".to_owned(), Vec::new());
    loop {
        let page = guestbook.get(&path);
        let messages = page.text().split("<p dir=\"auto\">").skip(1);
        seen.push(
            messages
                .filter_map(|rest| rest.split_once('<'))
                .map(|(message, _)| message.to_owned())
                .collect::<Vec<_>>(),
        );
        let Some((_, link)) = page.text().split_once("<a rel=\"next\" href=\"") else { break };
        path = link.split_once('"').expect("the attribute ends").0.replace("&amp;", "&");
    }
    assert_eq!(seen, [vec!["no. 5", "no. 4"], vec!["no. 3", "no. 2"], vec!["no. 1"]]);
}

/// Where curl is not installed this prints so; the project's CI installs it, but not in Windows.
#[test]
fn curl_fills_in_the_form_and_follows() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--location",
            "--write-out",
            "%{http_code}",
        ])
        .args(["--data-urlencode", "name=Cürl", "--data-urlencode", "message=1 < 2"])
        .arg(format!("http://{}/", guestbook.address))
        .output();
    match output {
        Ok(output) => {
            let page = String::from_utf8(output.stdout).expect("the page is UTF-8");
            assert!(page.contains("Cürl") && page.contains("1 &lt; 2"), "{page}");
            assert!(page.ends_with("200"), "{page}");
        }
        Err(error) if cfg!(windows) || std::env::var_os("CI").is_none() => {
            println!("curl is not run: {error}")
        }
        Err(error) => panic!("CI has to have curl: {error}"),
    }
}
