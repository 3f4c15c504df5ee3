//! The Cookie field, to a reading of it byte by byte.
#![no_main]

use wharf_http::cookies;

/// Names and values.
fn plainly(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut name, mut content) = (String::new(), None::<String>);
    for character in value.chars().chain([';']) {
        match (character, &mut content) {
            (';', _) => {
                let name = std::mem::take(&mut name);
                if let Some(content) = content.take() {
                    let content = content.trim();
                    let is_quoted =
                        content.len() >= 2 && content.starts_with('"') && content.ends_with('"');
                    let ends = usize::from(is_quoted);
                    let content = &content[ends..content.len() - ends];
                    found.push((name.trim().to_owned(), content.to_owned()));
                }
            }
            ('=', None) => content = Some(String::new()),
            (other, None) => name.push(other),
            (other, Some(content)) => content.push(other),
        }
    }
    found
}

libfuzzer_sys::fuzz_target!(|value: &str| {
    let read = cookies(value).map(|(name, content)| (name.to_owned(), content.to_owned()));
    assert_eq!(read.collect::<Vec<_>>(), plainly(value));
});
