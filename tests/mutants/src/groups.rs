//! The groups of files, and the tests that should catch their mutants.

/// Files that are tested together.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Patterns of cargo-mutants: `*` does not match `/`.
    pub(crate) files: &'static [&'static str],
    /// Unit tests whose name has one of these texts in it.
    pub(crate) unit_tests: &'static [&'static str],
    /// The test programs in `tests/`, fast ones first. `program/module` stands for the tests of one
    /// module.
    pub(crate) programs: &'static [&'static str],
}

impl Group {
    /// The programs with their modules. An empty module stands for all tests.
    pub(crate) fn programs(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.programs.iter().map(|name| name.split_once('/').unwrap_or((name, "")))
    }
}

/// Tests that the campaign leaves out.
pub(crate) const SKIPPED: [&str; 2] = [
    // Takes as long as all other unit tests together.
    "however_a_file_is_damaged",
    // Compares processor time. The switches add to it.
    "u22_a_million_chunks_of_one_byte_are_coalesced_and_cost_at_most_ten_times_one_chunk",
];

pub(crate) const GROUPS: [Group; 8] = [
    Group {
        name: "upstream",
        files: &["src/upstream/*.rs"],
        unit_tests: &["upstream::"],
        programs: &["in_memory", "exporters", "requests", "process/get"],
    },
    Group {
        name: "scrape",
        files: &["src/scrape/*.rs"],
        unit_tests: &["scrape::"],
        programs: &["in_memory", "filter", "compression", "exporters", "metrics", "requests"],
    },
    Group {
        name: "access",
        files: &[
            "src/http/access.rs",
            "src/http/access/*.rs",
            "src/http/handler.rs",
            "src/http/handler/*.rs",
            "src/common/peer.rs",
        ],
        unit_tests: &["access::", "handler::", "peer::"],
        programs: &[
            "in_memory",
            "requests",
            "enrol",
            "metrics",
            "tls",
            "limits",
            "reload/http",
            "process/service",
        ],
    },
    Group {
        name: "route",
        files: &["src/common/deadline.rs", "src/http/route.rs"],
        unit_tests: &["deadline::", "route::"],
        programs: &["in_memory", "requests", "process"],
    },
    Group {
        name: "error",
        files: &["src/common/error.rs", "src/common/error/*.rs"],
        unit_tests: &["error::"],
        programs: &["enrol", "exporters", "requests"],
    },
    Group {
        name: "config",
        files: &["src/config/mod.rs", "src/config/*.rs"],
        unit_tests: &["config::"],
        programs: &["config"],
    },
    Group {
        name: "limits",
        files: &[
            "src/downstream/*.rs",
            "src/downstream/*/*.rs",
            "src/service/server/descriptors.rs",
        ],
        unit_tests: &["downstream::", "descriptors::"],
        programs: &[
            "in_memory",
            "exporters",
            "requests",
            "metrics",
            "tls",
            "reload/clients",
            "process/shutdown",
            "limits",
        ],
    },
    Group {
        name: "tls",
        files: &["src/tls/*.rs", "src/tls/pem/*.rs", "src/tls/verify/*.rs"],
        unit_tests: &["tls::"],
        programs: &["process/pem_files", "process/certificates", "tls"],
    },
];
