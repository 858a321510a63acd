//! Files: reads those that an operator names, whatever they turn out to be, and writes files
//! atomically.

mod atomic;
mod permissions;
mod read;
mod set;

pub use self::{
    atomic::{Existing, FileAccess, Staged, write},
    permissions::{Open, folder_of, folder_open_to_everyone, is_writable, open_to_everyone},
    read::{ReadError, is_utf16, read},
    set::{FileSet, Progress},
};
