//! The configuration: files → fragments → inputs → settings.

mod balancing;
pub mod settings;

pub use settings::Settings;
