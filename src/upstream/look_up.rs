//! Looks up names with the system's resolver, on threads.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Semaphore;

use crate::common::blocking::Threads;

/// Limit for concurrent lookups of one name. If the name servers do not answer, the resolver takes
/// up to two minutes and cannot be interrupted. A scrape that times out meanwhile leaves its thread
/// running.
const PER_NAME: usize = 4;

/// Limit for concurrent lookups of all names. With [`PER_NAME`], more than a hundred names must
/// hang before a lookup of another name has to wait.
const IN_ALL: usize = 512;

static LOOK_UPS: LazyLock<LookUps> = LazyLock::new(|| {
    LookUps::new(IN_ALL, |host, port| (host, port).to_socket_addrs().map(Vec::from_iter))
});

/// Looks up the addresses of `host` with the system's resolver. Loopback addresses come first,
/// `127.0.0.0/8` before `::1`. Dropping the future abandons the lookup; its thread continues until
/// the resolver returns.
///
/// # Errors
///
/// The resolver's error, [`io::ErrorKind::NotFound`] if it returns no address, or an [`io::Error`]
/// that contains a [`BlockingError`](crate::common::blocking::BlockingError).
pub async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    look_up_in_turn(host, port, &InLine::default()).await
}

/// Like [`look_up`]. Meanwhile `in_line` says whether the lookup waits for lookups of other names.
pub(super) async fn look_up_in_turn(
    host: &str,
    port: u16,
    in_line: &InLine,
) -> io::Result<Vec<SocketAddr>> {
    LOOK_UPS.addresses(host, port, in_line).await
}

/// Whether a lookup waits for lookups of other names. Clones share the flag.
///
/// The flag is allocated by the first lookup: scrapes of an exporter whose address needs none do
/// not pay for it.
#[derive(Debug, Default)]
pub(super) struct InLine(OnceLock<Arc<AtomicBool>>);

impl InLine {
    pub(super) fn is_waiting(&self) -> bool {
        self.0.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, is_waiting: bool) {
        self.flag().store(is_waiting, Ordering::Relaxed);
    }

    fn flag(&self) -> &Arc<AtomicBool> {
        self.0.get_or_init(Arc::default)
    }
}

impl Clone for InLine {
    fn clone(&self) -> Self {
        Self(OnceLock::from(Arc::clone(self.flag())))
    }
}

type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

struct LookUps<R = Resolve> {
    resolve: Arc<R>,
    threads: Threads,
    /// For each name that is being looked up, its free places.
    names: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl<R> LookUps<R>
where
    R: Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
{
    fn new(in_all: usize, resolve: R) -> Self {
        Self {
            resolve: Arc::new(resolve),
            threads: Threads::new("name lookup", in_all),
            names: Mutex::default(),
        }
    }

    fn places(&self, host: &str) -> Arc<Semaphore> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = names.get(host).and_then(Weak::upgrade) {
            return places;
        }
        names.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(PER_NAME));
        names.insert(host.to_owned(), Arc::downgrade(&places));
        places
    }

    async fn addresses(
        &self,
        host: &str,
        port: u16,
        in_line: &InLine,
    ) -> io::Result<Vec<SocketAddr>> {
        // The semaphore is never closed, so this cannot fail.
        let place = self.places(host).acquire_owned().await;
        in_line.set(true);
        let (host, begun, resolve) = (host.to_owned(), in_line.clone(), Arc::clone(&self.resolve));
        let found = self.threads.run(move || {
            begun.set(false);
            let found = resolve(&host, port);
            drop(place);
            found
        });
        let mut found = found.await.map_err(io::Error::other)??;
        loopback_first(&mut found);
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }
}

