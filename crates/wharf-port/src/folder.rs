//! Files to be sent: opened below a folder and nowhere else, and told apart from one another.
//!
//! Which names a client may ask for, and what is answered, is not decided here.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

#[cfg(target_os = "linux")]
mod beneath;
#[cfg(not(target_os = "linux"))]
#[path = "folder/unguarded.rs"]
mod beneath;
#[cfg(unix)]
#[path = "folder/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "folder/windows.rs"]
mod system;

use beneath::Beneath;

/// What came of asking the system to open a file and to mind the folder's bounds.
enum Opened {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing to ask"))]
    File(File),
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing to ask"))]
    Failed(io::Error),
    /// It cannot do so, or does not know.
    Unknown,
}

/// Opens a file for reading. Never waits for the other end of a named pipe, and opens folders too:
/// [`FileState::is_file`] tells what it is.
///
/// # Errors
/// What the system says.
pub fn open_file(path: &Path) -> io::Result<File> {
    system::open(path)
}

/// What is known of an open file, and what tells its states apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Whether it is a regular file, one that has a length and can be sent.
    pub is_file: bool,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its length in bytes.
    pub length: u64,
    /// When its content was last changed, or is said to have been: programs may set it.
    pub modified: SystemTime,
    /// When the system last saw anything of it change, as far as it keeps count; nobody can set
    /// it back.
    pub changed: SystemTime,
    /// Which file of which volume, as far as the system numbers them.
    pub number: (u64, u64),
}

impl FileState {
    /// Asks for the state of an open file.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(file: &File) -> io::Result<FileState> {
        let metadata = file.metadata()?;
        let modified = metadata.modified()?;
        let (changed, number) = system::identity(file, &metadata)?;
        Ok(FileState {
            is_file: metadata.is_file(),
            is_folder: metadata.is_dir(),
            length: metadata.len(),
            modified,
            // A volume that keeps no such time says so by one that is long ago.
            changed: changed.max(modified),
            number,
        })
    }
}

/// A folder whose files are opened by relative paths, and none outside it.
#[derive(Debug)]
pub struct Folder {
    /// Absolute, and without links.
    path: PathBuf,
    beneath: Beneath,
}

impl Folder {
    /// Opens a folder. Links on the way to it are followed now, once and for all.
    ///
    /// # Errors
    /// What the system says, and if it is not a folder.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let path = fs::canonicalize(path)?;
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let beneath = Beneath::open(&path)?;
        Ok(Folder { path, beneath })
    }

    /// Where it is: absolute, and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file or folder below this one for reading; a path of no components is the folder
    /// itself. Links are followed as long as they do not lead out of the folder.
    ///
    /// Linux is asked to see to that itself (`openat2`). Where it cannot, here as on other systems,
    /// the path is resolved first and opened then; who may rename folders in here could slip a link
    /// in between.
    ///
    /// # Errors
    /// What the system says. [`NotFound`](io::ErrorKind::NotFound) also if the path is not plain,
    /// or leads out of the folder.
    pub fn open_file(&self, relative: &Path) -> io::Result<File> {
        if !is_plain(relative) {
            return Err(io::ErrorKind::NotFound.into());
        }
        match self.beneath.open_file(relative) {
            Opened::File(file) => Ok(file),
            Opened::Failed(error) => Err(error),
            Opened::Unknown => self.open_resolved(relative),
        }
    }

    /// Opens a file like [`open_file`](Folder::open_file), but wherever links lead.
    ///
    /// # Errors
    /// What the system says. [`NotFound`](io::ErrorKind::NotFound) also if the path is not plain.
    pub fn open_file_anywhere(&self, relative: &Path) -> io::Result<File> {
        if !is_plain(relative) {
            return Err(io::ErrorKind::NotFound.into());
        }
        system::open(&self.path.join(relative))
    }

    /// By the path that is left when all links are followed.
    fn open_resolved(&self, relative: &Path) -> io::Result<File> {
        let resolved = fs::canonicalize(self.path.join(relative))?;
        let Ok(below) = resolved.strip_prefix(&self.path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        match self.beneath.open_file(below) {
            Opened::File(file) => Ok(file),
            Opened::Failed(error) => Err(error),
            Opened::Unknown => system::open_unlinked(&resolved),
        }
    }
}

/// Whether a path goes down and nowhere else.
fn is_plain(relative: &Path) -> bool {
    relative.components().all(|component| match component {
        Component::Normal(name) => name.to_str().is_none_or(is_file_name),
        _ => false,
    })
}

/// Whether `name` names a file in a folder and nothing else on this system.
///
/// On Windows a name can also be a device (`NUL`, `COM1.txt`), a stream of a file (`a.txt:b`), or
/// another file's name in disguise (`GIT~1`, `a.txt.`); none of these is taken for a name.
///
/// ```
/// assert!(wharf_port::is_file_name("a.txt"));
/// assert!(!wharf_port::is_file_name(".."));
/// assert!(!wharf_port::is_file_name("a/b"));
/// ```
pub fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && !name.contains(['/', '\0'])
        && (cfg!(not(windows)) || is_windows_file_name(name))
}

