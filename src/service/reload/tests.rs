#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
};

use super::*;
use crate::service::server::Server;

#[tokio::test(start_paused = true)]
async fn f14_warnings_about_certificates_come_once_a_day() {
    let begun = Instant::now();
    let mut days = each_day();
    for day in 1..4 {
        days.tick().await;
        assert_eq!(begun.elapsed().as_secs(), day * 24 * 3600);
    }
}

/// The file system, except that reading hangs while `hangs` is set.
#[derive(Debug, Default)]
struct Dead {
    hangs: Mutex<Option<Arc<Mutex<Receiver<()>>>>>,
}

const DEAD_FILE: &str = "/dead/revocations.pem";

impl Dead {
    /// From now on reading hangs, until the sender is dropped.
    fn hang(&self) -> Sender<()> {
        let (release, released) = mpsc::channel();
        self.set(Some(Arc::new(Mutex::new(released))));
        release
    }

    /// From now on reading works. Threads that already hang continue to hang.
    fn recover(&self) {
        self.set(None);
    }

    fn set(&self, hangs: Option<Arc<Mutex<Receiver<()>>>>) {
        *self.hangs.lock().unwrap_or_else(PoisonError::into_inner) = hangs;
    }

    fn read(&self, progress: &Progress) {
        let hangs = self.hangs.lock().unwrap().clone();
        if let Some(released) = hangs {
            let _reading = progress.begin(Path::new(DEAD_FILE));
            let _ = released.lock().unwrap().recv();
        }
    }
}

impl Read for Dead {
    fn load(&self, files: FileSet, sources: &Sources) -> Loaded {
        self.read(&files.progress());
        FileSystem.load(files, sources)
    }

    fn again(&self, files: &FileSet, progress: Progress) -> FileSet {
        self.read(&progress);
        FileSystem.again(files, progress)
    }
}

/// Long enough for a thread to start and to report the file that it reads.
const SHORT: Duration = Duration::from_secs(1);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

struct Fixture {
    folder: tempfile::TempDir,
    dead: Arc<Dead>,
    reloader: Reloader,
    /// Never runs.
    _server: Server,
}

const CONFIG: &str = "[proxy]\ninsecure-plain-http = True\nreload-interval = 0.01\n";

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let config_file = folder.path().join("config.ini");
    fs::write(&config_file, CONFIG).unwrap();
    fs::write(folder.path().join("prometheus_exporters.ini"), "").unwrap();
    let sources = Sources {
        config: Some(config_file),
        exporters: None,
        listen: Some("127.0.0.1:0".parse().unwrap()),
    };
    let Loaded { state, diagnostics, files } = load(&sources);
    let (config, assets) = state.ok_or(diagnostics).unwrap();
    let certificates = assets.validities();
    let server = Server::bind(&config, assets).unwrap();
    let handle = server.handle();
    let notifier = Notifier::from_env(handle.clone());
    let mut reloader = Reloader::new(notifier, handle, sources, config, files, certificates);
    let dead = Arc::new(Dead::default());
    reloader.reader = Arc::clone(&dead) as Arc<dyn Read>;
    reloader.read_limit = LONG;
    Fixture { folder, dead, reloader, _server: server }
}

impl Fixture {
    fn write(&self, config: &str) {
        fs::write(self.folder.path().join("config.ini"), config).unwrap();
    }

    async fn check_that_hangs(&mut self) -> Option<PathBuf> {
        self.reloader.read_limit = SHORT;
        let check = self.reloader.check_files().await;
        self.reloader.read_limit = LONG;
        let Err(FilesError::TimedOut { file, .. }) = &check else { panic!("it did not hang") };
        let file = file.clone();
        assert!(!self.reloader.calls_for_reload(check), "nothing was seen");
        file
    }

    async fn sees_a_change(&mut self) -> bool {
        let check = self.reloader.check_files().await;
        assert!(check.is_ok());
        self.reloader.calls_for_reload(check)
    }
}

#[tokio::test]
async fn f03_a_reload_that_hangs_fails_and_the_next_one_works() {
    let mut fixture = fixture();
    let release = fixture.dead.hang();
    fixture.reloader.read_limit = SHORT;
    let unread = fixture.reloader.read().await.unwrap_err();
    assert_eq!(unread.to_string(), format!("reading {DEAD_FILE} took longer than 1 s"));
    assert_eq!(fixture.reloader.reload().await, ReloadOutcome::Rejected);
    assert!(fixture.reloader.is_due, "the next check reloads");

    fixture.dead.recover();
    fixture.reloader.read_limit = LONG;
    assert!(fixture.sees_a_change().await, "a failed read is retried even if no file changed");
    assert_eq!(fixture.reloader.reload().await, ReloadOutcome::Applied);
    assert!(!fixture.reloader.is_due);
    assert!(!fixture.sees_a_change().await, "the files were read");
    drop(release);
}

#[tokio::test]
async fn f03_a_reload_names_the_file_that_hangs_even_if_all_threads_hang() {
    let mut fixture = fixture();
    let release = fixture.dead.hang();
    fixture.reloader.read_limit = SHORT;
    for _ in 0..=READINGS {
        assert_eq!(fixture.reloader.reload().await, ReloadOutcome::Rejected);
    }
    // This call waited for a thread.
    let unread = fixture.reloader.read().await.unwrap_err();
    assert!(unread.to_string().contains(DEAD_FILE), "{unread}");
    fixture.dead.recover();
    drop(release);
    fixture.reloader.read_limit = LONG;
    assert_eq!(fixture.reloader.reload().await, ReloadOutcome::Applied);
}

#[tokio::test]
async fn f03_the_next_reload_replaces_a_file_check_that_hangs_forever() {
    let mut fixture = fixture();
    let release = fixture.dead.hang();
    for _ in 0..3 {
        let file = fixture.check_that_hangs().await;
        assert_eq!(
            file.as_deref(),
            Some(Path::new(DEAD_FILE)),
            "even while it waits for the first check"
        );
    }
    // The configuration no longer names the file. The first check still hangs.
    fixture.dead.recover();
    assert_eq!(fixture.reloader.reload().await, ReloadOutcome::Applied);
    assert!(!fixture.sees_a_change().await);
    fixture.write(&format!("{CONFIG}drain-timeout = 3\n"));
    assert!(fixture.sees_a_change().await);
    assert_eq!(fixture.reloader.reload().await, ReloadOutcome::Applied);
    drop(release);
}

#[tokio::test]
async fn f03_the_shutdown_does_not_wait_for_a_reload_that_hangs() {
    let mut fixture = fixture();
    let release = fixture.dead.hang();
    let handle = fixture.reloader.handle.clone();
    let (outcome, ()) = tokio::join!(fixture.reloader.reload(), async { handle.drain() });
    assert_eq!(outcome, ReloadOutcome::ShuttingDown);
    drop(release);
}
