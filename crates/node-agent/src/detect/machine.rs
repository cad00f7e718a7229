//! The processor, from the kernel's own text.

use sandrun_types::Cpu;

const LONGEST_MODEL: usize = 96;

/// The model from `/proc/cpuinfo` (x86 `model name`, else what other architectures write), and `cores` as affinity and
/// quota leave them.
pub(super) fn cpu(cpuinfo: &str, cores: u16) -> Cpu {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name && !value.trim().is_empty()).then(|| value.trim())
        })
    };
    let model = ["model name", "Model", "cpu model", "Hardware", "uarch"]
        .into_iter()
        .find_map(field);
    let words: Vec<&str> = model.unwrap_or("unknown").split_whitespace().collect();
    let model = words.join(" ").chars().take(LONGEST_MODEL).collect();
    Cpu { cores, model }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_on_several_architectures() {
        let x86 =
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC  7B13\nflags\t\t: fpu vme\n";
        assert_eq!(
            cpu(x86, 8),
            Cpu {
                cores: 8,
                model: "AMD EPYC 7B13".to_owned()
            }
        );
        let pi = "processor\t: 0\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n";
        assert_eq!(cpu(pi, 4).model, "Raspberry Pi 5 Model B Rev 1.0");
        assert_eq!(
            cpu("", 7),
            Cpu {
                cores: 7,
                model: "unknown".to_owned()
            }
        );
    }
}
