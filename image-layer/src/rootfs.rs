//! From unpacked packages to a root file system for a container: what maintainer scripts would have
//! done, what a container does not need, and one owner and mode for everything.
//! No `ld.so.cache` is made: Debian's library directories are the loader's defaults, and the cache
//! would need a privileged `ldconfig -r`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use crate::erofs::ForeignRoot;
use crate::error::ImageError;
use crate::packages::last_lines;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
const MOUNT_POINTS: [&str; 12] = [
    "app/mnt", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "var/lib",
    "var/tmp",
];
const UNNEEDED: [&str; 10] = [
    "usr/include",
    "usr/share/bug",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/pixmaps",
    "usr/share/applications",
    "usr/share/bash-completion",
];
/// Alternatives in the order of preference; the first whose file is there gets the link.
const ALTERNATIVES: [(&str, [&str; 5]); 3] = [
    ("libblas.so.3", ["openblas-pthread", "openblas-openmp", "openblas-serial", "atlas", "blas"]),
    (
        "liblapack.so.3",
        ["openblas-pthread", "openblas-openmp", "openblas-serial", "atlas", "lapack"],
    ),
    ("libopenblas.so.0", ["openblas-pthread", "openblas-openmp", "openblas-serial", "-", "-"]),
];
const ACCOUNTS: [(&str, &str); 4] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];

/// A file or directory of the caller's that goes into the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    pub from: PathBuf,
    /// Relative to the layer's root.
    pub to: PathBuf,
}

impl Addition {
    /// `SRC:/absolute/place`.
    ///
    /// # Errors
    /// No colon, or a place that is not absolute and plain.
    pub fn parse(argument: &str) -> Result<Self, ImageError> {
        let bad = |detail: &str| ImageError::BadArgument {
            argument: argument.to_owned(),
            detail: detail.to_owned(),
        };
        let (from, to) =
            argument.rsplit_once(':').ok_or_else(|| bad("the form is SRC:/absolute/place"))?;
        let to = Path::new(to)
            .strip_prefix("/")
            .map_err(|_| bad("the place in the layer must be absolute"))?;
        let plain = to.components().all(|part| matches!(part, Component::Normal(_)));
        if from.is_empty() || !plain || to.as_os_str().is_empty() {
            return Err(bad("the place in the layer must be a plain path"));
        }
        Ok(Self { from: from.into(), to: to.into() })
    }
}

/// Before unpacking: `/bin`, `/lib`, … are links into `/usr`, and some packages still ship files there.
///
/// # Errors
/// The file system refuses.
pub fn prepare(root: &Path) -> Result<(), ImageError> {
    for name in MERGED {
        let directory = root.join("usr").join(name);
        fs::create_dir_all(&directory).map_err(ImageError::io("make", &directory))?;
        let link = root.join(name);
        symlink(Path::new("usr").join(name), &link).map_err(ImageError::io("make", &link))?;
    }
    Ok(())
}

/// After unpacking.
///
/// # Errors
/// The file system refuses, or an addition cannot be read.
pub fn finish(root: &Path, additions: &[Addition]) -> Result<(), ImageError> {
    for name in UNNEEDED {
        remove(&root.join(name))?;
    }
    strip_documentation(&root.join("usr/share/doc"))?;
    for directory in MOUNT_POINTS {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).map_err(ImageError::io("make", &directory))?;
    }
    for (name, text) in ACCOUNTS {
        let path = root.join(name);
        if !path.exists() {
            fs::write(&path, text).map_err(ImageError::io("write", &path))?;
        }
    }
    link_alternatives(root)?;
    link_if_there(root, "usr/bin/python3", "usr/bin/python", Path::new("python3"))?;
    for addition in additions {
        copy(&addition.from, &root.join(&addition.to))?;
    }
    Ok(())
}

