//! Parsing of whole files. `tests/process/pem_files.rs` tests the messages.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine as _;

use super::*;
use crate::tls::fixtures::{der, params, self_signed, sequence};

/// A number in DER: short, and not a certificate.
const NUMBER: &str = "AgEH";

fn block(label: &str) -> String {
    format!("-----BEGIN {label}-----\n{NUMBER}\n-----END {label}-----\n")
}

/// Each block as `NUMBER LABEL LINE`, with its bytes or the damage.
fn shown_blocks(text: &str) -> Vec<String> {
    let shown_blocks =
        |Block { place: BlockPlace { number, label, line }, contents }: &Block| match contents {
            Ok(bytes) => format!("{number} {label} {line} {bytes:?}"),
            Err(damage) => format!("{number} {label} {line} {damage:?}"),
        };
    blocks(text.as_bytes()).iter().map(shown_blocks).collect()
}

#[test]
fn f10_blocks_are_found_whatever_surrounds_them() {
    let [a, b] = ["A", "B"].map(block);
    let indented: String = b.lines().map(|line| format!("\t  {line} \n")).collect();
    for (text, second_line) in [
        (format!("{a}{b}"), 4),
        (format!("\u{feff}{a}\u{feff}{b}"), 4),
        (format!("{a}\u{feff}\u{feff}{b}"), 4),
        (format!("{a}{b}").replace('\n', "\r\n"), 4),
        (format!("{a}{b}").replace('\n', "\r"), 4),
        (format!("{a}\nsubject=CN = b\n# a comment - with dashes -- END of it\n{b}trailing"), 7),
        (format!("{a}{indented}"), 4),
        (format!("{a}{}", b.trim_end()), 4),
        (format!("{a}{}", b.replace(NUMBER, "Ag\n\nE H")), 4),
        (format!("{a}{}", b.replace(NUMBER, "Comment: x\nBag: y\n\nAgEH")), 4),
        (format!("{a}{}", b.replace(NUMBER, "Proc-Type: 4,MIC-ONLY\n\nAgEH")), 4),
    ] {
        let expected = ["1 A 1 [2, 1, 7]".to_owned(), format!("2 B {second_line} [2, 1, 7]")];
        assert_eq!(shown_blocks(&text), expected, "{text:?}");
    }
}

#[test]
fn f10_a_damaged_block_is_reported_once_and_the_next_block_is_read() {
    let [a, b] = ["A", "B"].map(block);
    for (first, expected) in [
        (a.replace("-----END A-----\n", ""), "NoEnd"),
        (a.replace("-----END A", "-----END C"), "OtherEnd"),
        (a.replace(NUMBER, ""), "Empty"),
        (a.replace(NUMBER, "AgE*"), "NotBase64"),
        (a.replace(NUMBER, "AgEHA"), "NotBase64"),
        (a.replace(NUMBER, "Proc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAgEH"), "Encrypted"),
        (a.replace("-----BEGIN A-----", "----BEGIN A-----"), "Malformed"),
        (a.replace("-----BEGIN A-----", "-----BEGIN A----"), "Malformed"),
        (a.replace("-----BEGIN A-----", "——-BEGIN A——-"), "Malformed"),
        (a.replace("-----BEGIN A-----", "-----Begin A-----"), "Malformed"),
        (a.replace("-----BEGIN A-----", "--BEGIN A--"), "Malformed"),
        (a.replace("-----BEGIN A-----", "-----BEGIN A------"), "Malformed"),
        (a.replace("-----END A-----", "-----END A---"), "Malformed"),
        (a.replace("-----BEGIN", "ca: -----BEGIN"), "TextBefore"),
        (a.replace("-----BEGIN", "ca: ----BEGIN"), "TextBefore"),
        (a.replace('\n', " "), "OneLine"),
        (
            a.replace("-----B", "# -----B").replace("\nA", "\n# A").replace("-----E", "# -----E"),
            "CommentedOut",
        ),
    ] {
        let text = format!("{first}\n{b}");
        let line = text.lines().position(|line| line == "-----BEGIN B-----").unwrap() + 1;
        let expected = [format!("1 A 1 {expected}"), format!("2 B {line} [2, 1, 7]")];
        assert_eq!(shown_blocks(&text), expected, "{text}");
    }
    assert_eq!(shown_blocks("text\n-----END A-----\n"), ["1 A 2 NoBegin"]);
    assert_eq!(
        shown_blocks(&format!("{b}-----BEGIN A-----\nAgEH")),
        ["1 B 1 [2, 1, 7]", "2 A 4 NoEnd"]
    );
}