/// The rules of Windows, and a few names that it has for compatibility.
fn is_windows_file_name(name: &str) -> bool {
    let is_forbidden = |c: char| c < ' ' || r#"\/:*?"<>|"#.contains(c);
    if name.contains(is_forbidden) || name.ends_with(['.', ' ']) {
        return false;
    }
    // `GIT~1` may be the short name of `.git`.
    let has_short_form =
        name.as_bytes().windows(2).any(|pair| pair[0] == b'~' && pair[1].is_ascii_digit());
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let is_device = match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$" => true,
        _ => ["COM", "LPT"].iter().any(|port| {
            let number = stem.strip_prefix(port).map(|rest| rest.chars().collect::<Vec<_>>());
            matches!(number.as_deref(), Some(['0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}']))
        }),
    };
    !has_short_form && !is_device
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn text(file: io::Result<File>) -> Result<String, io::ErrorKind> {
        let mut text = String::new();
        file.and_then(|mut file| file.read_to_string(&mut text)).map_err(|error| error.kind())?;
        Ok(text)
    }

    /// A folder `root` with a file, a folder with a file, and a file beside it.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("root/deep")).unwrap();
        fs::write(tree.path().join("root/a.txt"), "a").unwrap();
        fs::write(tree.path().join("root/deep/b.txt"), "b").unwrap();
        fs::write(tree.path().join("secret.txt"), "secret").unwrap();
        tree
    }

    /// With the system's own guard, and as if it had none.
    fn both(tree: &tempfile::TempDir) -> [Folder; 2] {
        let open = || Folder::open(&tree.path().join("root")).unwrap();
        let mut without = open();
        without.beneath.forget();
        [open(), without]
    }

    #[test]
    fn files_below_are_opened() {
        let tree = tree();
        for folder in both(&tree) {
            let open = |path| text(folder.open_file(Path::new(path)));
            assert_eq!(open("a.txt").as_deref(), Ok("a"));
            assert_eq!(open("deep/b.txt").as_deref(), Ok("b"));
            assert_eq!(open("none"), Err(io::ErrorKind::NotFound));
            let deep = folder.open_file(Path::new("deep")).unwrap();
            assert!(FileState::of(&deep).unwrap().is_folder);
            let itself = folder.open_file(Path::new("")).unwrap();
            assert!(FileState::of(&itself).unwrap().is_folder);
        }
    }

    #[test]
    fn paths_that_are_not_plain_name_nothing() {
        let tree = tree();
        let absolute = tree.path().join("secret.txt");
        for folder in both(&tree) {
            for path in
                ["../secret.txt", "deep/../../secret.txt", "..", "deep/../a.txt", "/etc/passwd"]
                    .into_iter()
                    .chain(absolute.to_str())
            {
                let path = Path::new(path);
                for opened in [folder.open_file(path), folder.open_file_anywhere(path)] {
                    assert_eq!(text(opened), Err(io::ErrorKind::NotFound), "{}", path.display());
                }
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_inside_only() {
        use std::os::unix::fs::symlink;
        let tree = tree();
        let root = tree.path().join("root");
        symlink("deep/b.txt", root.join("inside")).unwrap();
        symlink(root.join("deep"), root.join("absolute")).unwrap();
        symlink("../secret.txt", root.join("outside")).unwrap();
        symlink(tree.path(), root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        for folder in both(&tree) {
            let open = |path| text(folder.open_file(Path::new(path)));
            assert_eq!(open("inside").as_deref(), Ok("b"));
            assert_eq!(open("absolute/b.txt").as_deref(), Ok("b"));
            for path in ["outside", "up/secret.txt", "up/root/a.txt/x", "loop", "magic/etc/passwd"]
            {
                assert!(open(path).is_err(), "{path}");
            }
            assert_eq!(open("outside"), Err(io::ErrorKind::NotFound));
            let anywhere = folder.open_file_anywhere(Path::new("up/secret.txt"));
            assert_eq!(text(anywhere).as_deref(), Ok("secret"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_named_pipe_is_not_waited_for() {
        let tree = tree();
        let path = tree.path().join("root/pipe");
        let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        assert!(!FileState::of(&open_file(&path).unwrap()).unwrap().is_file);
        for folder in both(&tree) {
            let pipe = folder.open_file(Path::new("pipe")).unwrap();
            assert!(!FileState::of(&pipe).unwrap().is_file);
        }
    }

    #[test]
    fn states_of_a_file_are_told_apart() {
        let tree = tree();
        let path = tree.path().join("root/a.txt");
        let state = || FileState::of(&open_file(&path).unwrap()).unwrap();
        let before = state();
        assert!(before.is_file && before.length == 1);
        assert_eq!(before, state());
        // Another file of the same length and date in its place.
        let other = tree.path().join("root/other.txt");
        fs::write(&other, "b").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(before.modified).unwrap();
        fs::rename(&other, &path).unwrap();
        let after = state();
        assert_eq!((after.length, after.modified), (before.length, before.modified));
        assert_ne!(after.number, before.number);
        let folder = FileState::of(&open_file(tree.path()).unwrap()).unwrap();
        assert!(folder.is_folder && !folder.is_file);
    }

    #[test]
    fn names_of_windows_that_are_more_than_names() {
        for good in ["a", "a.txt", "con1", "COM", "COM10", "a~b", "null", "auxiliary.js", "ä ö.txt"]
        {
            assert!(is_windows_file_name(good), "{good}");
        }
        for bad in [
            "CON",
            "con",
            "Con.txt",
            "nul.tar.gz",
            "AUX",
            "prn.",
            "COM1",
            "lpt9.txt",
            "COM\u{b9}",
            "CONIN$",
            "con .txt",
            "a:b",
            "a.txt::$DATA",
            "a\\b",
            "a/b",
            "a.",
            "a ",
            "a*",
            "a?",
            "GIT~1",
            "a\u{1}b",
            "\"",
            "a|b",
            "C:",
        ] {
            assert!(!is_windows_file_name(bad), "{bad}");
        }
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(!is_file_name(bad), "{bad:?}");
        }
        assert_eq!(is_file_name("12:30.txt"), cfg!(not(windows)));
    }
}
