//! `sealtune-image layer`: packages and files become `NAME.erofs` (data, then its dm-verity tree) and
//! `NAME.layer.json`, which says what a launch configuration must say to open it.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::apt::{Candidate, Suite};
use crate::erofs::{self, Compression};
use crate::error::ImageError;
use crate::image::json;
use crate::output::write_atomically;
use crate::packages::{PackageCache, check_package_name};
use crate::rootfs::{self, Addition};
use crate::verity;

/// They run maintainer scripts, and no maintainer script runs here.
const ONLY_FOR_INSTALLING: [&str; 3] = ["debconf", "dpkg", "tar"];
const MAX_PACKAGES: usize = 256;

/// What to make.
#[derive(Debug)]
pub struct LayerOrder {
    name: String,
    packages: Vec<String>,
    suite: Suite,
    additions: Vec<Addition>,
    precompile: bool,
    compression: Compression,
    out: PathBuf,
}

impl LayerOrder {
    /// # Errors
    /// An argument that is not what it should be.
    pub fn new(
        name: &str,
        packages: &[String],
        suite: &str,
        files: &[String],
        precompile: bool,
        compression: Compression,
        out: PathBuf,
    ) -> Result<Self, ImageError> {
        let bad = |argument: &str, detail: &str| ImageError::BadArgument {
            argument: argument.to_owned(),
            detail: detail.to_owned(),
        };
        let fits = (1..=64).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            return Err(bad(name, "a layer's name is lower-case letters, digits and hyphens"));
        }
        if packages.len() > MAX_PACKAGES {
            return Err(bad("--packages", "too many packages"));
        }
        for package in packages {
            check_package_name(package)?;
        }
        Ok(Self {
            name: name.to_owned(),
            packages: packages.to_vec(),
            suite: Suite::parse(suite)?,
            additions: files.iter().map(|file| Addition::parse(file)).collect::<Result<_, _>>()?,
            precompile,
            compression,
            out,
        })
    }
}

/// `NAME.layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerDescription {
    pub version: u32,
    pub name: String,
    /// Root of the dm-verity tree: the layer's identity.
    pub root: String,
    pub data_blocks: u64,
    /// Where the tree begins, in bytes.
    pub hash_offset: u64,
    pub hash_algorithm: String,
    pub data_block_size: u32,
    pub hash_block_size: u32,
    pub salt: String,
    pub file_bytes: u64,
    pub packages: Vec<LayerPackage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPackage {
    pub name: String,
    pub version: String,
}

/// What was made.
#[derive(Debug, Serialize)]
pub struct LayerReport {
    pub image: PathBuf,
    pub description: PathBuf,
    pub compiled_python_modules: usize,
    pub layer: LayerDescription,
}

impl LayerReport {
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for package in &self.layer.packages {
            let _infallible = writeln!(text, "{:28} {}", package.name, package.version);
        }
        let _infallible = writeln!(
            text,
            "\n{}\nroot {}\n{} bytes ({} of them hash tree), {} compiled Python modules",
            self.image.display(),
            self.layer.root,
            self.layer.file_bytes,
            self.layer.file_bytes - self.layer.hash_offset,
            self.compiled_python_modules,
        );
        text
    }
}

