use std::fs::{File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::*;

const PLACES: Places = Places {
    job: 40,
    proc: 41,
    memory: 42,
};
const START: FileTime = FileTime {
    seconds: 1000,
    nanos: 0,
};
const SOURCE: Named = Named {
    keeps_time: true,
    key: None,
};
const NOW: FileTime = FileTime {
    seconds: 1005,
    nanos: 6,
};

fn real(device: u64, mode: u32) -> Real {
    Real {
        inode: Inode { device, number: 99 },
        mode,
        links: 3,
        size: 5000,
        device_file: 0,
        modified: FileTime {
            seconds: 1_800_000_000,
            nanos: 5,
        },
    }
}

fn told(real: &Real) -> Told {
    tell(
        real,
        &PLACES,
        &mut Inodes::new(START),
        || NOW,
        Seen::ByName(Named::default()),
    )
    .0
}

fn raw_stat(path: &str) -> (Real, Metadata) {
    let file = File::open(path).unwrap();
    let mut bytes = [0_u8; STAT_BYTES];
    let mut statx = [0_u8; STATX_BYTES];
    crate::sys::try_call(
        libc::SYS_fstat,
        [
            usize::try_from(file.as_raw_fd()).unwrap(),
            bytes.as_mut_ptr() as usize,
            0,
            0,
            0,
        ],
    )
    .unwrap();
    crate::sys::try_call(
        libc::SYS_statx,
        [
            usize::try_from(file.as_raw_fd()).unwrap(),
            c"".as_ptr() as usize,
            usize::try_from(libc::AT_EMPTY_PATH).unwrap(),
            0x7ff,
            statx.as_mut_ptr() as usize,
        ],
    )
    .unwrap();
    let real = Real::from_stat(&bytes);
    assert_eq!(real, Real::from_statx(&statx));
    (real, file.metadata().unwrap())
}

#[test]
fn the_kernels_structures_are_read_as_they_are() {
    for path in ["/proc/self/exe", "/dev/null", "/"] {
        let (real, meta) = raw_stat(path);
        assert_eq!(real.inode.device, meta.dev());
        assert_eq!(real.inode.number, meta.ino());
        assert_eq!(
            (real.mode, real.links, real.size),
            (meta.mode(), meta.nlink(), meta.size())
        );
        assert_eq!(real.device_file, meta.rdev());
        assert_eq!(
            (real.modified.seconds, i64::from(real.modified.nanos)),
            (meta.mtime(), meta.mtime_nsec())
        );
    }
}

#[test]
fn what_is_told_reads_back_from_both_structures() {
    let told = told(&real(40, libc::S_IFREG | 0o640));
    let (stat, statx) = (
        Real::from_stat(&told.to_stat()),
        Real::from_statx(&told.to_statx()),
    );
    assert_eq!(stat, statx);
    assert_eq!(stat.modified, NOW);
    assert_eq!(
        (stat.mode, stat.links, stat.size),
        (libc::S_IFREG | 0o640, 3, 5000)
    );
    assert_eq!(u64_at(&told.to_stat(), 64), 16);
    assert_eq!(
        (u32_at(&told.to_stat(), 28), u32_at(&told.to_statx(), 24)),
        (1000, 1000)
    );
}

#[test]
fn nothing_of_the_machine_is_told() {
    let one = real(9, libc::S_IFREG | 0o644);
    let other = Real {
        inode: Inode {
            device: 77,
            number: 123_456,
        },
        modified: NOW,
        ..one
    };
    assert_eq!(told(&one), told(&other));
    let (dir, far) = (real(9, libc::S_IFDIR | 0o755), real(10, libc::S_IFDIR | 0o755));
    let far = Real {
        size: 60,
        links: 20,
        ..far
    };
    assert_eq!(told(&dir), told(&far));
    assert_eq!(
        (told(&dir).size, told(&dir).links, told(&dir).owner),
        (4096, 1, 0)
    );
}

#[test]
fn sources_of_python_keep_their_seconds() {
    let file = real(9, libc::S_IFREG | 0o644);
    let (told, _) = tell(
        &file,
        &PLACES,
        &mut Inodes::new(START),
        || NOW,
        Seen::Open(Named {
            keeps_time: keeps_time(b"/usr/lib/os.py"),
            key: None,
        }),
    );
    assert_eq!(told.times.modified, whole(file.modified));
    assert!(!keeps_time(b"/usr/bin/python3"));
    let (told, _) = tell(
        &real(40, libc::S_IFREG),
        &PLACES,
        &mut Inodes::new(START),
        || NOW,
        Seen::ByName(SOURCE),
    );
    assert_eq!(told.times.modified, NOW);
}

#[test]
fn each_name_of_a_systems_file_has_a_number_and_others_have_one_for_all() {
    let mut inodes = Inodes::new(START);
    let keys = ["/usr/bin/a", "/usr/bin/b", "/usr/bin/a"].map(|name| inodes.key_of(name.as_bytes()));
    let mut number = |device, key| {
        let seen = Seen::ByName(Named {
            keeps_time: false,
            key: Some(key),
        });
        let (told, _) = tell(&real(device, libc::S_IFREG), &PLACES, &mut inodes, || NOW, seen);
        told.number
    };
    let numbers = keys.map(|key| number(9, key));
    assert_eq!((numbers[1], numbers[2]), (numbers[0] + 1, numbers[0]));
    assert_eq!(keys.map(|key| number(40, key)), [numbers[1] + 1; 3]);
}

#[test]
fn places_are_told_apart() {
    assert_eq!(PLACES.of(&real(40, libc::S_IFIFO)), Place::Job);
    assert_eq!(PLACES.of(&real(12, libc::S_IFIFO)), Place::Nowhere);
    assert_eq!(PLACES.of(&real(13, 0)), Place::Nowhere);
    assert_eq!(PLACES.of(&real(41, libc::S_IFREG)), Place::Proc);
    assert_eq!(PLACES.of(&real(42, libc::S_IFREG)), Place::Memory);
    assert_eq!(PLACES.of(&real(43, libc::S_IFCHR)), Place::System);
}

#[test]
fn file_systems_are_as_large_as_their_limits() {
    let mut tmpfs = [0; STATFS_BYTES];
    for (at, value) in [
        (0, 0x0102_1994_u64),
        (16, 500),
        (24, 400),
        (40, 70),
        (56, 0xdead_beef),
    ] {
        put(&mut tmpfs, at, value.to_le_bytes());
    }
    let told = statfs(&tmpfs, Place::Job);
    assert_eq!(
        [16, 24, 32, 40, 48, 56].map(|at| u64_at(&told, at)),
        [500, 500, 500, 70, 70, 0]
    );
    let mut disk = [7; STATFS_BYTES];
    put(&mut disk, 0, 0x9123_683e_u64.to_le_bytes());
    let told = statfs(&disk, Place::System);
    assert_eq!([0, 24, 56].map(|at| u64_at(&told, at)), [0xef53, 0, 0]);
}
