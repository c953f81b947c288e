//! The configuration: files → fragments → inputs → settings.

pub mod settings;

pub use settings::Settings;