#[test]
fn f10_a_boundary_without_hyphens_or_without_its_space_is_reported() {
    let [a, b] = ["X509 CRL", "B"].map(block);
    for begin in [
        "BEGIN X509 CRL",
        "-BEGIN X509 CRL-",
        "BEGIN X509 CRL-----",
        "BEGIN\tX509 CRL",
        "-----BEGINX509 CRL-----",
        "-----BEGIN\u{a0}X509 CRL-----",
        "-----BEGIN-X509 CRL-----",
    ] {
        let text = format!("{}{b}", a.replace("-----BEGIN X509 CRL-----", begin));
        let expected = ["1 X509 CRL 1 Malformed", "2 B 4 [2, 1, 7]"];
        assert_eq!(shown_blocks(&text), expected, "{begin:?}");
        let end = begin.replace("BEGIN", "END");
        let text = format!("{}{b}", a.replace("-----END X509 CRL-----", &end));
        assert_eq!(shown_blocks(&text), expected, "{end:?}");
    }
}

#[test]
fn f10_base64_that_spells_a_boundary_is_contents() {
    // No line has a hyphen or a space, so both are base64.
    let text = block("A").replace(NUMBER, "BEGINCMS\nENDPKCS7");
    let bytes = "[4, 65, 136, 52, 35, 18, 16, 208, 207, 40, 36, 187]";
    assert_eq!(shown_blocks(&text), [format!("1 A 1 {bytes}")]);
}

#[test]
fn f10_the_contents_of_a_block_without_its_boundaries_are_reported_once() {
    let (long, b) = ("Ag+/".repeat(16), block("B"));
    let bare =
        |first: usize, last: usize| format!("1  {first} Bare {{ first: {first}, last: {last} }}");
    let of_b = |line: usize| format!("2 B {line} [2, 1, 7]");
    for (body, lines) in [
        (format!("{long}\n{long}\n"), 2),
        (format!("{long}\n{long}\n{long}\nAgE=\n"), 4),
        (format!("  {long}\r\n{long}\r\n{}==\r\n", &long[..62]), 3),
        (format!("{long}AgEHAgEHAgEH\n{long}AgEHAgEHAgEH\n"), 2),
    ] {
        assert_eq!(
            shown_blocks(&format!("{body}{b}")),
            [bare(1, lines), of_b(lines + 1)],
            "{body}"
        );
        let text = format!("a CA\n{body}\n\n{b}");
        assert_eq!(shown_blocks(&text), [bare(2, lines + 1), of_b(lines + 4)], "{body}");
        let [before, after] =
            ["1 B 1 [2, 1, 7]".to_owned(), bare(4, lines + 3).replacen('1', "2", 1)];
        assert_eq!(shown_blocks(&format!("{b}{body}")), [before, after], "{body}");
        // Only the END line is present.
        assert_eq!(
            shown_blocks(&format!("{body}-----END A-----\n")),
            [format!("1 A {} NoBegin", lines + 1)]
        );
        // A block that is commented out is a warning. Bare lines of base64 are an error.
        let half = shown_blocks(&format!("# -----BEGIN A-----\n{body}# -----END A-----\n"));
        let second = bare(2, lines + 1).replacen('1', "2", 1);
        assert_eq!(half, ["1 A 1 CommentedOut", &second], "{body}");
    }
    let text = &read(format!("{long}\n{long}\n{b}").as_bytes(), Purpose::Chain).remarks[0].text;
    assert!(text.starts_with("block 1 (no label, line 1) is incomplete: lines 1-2 look"), "{text}");
}

#[test]
fn f10_prose_is_not_a_block() {
    let fingerprint = "0af1".repeat(16);
    for text in [
        "",
        "- BEGIN a list",
        "as -- BEGIN says",
        "END",
        "-----",
        "BEGIN A",
        "see -----END A-----",
        "END OF CERTIFICATE",
        "BEGINNING",
        "the BEGIN CERTIFICATE line",
        &format!("{fingerprint}\nof a CA\n{fingerprint}\n"),
        "subject\nissuer\n",
        "ca: ---BEGIN A---",
        &format!("{}\n{}\n", "=".repeat(64), "-".repeat(64)),
    ] {
        assert_eq!(shown_blocks(text), [""; 0], "{text}");
    }
}

#[test]
fn f10_a_label_is_shown_without_control_characters_and_truncated() {
    let label = format!("\u{1b}[2J{}", "x".repeat(1000));
    let block = &blocks(block(&label).as_bytes())[0];
    let shown = block.place.to_string();
    assert!(shown.len() < 80 && !shown.chars().any(char::is_control), "{shown}");
}

