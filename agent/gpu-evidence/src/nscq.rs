//! NSCQ itself, opened at run time: all calls of this program into it. Its interface of generation 2 is taken from NVIDIA's
//! attestation tools (a C header of theirs, and their Python and C++ bindings, which agree in every size, number and
//! argument). Not yet run on a machine with switches.
//!
//! ```text
//! create session -> observe a path: it calls back for each switch, then returns -> destroy session
//! ```
//! Structures come by value into the callbacks. No panic leaves one: `extern "C"` ends the process instead.

#![expect(unsafe_code, reason = "NSCQ is a C library")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libloading::Library;

use crate::{
    library::{Filled, MAX_CHAIN_BYTES, MAX_REPORT_BYTES},
    observation::{Observation, only},
    switch_library::{GENERATION, LIBRARIES, SwitchCallError, SwitchCalled, SwitchLibrary, Uuid},
};

const UUIDS: &CStr = c"/drv/nvswitch/{device}/uuid";
const ARCHITECTURES: &CStr = c"/{nvswitch}/id/arch";
const STATE: &str = "config/pcie_mode";
const CERTIFICATES: &str = "config/certificate";
const REPORT: &str = "config/attestation_report";
/// Every switch of the driver becomes part of the session.
const MOUNT_DEVICES: u32 = 1;
const LABEL_BYTES: usize = 64;

type Session = *mut c_void;
/// The library casts it to what the path asks for.
type Callback = unsafe extern "C" fn();

#[repr(C)]
struct SessionResult {
    code: i8,
    session: Session,
}

#[repr(C)]
struct Label([c_char; LABEL_BYTES]);

#[repr(C)]
struct RawReport {
    size: u32,
    bytes: [u8; MAX_REPORT_BYTES],
}

#[repr(C)]
struct RawCertificates {
    bytes: [u8; MAX_CHAIN_BYTES],
    size: u32,
}

const _: () = assert!(
    size_of::<SessionResult>() == 16
        && size_of::<Label>() == 64
        && size_of::<RawReport>() == 8196
        && size_of::<RawCertificates>() == 5124
);

/// A type that a path's callback gets by value.
///
/// # Safety
///
/// It has C's layout, and every value of its bytes is a value of it.
unsafe trait Raw: Sized {
    type Value: Send + 'static;
    /// # Safety
    ///
    /// Only while the callback runs that got it: a pointer is looked through.
    unsafe fn value(self) -> Option<Self::Value>;
    /// Which switch an answer is of, as the library says beside it.
    fn switch(said: Option<Uuid>, _: Option<&Self::Value>) -> Option<Uuid> {
        said
    }
}

// SAFETY: a number.
unsafe impl Raw for i8 {
    type Value = Self;
    unsafe fn value(self) -> Option<Self> {
        Some(self)
    }
}

// SAFETY: a pointer, which is looked through only while the callback runs.
unsafe impl Raw for *const Uuid {
    type Value = Uuid;
    unsafe fn value(self) -> Option<Uuid> {
        // SAFETY: the library passes null or a UUID of its own that lives until the callback returns; it is bytes, so any
        // address is aligned.
        unsafe { self.as_ref() }.copied()
    }

    /// The answer itself says it: nobody's program looks at what is beside it.
    fn switch(_: Option<Uuid>, value: Option<&Uuid>) -> Option<Uuid> {
        value.copied()
    }
}

// SAFETY: integers and arrays of integers, `repr(C)`.
unsafe impl Raw for RawReport {
    type Value = Filled;
    unsafe fn value(self) -> Option<Filled> {
        Some(Filled { length: self.size, buffer: self.bytes.to_vec() })
    }
}

// SAFETY: integers and arrays of integers, `repr(C)`.
unsafe impl Raw for RawCertificates {
    type Value = Filled;
    unsafe fn value(self) -> Option<Filled> {
        Some(Filled { length: self.size, buffer: self.bytes.to_vec() })
    }
}

