//! The initramfs: one newc cpio archive whose bytes depend on its contents only
//! (sorted by path, time 0, owner 0, inode numbers by position).

use std::collections::BTreeMap;
use std::io::Write;

use crate::error::ImageError;
use crate::kernel::Module;
use crate::profile::Profile;

/// What one path in the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Directory,
    File { bytes: Vec<u8>, executable: bool },
    Link(String),
}

/// Paths without the leading slash. A `BTreeMap`, so that order is not a matter of care.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

/// The file that names the modules to load, one path a line, dependencies first.
pub const LOAD_LIST: &str = "/lib/modules/sealtune.load";

const DIRECTORIES: [&str; 12] = [
    "/dev",
    "/etc",
    "/etc/sealtune",
    "/mnt",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/var",
    "/layers",
];
const DEV_TOOLS: [&str; 16] = [
    "cat", "df", "dmesg", "find", "grep", "hexdump", "ip", "kill", "ls", "lsmod", "mount", "ps",
    "sh", "top", "umount", "vi",
];
const SHELLS: [&str; 10] =
    ["sh", "ash", "bash", "dash", "zsh", "ksh", "busybox", "toybox", "sshd", "apt-get"];

impl Tree {
    pub fn directory(&mut self, path: &str) {
        let path = relative(path);
        if !path.is_empty() && !self.nodes.contains_key(path) {
            self.parents(path);
            self.nodes.insert(path.to_owned(), Node::Directory);
        }
    }

    pub fn file(&mut self, path: &str, bytes: Vec<u8>, executable: bool) {
        self.parents(relative(path));
        self.nodes.insert(relative(path).to_owned(), Node::File { bytes, executable });
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.parents(relative(path));
        self.nodes.insert(relative(path).to_owned(), Node::Link(to.to_owned()));
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_owned()).or_insert(Node::Directory);
        }
    }

    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// A program by which somebody could get a prompt in the guest.
    #[must_use]
    pub fn shell(&self) -> Option<&str> {
        self.nodes.keys().map(String::as_str).find(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            SHELLS.contains(&name)
        })
    }

    /// # Errors
    /// A file of 4 GiB or more.
    pub fn to_cpio(&self) -> Result<Vec<u8>, ImageError> {
        let mut out = Vec::new();
        for (inode, (path, node)) in (1u32..).zip(&self.nodes) {
            let (mode, body): (u32, &[u8]) = match node {
                Node::Directory => (0o040_755, &[]),
                Node::File { bytes, executable: true } => (0o100_755, bytes),
                Node::File { bytes, executable: false } => (0o100_644, bytes),
                Node::Link(to) => (0o120_777, to.as_bytes()),
            };
            let size = u32::try_from(body.len()).map_err(|_| encode("a file is too long"))?;
            let builder = cpio::newc::Builder::new(path).ino(inode).mode(mode).nlink(1).mtime(0);
            let mut writer = builder.write(&mut out, size);
            writer.write_all(body).and_then(|()| writer.finish().map(|_| ())).map_err(encode)?;
        }
        cpio::newc::trailer(&mut out).map_err(encode)?;
        Ok(out)
    }
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn encode(error: impl ToString) -> ImageError {
    ImageError::Encode { what: "the initramfs", detail: error.to_string() }
}

/// Everything that goes in, by profile.
#[derive(Debug)]
pub struct Contents<'a> {
    pub profile: Profile,
    pub release: &'a str,
    pub agent: Vec<u8>,
    pub modules: Vec<Module>,
    /// Only in `dev`.
    pub busybox: Option<Vec<u8>>,
}

