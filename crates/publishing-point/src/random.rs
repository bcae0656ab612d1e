//! Unpredictable random numbers from the system.

use rand::TryRng;
use rand::rngs::SysRng;

/// Returns 192 random bits in hexadecimal digits; `None` if the system provides no random numbers.
pub(crate) fn random_digits() -> Option<String> {
    let mut random = [0; 24];
    SysRng.try_fill_bytes(&mut random).ok()?;
    Some(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns 64 random bits as a decimal number other than 0; `None` if the system provides no random numbers.
pub(crate) fn random_number() -> Option<String> {
    loop {
        let number = SysRng.try_next_u64().ok()?;
        if number != 0 {
            return Some(number.to_string());
        }
    }
}
