//! Headers and packets for tests.