/// # Errors
/// A prod tree that would hold a shell.
pub fn plan(contents: Contents<'_>) -> Result<Tree, ImageError> {
    let mut tree = Tree::default();
    for directory in DIRECTORIES {
        tree.directory(directory);
    }
    tree.file("/init", contents.agent, true);
    tree.link("/usr/bin/sealtune-agent", "/init");
    tree.file("/etc/sealtune/profile", format!("{}\n", contents.profile).into_bytes(), false);
    tree.file("/etc/sealtune/release", format!("{}\n", contents.release).into_bytes(), false);
    let list: String = contents.modules.iter().map(|module| format!("{}\n", module.path)).collect();
    tree.file(LOAD_LIST, list.into_bytes(), false);
    for module in contents.modules {
        tree.file(&module.path, module.bytes, false);
    }
    if let Some(busybox) = contents.busybox {
        tree.file("/dev-tools/busybox", busybox, true);
        for tool in DEV_TOOLS {
            tree.link(&format!("/dev-tools/{tool}"), "busybox");
        }
    }
    match (contents.profile, tree.shell()) {
        (Profile::Prod, Some(shell)) => {
            Err(ImageError::ForbiddenInProd { what: format!("the program /{shell}") })
        }
        _ => Ok(tree),
    }
}

/// # Errors
/// The compressor failed.
pub fn compress(archive: &[u8], level: i32) -> Result<Vec<u8>, ImageError> {
    zstd::bulk::compress(archive, level).map_err(encode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(profile: Profile) -> Contents<'static> {
        let module = |name: &str| Module {
            name: name.to_owned(),
            path: format!("/lib/modules/7.3/kernel/{name}.ko"),
            bytes: name.as_bytes().to_vec(),
            why: "test",
        };
        Contents {
            profile,
            release: "0.1.0",
            agent: b"agent".to_vec(),
            modules: vec![module("vsock"), module("erofs")],
            busybox: (profile == Profile::Dev).then(|| b"busybox".to_vec()),
        }
    }

    fn read_back(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut rest = archive;
        loop {
            let mut reader = cpio::NewcReader::new(rest).unwrap();
            let entry =
                (reader.entry().name().to_owned(), reader.entry().mode(), reader.entry().mtime());
            if reader.entry().is_trailer() {
                return found;
            }
            assert_eq!((entry.2, reader.entry().uid(), reader.entry().gid()), (0, 0, 0));
            let mut body = Vec::new();
            std::io::copy(&mut reader, &mut body).unwrap();
            found.push((entry.0, entry.1, body));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn the_archive_is_the_same_for_the_same_contents_and_reads_back() {
        let one = plan(contents(Profile::Dev)).unwrap().to_cpio().unwrap();
        let two = plan(contents(Profile::Dev)).unwrap().to_cpio().unwrap();
        assert_eq!(one, two);
        let entries = read_back(&one);
        let paths: Vec<&str> = entries.iter().map(|(path, _, _)| path.as_str()).collect();
        assert!(paths.is_sorted());
        let body = |path: &str| &entries.iter().find(|entry| entry.0 == path).unwrap().2;
        assert_eq!(body("init"), b"agent");
        assert_eq!(body("etc/sealtune/profile"), b"dev\n");
        assert_eq!(
            body("lib/modules/sealtune.load"),
            b"/lib/modules/7.3/kernel/vsock.ko\n/lib/modules/7.3/kernel/erofs.ko\n"
        );
        for (path, _, _) in &entries {
            if let Some((parent, _)) = path.rsplit_once('/') {
                assert!(paths.contains(&parent), "{parent} missing");
            }
        }
        assert_eq!(entries.iter().find(|entry| entry.0 == "init").unwrap().1, 0o100_755);
        assert_eq!(compress(&one, 19).unwrap(), compress(&two, 19).unwrap());
    }

    #[test]
    fn order_of_insertion_does_not_matter() {
        let mut one = Tree::default();
        one.file("/b/c", b"1".to_vec(), false);
        one.directory("/a");
        let mut two = Tree::default();
        two.directory("/a");
        two.directory("/b");
        two.file("/b/c", b"1".to_vec(), false);
        assert_eq!(one.to_cpio().unwrap(), two.to_cpio().unwrap());
    }

    #[test]
    fn prod_has_no_shell() {
        let tree = plan(contents(Profile::Prod)).unwrap();
        assert_eq!(tree.shell(), None);
        assert!(plan(contents(Profile::Dev)).unwrap().shell().is_some());
        let mut smuggled = contents(Profile::Prod);
        smuggled.busybox = Some(b"busybox".to_vec());
        assert_eq!(plan(smuggled).unwrap_err().code(), "ST-IMAGE-10");
    }
}
