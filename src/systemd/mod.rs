//! Everything that is systemd's: activation, bus, journal, generator.