/// The remarks of `read` about a text, each with whether it is an error.
fn remarks(text: &str, purpose: Purpose) -> Vec<(bool, String)> {
    let contents = read(text.as_bytes(), purpose);
    contents.remarks.into_iter().map(|remark| (remark.is_error, remark.text)).collect()
}

#[test]
fn f10_each_block_is_used_or_has_a_remark_except_ec_parameters_in_a_key_file() {
    use Purpose::{Chain, ClientAuthorities, Key, RevocationLists, ServerAuthorities};
    let labels = [
        "PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "DSA PRIVATE KEY",
        "X509 CRL",
        "CERTIFICATE",
        "PKCS7",
        "EC PARAMETERS",
        "DH PARAMETERS",
        "CERTIFICATE REQUEST",
        "something else",
    ];
    for purpose in [ClientAuthorities, ServerAuthorities, Chain, Key, RevocationLists] {
        for label in labels {
            let contents = read(block(label).as_bytes(), purpose);
            let about = |remark: &&Remark| remark.text.starts_with("block 1 (");
            let remarks = contents.remarks.iter().filter(about).count();
            let expected = usize::from((label, purpose) != ("EC PARAMETERS", Key));
            assert_eq!(remarks + contents.used.len(), expected, "{label} for {purpose:?}");
        }
    }
    let unknown = remarks(&block("X"), Chain);
    let text = "block 1 (X, line 1) has an unknown label: remove the block, or correct the label";
    assert_eq!(unknown, [(true, text.to_owned())]);
}

#[test]
fn a_key_file_has_one_key() {
    let key = block("PRIVATE KEY");
    assert!(private_key(format!("{}{key}", block("EC PARAMETERS")).as_bytes()).is_ok());
    for (text, words) in [
        (
            format!("{key}{}", block("EC PRIVATE KEY")),
            "block 1 (PRIVATE KEY, line 1) and block 2 (EC ",
        ),
        (String::new(), "contains no private key in PEM format"),
        (block("ENCRYPTED PRIVATE KEY"), "openssl pkey"),
        ("0\u{81}\u{1}".to_owned(), "contains no private key"),
    ] {
        let problem = private_key(text.as_bytes()).unwrap_err();
        assert!(problem.contains(words), "{problem}");
    }
    let der = read(b"\x30\x82\x01", Purpose::Chain);
    assert!(der.remarks[0].text.contains("DER format"), "{der:?}");
}

#[test]
fn f10_a_block_that_is_not_used_has_a_remark_that_says_what_to_do() {
    use Purpose::{Chain, ClientAuthorities, Key, RevocationLists, ServerAuthorities};
    const OTHER_KEYS: [&str; 3] = ["DSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "ANY PRIVATE KEY"];
    const KEY: &str = "is a private key, which is not used here";
    const CERTIFICATE: &str = "is a certificate, which is not used here";
    const LIST: &str = "is a CRL, which is not used here";
    const REQUEST: &str = "is a signing request, which is not used here";
    const ENVELOPE: &str =
        "is a PKCS #7 file, which cannot be used: convert it with `openssl pkcs7";
    const EVERY: [Purpose; 5] = [ClientAuthorities, ServerAuthorities, Chain, Key, RevocationLists];
    let is_error = true;
    let mut expected = vec![
        ("ENCRYPTED PRIVATE KEY", Key, is_error, "is an encrypted private key, which cannot", None),
        ("CERTIFICATE", Key, false, CERTIFICATE, Some(Chain)),
        ("TRUSTED CERTIFICATE", Key, false, CERTIFICATE, Some(Chain)),
        ("CERTIFICATE", RevocationLists, false, CERTIFICATE, Some(ClientAuthorities)),
        (
            "X509 CRL",
            ClientAuthorities,
            is_error,
            "is a CRL, which is not used here: put it into",
            Some(RevocationLists),
        ),
        ("X509 CRL", ServerAuthorities, is_error, "is a CRL, and CRLs of servers are not", None),
        ("X509 CRL", Chain, false, LIST, None),
        ("X509 CRL", Key, false, LIST, None),
        ("EC PARAMETERS", Chain, false, "is not used here", Some(Key)),
    ];
    for purpose in EVERY {
        let is_key = purpose == Key;
        let is_of_certificates = !is_key && purpose != RevocationLists;
        for label in OTHER_KEYS {
            let text = if is_key { "is a private key that TLS cannot use" } else { KEY };
            expected.push((label, purpose, is_key, text, (!is_key).then_some(Key)));
        }
        for label in ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            if !is_key {
                expected.push((label, purpose, false, KEY, Some(Key)));
            }
        }
        for label in ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"] {
            expected.push((label, purpose, false, REQUEST, None));
        }
        let text = if is_of_certificates { ENVELOPE } else { "is not used here" };
        expected.push(("PKCS7", purpose, is_of_certificates, text, None));
        expected.push(("DH PARAMETERS", purpose, false, "is not used here", None));
    }
    for (label, purpose, is_error, text, belongs_to) in expected {
        let contents = read(block(label).as_bytes(), purpose);
        let [remark, others @ ..] = &contents.remarks[..] else { panic!("{label} {purpose:?}") };
        let found = (remark.is_error, remark.belongs_to);
        assert_eq!(found, (is_error, belongs_to), "{label} {purpose:?} {}", remark.text);
        let begin = format!("block 1 ({label}, line 1) {text}");
        assert!(remark.text.starts_with(&begin), "{purpose:?} {}", remark.text);
        // Unless the remark is the reason, another remark says that the file has nothing to use.
        let explains_all = is_error && belongs_to.is_none();
        assert_eq!(others.len(), usize::from(!explains_all), "{others:?}");
        assert!(others.iter().all(|it| it.is_error && it.text.starts_with("contains no ")));
        assert_eq!(contents.holds_key, label.ends_with("PRIVATE KEY"), "{label}");
    }
}