/// The library with a session over every switch; the session is destroyed when this is dropped, the library is not unloaded:
/// threads of its own may outlive the session, and this process ends soon.
pub(crate) struct Nscq {
    session: Session,
    destroy: unsafe extern "C" fn(Session),
    observe: unsafe extern "C" fn(Session, *const c_char, Callback, *mut c_void, u32) -> i8,
    set_input: unsafe extern "C" fn(Session, u32, *mut c_void, u32) -> i8,
    uuid_to_label: unsafe extern "C" fn(*const Uuid, *mut Label, u32) -> i8,
}

impl Nscq {
    pub(crate) fn open() -> SwitchCalled<Self> {
        let library: &'static Library = Box::leak(Box::new(load()?));
        // SAFETY: NVIDIA's header has this as a constant number.
        let version: *const u32 = *unsafe { find(library, "nscq_api_version") }?;
        // SAFETY: the symbol's address is that of a number in the library, which stays loaded.
        let generation = unsafe { version.read() } >> 24;
        if generation != GENERATION {
            return Err(SwitchCallError::Generation(generation));
        }
        // SAFETY: of this name and generation, with these arguments.
        let create: unsafe extern "C" fn(u32) -> SessionResult =
            *unsafe { find(library, "nscq_session_create") }?;
        // SAFETY: the same for each of these.
        let (destroy, observe, set_input, uuid_to_label) = unsafe {
            (
                *find(library, "nscq_session_destroy")?,
                *find(library, "nscq_session_path_observe")?,
                *find(library, "nscq_session_set_input")?,
                *find(library, "nscq_uuid_to_label")?,
            )
        };
        // SAFETY: it takes flags and gives a number and a pointer; every function that the session needs is there.
        let SessionResult { code, session } = unsafe { create(MOUNT_DEVICES) };
        // With an error there is no session, whatever the pointer is; with a warning there is one, which is destroyed.
        let session = if code < 0 { std::ptr::null_mut() } else { session };
        let nscq = Self { session, destroy, observe, set_input, uuid_to_label };
        let call = "create a session of NSCQ";
        said(call, code)?;
        if nscq.session.is_null() {
            return Err(SwitchCallError::Code { call, code: -128 });
        }
        Ok(nscq)
    }

    /// What the library says, switch by switch.
    fn ask<R: Raw>(&self, path: &CStr, what: &'static str) -> SwitchCalled<Vec<(Uuid, R::Value)>> {
        // Never freed, so that a call that comes late or from another thread finds it still. It is a few kilobytes.
        let observation: &'static Mutex<Observation<R::Value>> =
            Box::leak(Box::new(Mutex::new(Observation::new())));
        let callback: unsafe extern "C" fn(*const Uuid, i8, R, *mut c_void) = answered::<R>;
        // SAFETY: a function pointer of another type, which the library casts back before it calls: every path that is asked
        // here has callbacks with the arguments of its `R`.
        let callback = unsafe {
            std::mem::transmute::<unsafe extern "C" fn(*const Uuid, i8, R, *mut c_void), Callback>(
                callback,
            )
        };
        let data = std::ptr::from_ref(observation).cast_mut().cast();
        // SAFETY: the session is that of this library, the path ends with zero, and `data` is what `answered` expects and
        // lives for ever.
        let code = unsafe { (self.observe)(self.session, path.as_ptr(), callback, data, 0) };
        let ended = lock(observation).end(what);
        said(what, code)?;
        ended
    }

    fn ask_one<R: Raw>(
        &self,
        switch: &Uuid,
        below: &str,
        what: &'static str,
    ) -> SwitchCalled<R::Value> {
        only(self.ask::<R>(&self.path(switch, below)?, what)?, switch, what)
    }