fn link_alternatives(root: &Path) -> Result<(), ImageError> {
    let libraries = Path::new(LIBRARIES);
    for (name, directories) in ALTERNATIVES {
        for directory in directories {
            let target = Path::new(directory).join(name);
            let there = libraries.join(&target);
            link_if_there(
                root,
                &there.to_string_lossy(),
                &libraries.join(name).to_string_lossy(),
                &target,
            )?;
        }
    }
    Ok(())
}

fn link_if_there(root: &Path, there: &str, link: &str, target: &Path) -> Result<(), ImageError> {
    let link = root.join(link);
    if root.join(there).exists() && link.symlink_metadata().is_err() {
        symlink(target, &link).map_err(ImageError::io("make", &link))?;
    }
    Ok(())
}

/// Keeps the licences, which must travel with the programs.
fn strip_documentation(doc: &Path) -> Result<(), ImageError> {
    for package in entries(doc)? {
        if package.is_symlink() || !package.is_dir() {
            continue;
        }
        for file in entries(&package)? {
            if file.file_name().is_none_or(|name| name != "copyright") {
                remove(&file)?;
            }
        }
    }
    Ok(())
}

/// Python reads a compiled module without its source; compiling in the guest would take seconds.
/// `unchecked-hash` makes the result independent of file times. Returns how many files there are then.
///
/// # Errors
/// The layer's own python does not run.
pub fn precompile_python(root: &Path) -> Result<usize, ImageError> {
    let Some(program) = python_program(root)? else { return Ok(0) };
    let version = program.trim_start_matches("usr/bin/").to_owned();
    let candidates = [
        format!("usr/lib/{version}"),
        "usr/lib/python3/dist-packages".to_owned(),
        "app".to_owned(),
    ];
    let directories: Vec<PathBuf> = candidates
        .iter()
        .map(|directory| root.join(directory))
        .filter(|directory| directory.is_dir())
        .collect();
    let mut arguments: Vec<std::ffi::OsString> = [
        "-S",
        "-s",
        "-B",
        "-m",
        "compileall",
        "-q",
        "-q",
        "-f",
        "--invalidation-mode",
        "unchecked-hash",
        "-x",
        "/tests?/",
    ]
    .map(Into::into)
    .to_vec();
    arguments.extend(["-s".into(), root.into(), "-p".into(), "/".into()]);
    arguments.extend(directories.iter().map(Into::into));
    let failed = |detail: String| ImageError::Python { detail };
    let output = ForeignRoot::new(root.to_path_buf())
        .command(&program, arguments)
        .env("PYTHONHOME", root.join("usr"))
        .env("PYTHONHASHSEED", "0")
        .stdout(Stdio::null())
        .output()
        .map_err(|source| failed(source.to_string()))?;
    let mut compiled = 0;
    for directory in &directories {
        walk(directory, &mut |path| {
            compiled += usize::from(path.extension().is_some_and(|extension| extension == "pyc"));
            Ok(())
        })?;
    }
    // One module that this Python cannot compile (a template, say) is no reason to fail.
    if compiled == 0 {
        return Err(failed(last_lines(&output.stderr)));
    }
    Ok(compiled)
}

fn python_program(root: &Path) -> Result<Option<String>, ImageError> {
    let bin = root.join("usr/bin");
    let mut names: Vec<String> = entries(&bin)?
        .iter()
        .filter(|path| !path.is_symlink())
        .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
        .filter(|name| {
            name.strip_prefix("python3.")
                .is_some_and(|minor| minor.bytes().all(|b| b.is_ascii_digit()))
        })
        .collect();
    names.sort();
    Ok(names.pop().map(|name| format!("usr/bin/{name}")))
}

