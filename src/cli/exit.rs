//! Exit codes (after sysexits.h).

/// The command could not do its work, or `check` found errors.
pub(super) const FAILURE: u8 = 1;

/// The command line is wrong.
pub(super) const USAGE: u8 = 2;

/// An internal error.
pub(super) const INTERNAL: u8 = 70;

/// The operating system refuses a resource, such as the address to listen on.
pub(super) const SYSTEM: u8 = 71;

/// The configuration has errors.
pub(super) const CONFIGURATION: u8 = 78;

/// What each code means, for the manual page and docs/reference/command-line.md.
pub(super) const MEANINGS: [(u8, &str); 6] = [
    (0, "success; `run`: stopped by SIGTERM or SIGINT"),
    (
        FAILURE,
        "`check` found errors; `get` received no complete body; `import` skipped a module; `certs` \
         or `demo` failed",
    ),
    (USAGE, "wrong command line"),
    (INTERNAL, "internal error"),
    (
        SYSTEM,
        "the operating system refused a resource, for example the listen address, a thread, or \
         the output; or the certificate in `certfile` is still not valid after a wait of 10 s. A \
         later start can succeed, for example once the clock is set",
    ),
    (CONFIGURATION, "`run`, `sd`, `import`: the files have errors; nothing was started or printed"),
];
