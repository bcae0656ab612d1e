//! Randomness that nobody can guess, from the system's source.

use rand::TryRng;
use rand::rngs::SysRng;

/// 192 bits from the system's random source, in hexadecimal digits.
pub(crate) fn random_digits() -> Option<String> {
    let mut random = [0; 24];
    SysRng.try_fill_bytes(&mut random).ok()?;
    Some(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// 64 bits from the system's random source as a decimal number that is not 0.
pub(crate) fn random_number() -> Option<String> {
    loop {
        let number = SysRng.try_next_u64().ok()?;
        if number != 0 {
            return Some(number.to_string());
        }
    }
}
