use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::FutureExt as _;
use sandrun_content::{Block, BlockStream, Cid, EmbeddedConfig, EmbeddedStore, StoreHealth, pack_directory};

use super::*;
use crate::image::IMAGE_LIMITS;

const PATIENCE: Duration = Duration::from_secs(30);

struct Ground {
    folder: tempfile::TempDir,
    store: EmbeddedStore,
    dynamic: Arc<dyn ContentStore>,
}

impl Ground {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(EmbeddedConfig::new(folder.path().join("store")))
            .await
            .unwrap();
        let dynamic = Arc::new(store.clone());
        Self {
            folder,
            store,
            dynamic,
        }
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
        cache.obtain(Some(&self.dynamic), id, PATIENCE).await
    }
}

impl Counting {
    fn new(ground: &Ground, most: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: ground.store.clone(),
            reads: AtomicUsize::new(0),
            most,
        })
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

    async fn is_pinned(&self, id: ContentId) -> Result<bool, ContentError> {
        ContentStore::is_pinned(&self.inner, id).await
    }

    async fn health(&self) -> Result<StoreHealth, ContentError> {
        self.inner.health().await
    }
}

#[tokio::test]
async fn an_image_is_fetched_once_however_many_ask() {
    let ground = Ground::new().await;
    let id = ground.image("a", 10).await;
    let store = Counting::new(&ground, usize::MAX);
    let dynamic: Arc<dyn ContentStore> = store.clone();
    let cache = ground.cache(1 << 20);
    let (one, two) = tokio::join!(
        cache.obtain(Some(&dynamic), id, PATIENCE),
        cache.obtain(Some(&dynamic), id, PATIENCE)
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
    let store: Arc<dyn ContentStore> = Counting::new(&ground, 4);
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

/// What lies in one of the cache's folders.
fn names(ground: &Ground, folder: &str) -> usize {
    fs::read_dir(ground.dir().join(folder)).unwrap().count()
}

#[tokio::test]
async fn a_fetch_that_hangs_holds_up_no_other() {
    let ground = Ground::new().await;
    let (slow, quick) = (ground.image("slow", 10).await, ground.image("quick", 10).await);
    let cache = ground.cache(1 << 20);
    let hanging: Arc<dyn ContentStore> = Counting::new(&ground, 0);
    let waits = cache.obtain(Some(&hanging), slow, PATIENCE);
    tokio::select! {
        biased;
        never = waits => panic!("{never:?}"),
        got = ground.get(&cache, quick) => drop(got.unwrap()),
    }
    // at hand by now: nobody's turn matters
    drop(cache.obtain(None, quick, PATIENCE).await.unwrap());
}

#[tokio::test]
async fn who_stops_waiting_leaves_nothing_in_the_way() {
    let ground = Ground::new().await;
    let id = ground.image("a", 300_000).await;
    let cache = ground.cache(1 << 20);
    for polls in 0..40 {
        let mut asked = Box::pin(ground.get(&cache, id));
        for _ in 0..polls {
            tokio::select! {
                biased;
                got = &mut asked => { drop(got.unwrap()); break },
                () = tokio::task::yield_now() => {}
            }
        }
        drop(asked);
        // corrupt on the disk, or whole, or on its way: whoever asks next gets it
        let lease = ground.get(&cache, id).await.unwrap();
        let at = cache.images_dir().join(lease.id().to_string());
        assert_eq!(fs::read(at.join("lib/name")).unwrap(), b"a");
        drop(lease);
        assert_eq!((names(&ground, "images"), names(&ground, "used")), (1, 1));
    }
    assert_eq!(names(&ground, "incoming"), 0);
    assert!(cache.inner.lock().values().all(|image| image.users() == 0));
}

#[tokio::test]
async fn an_image_that_can_never_fit_is_refused_before_it_fills_the_disk() {
    let ground = Ground::new().await;
    let id = ground.image("a", 900_000).await;
    let cache = ground.cache(100_000);
    let held = ground.image("b", 10).await;
    let held = ground.get(&cache, held).await.unwrap();
    let large = ground.get(&cache, id).await;
    assert!(
        matches!(large, Err(CacheError::TooLarge { cap: 100_000, .. })),
        "{large:?}"
    );
    // one whose files fit and whose blocks on the disk do not
    let close = ground.image("c", 99_000).await;
    let large = ground.get(&cache, close).await;
    assert!(matches!(large, Err(CacheError::TooLarge { .. })), "{large:?}");
    assert_eq!((names(&ground, "incoming"), names(&ground, "images")), (0, 1));
    drop(held);
}

#[tokio::test]
async fn images_that_come_at_once_take_no_more_than_they_may() {
    let ground = Ground::new().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        ids.push(ground.image(name, 100_000).await);
    }
    let cache = ground.cache(250_000);
    let all = ids.iter().map(|id| ground.get(&cache, *id));
    let got = futures::future::join_all(all).await;
    // all wanted to keep theirs: two fit
    let (leases, refused): (Vec<_>, Vec<_>) = got.into_iter().partition(Result::is_ok);
    assert_eq!((leases.len(), refused.len()), (2, 4));
    assert!(
        refused
            .iter()
            .all(|it| matches!(it, Err(CacheError::Full { .. })))
    );
    assert_eq!(names(&ground, "images"), 2);
    for lease in leases.into_iter().flatten() {
        assert!(cache.images_dir().join(lease.id().to_string()).is_dir());
    }
    for id in ids {
        drop(ground.get(&cache, id).await.unwrap());
        assert!(cache.held().iter().map(|(_, bytes)| bytes).sum::<u64>() <= 250_000);
    }
    assert_eq!((names(&ground, "images"), names(&ground, "used")), (2, 2));
}

#[tokio::test]
async fn what_failed_is_not_fetched_again_by_each_who_waited() {
    let ground = Ground::new().await;
    let cache = ground.cache(1 << 20);
    let id: ContentId = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
        .parse()
        .unwrap();
    let counting = Counting::new(&ground, usize::MAX);
    let store: Arc<dyn ContentStore> = counting.clone();
    let all = (0..5).map(|_| cache.obtain(Some(&store), id, PATIENCE));
    for got in futures::future::join_all(all).await {
        assert!(matches!(got, Err(CacheError::Fetch { .. })), "{got:?}");
    }
    assert_eq!(counting.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn fetches_that_hang_hold_up_others_only_for_their_own_patience() {
    let ground = Ground::new().await;
    let cache = ground.cache(1 << 20);
    let hanging: Arc<dyn ContentStore> = Counting::new(&ground, 0);
    let mut dead = Vec::new();
    for name in ["a", "b", "c", "d"] {
        dead.push(ground.image(name, 10).await);
    }
    let good = ground.image("good", 10).await;
    let short = Duration::from_millis(200);
    let dying = dead.iter().map(|id| cache.obtain(Some(&hanging), *id, short));
    let are_dead = Cell::new(false);
    // no more of a wait than that of the dead ones, and time of its own from there on
    let (died, got) = tokio::join!(
        futures::future::join_all(dying).inspect(|_| are_dead.set(true)),
        async {
            while !cache.inner.is_busy() && !are_dead.get() {
                tokio::task::yield_now().await;
            }
            ground.get(&cache, good).await
        }
    );
    assert!(died.iter().all(|it| matches!(it, Err(CacheError::Late { .. }))));
    drop(got.unwrap());
    // four that hang for long: who has less patience is told so
    let others = ground.image("e", 10).await;
    let mut more = Vec::new();
    for name in ["f", "g", "h", "i"] {
        more.push(ground.image(name, 10).await);
    }
    let mut hang: Vec<_> = more
        .iter()
        .map(|id| Box::pin(cache.obtain(Some(&hanging), *id, PATIENCE)))
        .collect();
    while !cache.inner.is_busy() {
        for one in &mut hang {
            tokio::select! {
                biased;
                never = one => panic!("{never:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let busy = tokio::select! {
        biased;
        never = futures::future::select_all(hang) => panic!("{:?}", never.0),
        busy = cache.obtain(Some(&ground.dynamic), others, short) => busy,
    };
    assert!(matches!(busy, Err(CacheError::Busy { .. })), "{busy:?}");
}

#[tokio::test]
async fn an_image_of_another_packer_is_still_one_after_a_restart() {
    let ground = Ground::new().await;
    let id = ground.image("a", 10).await;
    drop(ground.get(&ground.cache(1 << 20), id).await.unwrap());
    // as if another packer had given the same files another id
    let foreign: ContentId = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
        .parse()
        .unwrap();
    let noted = ground.dir().join("roots").join(id.to_string());
    assert_eq!(fs::read_to_string(&noted).unwrap(), id.to_string());
    for folder in ["images", "used", "roots"] {
        let place = |id: ContentId| ground.dir().join(folder).join(id.to_string());
        fs::rename(place(id), place(foreign)).unwrap();
    }
    let cache = ground.cache(1 << 20);
    drop(cache.obtain(None, foreign, PATIENCE).await.unwrap());
    let file = cache.images_dir().join(foreign.to_string()).join("lib/name");
    fs::write(&file, "evil").unwrap();
    let changed = ground.cache(1 << 20).obtain(None, foreign, PATIENCE).await;
    assert!(matches!(changed, Err(CacheError::NoStore(_))), "{changed:?}");
    assert_eq!((names(&ground, "images"), names(&ground, "roots")), (0, 0));
}

#[tokio::test]
async fn a_lower_limit_holds_from_the_start() {
    let ground = Ground::new().await;
    let (a, b) = (ground.image("a", 100_000).await, ground.image("b", 100_000).await);
    let cache = ground.cache(1 << 20);
    drop(ground.get(&cache, a).await.unwrap());
    drop(ground.get(&cache, b).await.unwrap());
    drop(cache);
    let cache = ground.cache(150_000);
    assert_eq!((cache.size(a), cache.size(b).is_some()), (None, true));
    assert_eq!((names(&ground, "images"), names(&ground, "incoming")), (1, 0));
}
