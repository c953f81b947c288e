//! What the package has beside the program.

mod polkit;