#[test]
fn each_label_of_a_key_has_its_format() {
    use rustls::pki_types::PrivateKeyDer;
    let key = |label| private_key(block(label).as_bytes()).unwrap();
    assert!(matches!(key("PRIVATE KEY"), PrivateKeyDer::Pkcs8(_)));
    assert!(matches!(key("RSA PRIVATE KEY"), PrivateKeyDer::Pkcs1(_)));
    assert!(matches!(key("EC PRIVATE KEY"), PrivateKeyDer::Sec1(_)));
}

#[test]
fn f10_trust_settings_decide_which_peers_a_certificate_is_trusted_for() {
    // Object identifiers of extended key usages, in DER.
    const CLIENT: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
    const SERVER: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
    const CODE: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03";
    const ANY: &[u8] = b"\x06\x04\x55\x1d\x25\x00";
    let trusted = |usages: &[&[u8]]| sequence(&sequence(&usages.concat()));
    let rejected = |usages: &[&[u8]]| sequence(&der(0xa0, &usages.concat()));
    let malformed = "has OpenSSL trust settings that cannot be read";
    let certificate = self_signed(&params("ca", &[]));
    for (settings, expected) in [
        (vec![], Ok((true, true))),
        (sequence(&[]), Ok((true, true))),
        (trusted(&[CLIENT]), Ok((true, false))),
        (trusted(&[SERVER]), Ok((false, true))),
        (trusted(&[CODE, SERVER, CLIENT]), Ok((true, true))),
        (trusted(&[CODE]), Ok((false, false))),
        (trusted(&[ANY]), Ok((true, true))),
        (rejected(&[CLIENT]), Ok((false, true))),
        (rejected(&[SERVER]), Ok((true, false))),
        (rejected(&[ANY]), Ok((false, false))),
        ([trusted(&[CLIENT]), vec![0]].concat(), Err(malformed)),
        (der(0x31, &sequence(CLIENT)), Err(malformed)),
        (trusted(&[b"\x06"]), Err(malformed)),
        (vec![0x30], Err(malformed)),
    ] {
        let text = base64::engine::general_purpose::STANDARD
            .encode([certificate.as_ref(), &settings].concat());
        let file = block("TRUSTED CERTIFICATE").replace(NUMBER, &text);
        for (purpose, is_trusted) in [
            (Purpose::ClientAuthorities, expected.map(|(clients, _)| clients)),
            (Purpose::ServerAuthorities, expected.map(|(_, servers)| servers)),
            (Purpose::Chain, expected.map(|_| true)),
        ] {
            let contents = read(file.as_bytes(), purpose);
            let problem = match is_trusted {
                Ok(true) => {
                    assert_eq!(contents.used[0].1, certificate.as_ref(), "{settings:x?}");
                    assert_eq!(contents.remarks, []);
                    continue;
                }
                Ok(false) => "is marked as not trusted for this purpose by its OpenSSL trust",
                Err(problem) => problem,
            };
            assert_eq!(contents.used, [], "{settings:x?} {purpose:?}");
            let remark = &contents.remarks[0];
            assert!(remark.is_error && remark.text.contains(problem), "{settings:x?} {remark:?}");
        }
    }
}