/// # Errors
/// See [`ImageError`].
pub fn build(order: &LayerOrder, cache: &PackageCache) -> Result<LayerReport, ImageError> {
    fs::create_dir_all(&order.out).map_err(ImageError::io("make", &order.out))?;
    let keep = |candidate: &Candidate, _: &[Candidate]| {
        !ONLY_FOR_INSTALLING.contains(&candidate.name.as_str())
            || order.packages.contains(&candidate.name)
    };
    let packages = cache.fetch(&order.suite, &order.packages, keep)?;
    let tool = erofs::tool(cache, &order.suite)?;

    let work = cache.work_dir()?;
    let root = work.path().join("root");
    fs::create_dir(&root).map_err(ImageError::io("make", &root))?;
    rootfs::prepare(&root)?;
    cache.unpack(&packages, &root)?;
    rootfs::finish(&root, &order.additions)?;
    let compiled_python_modules =
        if order.precompile { rootfs::precompile_python(&root)? } else { 0 };
    rootfs::normalise_modes(&root)?;

    // In the output directory from the start: the last step must be a rename.
    let staging = tempfile::Builder::new()
        .prefix(".sealtune-image-")
        .tempdir_in(&order.out)
        .map_err(ImageError::io("write in", &order.out))?;
    let staged = staging.path().join("layer.erofs");
    erofs::make(&tool, order.compression, &staged, &root)?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(&staged)
        .map_err(ImageError::io("open", &staged))?;
    let tree = verity::append_tree(&mut file)
        .map_err(ImageError::io("hash", &staged))?
        .ok_or_else(|| ImageError::Erofs { detail: "the image is empty".to_owned() })?;
    file.sync_all().map_err(ImageError::io("write", &staged))?;
    let layer =
        describe(order, &tree, packages.into_iter().map(|package| (package.name, package.version)));

    let image = order.out.join(format!("{}.erofs", order.name));
    let description = order.out.join(format!("{}.layer.json", order.name));
    fs::rename(&staged, &image).map_err(ImageError::io("write", &image))?;
    write_atomically(&description, &json(&layer)?)?;
    Ok(LayerReport { image, description, compiled_python_modules, layer })
}

fn describe(
    order: &LayerOrder,
    tree: &verity::HashTree,
    packages: impl Iterator<Item = (String, String)>,
) -> LayerDescription {
    let hash_offset = tree.data_blocks * verity::BLOCK as u64;
    LayerDescription {
        version: 1,
        name: order.name.clone(),
        root: hex::encode(tree.root),
        data_blocks: tree.data_blocks,
        hash_offset,
        hash_algorithm: "sha256".to_owned(),
        data_block_size: 4096,
        hash_block_size: 4096,
        salt: String::new(),
        file_bytes: hash_offset + tree.bytes.len() as u64,
        packages: packages.map(|(name, version)| LayerPackage { name, version }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(name: &str, packages: &[&str]) -> Result<LayerOrder, ImageError> {
        let packages: Vec<String> = packages.iter().map(|name| (*name).to_owned()).collect();
        LayerOrder::new(name, &packages, "trixie", &[], true, Compression::None, "out".into())
    }

    #[test]
    fn names_are_checked_before_anything_runs() {
        assert!(order("training-numpy", &["python3", "libstdc++6"]).is_ok());
        for (name, package) in
            [("../x", "python3"), ("", "python3"), ("X", "python3"), ("x", "-o"), ("x", "python3-")]
        {
            assert!(order(name, &[package]).is_err(), "{name} {package}");
        }
    }

    #[test]
    fn a_description_says_what_opening_needs_and_nothing_else() {
        let tree = verity::HashTree { root: [0xab; 32], data_blocks: 3, bytes: vec![0; 4096] };
        let layer = describe(
            &order("n", &[]).unwrap(),
            &tree,
            [("a".to_owned(), "1".to_owned())].into_iter(),
        );
        let text = serde_json::to_string(&layer).unwrap();
        let root = "ab".repeat(32);
        assert_eq!(
            text,
            format!(
                "{{\"version\":1,\"name\":\"n\",\"root\":\"{root}\",\"data_blocks\":3,\"hash_offset\":12288,\
                 \"hash_algorithm\":\"sha256\",\"data_block_size\":4096,\"hash_block_size\":4096,\"salt\":\"\",\
                 \"file_bytes\":16384,\"packages\":[{{\"name\":\"a\",\"version\":\"1\"}}]}}"
            )
        );
        assert!(
            serde_json::from_str::<LayerDescription>(&text.replacen("salt", "salz", 1)).is_err()
        );
    }
}
