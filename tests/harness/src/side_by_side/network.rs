//! Network namespaces (network_namespaces(7)), so that a benchmark chooses the congestion control
//! and the link, and does not change the machine's network.

use std::{
    fmt,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    panic,
    process::{self, Command},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

use super::Result;

/// The addresses of both ends of a pair of virtual devices. Each namespace has a network of its
/// own, so they cannot collide with other addresses.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SCRAPER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The device of the host, and the device of the scrapers.
const HOST_DEVICE: &str = "host0";
const SCRAPER_DEVICE: &str = "scraper0";

/// Whether a new connection may reuse the port of one that ended at least a second ago (ip-sysctl).
/// The default allows it only over loopback. Without it, thousands of short connections between two
/// programs of the host, over the address of the virtual device, use up all ports for a minute.
const REUSE_PORTS: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";

/// The congestion control of new sockets of this namespace.
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// Those that a namespace may select.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// What connects scrapers with the host of proxies and exporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The loopback device: everything is in one namespace.
    Loopback,
    /// A pair of virtual devices with an MTU of 1500 bytes, between two namespaces.
    Veth,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth",
        })
    }
}

/// Where a benchmark runs: a host with proxies and exporters, and the scrapers' side.
pub struct Place {
    namespaces: Option<[Namespace; 2]>,
    address: IpAddr,
}

impl Place {
    /// The namespace in which the program was started, and its loopback device.
    pub fn here() -> Self {
        Self { namespaces: None, address: Ipv4Addr::LOCALHOST.into() }
    }

    /// Namespaces of their own, with this congestion control. They end with the value and with the
    /// processes in them. Requires [`isolate`].
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not allow this congestion control, or if the program `ip` (Debian
    /// package iproute2) fails.
    pub fn new(link: Link, congestion_control: &str) -> Result<Self> {
        let host = Namespace::new()?;
        host.run(|| select_congestion_control(congestion_control))?;
        if link == Link::Loopback {
            let same = host.share()?;
            let address = Ipv4Addr::LOCALHOST.into();
            return Ok(Self { namespaces: Some([host, same]), address });
        }
        let scrapers = Namespace::new()?;
        scrapers.run(|| select_congestion_control(congestion_control))?;
        host.run(|| {
            fs::write(REUSE_PORTS, "1")?;
            ip(&format!(
                "link add {HOST_DEVICE} mtu 1500 type veth \
                 peer name {SCRAPER_DEVICE} mtu 1500 netns {}",
                scrapers.path()
            ))?;
            ip(&format!("address add {HOST}/24 dev {HOST_DEVICE}"))?;
            ip(&format!("link set {HOST_DEVICE} up"))
        })?;
        scrapers.run(|| {
            ip(&format!("address add {SCRAPER}/24 dev {SCRAPER_DEVICE}"))?;
            ip(&format!("link set {SCRAPER_DEVICE} up"))
        })?;
        Ok(Self { namespaces: Some([host, scrapers]), address: HOST.into() })
    }

    /// Limits what the host sends to the scrapers, with a token bucket (tc-tbf(8)) of 32 KiB and a
    /// queue of 100 ms.
    ///
    /// # Errors
    ///
    /// Fails on the loopback device, and if the program `tc` (Debian package iproute2) fails.
    pub fn limit(&self, megabits_per_second: u32) -> Result<()> {
        let limit = format!("rate {megabits_per_second}mbit burst 32kb latency 100ms");
        self.on_host(|| run("tc", &format!("qdisc add dev {HOST_DEVICE} root tbf {limit}")))
    }

    /// The bytes that the host has sent to the scrapers, with all headers.
    ///
    /// # Errors
    ///
    /// Fails on the loopback device.
    pub fn sent_by_host(&self) -> Result<u64> {
        // `/proc/net` would be the namespace of the main thread.
        let devices = self.on_host(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
        let device = devices
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(HOST_DEVICE)?.strip_prefix(':'))
            .ok_or("no pair of virtual devices")?;
        // Eight columns for what was received. The next one has the bytes that were sent.
        let sent = device.split_whitespace().nth(8).ok_or("a device without counters")?;
        Ok(sent.parse()?)
    }

    /// The host's address, for proxies and exporters.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Runs `work` on a thread of the host. Its sockets, threads and processes are on the host.
    pub fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.namespaces {
            Some([host, _]) => host.run(work),
            None => work(),
        }
    }

    /// Runs `work` on a thread of the scrapers' side.
    pub fn on_scrapers_side<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.namespaces {
            Some([_, scrapers]) => scrapers.run(work),
            None => work(),
        }
    }
}

/// Moves this process into a network namespace of its own, from which it may create more. If it has
/// no privilege, it becomes root in a user namespace first (user_namespaces(7)).
///
/// Call this before the process starts a thread.
///
/// # Errors
///
/// Fails if the kernel or a container allows neither.
pub fn isolate() -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    if unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    Ok(())
}

/// The congestion control of this namespace.
pub fn congestion_control() -> String {
    fs::read_to_string(CONGESTION_CONTROL).unwrap_or_default().trim().to_owned()
}

/// The congestion controls that a namespace may select.
pub fn allowed_congestion_controls() -> Vec<String> {
    let allowed = fs::read_to_string(ALLOWED).unwrap_or_default();
    allowed.split_whitespace().map(str::to_owned).collect()
}

fn select_congestion_control(name: &str) -> Result<()> {
    fs::write(CONGESTION_CONTROL, name).map_err(|error| {
        let allowed = allowed_congestion_controls().join(", ");
        format!("cannot select congestion control {name}: {error}; allowed are {allowed}").into()
    })
}

/// A network namespace. It ends with the value and with the processes and sockets in it.
struct Namespace(File);

impl Namespace {
    /// A namespace that has only a loopback device.
    fn new() -> Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            ip("link set lo up")?;
            Ok(Self(File::open("/proc/thread-self/ns/net")?))
        })
    }

    fn share(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// A path at which other programs find the namespace.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd())
    }

    /// A thread's namespace is its own. Threads and processes that it starts inherit it.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("a namespace that we created");
            work()
        })
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| scope.spawn(work).join());
    result.unwrap_or_else(|panic| panic::resume_unwind(panic))
}

fn ip(arguments: &str) -> Result<()> {
    run("ip", arguments)
}

/// Runs a program of iproute2.
fn run(program: &str, arguments: &str) -> Result<()> {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("cannot run {program} (Debian package iproute2): {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {arguments}: {}", error.trim()).into());
    }
    Ok(())
}
