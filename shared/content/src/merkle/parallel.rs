//! The root of a reader's content with several threads and a bounded window.
//!
//! Each thread owns one block; it reads under a lock and hashes outside it, so reading
//! and hashing overlap and memory is one block a thread plus 32 bytes a segment.

use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::tree::segment_root;
use super::{Geometry, Root, SEGMENT_BYTES, SEGMENT_CHUNKS, SegmentRoots};
use crate::hash::HashError;

const BLOCK_SEGMENTS: usize = 4;
const BLOCK_BYTES: usize = BLOCK_SEGMENTS * SEGMENT_BYTES as usize;
const MAX_THREADS: usize = 64;

struct Source<R> {
    reader: R,
    blocks: u64,
    length: u64,
    state: SourceState,
}

#[derive(PartialEq)]
enum SourceState {
    Reading,
    Ended,
    Failed(std::io::ErrorKind),
}

/// Roots of a block of consecutive segments.
struct HashedBlock {
    number: u64,
    roots: Vec<Root>,
}

/// Reads to the end and returns the chunk map, which knows root, length and id.
/// A `&[u8]` is a reader too.
pub fn zg_root_parallel<R: Read + Send>(
    reader: R,
    threads: usize,
) -> Result<SegmentRoots, HashError> {
    let source = Mutex::new(Source { reader, blocks: 0, length: 0, state: SourceState::Reading });
    let results = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.clamp(1, MAX_THREADS))
            .map(|_| scope.spawn(|| hash_blocks(&source)))
            .collect();
        workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut blocks = Vec::new();
    for result in results {
        blocks.extend(result.map_err(|_| HashError::ThreadDied)??);
    }
    blocks.sort_unstable_by_key(|block| block.number);
    let roots = blocks.into_iter().flat_map(|block| block.roots).collect();
    let length = source.into_inner().unwrap_or_else(PoisonError::into_inner).length;
    Ok(SegmentRoots::from_data_segments(roots, Geometry::of(length)?)?)
}

fn hash_blocks<R: Read>(source: &Mutex<Source<R>>) -> Result<Vec<HashedBlock>, HashError> {
    let mut hashed = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let Some((number, filled, total)) = read_block(source, &mut block)? else {
            return Ok(hashed);
        };
        let first_segment = number * BLOCK_SEGMENTS as u64;
        let roots = block[..filled]
            .chunks(SEGMENT_BYTES as usize)
            .zip(first_segment..)
            .map(|(data, segment)| {
                // Only the file's last segment can be short, and then its total is known.
                let leaves = match total {
                    Some(total) => Geometry::of(total)?.leaves_of(segment),
                    None => SEGMENT_CHUNKS,
                };
                segment_root(data, leaves)
            })
            .collect::<Result<_, _>>()?;
        hashed.push(HashedBlock { number, roots });
    }
}

/// Block number, bytes filled and, once the end was seen, the whole length.
type ReadBlock = Option<(u64, usize, Option<u64>)>;

fn read_block<R: Read>(
    source: &Mutex<Source<R>>,
    block: &mut [u8],
) -> Result<ReadBlock, HashError> {
    let mut source = source.lock().map_err(|_| HashError::ThreadDied)?;
    match source.state {
        SourceState::Reading => {}
        SourceState::Ended => return Ok(None),
        SourceState::Failed(kind) => return Err(HashError::Read(kind.into())),
    }
    let mut filled = 0;
    while filled < block.len() {
        match source.reader.read(&mut block[filled..]) {
            Ok(0) => {
                source.state = SourceState::Ended;
                break;
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                source.state = SourceState::Failed(error.kind());
                return Err(error.into());
            }
        }
    }
    if filled == 0 {
        return Ok(None);
    }
    let number = source.blocks;
    source.blocks += 1;
    source.length += filled as u64;
    let total = (source.state == SourceState::Ended).then_some(source.length);
    Ok(Some((number, filled, total)))
}
