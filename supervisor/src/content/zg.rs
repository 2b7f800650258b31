//! Ids and segment roots of content, computed on the host for the guest to verify.

use std::{fs::File, io::Read as _, path::Path};

use sealtune_content::{ContentHasher, ContentId, Scheme, ZgHasher};

use super::{ContentError, source::Source};

const PART: usize = 1 << 20;

/// Both ids of a file, in one pass.
pub(super) fn identify_both(path: &Path) -> Result<(ContentId, ContentId), ContentError> {
    let mut file = File::open(path)?;
    let mut sha256 = ContentHasher::new(Scheme::Sha256);
    let mut zg = ContentHasher::new(Scheme::Zg);
    let mut part = vec![0; PART];
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            break;
        }
        sha256.update(&part[..read]);
        zg.update(&part[..read]);
    }
    let failed =
        |error: sealtune_content::merkle::MerkleError| ContentError::Identify(error.to_string());
    Ok((sha256.finish().map_err(failed)?, zg.finish().map_err(failed)?))
}

/// The segment roots of a source, 32 bytes each: the guest folds and compares them.
pub(super) async fn segment_roots(mut source: Source) -> Result<Source, ContentError> {
    let mut hasher = ZgHasher::new();
    loop {
        let part = source.next(PART).await?;
        if part.is_empty() {
            break;
        }
        hasher.update(&part);
    }
    let roots = hasher.finish().map_err(|error| ContentError::Identify(error.to_string()))?;
    Ok(Source::Memory { bytes: roots.to_bytes(), at: 0 })
}
