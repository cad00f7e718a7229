//! Instructions whose results the floating-point standard leaves open: approximations, and the x87's functions.
//!
//! Processors of different makers answer them differently, and no mask of features hides them. Owns their safe forms.
#![allow(unsafe_code)]

/// Bits of the approximate reciprocal and reciprocal square root of a number.
#[cfg(target_arch = "x86_64")]
pub(crate) fn approximations(x: f32) -> [u32; 2] {
    use std::arch::x86_64::{_mm_cvtss_f32, _mm_rcp_ss, _mm_rsqrt_ss, _mm_set_ss};
    // SAFETY: every processor of this architecture has SSE, and the instructions work on registers only.
    #[allow(unused_unsafe)]
    unsafe {
        let x = _mm_set_ss(x);
        [_mm_rcp_ss(x), _mm_rsqrt_ss(x)].map(|value| _mm_cvtss_f32(value).to_bits())
    }
}

/// Bits of sine, cosine, 2^x - 1 and x log2 x as the x87 computes them, for 0 < x < 1.
#[cfg(target_arch = "x86_64")]
pub(crate) fn x87(x: f64) -> [u64; 4] {
    macro_rules! instruction {
        ($($line:literal),*) => {{
            let mut value = x;
            // SAFETY: loads the local, computes on the x87's stack, which is empty before and after it, and stores
            // into the local.
            unsafe {
                std::arch::asm!(
                    "fld qword ptr [{value}]",
                    $($line,)*
                    "fstp qword ptr [{value}]",
                    value = in(reg) &raw mut value,
                    out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                    out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                    options(nostack),
                );
            }
            value.to_bits()
        }};
    }
    [
        instruction!("fsin"),
        instruction!("fcos"),
        instruction!("f2xm1"),
        instruction!("fld st(0)", "fyl2x"),
    ]
}

/// Other architectures have no such instructions.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn approximations(_: f32) -> [u32; 2] {
    [0; 2]
}

/// Other architectures have no such instructions.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn x87(_: f64) -> [u64; 4] {
    [0; 4]
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_compute_what_they_should() {
        let [reciprocal, root] = approximations(4.0).map(f32::from_bits);
        assert!((reciprocal - 0.25).abs() < 1e-3 && (root - 0.5).abs() < 1e-3);
        let close = |value: u64, expected: f64| (f64::from_bits(value) - expected).abs() < 1e-12;
        let [sine, cosine, power, logarithm] = x87(0.5);
        assert!(close(sine, 0.5_f64.sin()) && close(cosine, 0.5_f64.cos()));
        assert!(close(power, 2_f64.sqrt() - 1.0) && close(logarithm, -0.5));
    }
}
