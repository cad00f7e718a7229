use sandrun_content::{EmbeddedConfig, EmbeddedStore, pack_bundle, pack_directory};
use sandrun_types::{Address, Amount, B256, ClassId, ManifestDigest, Redundancy, Token, U256};

use super::*;

const BOUNDS: Bounds = Bounds {
    max_bytes: 1 << 20,
    patience: Duration::from_secs(10),
};

fn order(bundle: ContentId, manifest: ManifestDigest) -> Order {
    Order {
        client: Address::repeat_byte(1),
        payer: Address::repeat_byte(1),
        nonce: U256::ZERO,
        bundle: bundle.to_digest(),
        manifest,
        class: ClassId([0; 32]),
        requirements: U256::ZERO,
        token: Token::Native,
        price: Amount::ZERO,
        redundancy: Redundancy::One,
        bond: Amount::ZERO,
        wall_limit: 60,
        min_reputation: 0,
        client_key: B256::ZERO,
    }
}

struct Scene {
    folder: tempfile::TempDir,
    store: EmbeddedStore,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(folder.path().join("store")))
            .await
            .unwrap();
        Self { folder, store }
    }

    /// Packs files with this `job.json` (none for `None`) and stores them.
    async fn add(&self, files: &[(&str, &str)], manifest: Option<&[u8]>) -> ContentId {
        let source = tempfile::tempdir_in(self.folder.path()).unwrap();
        for (name, text) in files {
            let path = source.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let tree = match manifest {
            Some(bytes) => pack_bundle(source.path(), bytes, &Limits::default()).unwrap(),
            None => pack_directory(source.path(), &Limits::default()).unwrap(),
        };
        self.store.add(&tree).await.unwrap()
    }

    async fn obtain(&self, order: &Order) -> Result<Bundle, BundleError> {
        obtain(&self.store, order, &self.folder.path().join("bundles/x"), BOUNDS).await
    }
}

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_good_bundle_is_held_and_read_and_fetched_again_over_an_old_one() {
    let scene = Scene::new().await;
    let manifest = manifest(r#"{"entrypoint":"src/main.py","timeout":60}"#);
    let files = [("src/main.py", "print(1)\n"), ("data.csv", "a,b\n")];
    let id = scene.add(&files, Some(&manifest.canonical_bytes())).await;
    let order = order(id, manifest.digest());
    for _ in 0..2 {
        let bundle = scene.obtain(&order).await.unwrap();
        let names: Vec<&str> = bundle.files.keys().map(BundlePath::as_str).collect();
        assert_eq!(names, ["data.csv", "job.json", "src/main.py"]);
        let data = &bundle.files[&BundlePath::parse("data.csv").unwrap()];
        assert_eq!((data.size_bytes, data.sha256), (4, Sha256Hex::of(b"a,b\n")));
        assert_eq!(bundle.manifest, manifest);
        std::fs::write(bundle.folder.join("data.csv"), "tampered").unwrap();
    }
}

#[tokio::test]
async fn a_requirements_file_that_names_no_package_asks_for_none() {
    let scene = Scene::new().await;
    let manifest = manifest(r#"{"requirements":"needs.txt"}"#);
    for (text, package) in [("# none yet\n\n", None), ("numpy==2\n", Some("numpy==2"))] {
        let files = [("main.py", "print(1)\n"), ("needs.txt", text)];
        let id = scene.add(&files, Some(&manifest.canonical_bytes())).await;
        let bundle = scene.obtain(&order(id, manifest.digest())).await.unwrap();
        assert_eq!(first_package(&bundle).await.unwrap().as_deref(), package);
    }
}

#[tokio::test]
async fn what_is_not_there_may_come_later() {
    let scene = Scene::new().await;
    let missing = ContentId::from_digest(sandrun_types::ContentDigest([9; 32]));
    let error = scene
        .obtain(&order(missing, ManifestDigest([0; 32])))
        .await
        .unwrap_err();
    assert_eq!(error.failure(), FetchFailure::NotFound, "{error:?}");
}

#[tokio::test]
async fn what_is_not_as_ordered_stays_so() {
    let scene = Scene::new().await;
    let good = manifest(r#"{"timeout":60}"#);
    let bytes = good.canonical_bytes();
    let program = [("main.py", "print(1)\n")];
    let cases = [
        (
            "another manifest",
            scene.add(&program, Some(b"{}")).await,
            good.digest(),
        ),
        ("no manifest", scene.add(&program, None).await, good.digest()),
        ("no JSON", scene.add(&program, Some(b"{")).await, good.digest()),
        (
            "not canonical",
            scene.add(&program, Some(br#"{ "timeout":60}"#)).await,
            good.digest(),
        ),
        (
            "no entrypoint",
            scene.add(&[("a.txt", "x")], Some(&bytes)).await,
            good.digest(),
        ),
    ];
    for (what, id, digest) in cases {
        let error = scene.obtain(&order(id, digest)).await.unwrap_err();
        assert_eq!(error.failure(), FetchFailure::Mismatch, "{what}: {error:?}");
    }
    let long = manifest(r#"{"timeout":61}"#);
    let id = scene.add(&program, Some(&long.canonical_bytes())).await;
    let error = scene.obtain(&order(id, long.digest())).await.unwrap_err();
    assert!(
        error.to_string().contains("allows 61 s, the order 60 s"),
        "{error}"
    );
    let det = manifest(r#"{"class":"det"}"#);
    let id = scene.add(&program, Some(&det.canonical_bytes())).await;
    let error = scene.obtain(&order(id, det.digest())).await.unwrap_err();
    assert!(matches!(error, BundleError::Mismatch(Mismatch::Class)), "{error}");
}

#[tokio::test]
async fn a_bundle_above_the_bound_is_a_mismatch() {
    let scene = Scene::new().await;
    let manifest = manifest("{}");
    let large = "x".repeat(2 << 20);
    let id = scene
        .add(&[("main.py", large.as_str())], Some(&manifest.canonical_bytes()))
        .await;
    let error = scene.obtain(&order(id, manifest.digest())).await.unwrap_err();
    assert_eq!(error.failure(), FetchFailure::Mismatch, "{error:?}");
}

#[test]
fn a_bundle_that_cannot_run_here_is_not_called_a_wrong_one() {
    let unfit = BundleError::Unfit(Unfit::Interpreter(sandrun_types::Interpreter::Ruby));
    let said = unfit.to_string();
    assert!(
        said.starts_with("this node cannot run it: it needs ruby"),
        "{said}"
    );
    assert_eq!(unfit.failure(), FetchFailure::Mismatch, "no other try will help");
}
