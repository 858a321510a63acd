//! Names and label values, quoted or not.

use super::{
    cursor::{Cursor, Quoted},
    fault::Fault,
};

/// Takes the name of a metadata line, and a remark if it is quoted. An unquoted name may be empty.
pub(super) fn family_name<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], Option<Fault>), Fault> {
    if cursor.first() != Some(b'"') {
        return Ok((cursor.metric_name(), None));
    }
    match cursor.quoted() {
        Quoted::Whole(name) if !name.contains(&0) => Ok((name, Some(Fault::QuotedName))),
        Quoted::Whole(_) | Quoted::Broken | Quoted::Open => Err(Fault::Name),
    }
}

/// Takes a quoted name. The next byte is its opening quote.
pub(super) fn quoted_name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Fault> {
    match cursor.quoted() {
        Quoted::Whole(name) if name.contains(&0) => Err(Fault::Labels),
        Quoted::Whole(name) if std::str::from_utf8(name).is_err() => Err(Fault::NotUtf8),
        Quoted::Whole(name) => Ok(name),
        Quoted::Broken => Err(Fault::Labels),
        Quoted::Open => Err(Fault::OpenQuote),
    }
}

/// Takes a quoted label value, with escapes not resolved. Any escape is accepted.
pub(super) fn label_value<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Fault> {
    if cursor.first() != Some(b'"') {
        return Err(Fault::Labels);
    }
    match cursor.quoted() {
        Quoted::Whole(value) if std::str::from_utf8(value).is_err() => Err(Fault::NotUtf8),
        Quoted::Whole(value) => Ok(value),
        Quoted::Broken => Err(Fault::Labels),
        Quoted::Open => Err(Fault::OpenQuote),
    }
}
