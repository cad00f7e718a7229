//! The environment variables of every job of class `native`. Owns their values; a change makes another class.

use std::collections::BTreeMap;

/// Variables that the sandbox sets whatever the manifest says. They take away what makes equal programs differ:
/// locale, time zone, hash seeds, thread numbers, and code paths of numeric libraries that depend on the CPU.
pub(crate) const FIXED: [(&str, &str); 19] = [
    ("HOME", "/work"),
    ("LC_ALL", "C.UTF-8"),
    ("LOGNAME", "sandbox"),
    ("MKL_CBWR", "COMPATIBLE"),
    ("MKL_NUM_THREADS", "1"),
    (
        "NPY_DISABLE_CPU_FEATURES",
        "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    ),
    ("NUMEXPR_NUM_THREADS", "1"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_CORETYPE", "Nehalem"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("BLIS_NUM_THREADS", "1"),
    ("VECLIB_MAXIMUM_THREADS", "1"),
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("PYTHONHASHSEED", "0"),
    ("SHELL", "/bin/bash"),
    ("TMPDIR", "/tmp"),
    ("TZ", "UTC"),
    ("USER", "sandbox"),
];

/// The whole environment of a job: what was asked for, without variables of the dynamic loader, and the fixed ones
/// over it.
pub(crate) fn of_job(asked: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let harmless = |name: &str| !name.starts_with("LD_") && !name.starts_with("GLIBC_") && name != "BASH_ENV";
    let mut env: BTreeMap<_, _> = asked
        .iter()
        .filter(|(name, _)| harmless(name))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    env.extend(FIXED.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variables_win_and_the_loaders_are_left_out() {
        let asked = [("PATH", "/evil"), ("LD_PRELOAD", "/work/x.so"), ("A", "1")];
        let env = of_job(&asked.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
        assert_eq!(env["PATH"], "/usr/local/bin:/usr/bin:/bin");
        assert_eq!(env["A"], "1");
        assert!(!env.contains_key("LD_PRELOAD"));
    }
}
