use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use sandrun_content::{Block, BlockStream, Cid, EmbeddedConfig, EmbeddedStore, StoreHealth, pack_directory};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

struct Ground {
    folder: tempfile::TempDir,
    store: EmbeddedStore,
}

impl Ground {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(folder.path().join("store")))
            .await
            .unwrap();
        Self { folder, store }
    }

    /// Stores an image with one file of so many bytes.
    async fn image(&self, name: &str, size: usize) -> ContentId {
        let at = self.folder.path().join("made").join(name);
        fs::create_dir_all(at.join("lib")).unwrap();
        fs::write(at.join("lib/x"), vec![b'x'; size]).unwrap();
        fs::write(at.join("lib/name"), name).unwrap();
        self.store
            .add(&pack_directory(&at, &IMAGE_LIMITS).unwrap())
            .await
            .unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn cache(&self, cap: u64) -> Cache {
        Cache::open(&self.dir(), cap).unwrap()
    }

    async fn get(&self, cache: &Cache, id: ContentId) -> Result<Lease, CacheError> {
        cache.obtain(Some(&self.store), id, PATIENCE).await
    }
}

/// A store that counts, and can stop in the middle.
#[derive(Debug)]
struct Counting {
    inner: EmbeddedStore,
    reads: AtomicUsize,
    /// Reads that are answered; later ones never end.
    most: usize,
}

#[async_trait]
impl ContentStore for Counting {
    async fn get_block(&self, cid: &Cid) -> Result<Block, ContentError> {
        if self.reads.fetch_add(1, Ordering::Relaxed) >= self.most {
            std::future::pending::<()>().await;
        }
        self.inner.get_block(cid).await
    }

    async fn put_blocks(&self, blocks: BlockStream<'_>) -> Result<u64, ContentError> {
        self.inner.put_blocks(blocks).await
    }

    async fn has(&self, id: ContentId) -> Result<bool, ContentError> {
        self.inner.has(id).await
    }

    async fn pin(&self, id: ContentId) -> Result<(), ContentError> {
        self.inner.pin(id).await
    }

    async fn unpin(&self, id: ContentId) -> Result<(), ContentError> {
        self.inner.unpin(id).await
    }

    async fn health(&self) -> Result<StoreHealth, ContentError> {
        self.inner.health().await
    }
}

#[tokio::test]
async fn an_image_is_fetched_once_however_many_ask() {
    let ground = Ground::new().await;
    let id = ground.image("a", 10).await;
    let store = Counting {
        inner: ground.store.clone(),
        reads: AtomicUsize::new(0),
        most: usize::MAX,
    };
    let cache = ground.cache(1 << 20);
    let (one, two) = tokio::join!(
        cache.obtain(Some(&store), id, PATIENCE),
        cache.obtain(Some(&store), id, PATIENCE)
    );
    let reads = store.reads.load(Ordering::Relaxed);
    let three = cache.obtain(None, id, PATIENCE).await.unwrap();
    assert_eq!((one.unwrap().id(), two.unwrap().id(), three.id()), (id, id, id));
    assert_eq!(store.reads.load(Ordering::Relaxed), reads);
    assert_eq!(
        fs::read(cache.images_dir().join(id.to_string()).join("lib/name")).unwrap(),
        b"a"
    );
    assert_eq!(cache.uses(), 3);
}

#[tokio::test]
async fn the_one_used_longest_ago_goes_and_none_in_use() {
    let ground = Ground::new().await;
    let (a, b, c) = (
        ground.image("a", 100_000).await,
        ground.image("b", 100_000).await,
        ground.image("c", 100_000).await,
    );
    let cache = ground.cache(250_000);
    let held = ground.get(&cache, a).await.unwrap();
    drop(ground.get(&cache, b).await.unwrap());
    let c_held = ground.get(&cache, c).await.unwrap();
    assert_eq!(
        (cache.size(a).is_some(), cache.size(b), cache.size(c).is_some()),
        (true, None, true)
    );
    assert!(!cache.images_dir().join(b.to_string()).exists());
    let full = ground.get(&cache, b).await;
    assert!(matches!(full, Err(CacheError::Full { .. })), "{full:?}");
    drop(held);
    drop(ground.get(&cache, b).await.unwrap());
    assert_eq!(cache.size(a), None);
    drop(c_held);
    assert_eq!(fs::read_dir(ground.dir().join("incoming")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_process_that_dies_in_the_middle_leaves_nothing_that_is_taken_for_whole() {
    let ground = Ground::new().await;
    let id = ground.image("a", 1_000_000).await;
    // the future is dropped in the middle of the fetch, and its remains are kept as a killed process would leave them
    let store = Counting {
        inner: ground.store.clone(),
        reads: AtomicUsize::new(0),
        most: 4,
    };
    let cache = ground.cache(1 << 24);
    let late = cache.obtain(Some(&store), id, Duration::from_millis(1)).await;
    assert!(matches!(late, Err(CacheError::Late { .. })), "{late:?}");
    fs::create_dir_all(ground.dir().join("incoming/.fetch-dead/lib")).unwrap();
    let cache = ground.cache(1 << 24);
    assert_eq!(fs::read_dir(ground.dir().join("incoming")).unwrap().count(), 0);
    assert!(matches!(
        cache.obtain(None, id, PATIENCE).await,
        Err(CacheError::NoStore(_))
    ));
    ground.get(&cache, id).await.unwrap();
}

#[tokio::test]
async fn what_changed_on_disk_is_fetched_anew() {
    let ground = Ground::new().await;
    let id = ground.image("a", 10).await;
    drop(ground.get(&ground.cache(1 << 20), id).await.unwrap());
    let file = ground.dir().join("images").join(id.to_string()).join("lib/name");
    // as a new process finds it: whole
    drop(ground.cache(1 << 20).obtain(None, id, PATIENCE).await.unwrap());
    fs::write(&file, "evil").unwrap();
    let cache = ground.cache(1 << 20);
    assert!(matches!(
        cache.obtain(None, id, PATIENCE).await,
        Err(CacheError::NoStore(_))
    ));
    drop(ground.get(&cache, id).await.unwrap());
    assert_eq!(fs::read(&file).unwrap(), b"a");
}

#[tokio::test]
async fn what_the_store_lacks_or_has_wrong_is_said() {
    let ground = Ground::new().await;
    let cache = ground.cache(1 << 20);
    let id: ContentId = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
        .parse()
        .unwrap();
    let missing = ground.get(&cache, id).await;
    assert!(matches!(missing, Err(CacheError::Fetch { .. })), "{missing:?}");
    assert_eq!(fs::read_dir(ground.dir().join("incoming")).unwrap().count(), 0);
}