    /// A switch is named in paths by what the library calls it.
    fn path(&self, switch: &Uuid, below: &str) -> SwitchCalled<CString> {
        const CALL: &str = "get a switch's label from NSCQ";
        let mut label = Label([0; LABEL_BYTES]);
        // SAFETY: both are live and of the sizes in NVIDIA's header; the library keeps neither.
        let code = unsafe { (self.uuid_to_label)(switch, &raw mut label, 0) };
        said(CALL, code)?;
        let text: Vec<u8> = label
            .0
            .iter()
            .map(|character| character.cast_unsigned())
            .take_while(|byte| *byte != 0)
            .collect();
        let is_name = (1..LABEL_BYTES).contains(&text.len())
            && text.iter().all(|byte| byte.is_ascii_graphic() && !b"/{}".contains(byte));
        let text = String::from_utf8(text).ok().filter(|_| is_name);
        let path = text.and_then(|text| CString::new(format!("/{text}/{below}")).ok());
        path.ok_or(SwitchCallError::Code { call: CALL, code: -5 })
    }
}

impl Drop for Nscq {
    fn drop(&mut self) {
        if !self.session.is_null() {
            // SAFETY: `create` gave it, and it is destroyed once.
            unsafe { (self.destroy)(self.session) };
        }
    }
}

fn load() -> SwitchCalled<Library> {
    let mut first = None;
    for name in LIBRARIES {
        // SAFETY: the name is that of NVIDIA's library, whose constructors are safe to run; the process has one thread.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            Err(error) => first = first.or(Some(format!("load {name}: {error}"))),
        }
    }
    Err(SwitchCallError::Load(first.unwrap_or_default()))
}

/// # Safety
///
/// The library's symbol of this name is a `T`.
unsafe fn find<T>(
    library: &'static Library,
    name: &'static str,
) -> SwitchCalled<libloading::Symbol<'static, T>> {
    // SAFETY: the caller's word.
    unsafe { library.get(name.as_bytes()) }.map_err(|_| SwitchCallError::Function(name))
}

fn said(call: &'static str, code: i8) -> SwitchCalled<()> {
    if code == 0 { Ok(()) } else { Err(SwitchCallError::Code { call, code }) }
}

fn lock<T>(observation: &Mutex<T>) -> MutexGuard<'_, T> {
    observation.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the library calls, with the `data` of [`Nscq::ask`].
///
/// # Safety
///
/// `switch` is null or a UUID, and `data` null or what `ask` made for the same `R`.
unsafe extern "C" fn answered<R: Raw>(switch: *const Uuid, code: i8, raw: R, data: *mut c_void) {
    // SAFETY: `ask` never frees it, and all access is through its lock.
    let observation = unsafe { data.cast::<Mutex<Observation<R::Value>>>().as_ref() };
    let Some(observation) = observation else { return };
    // With an error the rest may be anything.
    let (said, value) = if code == 0 {
        // SAFETY: this is the callback that got both.
        unsafe { (switch.value(), raw.value()) }
    } else {
        (None, None)
    };
    let switch = R::switch(said, value.as_ref());
    lock(observation).note(switch, code, value);
}

impl SwitchLibrary for Nscq {
    fn uuids(&self) -> SwitchCalled<Vec<Uuid>> {
        let answers = self.ask::<*const Uuid>(UUIDS, "switches' UUIDs")?;
        Ok(answers.into_iter().map(|(_, uuid)| uuid).collect())
    }

    fn architectures(&self) -> SwitchCalled<Vec<(Uuid, i8)>> {
        self.ask::<i8>(ARCHITECTURES, "switches' architectures")
    }

    fn state(&self, switch: &Uuid) -> SwitchCalled<i8> {
        self.ask_one::<i8>(switch, STATE, "switch's mode")
    }

    fn certificates(&self, switch: &Uuid) -> SwitchCalled<Filled> {
        self.ask_one::<RawCertificates>(switch, CERTIFICATES, "switch's certificates")
    }

    fn report(&self, switch: &Uuid, challenge: &[u8; 32]) -> SwitchCalled<Filled> {
        // Never freed: nobody says whether the library copies it.
        let input: &'static mut [u8; 32] = Box::leak(Box::new(*challenge));
        let length = input.len() as u32;
        // SAFETY: as many bytes as are said, which live for ever and belong to the library from here on.
        let code = unsafe { (self.set_input)(self.session, 0, input.as_mut_ptr().cast(), length) };
        said("give the challenge to NSCQ", code)?;
        self.ask_one::<RawReport>(switch, REPORT, "switch's report")
    }
}
