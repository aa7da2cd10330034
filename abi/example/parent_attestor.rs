// SPDX-License-Identifier: Apache-2.0
// A workload attestor in Rust without dependencies: it tells the name of a process's parent, as selector
// "parent:name:<name>". Only the part of limpet_plugin.h that it needs is written out here.
#![deny(warnings)]

use std::ffi::{c_char, c_void};
use std::panic::catch_unwind;

#[repr(C)]
#[derive(Clone, Copy)]
struct Str {
    ptr: *const u8,
    len: usize,
}
#[repr(C)]
struct StrList {
    items: *const Str,
    count: usize,
}
#[repr(C)]
struct Status {
    size: u32,
    code: i32,
    message: Str,
    retry_after_ms: u32,
    reserved: u32,
}
#[repr(C)]
struct Config {
    size: u32,
    dry_run: u32,
    trust_domain: Str,
    json: Str,
}
#[repr(C)]
struct Workload {
    size: u32,
    pid: i32,
    pidfd: i32,
    uid: u32,
    gid: u32,
    reserved: u32,
    reference_type: Str,
    reference: Str,
}
type Op = c_void;
type Done = extern "C" fn(*mut Op, *const Status);
type SelectorsDone = extern "C" fn(*mut Op, *const Status, StrList);

#[repr(C)]
struct WorkloadAttestor {
    size: u32,
    reserved: u32,
    attest: extern "C" fn(*mut c_void, *mut Op, *const Workload, SelectorsDone),
}
#[repr(C)]
struct Component {
    size: u32,
    flags: u32,
    interface_id: *const c_char,
    name: *const c_char,
    create: extern "C" fn(*const c_void, *mut *mut c_void) -> i32,
    destroy: extern "C" fn(*mut c_void),
    configure: extern "C" fn(*mut c_void, *mut Op, *const Config, Done),
    cancel: Option<extern "C" fn(*mut c_void, *mut Op)>,
    vtable: *const WorkloadAttestor,
}
#[repr(C)]
struct Components([*const Component; 2]); // ends with null
#[repr(C)]
pub struct Plugin {
    size: u32,
    abi_major: u32,
    abi_minor: u32,
    reserved: u32,
    id: *const c_char,
    version: *const c_char,
    license: *const c_char,
    components: *const Components,
}
// Constants, pointing to constants.
unsafe impl Sync for Component {}
unsafe impl Sync for Components {}
unsafe impl Sync for Plugin {}

const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const INTERNAL: i32 = 13;
const NONE: StrList = StrList { items: std::ptr::null(), count: 0 };

fn text(s: &Str) -> &[u8] {
    if s.len == 0 {
        return &[];
    }
    // The host lends it until the call returns.
    unsafe { std::slice::from_raw_parts(s.ptr, s.len) }
}

fn status(code: i32, message: &str) -> Status {
    Status {
        size: std::mem::size_of::<Status>() as u32,
        code,
        message: Str { ptr: message.as_ptr(), len: message.len() },
        retry_after_ms: 0,
        reserved: 0,
    }
}

// An instance without state still needs an address of its own.
extern "C" fn create(_host: *const c_void, out: *mut *mut c_void) -> i32 {
    unsafe { *out = Box::into_raw(Box::new(0u8)) as *mut c_void };
    OK
}
extern "C" fn destroy(instance: *mut c_void) {
    drop(unsafe { Box::from_raw(instance as *mut u8) });
}
extern "C" fn configure(_instance: *mut c_void, op: *mut Op, config: *const Config, done: Done) {
    let json = text(unsafe { &(*config).json }).iter().filter(|c| !c.is_ascii_whitespace());
    if json.clone().count() == 0 || json.eq(b"{}".iter()) {
        return done(op, std::ptr::null());
    }
    done(op, &status(INVALID_ARGUMENT, "the plugin parent has no configuration: remove the table \"data\""));
}

// The parent's number is the second field after the name, which stands in parentheses and may hold anything.
fn parent_name(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    if parent == 0 {
        return Some(String::new());
    }
    Some(std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?.trim_end_matches('\n').to_string())
}

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}
extern "C" {
    fn poll(fds: *mut PollFd, count: std::ffi::c_ulong, timeout_ms: i32) -> i32;
}
// A pidfd becomes readable when its process ends: the number may then be another process's.
fn has_exited(pidfd: i32) -> bool {
    const POLLIN: i16 = 1;
    let mut asked = PollFd { fd: pidfd, events: POLLIN, revents: 0 };
    pidfd >= 0 && unsafe { poll(&mut asked, 1, 0) } != 0
}

extern "C" fn attest(_instance: *mut c_void, op: *mut Op, workload: *const Workload, done: SelectorsDone) {
    let workload = unsafe { &*workload };
    if workload.reference_type.len > 0 {
        return done(op, std::ptr::null(), NONE); // not named by a pid: not our kind
    }
    let pid = workload.pid;
    let found = catch_unwind(|| parent_name(pid));
    if has_exited(workload.pidfd) {
        return done(op, &status(NOT_FOUND, "the process has exited"), NONE);
    }
    match found {
        Ok(Some(name)) if name.is_empty() => done(op, std::ptr::null(), NONE),
        Ok(Some(name)) => {
            let selector = format!("name:{name}");
            let item = Str { ptr: selector.as_ptr(), len: selector.len() };
            done(op, std::ptr::null(), StrList { items: &item, count: 1 });
        }
        Ok(None) => done(op, &status(NOT_FOUND, "the process or its parent has exited"), NONE),
        Err(_) => done(op, &status(INTERNAL, "the plugin parent panicked"), NONE),
    }
}

static TABLE: WorkloadAttestor =
    WorkloadAttestor { size: std::mem::size_of::<WorkloadAttestor>() as u32, reserved: 0, attest };
static COMPONENT: Component = Component {
    size: std::mem::size_of::<Component>() as u32,
    flags: 0,
    interface_id: c"limpet.workload-attestor/1".as_ptr(),
    name: c"parent".as_ptr(),
    create,
    destroy,
    configure,
    cancel: None,
    vtable: &TABLE,
};
static COMPONENTS: Components = Components([&COMPONENT, std::ptr::null()]);
static PLUGIN: Plugin = Plugin {
    size: std::mem::size_of::<Plugin>() as u32,
    abi_major: 1,
    abi_minor: 0,
    reserved: 0,
    id: c"org.example.parent".as_ptr(),
    version: c"1.0.0".as_ptr(),
    license: c"Apache-2.0".as_ptr(),
    components: &COMPONENTS,
};

#[no_mangle]
pub extern "C" fn limpet_plugin_main(host_major: u32, _host_minor: u32) -> *const Plugin {
    if host_major == 1 {
        &PLUGIN
    } else {
        std::ptr::null()
    }
}
