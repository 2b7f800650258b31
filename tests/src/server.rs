//! A web server of content on this machine, which keeps to what it says, or does not.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sealtune_content::{ContentId, Scheme, identify};

/// How one content is served. Places are offsets in it; answers to GET count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Honest,
    /// The first answer breaks off there.
    CutsOnce(usize),
    /// This byte is another.
    WrongByte(usize),
    /// This byte is another in this one answer.
    WrongByteIn {
        answer: usize,
        at: usize,
    },
    /// It says that it is so long.
    SaysLength(usize),
    /// It says nothing of its length and goes on for ever.
    Endless,
    /// Every answer breaks off there.
    EndsAt(usize),
    /// Ends there and keeps the connection, silently.
    HoldsAt(usize),
    /// Says that it is broken.
    Fails,
}

/// Somebody asked for content from this offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub id: ContentId,
    pub from: usize,
}

#[derive(Debug)]
struct Content {
    id: ContentId,
    bytes: Arc<Vec<u8>>,
    manner: Manner,
    answers: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    contents: HashMap<String, Content>,
    asked: Vec<Asked>,
    /// Digests that were asked for and are not here.
    missing: Vec<String>,
}

#[derive(Debug)]
pub struct ContentServer {
    address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    is_over: Arc<AtomicBool>,
}

fn open(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The digest in hex, which stands for content in an address.
fn name_of(id: &ContentId) -> String {
    let text = id.to_string();
    text.split(':').nth(1).unwrap_or_default().trim_start_matches("0x").to_owned()
}

impl ContentServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (shelf, is_over) = (Arc::new(Mutex::new(Shelf::default())), Arc::default());
        let server = Self { address, shelf: Arc::clone(&shelf), is_over: Arc::clone(&is_over) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let shelf = Arc::clone(&shelf);
                // One that went away in the middle is no loss.
                std::thread::spawn(move || serve(stream, &shelf).ok());
            }
        });
        server
    }

    /// For `--content-url`.
    pub fn template(&self) -> String {
        format!("http://{}/content/{{id}}", self.address)
    }

    pub fn offers(&self, bytes: &[u8], scheme: Scheme, manner: Manner) -> ContentId {
        let id = identify(bytes, scheme).expect("an id");
        let content = Content { id, bytes: Arc::new(bytes.to_vec()), manner, answers: 0 };
        open(&self.shelf).contents.insert(name_of(&id), content);
        id
    }

    /// Where answers for this content began, in their order.
    pub fn asked_from(&self, id: &ContentId) -> Vec<usize> {
        let shelf = open(&self.shelf);
        shelf.asked.iter().filter(|asked| asked.id == *id).map(|asked| asked.from).collect()
    }

    /// Whether it was asked for this and did not have it.
    pub fn missed(&self, id: &ContentId) -> bool {
        open(&self.shelf).missing.contains(&name_of(id))
    }
}

impl Drop for ContentServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // The listening thread looks when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

struct Request {
    is_head: bool,
    name: String,
    from: usize,
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap_or(0);
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Request { is_head: first.starts_with("HEAD "), name, from })
}

/// One request, one connection.
fn serve(mut stream: TcpStream, shelf: &Mutex<Shelf>) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    let found = {
        let mut shelf = open(shelf);
        let found = shelf.contents.get_mut(&request.name).map(|content| {
            let answer = content.answers;
            content.answers += usize::from(!request.is_head);
            (content.id, Arc::clone(&content.bytes), content.manner, answer)
        });
        match &found {
            Some((id, ..)) if !request.is_head => {
                shelf.asked.push(Asked { id: *id, from: request.from });
            }
            Some(_) => {}
            None => shelf.missing.push(request.name.clone()),
        }
        found
    };
    let Some((_, bytes, manner, answer)) = found else {
        return stream.write_all(&head("404 Not Found", Some(0), ""));
    };
    match manner {
        Manner::Fails => stream.write_all(&head("500 Internal Server Error", Some(0), "")),
        Manner::Endless if request.is_head => stream.write_all(&head("200 OK", None, "")),
        Manner::Endless => {
            stream.write_all(&head("200 OK", None, ""))?;
            stream.write_all(&bytes)?;
            loop {
                stream.write_all(&[0; 4096])?;
            }
        }
        _ if request.is_head => {
            let length = if let Manner::SaysLength(length) = manner { length } else { bytes.len() };
            stream.write_all(&head("200 OK", Some(length), ""))
        }
        _ => answer_range(&mut stream, &bytes, manner, answer, request.from),
    }
}

fn answer_range(
    stream: &mut TcpStream,
    bytes: &[u8],
    manner: Manner,
    answer: usize,
    from: usize,
) -> std::io::Result<()> {
    let (length, mut bytes) = (bytes.len(), bytes.to_vec());
    let range = format!("Content-Range: bytes {from}-{}/{length}\r\n", length - 1);
    let mut end = length;
    match manner {
        Manner::CutsOnce(at) if answer == 0 => end = at,
        Manner::EndsAt(at) | Manner::HoldsAt(at) => end = at,
        Manner::WrongByte(at) => flip(&mut bytes, at),
        Manner::WrongByteIn { answer: wrong, at } if wrong == answer => flip(&mut bytes, at),
        _ => {}
    }
    let left = length.saturating_sub(from);
    stream.write_all(&head("206 Partial Content", Some(left), &range))?;
    stream.write_all(bytes.get(from..end).unwrap_or_default())?;
    if matches!(manner, Manner::HoldsAt(_)) {
        // Until whoever asked has gone.
        let _ = stream.read(&mut [0; 1]);
    }
    Ok(())
}

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

fn head(status: &str, length: Option<usize>, more: &str) -> Vec<u8> {
    let length = length.map_or_else(String::new, |length| format!("Content-Length: {length}\r\n"));
    format!("HTTP/1.1 {status}\r\n{length}{more}Connection: close\r\n\r\n").into_bytes()
}
