//! A headless Chromium, driven as by hand: by the DevTools protocol over a WebSocket (RFC 6455).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};

use crate::support::{PATIENCE, eventually};

/// The program, if this machine has it.
fn program() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

/// A browser with one page. It is gone when this is dropped.
pub(crate) struct Browser {
    process: Child,
    socket: TcpStream,
    calls: u64,
    session: Option<String>,
    /// Its profile.
    _folder: tempfile::TempDir,
}

impl Browser {
    /// None: there is no Chromium, and `WHARF_REQUIRE_CHROMIUM` does not ask for one.
    pub(crate) fn start() -> Option<Browser> {
        let Some(program) = program() else {
            let required = std::env::var_os("WHARF_REQUIRE_CHROMIUM").is_some();
            assert!(!required, "Chromium has to be there");
            println!("not run: there is no Chromium");
            return None;
        };
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let mut process = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--remote-debugging-port=0"])
            // Nothing but the pages is asked for, and no click is dropped for coming early.
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-default-apps", "--disable-sync", "--allow-pre-commit-input"])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Chromium starts");
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(process.stderr.take().expect("it is piped"));
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let url = loop {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                let _ = process.kill();
                panic!("Chromium does not say where it listens");
            });
            if let Some(url) = line.strip_prefix("DevTools listening on ws://") {
                break url.to_owned();
            }
        };
        let (address, path) = url.split_once('/').expect("an address and a path");
        let socket = open_web_socket(address, path);
        let mut browser = Browser { process, socket, calls: 0, session: None, _folder: folder };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        Some(browser)
    }

    /// Calls a method of the protocol and waits for its result.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.send(message.to_string().as_bytes());
        loop {
            let mut answer: Value = serde_json::from_slice(&self.receive()).expect("it is JSON");
            // Events have no id.
            if answer["id"] == self.calls {
                // A page that gives way to the next one while it is asked has no answer.
                if answer["error"]["message"] == "Inspected target navigated or closed" {
                    return Value::Null;
                }
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
        }
    }

    /// A text frame; a client's are masked (RFC 6455 section 5.3), here with zeros.
    fn send(&mut self, text: &[u8]) {
        let mut frame = vec![0x81, 0x80 | 127];
        frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text);
        self.socket.write_all(&frame).expect("the browser is there");
    }

    /// The next message, joined if it comes in several frames.
    fn receive(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        loop {
            let [first, second] = self.bytes();
            let length = match second {
                126 => u64::from(u16::from_be_bytes(self.bytes())),
                127 => u64::from_be_bytes(self.bytes()),
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).expect("it fits")];
            self.socket.read_exact(&mut payload).expect("a frame is whole");
            // Control frames may stand between a message's.
            if first & 0x08 == 0 {
                message.append(&mut payload);
                if first & 0x80 != 0 {
                    return message;
                }
            }
        }
    }

    fn bytes<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        let mut bytes = [0; COUNT];
        self.socket.read_exact(&mut bytes).expect("the browser answers");
        bytes
    }

    /// The value of an expression in the page. Works without scripts, too.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true});
        self.call("Runtime.evaluate", params)["result"]["value"].take()
    }

    /// Waits until the expression is true.
    pub(crate) fn wait_for(&mut self, expression: &str) {
        eventually(expression, || self.value(expression) == true);
    }

    /// Whether pages may run scripts, from the next one on.
    pub(crate) fn scripts(&mut self, on: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !on}));
    }

    /// Opens a page, as far as its own text has come: a frame in it may be without end.
    pub(crate) fn open(&mut self, url: &str) {
        self.value("window.isOld = true");
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {}", opened["errorText"]);
        self.wait_for("window.isOld === undefined && document.readyState !== 'loading'");
    }

    /// The page on a phone and on a desktop: nothing lies beyond the right edge, and the text is not
    /// smaller than can be read.
    pub(crate) fn assert_fits(&mut self) {
        for (width, height, is_phone) in [(390, 844, true), (1280, 800, false)] {
            self.call(
                "Emulation.setDeviceMetricsOverride",
                json!({
                    "width": width,
                    "height": height,
                    "deviceScaleFactor": 1,
                    "mobile": is_phone,
                }),
            );
            let beyond = self.value(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth",
            );
            assert_eq!(beyond, 0, "{width} px wide: {}", self.value("location.href"));
            // A page that is not made for phones is laid out wider than they are.
            assert_eq!(self.value("innerWidth"), width, "{}", self.value("location.href"));
        }
    }

    /// Clicks into the middle of the first element that the selector finds.
    pub(crate) fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const e = document.querySelector({selector:?});
               e.scrollIntoView({{block: 'center', behavior: 'instant'}});
               const r = e.getBoundingClientRect();
               return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({
                "type": kind,
                "x": place[0],
                "y": place[1],
                "button": "left",
                "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// Clicks into a field and types.
    pub(crate) fn fill_in(&mut self, selector: &str, text: &str) {
        self.click(selector);
        self.wait_for(&format!("document.activeElement === document.querySelector({selector:?})"));
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Chooses a file for a file field.
    pub(crate) fn choose(&mut self, selector: &str, file: &Path) {
        let expression = format!("document.querySelector({selector:?})");
        let field = self.call("Runtime.evaluate", json!({ "expression": expression }));
        let params = json!({"files": [file], "objectId": field["result"]["objectId"]});
        self.call("DOM.setFileInputFiles", params);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn open_web_socket(address: &str, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("the browser listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let head = format!(
        "GET /{path} HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).expect("the browser reads");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).expect("the browser answers");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    socket
}
