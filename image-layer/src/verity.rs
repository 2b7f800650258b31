//! A dm-verity hash tree without superblock: format 1, SHA-256, blocks of 4096 bytes, no salt.
//! Source: the kernel's Documentation/admin-guide/device-mapper/verity.rst. The tree stands after the
//! data, top level first; a level's digests fill blocks of 128, the last one padded with zeros.
//! The root is the digest of the topmost block (of the data block itself when there is only one).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use ring::digest::{SHA256, digest};

pub const BLOCK: usize = 4096;
const DIGEST: usize = 32;
const PER_BLOCK: usize = BLOCK / DIGEST;

pub type Digest = [u8; DIGEST];

/// A finished tree: what the kernel is told, and the bytes that follow the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTree {
    pub root: Digest,
    pub data_blocks: u64,
    pub bytes: Vec<u8>,
}

/// Takes the digests of data blocks in order.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    digests: Vec<Digest>,
}

impl TreeBuilder {
    /// `block` must be a whole block.
    pub fn push(&mut self, block: &[u8; BLOCK]) {
        self.digests.push(sha256(block));
    }

    /// `None` without data: there is nothing to protect.
    #[must_use]
    pub fn finish(self) -> Option<HashTree> {
        let data_blocks = self.digests.len() as u64;
        let mut levels: Vec<Vec<u8>> = Vec::new();
        let mut digests = self.digests;
        while digests.len() > 1 {
            let level: Vec<u8> = digests.chunks(PER_BLOCK).flat_map(padded_block).collect();
            digests = level.chunks(BLOCK).map(sha256).collect();
            levels.push(level);
        }
        let root = digests.pop()?;
        Some(HashTree { root, data_blocks, bytes: levels.into_iter().rev().flatten().collect() })
    }
}

fn padded_block(digests: &[Digest]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (place, digest) in block.chunks_mut(DIGEST).zip(digests) {
        place.copy_from_slice(digest);
    }
    block
}

fn sha256(block: &[u8]) -> Digest {
    let mut out = [0; DIGEST];
    out.copy_from_slice(digest(&SHA256, block).as_ref());
    out
}

/// Pads `file` with zeros to a whole block, hashes it and writes the tree after it.
/// Returns the tree, or `None` for an empty file.
///
/// # Errors
/// Reading or writing the file.
pub fn append_tree(file: &mut File) -> std::io::Result<Option<HashTree>> {
    let length = file.metadata()?.len();
    file.set_len(length.next_multiple_of(BLOCK as u64))?;
    file.seek(SeekFrom::Start(0))?;
    let mut builder = TreeBuilder::default();
    let mut block = [0; BLOCK];
    for _ in 0..length.div_ceil(BLOCK as u64) {
        file.read_exact(&mut block)?;
        builder.push(&block);
    }
    let Some(tree) = builder.finish() else { return Ok(None) };
    file.seek(SeekFrom::End(0))?;
    file.write_all(&tree.bytes)?;
    Ok(Some(tree))
}

/// Any data gives a tree whose top block hashes to the root.
pub fn fuzz_tree(data: &[u8]) {
    let mut builder = TreeBuilder::default();
    for chunk in data.chunks(BLOCK) {
        let mut block = [0; BLOCK];
        block[..chunk.len()].copy_from_slice(chunk);
        builder.push(&block);
    }
    if let Some(tree) = builder.finish() {
        assert_eq!(tree.bytes.len() % BLOCK, 0);
        if let Some(top) = tree.bytes.get(..BLOCK) {
            assert_eq!(sha256(top), tree.root);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn tree_of(blocks: usize) -> HashTree {
        let mut builder = TreeBuilder::default();
        for index in 0..blocks {
            builder.push(&block(index));
        }
        builder.finish().unwrap()
    }

    fn block(index: usize) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(&(index as u64).to_le_bytes());
        block
    }

    #[test]
    fn sizes_of_the_levels() {
        for (blocks, tree_blocks) in
            [(1, 0), (2, 1), (128, 1), (129, 3), (128 * 128, 129), (128 * 128 + 1, 132)]
        {
            assert_eq!(tree_of(blocks).bytes.len() / BLOCK, tree_blocks, "{blocks}");
        }
        assert_eq!(TreeBuilder::default().finish(), None);
    }

    #[test]
    fn one_block_is_its_own_root() {
        assert_eq!(tree_of(1).root, sha256(&block(0)));
    }

    #[test]
    fn known_roots() {
        // From `veritysetup format --salt=- --no-superblock` over the same blocks.
        for (blocks, root) in KNOWN {
            assert_eq!(hex::encode(tree_of(blocks).root), root, "{blocks}");
        }
    }

    const KNOWN: [(usize, &str); 3] = [
        (2, "f92ee626c329ac6003c22a70a104bf89d8d1a326ff913e648a44698b9ed65195"),
        (129, "89cc567fe951297b2c88cc2ebdbf35afabdf58c8129bef1981b5cd3137fb6e51"),
        (300, "e32cf1cdbc023a03dfa8c32a241359847f5381fadd468becc08ee6260fb01f21"),
    ];

    #[test]
    fn the_same_tree_as_veritysetup() {
        if Command::new("veritysetup").arg("--version").output().is_err() {
            println!("skipped: no veritysetup on this machine");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for blocks in [2, 127, 128, 129, 300, 128 * 128 + 5] {
            let path = dir.path().join("data");
            let data: Vec<u8> = (0..blocks).flat_map(block).collect();
            std::fs::write(&path, &data).unwrap();
            let mut file = File::options().read(true).write(true).open(&path).unwrap();
            let tree = append_tree(&mut file).unwrap().unwrap();
            let ours = std::fs::read(&path).unwrap();

            let (plain, hashes) = (dir.path().join("plain"), dir.path().join("hashes"));
            std::fs::write(&plain, &data).unwrap();
            let _ = std::fs::remove_file(&hashes);
            let output = Command::new("veritysetup")
                .args(["format", "--salt=-", "--no-superblock"])
                .args([&plain, &hashes])
                .output()
                .unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            let root =
                text.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim();
            assert_eq!(hex::encode(tree.root), root, "{blocks}");
            assert_eq!(&ours[data.len()..], std::fs::read(&hashes).unwrap(), "{blocks}");
        }
    }

    #[test]
    fn a_partial_block_is_padded_with_zeros() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; BLOCK + 1]).unwrap();
        let tree = append_tree(&mut file).unwrap().unwrap();
        assert_eq!((tree.data_blocks, file.metadata().unwrap().len()), (2, 3 * BLOCK as u64));
        assert!(append_tree(&mut tempfile::tempfile().unwrap()).unwrap().is_none());
    }

    #[test]
    fn any_data() {
        for length in [0, 1, BLOCK, BLOCK * 3 + 5] {
            fuzz_tree(&vec![3; length]);
        }
    }
}
