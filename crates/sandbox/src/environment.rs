//! The environment variables of every job of class `native`. Owns their values; a change makes another class. A job
//! with an image has some more, which are a part of its trace's header like all others.

use std::collections::BTreeMap;

use sandrun_types::ContentDigest;

/// Where a job finds its image. Beside it `/node_modules` is a link to the image's modules, as `import` does not look
/// at `NODE_PATH`.
pub(crate) const IMAGE: &str = "/env";
/// The variable that says which image it is. No job without an image has it, whatever its manifest says.
const IMAGE_ID: &str = "SANDRUN_ENVIRONMENT";

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
pub(crate) fn of_job(
    asked: &BTreeMap<String, String>,
    image: Option<ContentDigest>,
) -> BTreeMap<String, String> {
    let harmless = |name: &str| {
        !name.starts_with("LD_") && !name.starts_with("GLIBC_") && ![IMAGE_ID, "BASH_ENV"].contains(&name)
    };
    let mut env: BTreeMap<_, _> = asked
        .iter()
        .filter(|(name, _)| harmless(name))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    env.extend(FIXED.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(image) = image {
        env.extend(of_image(image).map(|(name, value)| (name.to_owned(), value)));
    }
    env
}

/// What an image adds. Python takes its packages as those of a user, so as a directory of sites, `.pth` files included.
fn of_image(image: ContentDigest) -> [(&'static str, String); 3] {
    [
        (IMAGE_ID, image.cid()),
        ("NODE_PATH", format!("{IMAGE}/lib/node_modules")),
        ("PYTHONUSERBASE", IMAGE.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variables_win_and_the_loaders_are_left_out() {
        let asked = [("PATH", "/evil"), ("LD_PRELOAD", "/work/x.so"), ("A", "1")];
        let env = of_job(&asked.map(|(n, v)| (n.to_owned(), v.to_owned())).into(), None);
        assert_eq!(env["PATH"], "/usr/local/bin:/usr/bin:/bin");
        assert_eq!(env["A"], "1");
        assert!(!env.contains_key("LD_PRELOAD"));
    }

    #[test]
    fn the_image_stands_among_the_variables_and_cannot_be_faked() {
        let asked = [(IMAGE_ID.to_owned(), "mine".to_owned())].into();
        assert!(!of_job(&asked, None).contains_key(IMAGE_ID));
        let image = ContentDigest([7; 32]);
        assert_eq!(of_job(&asked, Some(image))[IMAGE_ID], image.cid());
    }
}