/// One mode for files, one for programs, one for directories: no umask, no setuid bit, no surprise.
///
/// # Errors
/// The file system refuses.
pub fn normalise_modes(root: &Path) -> Result<(), ImageError> {
    walk(root, &mut |path| {
        let mode =
            fs::symlink_metadata(path).map_err(ImageError::io("read", path))?.permissions().mode();
        let wanted = if path.is_dir() || mode & 0o111 != 0 { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))
            .map_err(ImageError::io("set the mode of", path))
    })?;
    for name in ["tmp", "var/tmp"] {
        let path = root.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))
            .map_err(ImageError::io("open up", &path))?;
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))
        .map_err(ImageError::io("open up", root))
}

/// Visits directories before what is in them; symbolic links are left alone.
fn walk(
    dir: &Path,
    visit: &mut impl FnMut(&Path) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    for path in entries(dir)? {
        if path.is_symlink() {
            continue;
        }
        visit(&path)?;
        if path.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(ImageError::io("read", dir))? {
        found.push(entry.map_err(ImageError::io("read", dir))?.path());
    }
    found.sort();
    Ok(found)
}

fn remove(path: &Path) -> Result<(), ImageError> {
    let outcome = match path.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    outcome.map_err(ImageError::io("remove", path))
}

fn copy(from: &Path, to: &Path) -> Result<(), ImageError> {
    if from.is_dir() {
        fs::create_dir_all(to).map_err(ImageError::io("make", to))?;
        for entry in entries(from)? {
            if let Some(name) = entry.file_name() {
                copy(&entry, &to.join(name))?;
            }
        }
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(ImageError::io("make", parent))?;
    }
    fs::copy(from, to).map(|_| ()).map_err(ImageError::io("copy", from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn additions() {
        assert_eq!(
            Addition::parse("a:b/train.py:/app/train.py").unwrap(),
            Addition { from: "a:b/train.py".into(), to: "app/train.py".into() }
        );
        for bad in
            ["train.py", "train.py:app", ":/app", "x:/", "x:/../etc/passwd", "x:/app/../../b"]
        {
            assert!(Addition::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_root_gets_what_maintainer_scripts_would_have_made() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        prepare(&root).unwrap();
        let libraries = root.join(LIBRARIES);
        write(&libraries.join("openblas-pthread/libblas.so.3"), "openblas");
        write(&libraries.join("blas/libblas.so.3"), "reference");
        write(&libraries.join("lapack/liblapack.so.3"), "reference");
        write(&root.join("usr/bin/python3"), "");
        write(&root.join("usr/share/man/man1/x.1"), "");
        write(&root.join("usr/share/doc/x/copyright"), "licence");
        write(&root.join("usr/share/doc/x/changelog"), "");
        let setuid = root.join("usr/bin/su");
        write(&setuid, "");
        fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4711)).unwrap();
        write(&dir.path().join("src/train.py"), "print()");
        let additions = [Addition { from: dir.path().join("src"), to: "app/code".into() }];
        finish(&root, &additions).unwrap();
        normalise_modes(&root).unwrap();

        assert_eq!(fs::read_to_string(libraries.join("libblas.so.3")).unwrap(), "openblas");
        assert_eq!(fs::read_to_string(libraries.join("liblapack.so.3")).unwrap(), "reference");
        assert_eq!(fs::read_link(root.join("usr/bin/python")).unwrap(), Path::new("python3"));
        assert_eq!(fs::read_link(root.join("lib64")).unwrap(), Path::new("usr/lib64"));
        assert_eq!(fs::read_to_string(root.join("usr/share/doc/x/copyright")).unwrap(), "licence");
        assert!(
            !root.join("usr/share/doc/x/changelog").exists()
                && !root.join("usr/share/man").exists()
        );
        assert_eq!(fs::read_to_string(root.join("app/code/train.py")).unwrap(), "print()");
        let mode =
            |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("usr/bin/su"), mode("etc/passwd"), mode("tmp"), mode("app/mnt")),
            (0o755, 0o644, 0o1777, 0o755)
        );
        assert_eq!(precompile_python(&root).unwrap(), 0, "no python3.x program");
    }
}
