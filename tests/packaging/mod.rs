//! What the package has beside the program.

mod completion;
mod polkit;