/// Moves loopback addresses to the front. All others keep the resolver's order (RFC 6724).
fn loopback_first(addresses: &mut [SocketAddr]) {
    addresses.sort_by_key(|address| match address.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => 0,
        IpAddr::V6(ip) if ip.is_loopback() => 1,
        IpAddr::V4(_) | IpAddr::V6(_) => 2,
    });
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        sync::{atomic::AtomicUsize, mpsc},
        time::Duration,
    };

    use tokio::{
        task::{JoinHandle, yield_now},
        time::timeout,
    };

    use super::*;

    type Looked = io::Result<Vec<SocketAddr>>;
    type Injected = dyn Fn(&str, u16) -> Looked + Send + Sync;

    /// Lookups that hang for the name `dead` until the sender is dropped.
    struct Setup {
        look_ups: Arc<LookUps<Box<Injected>>>,
        hanging: Arc<AtomicUsize>,
        release: mpsc::Sender<()>,
    }

    impl Setup {
        fn new(in_all: usize) -> Self {
            let (release, released) = mpsc::channel::<()>();
            let released = Mutex::new(released);
            let hanging = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&hanging);
            let resolve: Box<Injected> = Box::new(move |host: &str, port| {
                if host == "dead" {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let _ = released.lock().unwrap().recv();
                }
                Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
            });
            Self { look_ups: Arc::new(LookUps::new(in_all, resolve)), hanging, release }
        }

        fn look_up(&self, host: &'static str, in_line: &InLine) -> JoinHandle<Looked> {
            let (look_ups, in_line) = (Arc::clone(&self.look_ups), in_line.clone());
            tokio::spawn(async move { look_ups.addresses(host, 1, &in_line).await })
        }

        async fn all_places_of_the_dead_name_are_taken(&self) {
            while self.hanging.load(Ordering::SeqCst) < PER_NAME {
                yield_now().await;
            }
        }
    }

    #[test]
    fn f06_the_ipv4_loopback_address_of_a_name_comes_first() {
        let parsed = |addresses: [&str; 4]| addresses.map(|it| it.parse::<SocketAddr>().unwrap());
        let mut found = parsed(["[2001:db8::1]:1", "[::1]:1", "192.0.2.1:1", "127.0.1.1:1"]);
        loopback_first(&mut found);
        let sorted = ["127.0.1.1:1", "[::1]:1", "[2001:db8::1]:1", "192.0.2.1:1"];
        assert_eq!(found, parsed(sorted));
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn f03_a_name_whose_lookups_hang_does_not_delay_other_names() {
        let setup = Setup::new(IN_ALL);
        let in_line = InLine::default();
        let dead: Vec<_> = (0..IN_ALL).map(|_| setup.look_up("dead", &InLine::default())).collect();
        setup.all_places_of_the_dead_name_are_taken().await;
        let found = timeout(PATIENCE, setup.look_up("live", &in_line)).await.unwrap().unwrap();
        assert_eq!(found.unwrap().len(), 1);
        assert!(!in_line.is_waiting());
        assert_eq!(setup.hanging.load(Ordering::SeqCst), PER_NAME, "threads that the name uses");
        drop(setup.release);
        for look_up in dead {
            look_up.await.unwrap().unwrap();
        }
        setup.look_ups.places("another");
        assert_eq!(setup.look_ups.names.lock().unwrap().len(), 1, "finished names are removed");
    }

    #[test]
    fn a_name_that_is_looked_up_keeps_its_places_when_another_name_comes() {
        let setup = Setup::new(IN_ALL);
        let places = setup.look_ups.places("one");
        setup.look_ups.places("another");
        assert!(Arc::ptr_eq(&places, &setup.look_ups.places("one")));
    }

    #[tokio::test]
    async fn f03_a_lookup_that_waits_for_other_names_reports_it() {
        let setup = Setup::new(PER_NAME);
        let (of_dead, of_live) = (InLine::default(), InLine::default());
        let _dead: Vec<_> = (0..PER_NAME).map(|_| setup.look_up("dead", &of_dead)).collect();
        setup.all_places_of_the_dead_name_are_taken().await;
        assert!(!of_dead.is_waiting());
        let same_name = setup.look_up("dead", &of_dead);
        let live = setup.look_up("live", &of_live);
        while !of_live.is_waiting() {
            yield_now().await;
        }
        assert!(!of_dead.is_waiting(), "the lookup waits for its own name");
        drop(setup.release);
        live.await.unwrap().unwrap();
        assert!(!of_live.is_waiting());
        same_name.await.unwrap().unwrap();
    }
}
